"""Modules 2 and 3: map, zip, reduce and matrix products, as classes that a TensorBackend is made of."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.minitorch import operators
from flambeau.minitorch.tensor_data import strided

MAPS = "neg sigmoid relu log exp id inv"
ZIPS = "add mul lt eq is_close relu_back log_back inv_back"


class TensorOps:
    """A function of `operators` is applied to whole tensors, any other one to element after element."""

    cuda = False

    @staticmethod
    def map(fn: operators.Map) -> Callable[..., Any]:
        """f(a), or f(a, out) which fills `out` with what is broadcast to it."""
        def run(a: Any, out: Any = None) -> Any:
            found = fn(a.value) if fn in operators.OF_ELEMENTS else _each(fn, a.value)
            if out is None:
                return a._like(found)
            out.value.detach().copy_(found)
            return out

        return run

    cmap = map

    @staticmethod
    def zip(fn: operators.Zip) -> Callable[[Any, Any], Any]:
        """f(a, b), broadcast."""
        return lambda a, b: a._like(fn(a.value, b.value) if fn in operators.OF_ELEMENTS else _each(fn, a.value, b.value))

    @staticmethod
    def reduce(fn: operators.Zip, start: float = 0.0) -> Callable[[Any, int], Any]:
        """f(a, dim): each row folded from `start` on; the dim stays, of size 1."""
        def run(a: Any, dim: int) -> Any:
            rows = a.value.unbind(dim)
            found = fb.full_like(a.value.select(dim, 0), start)
            for row in rows:
                found = fn(found, row) if fn in operators.OF_ELEMENTS else _each(fn, found, row)
            return a._like(found.unsqueeze(dim))

        return run

    @staticmethod
    def matrix_multiply(a: Any, b: Any) -> Any:
        """The matrix product of the last two dims."""
        return a @ b


def _each(fn: Callable[..., float], *operands: fb.Tensor) -> fb.Tensor:
    found = np.vectorize(fn, otypes=[np.float64])(*[t.detach().numpy() for t in operands])
    return fb.from_numpy(np.ascontiguousarray(found))


class SimpleOps(TensorOps):
    """Module 2's."""


class TensorBackend:
    """The functions that module 2 builds tensors from: neg_map, add_zip, add_reduce, ..."""

    def __init__(self, ops: type[TensorOps]):
        for name in MAPS.split():
            setattr(self, f"{name}_map", ops.map(getattr(operators, name)))
        for name in ZIPS.split():
            setattr(self, f"{name}_zip", ops.zip(getattr(operators, name)))
        self.id_cmap = ops.cmap(operators.id)
        self.add_reduce = ops.reduce(operators.add, 0.0)
        self.mul_reduce = ops.reduce(operators.mul, 1.0)
        self.matrix_multiply = ops.matrix_multiply
        self.cuda = ops.cuda


SimpleBackend = TensorBackend(SimpleOps)


# -- storages ---------------------------------------------------------------------------------------------------------


def tensor_map(fn: operators.Map) -> Callable[..., None]:
    """f(*out.tuple(), *a.tuple()) fills out with fn of each element of a, which is broadcast to it."""
    def run(out: Any, out_shape: Any, out_strides: Any, *a: Any) -> None:
        strided(out, out_shape, out_strides)[...] = np.vectorize(fn, otypes=[np.float64])(strided(*a))

    return run


def tensor_zip(fn: operators.Zip) -> Callable[..., None]:
    """f(*out.tuple(), *a.tuple(), *b.tuple()) fills out with fn of pairs of elements, which are broadcast to it."""
    def run(out: Any, out_shape: Any, out_strides: Any, *ab: Any) -> None:
        lhs, rhs = strided(*ab[:3]), strided(*ab[3:])
        strided(out, out_shape, out_strides)[...] = np.vectorize(fn, otypes=[np.float64])(lhs, rhs)

    return run


def tensor_reduce(fn: operators.Zip) -> Callable[..., None]:
    """f(*out.tuple(), *a.tuple(), dim) folds the rows of a into what stands in out, whose dim has size 1."""
    def run(out: Any, out_shape: Any, out_strides: Any, a: Any, a_shape: Any, a_strides: Any, reduce_dim: int) -> None:
        target, rows = strided(out, out_shape, out_strides), strided(a, a_shape, a_strides)
        for i in range(rows.shape[reduce_dim]):
            row = rows.take([i], axis=reduce_dim)
            target[...] = np.vectorize(fn, otypes=[np.float64])(target, row)

    return run


__all__ = ["SimpleBackend", "SimpleOps", "TensorBackend", "TensorOps", "tensor_map", "tensor_reduce", "tensor_zip"]
