"""What is known of the names of sizes while a program is traced and compiled, and what it came to depend on.

A question is answered by proof, if what is known of the names decides it for all their values. Otherwise the sizes of the
call that is being traced decide, and the answer becomes a condition: the program is for the calls that meet all of them.

    facts = Facts({"B": 32}, {"B": (1, 512)})
    with assuming(facts):
        Dim("B") + 1 > 1            # True for all B
        Dim("B") > 16               # True for this one: from now on the program is for B of at least 17
    facts.conditions                # [B+-17 >= 0]
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

from flambeau.ir.answers import Undecided
from flambeau.ir.dims import Dim, Quotient, Size, evaluated, names_of, substituted
from flambeau.ir.records import dataclass

__all__ = ["LARGEST", "Condition", "Distinct", "Facts", "Proofs"]

LARGEST: Final = 1 << 40                # of one size; no memory holds more elements, and products of a few are exact

Relation = Literal["==", "!=", ">="]


@dataclass(frozen=True, slots=True)
class Condition:
    """A size compared with 0, and the user's line that asked."""

    size: Dim
    relation: Relation
    where: str | None = None

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether sizes meet it; not, where they divide by zero."""
        try:
            value = self.size.evaluate(sizes)
        except ZeroDivisionError:
            return False
        match self.relation:
            case "==":
                return value == 0
            case "!=":
                return value != 0
            case ">=":
                return value >= 0

    def __str__(self) -> str:
        """In words that a user reads: `B >= 17`, `B*T == 64`."""
        terms = [(m, c) for m, c in self.size.terms if m]
        constant = self.size.evaluate(dict.fromkeys(self.size.names, 0)) if not any(
            isinstance(f, Quotient) for m, _ in terms for f in m) else 0
        left = self.size - constant
        if len(terms) == 1 and terms[0][1] < 0:
            return f"{-left} {({'>=': '<='}).get(self.relation, self.relation)} {constant}"
        return f"{left} {self.relation} {-constant}"


class Facts:
    """sizes: those of the traced call. ranges: the least and the largest that each name may be."""

    def __init__(self, sizes: Mapping[str, int], ranges: Mapping[str, tuple[int, int]] | None = None,
                 number: Callable[[Dim], Any] | None = None, where: Callable[[], str | None] | None = None):
        self.sizes = dict(sizes)
        self.ranges = {name: (ranges or {}).get(name, (0, LARGEST)) for name in sizes}
        self.given = dict(self.ranges)      # the ranges without what conditions tell
        self.number = number                # what stands for a size in arithmetic that makes no size
        self.where = where                  # the user's line
        self.conditions: list[Condition] = []
        self._asked: set[tuple[Dim, Relation]] = set()
        self._values: dict[str, Size] = {}          # names that are other sizes
        self._nothing: set[Size] = set()            # sizes that are 0, by conditions,
        self._other: set[Size] = set()              # that are not 0,
        self._not_negative: list[Size] = []         # and that are at least 0

    def copy(self) -> Facts:
        """What is known now, for questions whose conditions are nobody else's."""
        copy = Facts(self.sizes, self.ranges, self.number, self.where)
        copy.given = dict(self.given)
        copy.conditions, copy._asked, copy._values = [*self.conditions], {*self._asked}, {**self._values}
        copy._nothing, copy._other, copy._not_negative = {*self._nothing}, {*self._other}, [*self._not_negative]
        return copy

    # -- what programs ask ----------------------------------------------------------------------------------------------

    def is_zero(self, size: Size) -> bool:
        """Whether a size is 0. A difference that turns out to be 0 makes one of its names known by the others."""
        found = self.zero(size)
        if found is None:
            size = self.settled(size)
            assert isinstance(size, Dim)
            found = size.evaluate(self.sizes) == 0
            self._depend(size, "==" if found else "!=")
        return found

    def is_at_least_zero(self, size: Size) -> bool:
        found = self.at_least_zero(size)
        if found is None:
            size = self.settled(size)
            assert isinstance(size, Dim)
            found = size.evaluate(self.sizes) >= 0
            asked = size if found else -size - 1
            assert isinstance(asked, Dim)
            self._depend(asked, ">=")
        return found

    def fixed(self, size: Dim) -> int:
        """The number of a size, which it is from now on."""
        value = evaluated(size, self.sizes)
        self.is_zero(size - value)
        return value

    def hint(self, size: Dim) -> int:
        """Its number in the traced call. No condition comes of it."""
        return size.evaluate(self.sizes)

    def lies_below(self, size: Size, limit: Size) -> bool:
        """Whether 0 <= size < limit for all sizes. No condition comes of it."""
        return self.bounds(size)[0] >= 0 and self.bounds(limit - size)[0] > 0

    # -- what can be proved ---------------------------------------------------------------------------------------------

    def zero(self, size: Size) -> bool | None:
        """Whether a size is 0 for all that its names may be; None where they decide."""
        size = self.settled(size)
        if not isinstance(size, Dim):
            return size == 0
        low, high = self.bounds(size)
        if low > 0 or high < 0:
            return False
        if low == high == 0 or size in self._nothing or -size in self._nothing:
            return True
        if size in self._other or -size in self._other or self._follows(size - 1) or self._follows(-size - 1):
            return False
        return None

    def at_least_zero(self, size: Size) -> bool | None:
        """Whether a size is at least 0, likewise."""
        size = self.settled(size)
        if not isinstance(size, Dim):
            return size >= 0
        low, high = self.bounds(size)
        if low >= 0 or self._follows(size):
            return True
        return False if high < 0 or self._follows(-size - 1) else None

    def proofs(self) -> Proofs:
        """The same, where only proofs count."""
        return Proofs(self)

    def distinct(self) -> Distinct:
        """The same, where sizes that are not known to be equal are different."""
        return Distinct(self)

    def _follows(self, size: Size) -> bool:
        """Whether a size is at least 0 because some size is that is known to be."""
        return any(self.bounds(size - known * times)[0] >= 0
                   for known in self._not_negative if (times := _times_in(known, size)) > 0)

    def require(self, condition: Condition) -> None:
        """Add a condition, as text tells one. Raises ValueError where the traced call does not meet it."""
        if not condition.size.names <= self.sizes.keys() or not condition.holds(self.sizes):
            raise ValueError(f"the sizes {self.sizes} don't meet {condition}")
        self._depend(condition.size, condition.relation, condition.where)

    # -- what calls ask -------------------------------------------------------------------------------------------------

    def broken(self, sizes: Mapping[str, int]) -> str | None:
        """The first condition that sizes don't meet, in words; None where they meet all."""
        for name, (low, high) in self.ranges.items():
            if not low <= sizes[name] <= high:
                return f"{name} is {sizes[name]}, and it is for {name} from {low}{'' if high >= LARGEST else f' to {high}'}"
        for condition in self.conditions:
            if not condition.holds(sizes):
                where = "" if condition.where is None else f", which {condition.where} asks"
                return f"it is for {condition}{where}"
        return None

    # -- what is known --------------------------------------------------------------------------------------------------

    @property
    def values(self) -> Mapping[str, Size]:
        """Names that turned out to be other sizes, or numbers."""
        return {name: self.settled(size) for name, size in self._values.items()}

    def settled(self, size: Size) -> Size:
        """A size in names that are not known by others."""
        while names_of(size) & self._values.keys():
            size = substituted(size, self._values)
        return size

    def bounds(self, size: Size) -> tuple[float, float]:
        """What a size is at least and at most, as far as that can be proved: infinite where not at all."""
        size = self.settled(size)
        if not isinstance(size, Dim):
            return size, size
        low, high = self._interval(size)
        return max(low, self._least(size), self._relaxed(size)), min(high, -self._least(-size), -self._relaxed(-size))

    def _interval(self, size: Size) -> tuple[float, float]:
        """By the ranges of its terms, each for itself."""
        if not isinstance(size, Dim):
            return size, size
        low: float = 0
        high: float = 0
        for monomial, coefficient in size.terms:
            ends = [end * coefficient for end in _times(*[self._range(f) for f in monomial])]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def _range(self, factor: str | Quotient) -> tuple[float, float]:
        if isinstance(factor, str):
            return self.ranges.get(factor, (0, LARGEST))
        above, below = self.bounds(factor.numerator), self.bounds(factor.denominator)
        if below[0] <= 0:
            return -math.inf, math.inf
        ends = [_floor_divided(a, b) for a in above for b in below]
        return min(ends), max(ends)

    def _least(self, size: Size) -> float:
        """By counting from the least of each name: if no coefficient is negative then, the constant is the least."""
        if not isinstance(size, Dim):
            return size
        shifted: Size = 0
        for monomial, coefficient in size.terms:
            product: Size = coefficient
            for factor in monomial:
                low = self._range(factor)[0]
                if math.isinf(low):
                    return -math.inf
                product = product * (Dim._of({(factor,): 1}) + int(low))
            shifted = shifted + product
        if not isinstance(shifted, Dim):
            return shifted
        if any(c < 0 for m, c in shifted.terms if m):
            return -math.inf
        return sum(c for m, c in shifted.terms if not m)

    def _relaxed(self, size: Size) -> float:
        """What a size with a quotient by a number is at least: n//d lies between (n-d+1)/d and n/d."""
        if not isinstance(size, Dim):
            return size
        found = next((f for m, _ in size.terms for f in m if isinstance(f, Quotient) and isinstance(f.denominator, int)
                      and f.denominator > 0), None)
        if found is None:
            return -math.inf
        divisor = found.denominator
        total: Size = 0
        for monomial, coefficient in size.terms:
            others = list(monomial)
            if found not in others:
                total = total + Dim._of({monomial: coefficient}) * divisor
                continue
            others.remove(found)
            if found in others or any(self._range(factor)[0] < 0 for factor in others):
                return -math.inf
            end = found.numerator if coefficient < 0 else found.numerator - divisor + 1
            total = total + Dim._of({tuple(others): coefficient}) * end
        least = max(self._least(total), self._relaxed(total)) if isinstance(total, Dim) else total
        return least if math.isinf(least) else -(-least // divisor)

    # -- what it depends on ---------------------------------------------------------------------------------------------

    def _depend(self, size: Dim, relation: Relation, where: str | None = None) -> None:
        if (size, relation) in self._asked:
            return
        self._asked.add((size, relation))
        if where is None and self.where is not None:
            where = self.where()
        self.conditions.append(Condition(size, relation, where))
        if relation == "==":
            self._solve(size)
            self._nothing = {self.settled(other) for other in (*self._nothing, size)}
            self._other = {self.settled(other) for other in self._other}
            self._not_negative = [self.settled(other) for other in self._not_negative]
            return
        if relation == "!=":
            self._other.add(size)
        else:
            self._not_negative.append(size)
        if len(size.terms) <= 2 and (term := _only_name(size)) is not None:
            self._narrow(*term, relation)

    def _solve(self, size: Dim) -> None:
        """A name that stands alone with coefficient 1 or -1 is the rest of the sum; the one that was named last."""
        order = list(self.sizes)
        found = [(order.index(m[0]), m[0], c) for m, c in size.terms
                 if len(m) == 1 and isinstance(m[0], str) and c in (1, -1)
                 and sum(m[0] in names_of(Dim._of({other: 1})) for other, _ in size.terms if other) == 1]
        if found:
            _, name, coefficient = max(found)
            self._values[name] = Dim(name) - size * coefficient
        elif (term := _only_name(size)) is not None:
            name, coefficient, constant = term
            self._values[name] = -constant // coefficient

    def _narrow(self, name: str, coefficient: int, constant: int, relation: Relation) -> None:
        low, high = self.ranges[name]
        if relation == ">=":
            if coefficient > 0:
                low = max(low, -(constant // coefficient))
            else:
                high = min(high, constant // -coefficient)
        elif constant % coefficient == 0:
            other = -constant // coefficient
            low, high = low + (low == other), high - (high == other)
        self.ranges[name] = low, high


class Proofs:
    """What is known, where only proofs count: a question without one raises Undecided."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.number: Callable[[Dim], Any] | None = None
        self.hint, self.lies_below, self.zero = facts.hint, facts.lies_below, facts.zero
        self.at_least_zero = facts.at_least_zero

    def proofs(self) -> Proofs:
        return self

    def distinct(self) -> Proofs:
        return self

    def copy(self) -> Proofs:
        return self

    def is_zero(self, size: Size) -> bool:
        return _decided(self.facts.zero(size), size)

    def is_at_least_zero(self, size: Size) -> bool:
        return _decided(self.facts.at_least_zero(size), size)

    def fixed(self, size: Dim) -> int:
        found = self.facts.settled(size)
        if isinstance(found, Dim):
            raise Undecided(f"what {size} is")
        return found


class Distinct:
    """What is known, where sizes that are not known to be equal count as different."""

    def __init__(self, facts: Facts):
        self.facts = facts
        self.number, self.hint, self.lies_below, self.zero = facts.number, facts.hint, facts.lies_below, facts.zero
        self.fixed, self.is_at_least_zero, self.proofs = facts.fixed, facts.is_at_least_zero, facts.proofs
        self.at_least_zero = facts.at_least_zero

    def distinct(self) -> Distinct:
        return self

    def copy(self) -> Distinct:
        return Distinct(self.facts.copy())

    def is_zero(self, size: Size) -> bool:
        return self.zero(size) is True


def _decided(answer: bool | None, size: Size) -> bool:
    if answer is None:
        raise Undecided(f"whether {size} is 0, or at least 0")
    return answer


def _times_in(part: Size, size: Size) -> int:
    """How often the first term of `part` is in `size`."""
    if not isinstance(part, Dim) or not isinstance(size, Dim):
        return 0
    monomial, coefficient = part.terms[-1]
    return dict(size.terms).get(monomial, 0) // coefficient


def _only_name(size: Dim) -> tuple[str, int, int] | None:
    """(name, coefficient, constant) of a size in one name."""
    terms = [(m, c) for m, c in size.terms if m]
    if len(terms) != 1 or len(terms[0][0]) != 1 or not isinstance(terms[0][0][0], str):
        return None
    return terms[0][0][0], terms[0][1], sum(c for m, c in size.terms if not m)


def _times(*ranges: tuple[float, float]) -> list[float]:
    """Where the product of numbers in these ranges ends: ints, or infinite."""
    ends: list[float] = [1]
    for low, high in ranges:
        products = [0 if 0 in (a, b) else a * b for a in ends for b in (low, high)]
        ends = [min(products), max(products)]
    return ends


def _floor_divided(a: float, b: float) -> float:
    if math.isinf(b):
        return 0 if a >= 0 else -1
    return a if math.isinf(a) else a // b


