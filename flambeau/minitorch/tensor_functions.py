"""Module 2: functions of tensors, ways to make tensors, and checks of gradients."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.minitorch import autodiff, operators
from flambeau.minitorch.autodiff import Context, History, compared
from flambeau.minitorch.tensor import Tensor
from flambeau.minitorch.tensor_data import UserIndex, UserShape
from flambeau.minitorch.tensor_ops import SimpleBackend, TensorBackend


class Function(autodiff.Function):
    """forward takes tensors and gives one; backward takes the derivative and gives one for each input."""

    @classmethod
    def apply(cls, *vals: Tensor) -> Tensor:
        ctx = Context(not any(v.requires_grad() for v in vals))
        found: Tensor = cls._forward(ctx, *[v.detach() for v in vals])
        if ctx.no_grad:
            return found
        return Tensor(found.value, History(cls, ctx, vals), backend=found.backend)


class _Known(Function):
    """A function of ours: our tape differentiates it."""

    compute: Callable[..., Any]

    @classmethod
    def apply(cls, *vals: Tensor) -> Tensor:
        return vals[0]._like(cls.compute(*[v.value for v in vals]))

    @classmethod
    def forward(cls, ctx: Context, *inps: Tensor) -> Tensor:
        ctx.save_for_backward(*inps)
        return inps[0]._like(cls.compute(*[v.value for v in inps]))

    @classmethod
    def backward(cls, ctx: Context, grad_output: Tensor) -> tuple[Any, ...]:
        leaves = [v.value.detach().requires_grad_() for v in ctx.saved_values]
        shares = fb.autograd.grad(cls.compute(*leaves), leaves, grad_output.value, allow_unused=True)
        return tuple([0.0 if share is None else grad_output._like(share) for share in shares])


def _known(name: str, doc: str, compute: Callable[..., Any]) -> Any:
    return type(name, (_Known,), {"compute": staticmethod(compute), "__doc__": doc, "__module__": __name__})


def _ints(t: fb.Tensor) -> list[int]:
    return [int(x) for x in t.detach().reshape(-1).tolist()]


Neg = _known("Neg", "-x", operators.neg)
Inv = _known("Inv", "1 / x", operators.inv)
Add = _known("Add", "x + y", operators.add)
Mul = _known("Mul", "x * y", operators.mul)
Sigmoid = _known("Sigmoid", "1 / (1 + e^-x)", operators.sigmoid)
ReLU = _known("ReLU", "x where it is positive, or else 0.", operators.relu)
Log = _known("Log", "log(x + 1e-6)", operators.log)
Exp = _known("Exp", "e^x", operators.exp)
LT = _known("LT", "1 where x < y, or else 0.", lambda x, y: compared(operators.lt, x, y))
EQ = _known("EQ", "1 where x equals y, or else 0.", lambda x, y: compared(operators.eq, x, y))
IsClose = _known("IsClose", "1 where |x - y| < 0.01, or else 0.", lambda x, y: compared(operators.is_close, x, y))
Sum = _known("Sum", "The sum along dim, which stays.", lambda x, dim: x.sum(_ints(dim)[0], keepdim=True))
All = _known("All", "The product along dim, which stays.", lambda x, dim: x.prod(_ints(dim)[0], keepdim=True))
Permute = _known("Permute", "The dims in another order.", lambda x, order: x.permute(_ints(order)))
View = _known("View", "The same elements in another shape.", lambda x, shape: x.view(_ints(shape)))
Copy = _known("Copy", "The same elements in row-major order.", lambda x: x.clone(memory_format=fb.contiguous_format))
MatMul = _known("MatMul", "The matrix product.", fb.matmul)


# -- making tensors ---------------------------------------------------------------------------------------------------


def _made(value: fb.Tensor, backend: TensorBackend, requires_grad: bool) -> Tensor:
    return Tensor(value, History() if requires_grad else None, backend=backend)


def zeros(shape: UserShape, backend: TensorBackend = SimpleBackend) -> Tensor:
    """Zeros."""
    return _made(fb.zeros(tuple(shape), dtype=fb.float64), backend, False)


def rand(shape: UserShape, backend: TensorBackend = SimpleBackend, requires_grad: bool = False) -> Tensor:
    """Numbers of [0, 1), from `fb.manual_seed`'s generator."""
    return _made(fb.rand(tuple(shape), dtype=fb.float64), backend, requires_grad)


def tensor(ls: Any, backend: TensorBackend = SimpleBackend, requires_grad: bool = False) -> Tensor:
    """A tensor of nested lists of numbers."""
    return _made(fb.from_numpy(np.array(ls, np.float64)), backend, requires_grad)


# -- checks -----------------------------------------------------------------------------------------------------------


def grad_central_difference(f: Any, *vals: Tensor, arg: int = 0, epsilon: float = 1e-6, ind: UserIndex) -> float:
    """The slope of f(*vals).sum() along one element of argument `arg`."""
    x = vals[arg]
    step = x.zeros()
    step[ind] = epsilon
    above, below = ([v if i != arg else moved for i, v in enumerate(vals)] for moved in (x + step, x - step))
    return (f(*above).sum() - f(*below).sum())[0] / (2 * epsilon)


def grad_check(f: Any, *vals: Tensor) -> None:
    """Assert that a random element of each gradient of f(*vals).sum() is the central difference, to 1%."""
    for x in vals:
        x.requires_grad_(True)
        x.zero_grad_()
    f(*vals).sum().backward()
    for i, x in enumerate(vals):
        ind = x._tensor.sample()
        slope = grad_central_difference(f, *vals, arg=i, ind=ind)
        assert x.grad is not None, f"argument {i} got no gradient"
        np.testing.assert_allclose(x.grad[ind], slope, 1e-2, 1e-2, err_msg=(
            f"the gradient of {f} by element {ind} of argument {i} is not the central difference; arguments {vals}"))


__all__ = ["EQ", "LT", "Add", "All", "Copy", "Exp", "Function", "Inv", "IsClose", "Log", "MatMul", "Mul", "Neg", "Permute",
           "ReLU", "Sigmoid", "Sum", "View", "grad_central_difference", "grad_check", "rand", "tensor", "zeros"]
