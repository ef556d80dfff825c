"""Orders: sort, topk, unique. The order itself is found by NumPy, so these are eager; values are gathered by it, and
so have gradients."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, own_dim, reshaped, user_line, wrap_dim
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.reductions import ValuesAndIndices
from flambeau.frontend.functions.reductions import max as max_
from flambeau.frontend.functions.views import clone, sliced
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def _values(x: Tensor, name: str) -> np.ndarray:
    """The numbers to order. Raises UnsupportedError under trace."""
    if active.tracer is not None:
        raise UnsupportedError(f"{name}: sorting inside a compiled function is not supported yet", where=user_line(),
                               hint="do it outside the function")
    return dt.to_compute(x._data(), x.dtype)


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """i64 positions that put the elements along dim in order, equal ones as they stand; NaN is greatest."""
    x = one_tensor("argsort", input)
    dim = wrap_dim(dim, x.ndim, "argsort")
    values = _values(x, "argsort")
    if not x.ndim:
        return holding(np.zeros((), np.int64), dt.i64)
    if descending:                          # from the back, so that equal elements keep their order
        size = values.shape[dim]
        order = np.flip(size - 1 - np.argsort(np.flip(values, dim), dim, kind="stable"), dim)
    else:
        order = np.argsort(values, dim, kind="stable")
    return holding(np.ascontiguousarray(order), dt.i64)


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesAndIndices:
    """(values, indices) in order along dim."""
    indices = argsort(input, dim, descending)
    return ValuesAndIndices(_along(input, dim, indices), indices)


def _along(x: Tensor, dim: int, indices: Tensor) -> Tensor:
    if not x.ndim:
        return clone(x)
    return dispatch(ops.TakeAlong(wrap_dim(dim, x.ndim, "sort")), x, indices)


def msort(input: Tensor) -> Tensor:
    """The values in order along dim 0."""
    return sort(input, 0).values


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """(values, indices) of the k greatest (or least) along dim, in order. Raises RuntimeError if k is too large."""
    x = one_tensor("topk", input)
    dim = wrap_dim(dim, x.ndim, "topk")
    size = x._type.static_shape[dim] if x.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError(f"topk: k {k} is out of range for size {size} of dim {dim}")
    indices = argsort(x, dim, descending=largest)
    indices = sliced(indices, dim, 0, k) if x.ndim else indices
    return ValuesAndIndices(_along(x, dim, indices), indices)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(value, index) of the k-th least along dim, counted from 1."""
    x = one_tensor("kthvalue", input)
    dim = wrap_dim(dim, x.ndim, "kthvalue")
    shape = x._type.static_shape
    if not 1 <= k <= (shape[dim] if x.ndim else 1):
        raise RuntimeError(f"kthvalue: k {k} is out of range for dim {dim} of {x._type}")
    if not x.ndim:
        return ValuesAndIndices(clone(x), argsort(x))
    indices = sliced(argsort(x, dim), dim, k - 1, k)
    values = _along(x, dim, indices)
    if keepdim:
        return ValuesAndIndices(values, indices)
    final = (*shape[:dim], *shape[dim + 1:])
    return ValuesAndIndices(reshaped(values, final), reshaped(indices, final))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median (the lower of two), NaN if there is one: of all elements, equal ones sharing its gradient, or (values,
    indices) along dim."""
    x = one_tensor("median", input)
    if dim is None:
        return _median_of_all(reshaped(x, (x.numel(),)))
    dim = wrap_dim(dim, x.ndim, "median")
    size = x._type.static_shape[dim] if x.ndim else 1
    if size == 0:
        raise IndexError(f"median: {x._type} has no elements along dim {dim}")
    found = kthvalue(x, (size + 1) // 2, dim, keepdim)
    if x.dtype.is_floating_point and np.isnan(_values(x, "median")).any():
        greatest = max_(x, dim, keepdim)                # the first NaN
        is_nan = dispatch(ops.isnan, greatest.values)
        return ValuesAndIndices(*[dispatch(ops.where, is_nan, a, b) for a, b in zip(greatest, found, strict=True)])
    return found


def _median_of_all(x: Tensor) -> Tensor:
    found = median(x, 0).values
    values, middle = _values(x, "median"), _values(found, "median")
    ties = np.flatnonzero((values == middle) | (values != values) & (middle != middle))
    return found if len(ties) == 1 else max_(dispatch(ops.Take(0), x, holding(ties, dt.i64)))


def unique(input: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False,
           dim: int | None = None) -> Any:
    """The different values in order; with their places (return_inverse) and how often they occur (return_counts)."""
    x = one_tensor("unique", input)
    dim = None if dim is None else own_dim(x, dim, "unique")
    found, inverse, counts = np.unique(_values(x, "unique"), return_inverse=True, return_counts=True, axis=dim)
    values = holding(np.ascontiguousarray(dt.to_storage(found, x.dtype)), x.dtype)
    extra = []
    if return_inverse:
        shape = x._type.static_shape if dim is None else (x._type.static_shape[dim],)
        extra.append(holding(np.ascontiguousarray(inverse.reshape(shape)), dt.i64))
    if return_counts:
        extra.append(holding(np.ascontiguousarray(counts), dt.i64))
    return (values, *extra) if extra else values


__all__ = ["argsort", "kthvalue", "median", "msort", "sort", "topk", "unique"]
public(globals(), __all__)
