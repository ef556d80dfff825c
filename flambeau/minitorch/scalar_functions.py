"""Module 1: functions of scalars. The ones that are here are differentiated by our tape; a user's have a backward."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau as fb
from flambeau.minitorch import operators
from flambeau.minitorch.autodiff import Context, Function, History, compared, value_of
from flambeau.minitorch.scalar import Scalar


class ScalarFunction(Function):
    """forward takes floats and gives a float; backward takes the derivative and gives one for each input."""

    @classmethod
    def apply(cls, *vals: Any) -> Scalar:
        scalars = [v if isinstance(v, Scalar) else Scalar(v) for v in vals]
        ctx = Context()
        found = cls._forward(ctx, *[s.data for s in scalars])
        assert isinstance(found, float), f"{cls.__name__}: forward gave {type(found).__name__}, not a float"
        return Scalar(found, History(cls, ctx, scalars))


class _Known(ScalarFunction):
    compute: Callable[..., Any]

    @classmethod
    def apply(cls, *vals: Any) -> Scalar:
        found: Scalar = Scalar.around(cls.compute(*[value_of(v) for v in vals]))
        return found

    @classmethod
    def forward(cls, ctx: Context, *inps: float) -> float:
        ctx.save_for_backward(*inps)
        return float(cls.compute(*[value_of(x) for x in inps]).item())

    @classmethod
    def backward(cls, ctx: Context, d_output: float) -> tuple[float, ...]:
        leaves = [value_of(x).requires_grad_() for x in ctx.saved_values]
        (cls.compute(*leaves) * d_output).backward()
        return tuple([leaf.grad.item() for leaf in leaves])  # type: ignore[union-attr]


class Add(_Known):
    """x + y"""

    compute = staticmethod(operators.add)


class Mul(_Known):
    """x * y"""

    compute = staticmethod(operators.mul)


class Inv(_Known):
    """1 / x"""

    compute = staticmethod(operators.inv)


class Neg(_Known):
    """-x"""

    compute = staticmethod(operators.neg)


class Log(_Known):
    """log(x + 1e-6)"""

    compute = staticmethod(operators.log)


class Exp(_Known):
    """e^x"""

    compute = staticmethod(operators.exp)


class Sigmoid(_Known):
    """1 / (1 + e^-x)"""

    compute = staticmethod(operators.sigmoid)


class ReLU(_Known):
    """x where it is positive, or else 0."""

    compute = staticmethod(operators.relu)


class LT(_Known):
    """1 where x < y, or else 0; the derivatives are 0."""

    @staticmethod
    def compute(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        return compared(operators.lt, x, y)


class EQ(_Known):
    """1 where x equals y, or else 0; the derivatives are 0."""

    @staticmethod
    def compute(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        return compared(operators.eq, x, y)


__all__ = ["EQ", "LT", "Add", "Exp", "Inv", "Log", "Mul", "Neg", "ReLU", "ScalarFunction", "Sigmoid"]
