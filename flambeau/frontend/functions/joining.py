"""Tensors joined, repeated, turned and rolled: copies, where a view can't say it."""
from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from flambeau.errors import ShapeError, TraceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    one_tensor,
    own_dim,
    result_type,
    sizes_of,
    spread,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.views import clone, reshape, sliced, transpose, unsqueeze
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors one after another along dim, promoted to one dtype. Raises ShapeError if other sizes differ."""
    parts = [one_tensor("cat", x) for x in tensors]
    if not parts:
        raise RuntimeError("cat: expected a non-empty list of tensors")
    dtype = result_type(*parts)
    rank = builtins.max(x.ndim for x in parts)
    # PyTorch skips old-style empties
    parts = [x for x in parts if x.ndim != 1 or rank == 1 or x._type.shape != (0,)] or parts
    dim = wrap_dim(dim, parts[0].ndim, "cat")
    for position, x in enumerate(parts):
        if not x._type.shape:
            raise RuntimeError(f"cat: 0-d tensor (at position {position}) can't be concatenated; use stack")
        others = [s for d, s in enumerate(x._type.shape) if d != dim]
        if x.ndim != parts[0].ndim or others != [s for d, s in enumerate(parts[0]._type.shape) if d != dim]:
            raise ShapeError(f"cat: tensor {position} is {x._type}, tensor 0 is {parts[0]._type}: they may differ in "
                             f"dim {dim} only", where=user_line())
    return dispatch(ops.Concat(dim), *[cast(x, dtype) for x in parts])


concat = concatenate = cat


def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new dim. Raises ShapeError if shapes differ."""
    parts = [one_tensor("stack", x) for x in tensors]
    if not parts:
        raise RuntimeError("stack: expected a non-empty list of tensors")
    for position, x in enumerate(parts):
        if x._type.shape != parts[0]._type.shape:
            raise ShapeError(f"stack: tensor {position} is {x._type}, tensor 0 is {parts[0]._type}", where=user_line())
    place = wrap_dim(dim, parts[0].ndim + 1, "stack")
    return cat([unsqueeze(x, place) for x in parts], place)


def _at_least(tensors: Sequence[Tensor], rank: int) -> list[Tensor]:
    return [reshape(x, (1,) * (rank - x.ndim) + tuple(x.shape)) if x.ndim < rank else x for x in tensors]


def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 1 (dim 0 for vectors)."""
    parts = _at_least([one_tensor("hstack", x) for x in tensors], 1)
    if not parts:
        raise RuntimeError("hstack: expected a non-empty list of tensors")
    return cat(parts, 0 if parts[0].ndim == 1 else 1)


def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """Joined along dim 0, vectors as rows."""
    return cat(_at_least([one_tensor("vstack", x) for x in tensors], 2), 0)


def repeat(self: Tensor, *repeats: Any) -> Tensor:
    """The tensor tiled: repeats[d] copies along dim d, new dims in front."""
    counts = sizes_of(repeats, "repeat")
    if len(counts) < self.ndim:
        raise RuntimeError(f"repeat: {len(counts)} counts {counts} for {self._type}")
    own = (1,) * (len(counts) - self.ndim) + self._type.static_shape
    wide = tuple([n for pair in zip(counts, own, strict=True) for n in pair])
    lead = len(counts) - self.ndim
    grown = dispatch(ops.Broadcast(wide, tuple([2 * (lead + d) + 1 for d in range(self.ndim)])), self)
    return dispatch_view(ops.Reshape(tuple([c * s for c, s in zip(counts, own, strict=True)])), grown)


def tile(input: Tensor, *dims: Any) -> Tensor:
    """repeat(), with missing counts in front taken as 1."""
    counts = sizes_of(dims, "tile")
    return repeat(input, (1,) * (input.ndim - len(counts)) + counts)


def repeat_interleave(input: Tensor, repeats: int | Tensor | None = None, dim: int | None = None, *,
                      output_size: int | None = None) -> Tensor:
    """Each element `repeats` times in a row along dim (of the flattened tensor when None). repeats: a number, or one
    for each element along dim (eager, or with the output_size that they add up to). `repeat_interleave(repeats)`: the
    places 0, 1, ... each as often as said."""
    if repeats is None:
        counts = one_tensor("repeat_interleave", input)
        return _interleaved(dispatch(ops.Iota(counts.numel(), counts.dtype)), counts, 0, output_size)
    if dim is None:
        input, dim = reshape(input, (-1,)), 0
    dim = wrap_dim(dim, input.ndim, "repeat_interleave")
    if isinstance(repeats, Tensor):
        if repeats.numel() != 1:
            return _interleaved(input if input.ndim else reshape(input, (1,)), repeats, dim, output_size)
        repeats = repeats.item()
    shape = input._type.static_shape
    wide = (*shape[:dim + 1], int(repeats), *shape[dim + 1:])
    grown = dispatch(ops.Broadcast(wide, tuple([d for d in range(len(wide)) if d != dim + 1])), input)
    return dispatch_view(ops.Reshape((*shape[:dim], shape[dim] * int(repeats), *shape[dim + 1:])), grown)


def _interleaved(x: Tensor, repeats: Tensor, dim: int, total: int | None) -> Tensor:
    """Slice i along dim repeats[i] times: place p shows the slice before which p slices or fewer have gone."""
    size = x._type.static_shape[dim]
    if repeats.ndim != 1 or not repeats._type.dtype.is_integer or repeats.numel() != size:
        raise RuntimeError(f"repeat_interleave: repeats must be a number or {size} integers for dim {dim} of {x._type}, "
                           f"got {repeats._type}")
    if not active.hides(repeats):
        given = repeats._data()
        if given.size and given.min() < 0 or total is not None and total != given.sum():
            raise RuntimeError(f"repeat_interleave: repeats must not be negative, and add up to output_size {total}")
        total = int(given.sum())
    elif total is None:
        raise TraceError("repeat_interleave() with a tensor of repeats gives a tensor whose size depends on data, which "
                         f"{active.hider} can't have", where=user_line(), hint="pass output_size=")
    gone = dispatch(ops.Cumsum(0), cast(repeats, dt.i64))
    grid, places = (total, size), dispatch(ops.Iota(total, dt.i64))
    passed = dispatch(ops.le, spread(gone, grid, (1,)), spread(places, grid, (0,)))
    return dispatch(ops.Take(dim), x, dispatch(ops.Sum((1,)), cast(passed, dt.i64)))


def flip(input: Tensor, *dims: Any) -> Tensor:
    """Elements along `dims` in reverse order (a copy)."""
    x = one_tensor("flip", input)
    found = [wrap_dim(d, x.ndim, "flip") for d in sizes_of(dims, "flip")]
    if len(set(found)) != len(found):
        raise RuntimeError(f"flip: a dim appears more than once in {dims}")
    return dispatch(ops.Flip(tuple(sorted(found)) if x.ndim else ()), x)


def fliplr(input: Tensor) -> Tensor:
    """flip along dim 1."""
    return flip(input, 1)


def flipud(input: Tensor) -> Tensor:
    """flip along dim 0. Raises RuntimeError for a 0-d tensor."""
    if not one_tensor("flipud", input).ndim:
        raise RuntimeError(f"flipud: takes 1 dim or more, got {input._type}")
    return flip(input, 0)


def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Elements moved up by `shifts` along `dims`, those pushed out coming back in front."""
    x = one_tensor("roll", input)
    if dims is None:
        return reshape(roll(reshape(x, (-1,)), shifts, 0), x.shape)
    moves, along = sizes_of((shifts,), "roll"), sizes_of((dims,), "roll")
    if len(moves) != len(along):
        raise RuntimeError(f"roll: shifts {shifts} and dims {dims} must be as many")
    for shift, dim in zip(moves, along, strict=True):
        dim = own_dim(x, dim, "roll")
        size = x._type.static_shape[dim]
        by = shift % size if size else 0
        if by:
            x = dispatch(ops.Concat(dim), sliced(x, dim, size - by, size), sliced(x, dim, 0, size - by))
    return clone(x) if x is input else x


def rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Turned by k quarter turns from dims[0] toward dims[1]."""
    x = one_tensor("rot90", input)
    a, b = (own_dim(x, d, "rot90") for d in dims) if len(dims) == 2 else (0, 0)
    if a == b:
        raise RuntimeError(f"rot90: takes two different dims, got {tuple(dims)}")
    match k % 4:
        case 0:
            return clone(input)
        case 1:
            return transpose(flip(input, b), a, b)
        case 2:
            return flip(input, (a, b))
        case _:
            return flip(transpose(input, a, b), b)



__all__ = ["cat", "concat", "concatenate", "flip", "fliplr", "flipud", "hstack", "repeat_interleave", "roll", "rot90",
           "stack", "tile", "vstack"]
public(globals(), [*__all__, "repeat"])
