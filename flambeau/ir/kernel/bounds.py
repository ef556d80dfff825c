"""Address and extents -> does it stay inside its buffer?

The least and the greatest element of an affine address are linear in the extents, because each dim contributes
`stride * (extent - 1)` to one of them. Runtime sizes stay symbols: a linear form in sizes that are each at least 1
is non-negative for all of them if every coefficient is, and its value with all sizes 1 is.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from flambeau.ir.kernel import Address, Extent
from flambeau.ir.records import dataclass

__all__ = ["span_outside"]


@dataclass
class _Linear:
    """constant + sum of coefficient * (runtime size)."""

    constant: int = 0
    coefficients: dict[str, int] = field(default_factory=dict)

    def add(self, extent: Extent, factor: int) -> None:
        if isinstance(extent, str):
            self.coefficients[extent] = self.coefficients.get(extent, 0) + factor
        else:
            self.constant += extent * factor

    def is_never_negative(self) -> bool:
        """For any sizes >= 1."""
        coefficients = self.coefficients.values()
        return min(coefficients, default=0) >= 0 and self.constant + sum(coefficients) >= 0

    def __str__(self) -> str:
        terms = [f"{c}*{size}" for size, c in self.coefficients.items() if c]
        return " + ".join([*terms, str(self.constant)] if self.constant or not terms else terms)


def span_outside(address: Address, extents: Mapping[int, Extent], elements: Extent) -> str:
    """"element 12" or the like, if the affine part of `address` leaves [0, elements) for some index of the dims of
    `extents`, else "". Dims that have no points, or may have none, are taken to be harmless: nothing is then read.
    """
    if 0 in extents.values():
        return ""
    least, greatest = _Linear(address.offset), _Linear(address.offset)
    for dim, stride in address.known_strides:
        end = least if stride < 0 else greatest
        end.add(extents[dim], stride)
        end.constant -= stride
    if not least.is_never_negative():
        return f"element {least}"
    room = _Linear(-1 - greatest.constant, {size: -c for size, c in greatest.coefficients.items()})
    room.add(elements, 1)
    return "" if room.is_never_negative() else f"element {greatest}"
