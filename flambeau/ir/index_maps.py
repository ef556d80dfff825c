"""Index expressions: affine forms over loop dims and computed values, with exact // and % where ranges allow.

A view (reshape, permute, slice, flip, pad) is a map from its result's index to its operand's. Kept affine, such maps
compose into plain addresses; only a division that does not come out exactly becomes integer arithmetic.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.ir.dims import greatest, least, reaches
from flambeau.ir.records import dataclass

# ("dim", number) or ("value", SSA id); the second field of a term is its coefficient
Symbol = tuple[str, int]


def is_one_point(extent: int) -> bool:
    """Whether a dim is no dim to walk. One whose size has a name always is, whatever is known of that."""
    return type(extent) is int and extent == 1


@dataclass(frozen=True, slots=True)
class Index:
    """offset + sum(coefficient * symbol), where symbol s ranges over [0, extent_s)."""

    offset: int = 0
    terms: tuple[tuple[Symbol, int, int], ...] = ()      # (symbol, coefficient, extent), sorted by symbol

    @staticmethod
    def dim(number: int, extent: int) -> Index:
        """The value of a loop dim. A dim of one point is the constant 0."""
        return Index() if is_one_point(extent) else Index(0, ((("dim", number), 1, extent),))

    @staticmethod
    def value(value_id: int, extent: int) -> Index:
        return Index(0, ((("value", value_id), 1, extent),))

    @property
    def low(self) -> Any:
        """Least value it can take."""
        return self.offset + sum([least(0, c * (extent - 1)) for _, c, extent in self.terms])

    @property
    def high(self) -> Any:
        """Greatest value it can take."""
        return self.offset + sum([greatest(0, c * (extent - 1)) for _, c, extent in self.terms])

    def __add__(self, other: Index | int) -> Index:
        if not isinstance(other, Index):
            return self if type(other) is int and other == 0 else Index(self.offset + other, self.terms)
        if not self.terms or not other.terms:
            return Index(self.offset + other.offset, self.terms or other.terms)
        merged = {symbol: (c, extent) for symbol, c, extent in self.terms}
        for symbol, c, extent in other.terms:
            merged[symbol] = (merged.get(symbol, (0, extent))[0] + c, extent)
        terms = tuple(sorted((s, c, e) for s, (c, e) in merged.items() if c))
        return Index(self.offset + other.offset, terms)

    def __mul__(self, factor: int) -> Index:
        if factor == 0:
            return Index()
        if type(factor) is int and factor == 1:             # a size with a name is not asked
            return self
        return Index(self.offset * factor, tuple((s, c * factor, e) for s, c, e in self.terms))

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Index:
        return self * -1

    def __sub__(self, other: Index | int) -> Index:
        return self + (-other)

    def divmod_exact(self, divisor: int) -> tuple[Index, Index] | None:
        """(self // divisor, self % divisor) as index expressions, or None when that takes real arithmetic.

        (a*divisor*x + r) splits exactly when the remainder part r stays within [0, divisor)."""
        quotient, remainder = Index(), Index()
        q, r = divmod(self.offset, divisor)
        quotient, remainder = Index(q), Index(r)
        for symbol, c, extent in self.terms:
            part = Index(0, ((symbol, c, extent),))
            if c % divisor == 0:
                quotient = quotient + Index(0, ((symbol, c // divisor, extent),))
            else:
                remainder = remainder + part
        if reaches(remainder.low, 0) and reaches(divisor, remainder.high + 1):
            return quotient, remainder
        return None


def linearize(index: tuple[Index, ...], shape: tuple[int, ...]) -> Index:
    """Row-major position of `index` in `shape`."""
    position, stride = Index(), 1
    for part, size in zip(reversed(index), reversed(shape), strict=True):
        position = position + part * stride
        stride *= size
    return position


def delinearize(position: Index, shape: tuple[int, ...],
                divmod_of: Callable[[Index, int], tuple[Index, Index]]) -> tuple[Index, ...]:
    """Inverse of linearize; `divmod_of` divides where `divmod_exact` can't (it may emit arithmetic)."""
    parts: list[Index] = []
    for size in reversed(shape[1:]):
        position, part = position.divmod_exact(size) or divmod_of(position, size)
        parts.append(part)
    return (position, *reversed(parts)) if shape else ()
