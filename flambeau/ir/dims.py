"""Symbolic dimensions: integer polynomials over named sizes, so that a shape can be `[B, 2*B + 1]`."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Union

Monomial = tuple[str, ...]              # sorted names, with repetition for powers; () is the constant


class Dim:
    """A polynomial over named sizes with integer coefficients. Immutable and hashable.

    `Dim("B") + 1`, `2 * Dim("B")`, `Dim("B") * Dim("T")`; arithmetic that cancels all names gives an int.
    Comparison is structural; whether two different Dims are equal at run time is not known here.
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, name: str):
        if not name.isidentifier():
            raise ValueError(f"Dim: {name!r} is not an identifier")
        self.terms: tuple[tuple[Monomial, int], ...] = (((name,), 1),)
        self._hash = hash(self.terms)

    @staticmethod
    def _of(terms: Mapping[Monomial, int]) -> Size:
        kept = tuple(sorted((m, c) for m, c in terms.items() if c))
        if not kept:
            return 0
        if len(kept) == 1 and kept[0][0] == ():
            return kept[0][1]
        dim = object.__new__(Dim)
        dim.terms, dim._hash = kept, hash(kept)
        return dim

    def __add__(self, other: Size) -> Size:
        terms = dict(self.terms)
        for monomial, coefficient in _terms(other):
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return Dim._of(terms)

    def __mul__(self, other: Size) -> Size:
        terms: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted(left + right))
                terms[monomial] = terms.get(monomial, 0) + a * b
        return Dim._of(terms)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + other * -1

    def __rsub__(self, other: int) -> Size:
        return -self + other

    __radd__ = __add__
    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def evaluate(self, sizes: Mapping[str, int]) -> int:
        """The value with every name bound. Raises KeyError for a name that is not in `sizes`."""
        total = 0
        for monomial, coefficient in self.terms:
            for name in monomial:
                coefficient *= sizes[name]
            total += coefficient
        return total

    def __str__(self) -> str:
        """Spelling in IR text: terms joined by `+`, factors by `*`, no spaces: `2*B*T+1`."""
        return "+".join("*".join(([str(c)] if c != 1 or not m else []) + list(m)) for m, c in reversed(self.terms))

    def __repr__(self) -> str:
        return f"Dim({self})"


Size = Union[int, Dim]          # noqa: UP007 (Dim has no | of its own)


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    return size.terms if isinstance(size, Dim) else (((), int(size)),)


def parse_size(text: str) -> Size:
    """Inverse of str() for sizes: ints of at least 0 and Dims. Raises ValueError for anything else."""
    total: Size = 0
    for term in text.split("+"):
        product: Size = 1
        for factor in term.split("*"):
            factor = factor.strip()
            product = product * (int(factor) if factor.lstrip("-").isdecimal() else Dim(factor))
        total = total + product
    if isinstance(total, int) and not 0 <= total < 1 << 63:
        raise ValueError(f"{text.strip()[:40]!r} is no size: sizes lie between 0 and 2**63")
    return total
