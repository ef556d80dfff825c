"""Symbolic dimensions: integer polynomials over named sizes, so that a shape can be `[B, 2*B+1, ((T+1)/2)]`.

A size whose value is not known yet behaves as an int does. Arithmetic stays symbolic. A question (`n > 4`, `n == m`,
`range(n)`) is answered by what is known of the names in this thread (answers.py): by proof, or else as the
numbers of the program that is being traced say, and then the answer becomes a condition of that program. Where nothing
is known, sizes compare by structure.
"""
from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Union

import numpy as np

from flambeau.ir.answers import Undecided, is_asked_by_user, known

__all__ = ["Dim", "Factor", "Monomial", "Quotient", "Size", "as_size", "evaluated", "greatest", "hint", "least", "names_of",
           "quotient", "reaches", "same", "same_shape", "substituted", "terms_of"]


class Quotient:
    """numerator // denominator where that is no polynomial: a factor like a name. Immutable and hashable."""

    __slots__ = ("_hash", "denominator", "numerator")

    def __init__(self, numerator: Size, denominator: Size):
        self.numerator, self.denominator = numerator, denominator
        self._hash = hash((numerator, denominator))

    @property
    def names(self) -> frozenset[str]:
        """Every name in it."""
        return names_of(self.numerator) | names_of(self.denominator)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quotient) and _is_same(self.numerator, other.numerator) \
            and _is_same(self.denominator, other.denominator)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return f"({_operand(self.numerator)}/{_operand(self.denominator)})"      # rounded down; // begins a comment


Factor = Union[str, Quotient]                       # noqa: UP007 (two strings have no |)
Monomial = tuple[Factor, ...]           # sorted by their text, with repetition for powers; () is the constant


class Dim:
    """A polynomial over named sizes, and quotients of such, with integer coefficients. Immutable and hashable.

    `Dim("B") + 1`, `2 * Dim("B")`, `Dim("B") * Dim("T")`, `(Dim("B") + 1) // 2`; arithmetic that cancels all names gives
    an int. Division rounds down, as Python's does. Hashing is structural."""

    __slots__ = ("_hash", "terms")

    terms: tuple[tuple[Monomial, int], ...]

    def __init__(self, name: str):
        if not name.isidentifier():
            raise ValueError(f"Dim: {name!r} is not an identifier")
        self.terms = (((name,), 1),)
        self._hash = hash(self.terms)

    @staticmethod
    def _of(terms: Mapping[Monomial, int]) -> Size:
        kept = tuple(sorted([(m, c) for m, c in terms.items() if c], key=_order))
        if not kept:
            return 0
        if len(kept) == 1 and kept[0][0] == ():
            return kept[0][1]
        dim = object.__new__(Dim)
        dim.terms, dim._hash = kept, hash(kept)
        return dim

    @property
    def names(self) -> frozenset[str]:
        """Every name in it."""
        factors = [factor for monomial, _ in self.terms for factor in monomial]
        return frozenset().union(*[{f} if isinstance(f, str) else f.names for f in factors])

    # -- arithmetic ---------------------------------------------------------------------------------------------------

    def __add__(self, other: Any) -> Any:
        if not _is_size(other):
            return self._real(operator.add, other)
        terms = dict(self.terms)
        for monomial, coefficient in terms_of(other):
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Dim._of(terms)

    def __mul__(self, other: Any) -> Any:
        if not _is_size(other):
            return self._real(operator.mul, other)
        terms: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in terms_of(other):
                monomial = tuple(sorted(left + right, key=str))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Dim._of(terms)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + as_size(other) * -1 if _is_size(other) else self._real(operator.sub, other)

    def __rsub__(self, other: Any) -> Any:
        return -self + other if _is_size(other) else self._real(lambda a, b: b - a, other)

    def __floordiv__(self, other: Any) -> Any:
        return quotient(self, other) if _is_size(other) else self._real(operator.floordiv, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return quotient(other, self) if _is_size(other) else self._real(lambda a, b: b // a, other)

    def __mod__(self, other: Any) -> Any:
        return self - self // other * other if _is_size(other) else self._real(operator.mod, other)

    def __rmod__(self, other: Any) -> Any:
        return other - other // self * self if _is_size(other) else self._real(lambda a, b: b % a, other)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:
            return pow(int(self), other, modulus)
        if type(other) is not int or not 0 <= other <= 8:
            if isinstance(other, (int, float)) and other < 0 and self == 0:
                raise ZeroDivisionError(f"{0 if isinstance(other, int) else 0.0} cannot be raised to a negative power")
            return self._real(operator.pow, other)
        product: Size = 1
        for _ in range(other):
            product = product * self
        return product

    def __rpow__(self, other: Any, modulus: Any = None) -> Any:
        if modulus is not None:             # Python asks so from 3.14 on; before, pow(other, int(size), modulus) it is
            return pow(other, int(self), modulus)
        return self._real(lambda a, b: b ** a, other)

    def __truediv__(self, other: Any) -> Any:
        if isinstance(other, Dim) and other == 0:
            raise ZeroDivisionError("division by zero")
        return self._real(operator.truediv, other)

    def __rtruediv__(self, other: Any) -> Any:
        if isinstance(other, (int, float)) and self == 0:
            raise ZeroDivisionError("division by zero")
        return self._real(lambda a, b: b / a, other)

    def __abs__(self) -> Size:
        return self if self >= 0 else -self

    def __pos__(self) -> Dim:
        return self

    def __trunc__(self) -> Dim:
        return self

    __floor__ = __ceil__ = __trunc__

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None or digits >= 0 else round(int(self), digits)

    __radd__ = __add__
    __rmul__ = __mul__

    def _real(self, function: Callable[[Any, Any], Any], other: Any) -> Any:
        """A result that need be no size: of the number that stands for this one at run time, where there is such."""
        facts = known()
        if facts is None or facts.number is None:
            return NotImplemented
        if isinstance(other, complex):
            return function(int(self), other)
        return function(facts.number(self), facts.number(other) if isinstance(other, Dim) else other)

    # -- questions ----------------------------------------------------------------------------------------------------

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """int for a user's `isinstance(n, int)`. Code of C does not take it for one, and asks for the number."""
        return int if is_asked_by_user() else Dim

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Dim) and self.terms == other.terms:
            return True
        facts = known()
        if facts is None:
            return NotImplemented
        if _is_size(other):
            return facts.is_zero(self - other)
        if issubclass(type(other), (float, np.floating)):
            return float(other).is_integer() and facts.is_zero(self - int(other))           # type: ignore[arg-type, call-overload]
        if isinstance(other, numbers.Number):                                               # as runtime numbers say to be
            return facts.fixed(self) == other
        return NotImplemented                                                               # it may know how to compare

    def __hash__(self) -> int:
        """Structural for the compiler; a user's dict or set needs the number, on which the program depends from now on."""
        return hash(int(self)) if is_asked_by_user() else self._hash

    def __ge__(self, other: Any) -> bool:
        return _is_at_least(self, other) if _is_size(other) else self._real(operator.ge, other)

    def __gt__(self, other: Any) -> bool:
        return _is_at_least(self, as_size(other) + 1) if _is_size(other) else self._real(operator.gt, other)

    def __le__(self, other: Any) -> bool:
        return _is_at_least(other, self) if _is_size(other) else self._real(operator.le, other)

    def __lt__(self, other: Any) -> bool:
        return _is_at_least(other, self + 1) if _is_size(other) else self._real(operator.lt, other)

    def __bool__(self) -> bool:
        return self != 0

    def __index__(self) -> int:
        """Its number, on which the program depends from now on."""
        facts = known()
        if facts is None:
            raise TypeError(f"the size {self} has no number")
        return facts.fixed(self)

    def __int__(self) -> int:
        return self.__index__()

    def __float__(self) -> float:
        return float(self.__index__())

    def __and__(self, other: Any) -> Any:
        return int(self) & other

    def __or__(self, other: Any) -> Any:
        return int(self) | other

    def __xor__(self, other: Any) -> Any:
        return int(self) ^ other

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << int(other))

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << int(other))

    def __rlshift__(self, other: Any) -> Any:
        return other << int(self)

    def __rrshift__(self, other: Any) -> Any:
        return other >> int(self)

    def __invert__(self) -> Size:
        return -self - 1

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    real = property(lambda self: self)
    numerator = property(lambda self: int(self))        # Decimal and Fraction take nothing else
    imag, denominator = property(lambda self: 0), property(lambda self: 1)

    def conjugate(self) -> Dim:
        return self

    def as_integer_ratio(self) -> tuple[int, int]:
        return int(self), 1

    def bit_count(self) -> int:
        return int(self).bit_count()

    def to_bytes(self, *args: Any, **kwargs: Any) -> bytes:
        return int(self).to_bytes(*args, **kwargs)

    def __format__(self, spec: str) -> str:
        return format(int(self) if is_asked_by_user() else str(self), spec)

    def bit_length(self) -> int:
        """Of its number: the program is for numbers of as many bits from now on."""
        bits = hint(self).bit_length()
        assert (self < 1 << bits) and (not bits or self >= 1 << bits - 1), "a hint is the number"
        return bits

    # -- values -------------------------------------------------------------------------------------------------------

    def substituted(self, sizes: Mapping[str, Size]) -> Size:
        """With names replaced; those that are not in `sizes` stay."""
        total: Size = 0
        for monomial, coefficient in self.terms:
            product: Size = coefficient
            for factor in monomial:
                if isinstance(factor, str):
                    product = product * sizes.get(factor, Dim(factor))
                else:
                    product = product * quotient(substituted(factor.numerator, sizes),
                                                  substituted(factor.denominator, sizes))
            total = total + product
        return total

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value with every name bound. Raises KeyError for a name that is not in `sizes`, ZeroDivisionError."""
        total = 0
        for monomial, coefficient in self.terms:
            for factor in monomial:
                if isinstance(factor, str):
                    coefficient *= sizes[factor]
                else:
                    coefficient *= evaluated(factor.numerator, sizes) // evaluated(factor.denominator, sizes)
            total += coefficient
        return total

    def __str__(self) -> str:
        """Spelling in IR text: terms joined by `+`, factors by `*`, no spaces: `2*B*T+((T+1)/2)+1`. In a user's text it is
        the number, on which the program depends from now on."""
        if is_asked_by_user():
            return str(int(self))
        return "+".join("*".join(([str(c)] if c != 1 or not m else []) + [str(f) for f in m])
                        for m, c in reversed(self.terms))

    __repr__ = __str__

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: Any) -> Dim:
        return self


Size = Union[int, Dim]          # noqa: UP007 (Dim has no | of its own)


def substituted(size: Size, sizes: Mapping[str, Size]) -> Size:
    """A size with names replaced."""
    return size.substituted(sizes) if isinstance(size, Dim) else size


def evaluated(size: Size, sizes: Mapping[str, int]) -> int:
    """The value of a size with every name bound. Raises KeyError, ZeroDivisionError."""
    return size.evaluate(sizes) if isinstance(size, Dim) else size


def as_size(value: Any) -> Any:
    """An integer of whatever type as a size: itself, if it has a name. Raises TypeError for what is none."""
    return value if type(value) is Dim else operator.index(value)


def hint(size: Size) -> int:
    """What a size is in the program that is being traced, for choices that are right whatever it turns out to be: no
    condition comes of it. Raises TypeError where nothing is known of its names."""
    if not isinstance(size, Dim):
        return size
    facts = known()
    if facts is None:
        raise Undecided(f"the size {size} has no number", hint="mark this dim as static")
    return facts.hint(size)


def same(a: Size, b: Size) -> bool:
    """Whether two sizes are equal whatever their names are, as far as that can be proved. No condition comes of it."""
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return a == b
    facts = known()
    return _is_same(a, b) or (facts is not None and facts.zero(a - b) is True)


def same_shape(a: tuple[Size, ...], b: tuple[Size, ...]) -> bool:
    """Whether two shapes are equal whatever the names in them are, as `same`."""
    if known() is None:                                  # by structure, or static
        return a == b
    return len(a) == len(b) and all(map(same, a, b))


def reaches(a: Size, b: Size) -> bool:
    """Whether a is at least b whatever their names are, as far as that can be proved. No condition comes of it."""
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return a >= b
    facts = known()
    return _is_same(a, b) or (facts is not None and facts.at_least_zero(a - b) is True)


def least(a: Size, b: Size) -> Size:
    """min(a, b), which asks only if it can't be proved."""
    return a if reaches(b, a) else b if reaches(a, b) else min(a, b)


def greatest(a: Size, b: Size) -> Size:
    """max(a, b), likewise."""
    return a if reaches(a, b) else b if reaches(b, a) else max(a, b)


# -- the rules ----------------------------------------------------------------------------------------------------------


def names_of(size: Size) -> frozenset[str]:
    """Every name in a size."""
    return size.names if isinstance(size, Dim) else frozenset()


def terms_of(size: Size) -> tuple[tuple[Monomial, int], ...]:
    """A size as a sum of terms, the constant among them; of a number, of that alone."""
    return size.terms if isinstance(size, Dim) else (((), int(size)),) if size else ()


def _order(term: tuple[Monomial, int]) -> tuple[tuple[str, ...], int]:
    return tuple([str(factor) for factor in term[0]]), term[1]


def _is_same(a: Size, b: Size) -> bool:
    """Whether two sizes are spelt alike, whatever is known of their names."""
    return terms_of(a) == terms_of(b)


def _is_size(value: object) -> bool:
    """By the very type: a runtime number says that it is an int."""
    return issubclass(type(value), (Dim, int, np.integer))


def _is_at_least(a: Size, b: Size) -> bool:
    facts, difference = known(), a - b
    if facts is not None:
        return facts.is_at_least_zero(difference)
    if not isinstance(difference, Dim):
        return bool(difference >= 0)
    if all(isinstance(factor, str) for monomial, _ in difference.terms for factor in monomial):     # which is a size
        if min(c for _, c in difference.terms) > 0:
            return True
        if max(c for _, c in difference.terms) < 0 and () in dict(difference.terms):
            return False
    raise Undecided(f"whether the size {a} is at least {b} is not known", hint="mark this dim as static")


def quotient(numerator: Size, denominator: Size) -> Size:
    """numerator // denominator. What is a multiple of the denominator comes out exactly. Raises ZeroDivisionError."""
    if not isinstance(numerator, Dim) and not isinstance(denominator, Dim):
        return numerator // denominator
    numerator, denominator = as_size(numerator), as_size(denominator)
    if denominator == 0:
        raise ZeroDivisionError("integer division or modulo by zero")
    if _is_negative(numerator) and type(denominator) is int and denominator > 0:
        return -quotient(-numerator + (denominator - 1), denominator)           # n/d rounded up is said in one way
    divisor = terms_of(denominator)
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in terms_of(numerator):
        for divided, times, over in _divided(monomial, coefficient, divisor):
            whole[divided] = whole.get(divided, 0) + times
            coefficient = over
        if coefficient:
            rest[monomial] = coefficient
    left, found = Dim._of(rest), Dim._of(whole)
    if _is_same(left, denominator):
        return found + 1
    if not isinstance(left, Dim) and (left == 0 or not isinstance(denominator, Dim)):
        return found if left == 0 else found + left // denominator
    facts = known()
    if facts is not None and facts.lies_below(left, denominator):
        return found
    return found + Dim._of({(Quotient(left, denominator),): 1})


def _is_negative(size: Size) -> bool:
    """Whether the term that is printed first has a minus."""
    return isinstance(size, Dim) and size.terms[-1][1] < 0


def _divided(monomial: Monomial, coefficient: int, by: tuple[tuple[Monomial, int], ...]) -> \
        Iterator[tuple[Monomial, int, int]]:
    """What a term divided by a number or by one term is, and which coefficient of it is over; nothing where it does not
    come out."""
    if len(by) != 1:
        return
    ((factors, divisor),) = by
    times, over = divmod(coefficient, divisor)
    if factors and over:
        return
    left = list(monomial)
    for factor in factors:
        if factor not in left:
            return
        left.remove(factor)
    yield tuple(left), times, over


def _operand(size: Size) -> str:
    """Of a quotient: a name, a number or a quotient as it is, anything else in parentheses."""
    text = str(size)
    is_factor = isinstance(size, Dim) and len(size.terms) == 1 and size.terms[0][1] == 1 and len(size.terms[0][0]) == 1
    return text if is_factor or text.isdecimal() else f"({text})"
