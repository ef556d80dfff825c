"""Norms of vectors and of matrices, under the names of `fb.linalg` and the older ones."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Dims,
    cast,
    is_number,
    one_tensor,
    permuted,
    reshaped,
    user_line,
    wrap_dim,
    wrap_dims,
)
from flambeau.frontend.functions.linear_algebra import dispatched, matrices
from flambeau.frontend.functions.pointwise import abs as abs_
from flambeau.frontend.functions.reductions import amax, amin
from flambeau.frontend.functions.reductions import norm as norm_of
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dtypes import DType


def vector_norm(x: Tensor, ord: Any = 2, dim: Dims = None, keepdim: bool = False, *,
                dtype: DType | None = None) -> Tensor:
    """(sum of |x|^ord)^(1 / ord) over `dim` (all dims by default, as one vector); inf and -inf: the greatest and the least
    size, 0: how many are not 0. dtype: what to convert to first. Raises RuntimeError for integers."""
    name = "linalg.vector_norm"
    given = _float(name, x, dtype)
    if not is_number(ord):
        raise RuntimeError(f"{name}: ord must be a number, got {ord!r}")
    dims = wrap_dims(dim, given.ndim, name)
    if (ord == math.inf or ord < 0) and 0 in [given._type.static_shape[d] for d in dims if given.ndim]:
        raise RuntimeError(f"{name}: the norm of no elements has no ord={ord}, got {given._type} over dims {dim}")
    return norm_of(given, ord, dim, keepdim)


def matrix_norm(A: Tensor, ord: Any = "fro", dim: Sequence[int] = (-2, -1), keepdim: bool = False, *,
                dtype: DType | None = None) -> Tensor:
    """The norm of the matrices over two dims. ord: "fro" the root of the sum of squares, "nuc" the sum of singular values,
    2 and -2 the greatest and the least of them, 1 and -1 the greatest and the least sum of sizes in a column, inf and -inf
    in a row. dtype: what to convert to first."""
    name = "linalg.matrix_norm"
    a = _float(name, A, dtype)
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be two ints, got {dim!r}")
    if a.ndim < 2:
        raise ShapeError(f"{name}: takes matrices, got {a._type}", where=user_line())
    rows, columns = (wrap_dim(d, a.ndim, name) for d in dim)
    if rows == columns:
        raise RuntimeError(f"{name}: dims must differ, got {tuple(dim)}")
    if ord == "fro":
        return norm_of(a, 2, (rows, columns), keepdim)
    if ord in ("nuc", 2, -2):
        return _by_singular_values(name, a, ord, rows, columns, keepdim)
    if ord in (1, -1, math.inf, -math.inf):
        first, then = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = sum_(abs_(a), first, True)
        has_none = ord > 0 and not sums._type.static_shape[then]
        found = sum_(sums, then, True) if has_none else amax(sums, then, True) if ord > 0 else amin(sums, then, True)
        return found if keepdim else reshaped(found, _without(a, rows, columns))
    raise RuntimeError(f"{name}: ord must be 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")


def _by_singular_values(name: str, a: Tensor, ord: Any, rows: int, columns: int, keepdim: bool) -> Tensor:
    others = [d for d in range(a.ndim) if d not in (rows, columns)]
    values = dispatched(ops.Svdvals(), matrices(name, permuted(a, (*others, rows, columns))))
    has_none = ord == 2 and not values._type.static_shape[-1]
    found = sum_(values, -1) if ord == "nuc" or has_none else amax(values, -1) if ord == 2 else amin(values, -1)
    kept = tuple([1 if d in (rows, columns) else size for d, size in enumerate(a._type.static_shape)])
    return reshaped(found, kept) if keepdim else found


def _without(a: Tensor, *dims: int) -> tuple[int, ...]:
    return tuple([size for d, size in enumerate(a._type.static_shape) if d not in dims])


def linalg_norm(A: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *,
                dtype: DType | None = None) -> Tensor:
    """`matrix_norm` over two dims, or of a tensor of two where `ord` is given without dim; else `vector_norm`."""
    x = one_tensor("linalg.norm", A)
    if dim is not None:
        over = tuple(dim) if isinstance(dim, (tuple, list)) else (dim,)
    else:
        over = tuple(range(x.ndim))
        if ord is not None and x.ndim not in (1, 2) or isinstance(ord, str) and x.ndim != 2:
            ranks = "2" if isinstance(ord, str) else "1 or 2"
            raise RuntimeError(f"linalg.norm: ord={ord!r} without dim is for tensors of {ranks} dims, got {x._type}")
    if ord is None:
        return vector_norm(x, 2, dim, keepdim, dtype=dtype)
    if len(over) == 2:
        return matrix_norm(x, ord, over, keepdim, dtype=dtype)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.norm: ord={ord!r} takes two dims, got {dim}")
    return vector_norm(x, ord, over, keepdim, dtype=dtype)


def nuclear_norm(input: Tensor, dim: Sequence[int] = (-2, -1), keepdim: bool = False) -> Tensor:
    """The sum of the singular values of matrices over two dims."""
    return matrix_norm(input, "nuc", dim, keepdim)


def frobenius_norm(input: Tensor, dim: Dims = (), keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over `dim`."""
    return norm_of(input, 2, dim, keepdim)


def _float(name: str, value: Tensor, dtype: DType | None) -> Tensor:
    x = one_tensor(name, value)
    if dtype is not None:
        if not dtype.is_floating_point:
            raise RuntimeError(f"{name}: dtype must be floating-point, got {dtype!r}")
        x = cast(x, dtype)
    if not x._type.dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes floating-point tensors, got {x._type}; pass x.float()")
    return x


__all__ = ["frobenius_norm", "nuclear_norm"]
public(globals(), (*__all__, "linalg_norm", "matrix_norm", "vector_norm"))
