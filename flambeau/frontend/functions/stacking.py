"""Tensors put together and taken apart: at least so many dims, columns and depths, grids and combinations."""
from __future__ import annotations

import builtins
import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    one_tensor,
    reshaped,
    result_type,
    sizes_of,
    spread,
    tensor_of,
)
from flambeau.frontend.functions.creation import finished, holding, meshgrid
from flambeau.frontend.functions.indexing import checked
from flambeau.frontend.functions.joining import cat, flip, stack, vstack
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.reductions import cumprod
from flambeau.frontend.functions.views import diag_embed, padded, reshape, tensor_split
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size
from flambeau.ir.dtypes import DType

# -- at least so many dims --------------------------------------------------------------------------------------------


def _each(tensors: tuple[Any, ...], name: str, change: Any) -> Any:
    """`f(x)`, `f(x, y)` or `f([x, y])`: a tensor for one, a tuple for several."""
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)):
        return tuple([change(one_tensor(name, x)) for x in tensors[0]])
    found = [change(one_tensor(name, x)) for x in tensors]
    return found[0] if len(found) == 1 else tuple(found)


def atleast_1d(*tensors: Any) -> Any:
    """Each with a dim in front where it has none."""
    return _each(tensors, "atleast_1d", lambda x: x if x.ndim else reshape(x, (1,)))


def atleast_2d(*tensors: Any) -> Any:
    """Each with dims of size 1 in front, so that it has two."""
    return _each(tensors, "atleast_2d", _matrix)


def _matrix(x: Tensor) -> Tensor:
    return x if x.ndim > 1 else reshape(x, (1, x.numel()))


def atleast_3d(*tensors: Any) -> Any:
    """Each with three dims: a vector becomes [1, n, 1], a matrix [n, m, 1]."""
    return _each(tensors, "atleast_3d", _volume)


def _volume(x: Tensor) -> Tensor:
    return x if x.ndim > 2 else reshape(x, (*_matrix(x)._type.static_shape, 1))


def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 1, vectors as columns."""
    parts = [one_tensor("column_stack", x) for x in tensors]
    if not parts:
        raise RuntimeError("column_stack: expected a non-empty list of tensors")
    return cat([x if x.ndim > 1 else reshape(x, (x.numel(), 1)) for x in parts], 1)


row_stack = vstack


def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 2, each with at least three dims."""
    parts = [_volume(one_tensor("dstack", x)) for x in tensors]
    if not parts:
        raise RuntimeError("dstack: expected a non-empty list of tensors")
    return cat(parts, 2)


# -- apart ------------------------------------------------------------------------------------------------------------


def _split_along(name: str, input: Tensor, parts: Any, dim: int, least: int) -> tuple[Tensor, ...]:
    """tensor_split() along dim, whose size a number of parts must divide. Raises RuntimeError for too few dims."""
    x = one_tensor(name, input)
    if x.ndim < least:
        raise RuntimeError(f"{name}: takes {least} dim{'s' * (least > 1)} or more, got {x._type}")
    if isinstance(parts, (int, Dim)) and (parts < 1 or x._type.static_shape[dim] % parts):
        raise RuntimeError(f"{name}: dim {dim} of {x._type} can't be split into {parts} equal parts")
    return tensor_split(x, parts, dim)


@method
def hsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 1 (dim 0 of a vector)."""
    return _split_along("hsplit", input, indices_or_sections, 0 if input.ndim == 1 else 1, 1)


@method
def vsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 0 of two dims or more."""
    return _split_along("vsplit", input, indices_or_sections, 0, 2)


@method
def dsplit(input: Tensor, indices_or_sections: int | Sequence[int]) -> tuple[Tensor, ...]:
    """Equal parts, or those between indices, along dim 2 of three dims or more."""
    return _split_along("dsplit", input, indices_or_sections, 2, 3)


# -- diagonals --------------------------------------------------------------------------------------------------------


def block_diag(*tensors: Tensor) -> Tensor:
    """Matrices one after another along the diagonal of a matrix of zeros; vectors are rows, numbers 1 x 1."""
    parts = [one_tensor("block_diag", x) for x in tensors]
    if builtins.any(x.ndim > 2 for x in parts):
        raise RuntimeError(f"block_diag: takes tensors of at most 2 dims, got {[str(x._type) for x in parts]}")
    if not parts:
        return holding(np.zeros((1, 0), dt.f32.storage), dt.f32)
    dtype, blocks = result_type(*parts), [_matrix(x) for x in parts]
    width, rows, before = sum(x._type.static_shape[1] for x in blocks), [], 0
    for block in blocks:
        after = before + block._type.static_shape[1]
        rows.append(padded(cast(block, dtype), [(0, 0), (before, width - after)]))
        before = after
    return cat(rows, 0)


@method
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """All elements as the diagonal of a matrix of zeros, moved up by `offset`."""
    x = one_tensor("diagflat", input)
    return diag_embed(reshaped(x, (x.numel(),)), offset)


def tril_indices(row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """[2, n]: the rows and columns of what lies on or below the diagonal of a [row, col] matrix, moved up by offset."""
    return _triangle_indices("tril_indices", np.tri, row, col, offset, dtype, device)


def triu_indices(row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = None,
                 layout: Any = None) -> Tensor:
    """[2, n]: the rows and columns of what lies on or above the diagonal of a [row, col] matrix, moved up by offset."""
    return _triangle_indices("triu_indices", lambda n, m, k: 1 - np.tri(n, m, k - 1), row, col, offset, dtype, device)


def _triangle_indices(name: str, holds: Any, row: int, col: int, offset: int, dtype: DType | None,
                      device: Any) -> Tensor:
    place = place_of(device)
    row, col = operator.index(row), operator.index(col)
    if row < 0 or col < 0:
        raise RuntimeError(f"{name}: row and col must not be negative, got {row} and {col}")
    dtype = dtype or dt.i64
    if dtype not in (dt.i32, dt.i64):
        raise RuntimeError(f"{name}: indices are int32 or int64, not {dtype!r}")
    made = holding(np.array(np.nonzero(holds(row, col, operator.index(offset))), dtype.storage), dtype)
    return finished(made, False, place)


# -- grids and powers -------------------------------------------------------------------------------------------------


def cartesian_prod(*tensors: Any) -> Tensor:
    """[n, k]: every choice of one element from each of k vectors, the last changing first; of one vector, itself."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    vectors = [one_tensor("cartesian_prod", x) for x in given]
    if builtins.any(x.ndim != 1 for x in vectors):
        raise RuntimeError(f"cartesian_prod: takes vectors, got {[str(x._type) for x in vectors]}")
    if len(vectors) == 1:
        return vectors[0]
    return stack([reshape(x, (-1,)) for x in meshgrid(*vectors)], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """[n, r]: every choice of r elements of a vector, in the order of their places (each as often as one likes,
    with_replacement). Raises RuntimeError for a negative r and anything but a vector."""
    x, r = one_tensor("combinations", input), as_size(r)
    if x.ndim != 1 or r < 0:
        raise RuntimeError(f"combinations: takes a vector and r >= 0, got {x._type} and {r}")
    if r == 0:
        return reshape(x[:0], (0,))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(x.numel()), r)), np.int64).reshape(-1, r)
    return dispatch(ops.Take(0), x, holding(places, dt.i64))


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """[n, N]: the powers N-1 ... 0 of a vector's elements (0 ... N-1 if increasing). N: by default n."""
    x = one_tensor("vander", x)
    if x.ndim != 1 or N is not None and N < 0:
        raise RuntimeError(f"vander: takes a vector and N >= 0, got {x._type} and N={N}")
    count = x.numel() if N is None else as_size(N)
    return powers_of(x, count, not increasing)


def powers_of(x: Tensor, count: int, descending: bool) -> Tensor:
    """[..., count]: x ** 0 ... x ** (count - 1), or the other way round; integers in i64."""
    wide = x if x.dtype.is_floating_point else cast(x, dt.i64)
    shape = wide._type.static_shape
    ones = spread(tensor_of(1, wide.dtype), (*shape, min(count, 1)), ())
    if count > 1:
        rest = spread(wide, (*shape, count - 1), range(x.ndim))
        ones = dispatch(ops.Concat(x.ndim), ones, cumprod(rest, -1))
    else:
        ones = dispatch(ops.Reshape(ones._type.shape), ones)
    return flip(ones, -1) if descending else ones


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Where flat positions lie in a tensor of `shape`: an i64 tensor for each of its dims.

    Raises ValueError for a position that is not in it (KernelError in a compiled function, which finds it as it
    runs)."""
    at = one_tensor("unravel_index", indices)
    sizes = sizes_of((shape.tolist() if isinstance(shape, Tensor) else shape,), "unravel_index")
    if not at.dtype.is_integer:
        raise TypeError(f"unravel_index: takes an integer tensor, got {at._type}")
    if builtins.any(size < 0 for size in sizes):
        raise ValueError(f"unravel_index: sizes must not be negative, got {sizes}")
    total = math.prod(sizes)
    if active.tracer is None and at.numel():
        data = at._data()
        if data.min() < 0 or data.max() >= total:
            raise ValueError(f"unravel_index: a position is out of range for the shape {sizes}")
        at = cast(at, dt.i64)
    else:
        at = checked(at, total) if total <= _LISTED else cast(at, dt.i64)
    found = []
    for d, size in enumerate(sizes):
        step = dispatch(ops.floor_divide, at, tensor_of(max(math.prod(sizes[d + 1:]), 1), dt.i64))
        found.append(dispatch(ops.remainder, step, tensor_of(max(size, 1), dt.i64)))
    return tuple(found)


_LISTED = 1 << 20                           # up to here a list of all positions tells whether one is out of range

__all__ = ["atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "cartesian_prod", "column_stack", "combinations",
           "diagflat", "dsplit", "dstack", "hsplit", "row_stack", "tril_indices", "triu_indices", "unravel_index",
           "vander", "vsplit"]
public(globals(), __all__)
