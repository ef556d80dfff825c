"""Images sampled at computed places: affine_grid and grid_sample.

A place is a number for each dim of the image, x first, from -1 to 1 across it.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, one_tensor, reshaped, spread, tensor_of, user_line
from flambeau.frontend.functions.creation import holding, linspace, meshgrid
from flambeau.frontend.functions.elementwise import choose, div, mul
from flambeau.frontend.functions.joining import stack
from flambeau.frontend.functions.pointwise import isfinite
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.resampling import cubic_weights
from flambeau.frontend.functions.views import matrix_transposed, select
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size
from flambeau.ir.records import dataclass

# -- affine_grid ------------------------------------------------------------------------------------------------------


def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """The places that an image of `size` has under the maps theta: [N, 2, 3] and (N, C, H, W) -> [N, H, W, 2], or
    [N, 3, 4] and (N, C, D, H, W) -> [N, D, H, W, 3].

    align_corners: -1 and 1 are the centres of the outermost elements, not their edges."""
    if not one_tensor("affine_grid", theta)._type.dtype.is_floating_point:
        raise ValueError(f"affine_grid: expected theta to have floating point type, but got {theta._type}")
    sizes = tuple(map(as_size, size))
    dims = len(sizes) - 2
    if dims not in (2, 3):
        raise NotImplementedError(f"affine_grid: takes 4 or 5 sizes, got {sizes}")
    if theta.ndim != 3 or theta._type.shape[1:] != (dims, dims + 1):
        raise ValueError(f"affine_grid: expected maps [{sizes[0]}, {dims}, {dims + 1}] for size {sizes}, got "
                         f"{theta._type}")
    if theta._type.shape[0] != sizes[0]:
        raise ShapeError(f"affine_grid: expected {sizes[0]} maps for size {sizes}, got {theta._type}", where=user_line())
    if any(s <= 0 for s in sizes):
        raise ValueError(f"affine_grid: expected non-zero, positive output size, got {sizes}")
    return affine_grid_generator(theta, sizes, bool(align_corners))


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """affine_grid()."""
    n, _, *sizes = map(as_size, size)
    dtype, dims = theta._type.dtype, len(sizes)
    base = cast(_places(sizes, align_corners), dtype)
    grid = matmul(spread(base, (n, *base._type.static_shape), (1, 2)), matrix_transposed(theta))
    return reshaped(grid, (n, *sizes, dims))


def _places(sizes: Sequence[int], align_corners: bool) -> Tensor:
    """f64[elements, dims + 1]: where each element stands, the last dim first, and 1."""
    if any(isinstance(count, Dim) for count in sizes):
        found = [*reversed(meshgrid(*[_computed_line(count, align_corners) for count in sizes])),
                 spread(tensor_of(1, dt.f64), tuple(sizes), ())]
        return reshaped(stack(found, -1), (math.prod(sizes), len(sizes) + 1))
    lines = [_line(count, align_corners) for count in sizes]
    places = np.stack([*reversed(np.meshgrid(*lines, indexing="ij")), np.ones(sizes)], -1)
    return holding(places.reshape(-1, len(sizes) + 1), dt.f64)


def _line(count: int, align_corners: bool) -> np.ndarray:
    """f64[count]: where elements stand along a dim."""
    if count == 1:
        return np.zeros(1)
    line = np.linspace(-1.0, 1.0, count)
    return line if align_corners else line * (count - 1) / count


def _computed_line(count: int, align_corners: bool) -> Tensor:
    """The same, for a size that the program finds as it runs."""
    if count == 1:
        return spread(tensor_of(0, dt.f64), (1,), ())
    line = linspace(-1.0, 1.0, count, dtype=dt.f64)
    return line if align_corners else div(mul(line, count - 1), count)


# -- grid_sample ------------------------------------------------------------------------------------------------------

_MODES: Final = ("bilinear", "nearest", "bicubic")
_PADDINGS: Final = ("zeros", "border", "reflection")


def grid_sample(input: Tensor, grid: Tensor, mode: str = "bilinear", padding_mode: str = "zeros",
                align_corners: bool | None = None) -> Tensor:
    """Images [N, C, H, W] at places [N, OH, OW, 2] -> [N, C, OH, OW], or [N, C, D, H, W] at [N, OD, OH, OW, 3].

    mode: "bilinear", "nearest" or, for two dims, "bicubic". padding_mode: what stands outside, "zeros", the "border" or
    a "reflection". align_corners: as for affine_grid. Raises ValueError, RuntimeError for what does not fit."""
    if mode not in _MODES:
        raise ValueError(f"grid_sample: expected mode to be 'bilinear', 'nearest' or 'bicubic', but got {mode!r}")
    if padding_mode not in _PADDINGS:
        raise ValueError("grid_sample: expected padding_mode to be 'zeros', 'border', or 'reflection', but got "
                         f"{padding_mode!r}")
    x, places = one_tensor("grid_sample", input), one_tensor("grid_sample", grid)
    _check(x, places, mode)
    n, c, *sizes = x._type.static_shape
    dtype, out = x._type.dtype, places._type.static_shape[1:-1]
    if dtype.itemsize == 2:
        x, places = cast(x, dt.f32), cast(places, dt.f32)
    count = math.prod(out)
    taps = [_taps(reshaped(select(places, -1, i), (n, count)), sizes[-1 - i], mode, padding_mode, bool(align_corners))
            for i in range(len(sizes))]
    found = _sampled(reshaped(x, (n, c, math.prod(sizes))), sizes, taps[::-1], count)
    return cast(reshaped(found, (n, c, *out)), dtype)


def _check(x: Tensor, grid: Tensor, mode: str) -> None:
    if x.ndim not in (4, 5) or grid.ndim != x.ndim:
        raise ShapeError(f"grid_sample: takes images of 4 or 5 dims and a grid of as many, got {x._type} and "
                         f"{grid._type}", where=user_line())
    if mode == "bicubic" and x.ndim != 4:
        raise ShapeError(f"grid_sample: mode 'bicubic' takes 4 dims, got {x._type}", where=user_line())
    shape, places = x._type.static_shape, grid._type.static_shape
    if shape[0] != places[0]:
        raise ShapeError(f"grid_sample: expected as many grids as images, got {grid._type} for {x._type}",
                         where=user_line())
    if places[-1] != x.ndim - 2:
        raise ShapeError(f"grid_sample: expected grid to have size {x.ndim - 2} in last dimension, got {grid._type}",
                         where=user_line())
    if 0 in shape[2:]:
        raise ShapeError(f"grid_sample: {x._type} has no elements to sample", where=user_line())
    if not x._type.dtype.is_floating_point or grid._type.dtype is not x._type.dtype:
        raise TypeInferenceError(f"grid_sample: images and grid must be floats of one dtype, got {x._type} and "
                                 f"{grid._type}", where=user_line())


@dataclass(frozen=True)
class _Taps:
    """The elements along one dim that each place is made of, all [N, places]: i64 positions in range, weights (None:
    1), and whether an element is there at all (None: always)."""

    at: list[Tensor]
    weights: list[Tensor | None]
    inside: list[Tensor | None]


def _taps(place: Tensor, size: int, mode: str, padding: str, aligned: bool) -> _Taps:
    """place: -1 to 1."""
    one = tensor_of(1, place._type.dtype)
    x = dispatch(ops.add, place, one)
    x = dispatch(ops.mul, x, tensor_of((size - 1) / 2 if aligned else size / 2, place._type.dtype))
    if not aligned:
        x = dispatch(ops.sub, x, tensor_of(0.5, place._type.dtype))
    if mode == "bicubic":
        low = dispatch(ops.floor, x)
        t = dispatch(ops.sub, x, low)
        spots = [dispatch(ops.add, low, tensor_of(k, low._type.dtype)) for k in (-1, 0, 1, 2)]
        return _placed([_kept(s, size, padding, aligned) for s in spots], list(cubic_weights(t, one)), size, padding)
    x = _kept(x, size, padding, aligned)
    if mode == "nearest":
        return _placed([dispatch(ops.round, x)], [_flat(x) if active.differentiates(place) else None], size, padding)
    low = dispatch(ops.floor, x)
    t = dispatch(ops.sub, x, low)
    return _placed([low, dispatch(ops.add, low, one)], [dispatch(ops.sub, one, t), t], size, "zeros")


def _kept(x: Tensor, size: int, padding: str, aligned: bool) -> Tensor:
    """Places outside moved inside, as the padding has it."""
    if padding == "zeros":
        return x
    if padding == "reflection":
        low, span = (0.0, size - 1) if aligned else (-0.5, size)
        x = _reflected(x, low, span) if span else dispatch(ops.mul, x, tensor_of(0, x._type.dtype))
    zero, last = tensor_of(0, x._type.dtype), tensor_of(size - 1, x._type.dtype)
    x = choose(dispatch(ops.gt, x, zero), x, zero)          # at the edges nothing flows back
    return choose(dispatch(ops.lt, x, last), x, last)


def _reflected(x: Tensor, low: float, span: int) -> Tensor:
    """Thrown back at low and low + span, as often as it takes."""
    dtype = x._type.dtype
    start = dispatch(ops.sub, x, tensor_of(low, dtype))
    start = choose(dispatch(ops.lt, start, tensor_of(0, dtype)), dispatch(ops.neg, start), start)
    length = tensor_of(span, dtype)
    turns = dispatch(ops.floor, dispatch(ops.div, start, length))
    rest = dispatch(ops.sub, start, dispatch(ops.mul, turns, length))
    half = dispatch(ops.mul, turns, tensor_of(0.5, dtype))
    is_even = dispatch(ops.eq, dispatch(ops.floor, half), half)
    return dispatch(ops.add, choose(is_even, rest, dispatch(ops.sub, length, rest)), tensor_of(low, dtype))


def _flat(x: Tensor) -> Tensor:
    """1, with a derivative by x, of 0: it depends on where a place is, though it does not change."""
    zero = tensor_of(0, x._type.dtype)
    return dispatch(ops.add, dispatch(ops.mul, choose(isfinite(x), x, zero), zero), tensor_of(1, x._type.dtype))


def _placed(spots: list[Tensor], weights: list[Tensor | None], size: int, padding: str) -> _Taps:
    """Whole places as positions; one outside (or NaN) becomes 0."""
    dtype = spots[0]._type.dtype
    zero, last = tensor_of(0, dtype), tensor_of(size - 1, dtype)
    at, inside = [], list[Tensor | None]()
    for spot in spots:
        there = dispatch(ops.logical_and, dispatch(ops.ge, spot, zero), dispatch(ops.le, spot, last))
        at.append(cast(choose(there, spot, zero), dt.i64))
        inside.append(there)
    return _Taps(at, weights, inside)


def _sampled(x: Tensor, sizes: Sequence[int], taps: Sequence[_Taps], count: int) -> Tensor:
    """[N, C, elements] -> [N, C, places]: over all combinations of a tap of each dim."""
    n, c, _ = x._type.static_shape
    total: Tensor | None = None
    for combination in np.ndindex(*[len(t.at) for t in taps]):
        at, weight, inside = taps[0].at[combination[0]], None, None
        for d, k in enumerate(combination):
            if d:
                at = dispatch(ops.add, dispatch(ops.mul, at, tensor_of(sizes[d], dt.i64)), taps[d].at[k])
            weight = _both(ops.mul, weight, taps[d].weights[k])
            inside = _both(ops.logical_and, inside, taps[d].inside[k])
        wide = (n, c, count)
        found = dispatch(ops.TakeAlong(2), x, spread(at, wide, (0, 2)))
        if inside is not None:
            found = choose(spread(inside, wide, (0, 2)), found, tensor_of(0, x._type.dtype))
        if weight is not None:
            found = dispatch(ops.mul, found, spread(weight, wide, (0, 2)))
        total = found if total is None else dispatch(ops.add, total, found)
    assert total is not None, "a dim has a tap"
    return total


def _both(op: Any, lhs: Tensor | None, rhs: Tensor | None) -> Tensor | None:
    return rhs if lhs is None else lhs if rhs is None else dispatch(op, lhs, rhs)



def grid_sampler(input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int,
                 align_corners: bool) -> Tensor:
    """grid_sample(), its modes by number: 0 "bilinear", 1 "nearest", 2 "bicubic", and 0 "zeros", 1 "border",
    2 "reflection"."""
    return grid_sample(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler


__all__ = ["affine_grid", "grid_sample"]
public(globals(), [*__all__, "affine_grid_generator", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d"])
