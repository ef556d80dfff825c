"""Numbers that a kernel is given when it is called, and arithmetic with them: `plan.tiles * 4` is written once, whether the
tiles are known or not. `Emitter.index` makes a value of one, in the function's entry block, once.

What is not known cannot be compared: code that asks whether a number is 1 or fits a register asks for facts.
"""
from __future__ import annotations

from typing import Literal

from flambeau.ir.kernel import Extent
from flambeau.ir.records import dataclass

__all__ = ["Int", "Number", "ceil_div", "greatest", "least", "number_of"]

_Op = Literal["name", "add", "sub", "mul", "div", "min", "max"]


@dataclass(frozen=True)
class Number:
    """A runtime number by its name, or what `op` makes of two. Division is of numbers that are not negative, and rounds
    down."""

    op: _Op
    operands: tuple[Int | str, ...]

    @classmethod
    def named(cls, name: str) -> Number:
        return cls("name", (name,))

    def __add__(self, other: Int) -> Int:
        return self if other == 0 else Number("add", (self, other))

    def __radd__(self, other: int) -> Int:
        return self + other

    def __sub__(self, other: Int) -> Int:
        return self if other == 0 else Number("sub", (self, other))

    def __rsub__(self, other: int) -> Int:
        return Number("sub", (other, self))

    def __mul__(self, other: Int) -> Int:
        return 0 if other == 0 else self if other == 1 else Number("mul", (self, other))

    def __rmul__(self, other: int) -> Int:
        return self * other

    def __floordiv__(self, other: Int) -> Int:
        return self if other == 1 else Number("div", (self, other))

    def __rfloordiv__(self, other: int) -> Int:
        return Number("div", (other, self))

    def __bool__(self) -> bool:
        raise TypeError(f"{self} is not known when code is made")


Int = int | Number


def number_of(extent: Extent) -> Int:
    return Number.named(extent) if isinstance(extent, str) else extent


def ceil_div(number: Int, by: Int) -> Int:
    """number / by, rounded up."""
    if isinstance(number, int) and isinstance(by, int):
        return -(-number // by)
    return (number + (by - 1)) // by


def least(x: Int, y: Int) -> Int:
    return min(x, y) if isinstance(x, int) and isinstance(y, int) else Number("min", (x, y))


def greatest(x: Int, y: Int) -> Int:
    return max(x, y) if isinstance(x, int) and isinstance(y, int) else Number("max", (x, y))
