"""Module 1: Scalar, a 0-d float64 tensor of ours that looks like a number."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.minitorch import operators
from flambeau.minitorch.autodiff import History, Variable, central_difference, compared, recorded, value_of

ScalarHistory = History
ScalarLike = Any                # a Scalar or a number


@dataclass(init=False, repr=False, eq=False)
class Scalar(Variable):
    """A number whose operations are recorded. `Scalar(v)` is a leaf, `Scalar(v, None)` a constant, and
    `Scalar(v, ScalarHistory(fn, ctx, inputs))` what fn has computed."""

    value: fb.Tensor

    def __init__(self, v: Any, back: History | None = History(), name: str | None = None):   # noqa: B008
        self.value = fb.tensor(float(v), dtype=fb.float64, requires_grad=back is not None)
        if back is not None and back.last_fn is not None:
            self.value = recorded(back, self, self.value.detach())
        if name is not None:
            self.name = name

    @classmethod
    def around(cls, value: fb.Tensor) -> Scalar:
        """The scalar that is a 0-d tensor of ours."""
        made = object.__new__(cls)
        made.value = value
        return made

    _like = around

    def _given(self, derivative: Any) -> fb.Tensor:
        return fb.tensor(float(derivative), dtype=fb.float64)

    def _told(self, derivative: fb.Tensor) -> float:
        return float(derivative.item())

    @property
    def data(self) -> float:
        """The number."""
        return float(self.value.item())

    @property
    def derivative(self) -> float | None:
        """What backward() has left, of a leaf."""
        grad = self.value.grad
        return None if grad is None else float(grad.item())

    @derivative.setter
    def derivative(self, number: float | None) -> None:
        self.value.grad = None if number is None else self._given(number)

    def requires_grad_(self, x: bool = True) -> None:
        """Make it a leaf, or a constant."""
        if not x or not self.value.is_leaf:
            self.value = self.value.detach()
        self.value.requires_grad_(x)

    def _then(self, fn: Any, *others: Any) -> Scalar:
        return self.around(fn(self.value, *[value_of(b) for b in others]))

    def __add__(self, b: ScalarLike) -> Scalar:
        return self._then(operators.add, b)

    def __sub__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: x - y, b)

    def __mul__(self, b: ScalarLike) -> Scalar:
        return self._then(operators.mul, b)

    def __truediv__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: x / y, b)

    def __rtruediv__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: y / x, b)

    def __rsub__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: y - x, b)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Scalar:
        return self._then(operators.neg)

    def __lt__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: compared(operators.lt, x, y), b)

    def __gt__(self, b: ScalarLike) -> Scalar:
        return self._then(lambda x, y: compared(operators.lt, y, x), b)

    def __eq__(self, b: ScalarLike) -> Scalar:  # type: ignore[override]
        return self._then(lambda x, y: compared(operators.eq, x, y), b)

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return bool(self.data)

    def __float__(self) -> float:
        return self.data

    def log(self) -> Scalar:
        """log(x + 1e-6)"""
        return self._then(operators.log)

    def exp(self) -> Scalar:
        """e^x"""
        return self._then(operators.exp)

    def sigmoid(self) -> Scalar:
        """1 / (1 + e^-x)"""
        return self._then(operators.sigmoid)

    def relu(self) -> Scalar:
        """x where it is positive, or else 0."""
        return self._then(operators.relu)

    def __repr__(self) -> str:
        return f"Scalar({self.data:f})"


def derivative_check(f: Any, *scalars: Scalar) -> None:
    """Assert that the derivatives of f, from scalars to a scalar, are its central differences, to 1%."""
    f(*scalars).backward()
    for i, x in enumerate(scalars):
        slope = central_difference(f, *scalars, arg=i)
        assert x.derivative is not None, f"argument {i} got no derivative"
        np.testing.assert_allclose(x.derivative, slope.data, 1e-2, 1e-2, err_msg=(
            f"the derivative of {f} by argument {i} at {[s.data for s in scalars]} is not the central difference"))


__all__ = ["Scalar", "ScalarHistory", "ScalarLike", "derivative_check"]
