"""Pooling to a size: adaptive windows that cover the image, and fractional ones that stand where chance puts them."""
from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    is_number,
    reshaped,
    spread,
    tensor_of,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.elementwise import div
from flambeau.frontend.functions.pooling import (
    Sizes,
    Windows,
    as_given,
    avg_pool2d,
    avg_pool3d,
    images,
    max_of_windows,
    sizes,
)
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size, same

# -- adaptive ---------------------------------------------------------------------------------------------------------


def _output_size(name: str, output_size: Any, size: Sequence[int]) -> Sizes:
    """The result's sizes; None keeps the input's. Raises TypeError, RuntimeError for what is no size."""
    count = len(size)
    found = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size,) * count
    if any(w is not None and (isinstance(w, float) or not hasattr(type(w), "__index__")) for w in found):
        raise TypeError(f"{name}: output_size must be an int or {count} ints (None keeps the input's), got "
                        f"{output_size!r}")
    if len(found) != count:
        raise RuntimeError(f"{name}: output_size must be an int or {count} ints, got {output_size!r}")
    wanted = tuple([s if w is None else as_size(w) for w, s in zip(found, size, strict=True)])
    if any(w < 0 for w in wanted):
        raise RuntimeError(f"{name}: elements of output_size must be at least 0, got {output_size!r}")
    return wanted


def _adapted(name: str, dims: int, input: Tensor, output_size: Any) -> tuple[Tensor, bool, Sizes]:
    """(the images, whether there is a single one, the sizes asked for of each of their dims)."""
    x, single = images(input, dims, name)
    size = x._type.static_shape[-dims:]
    wanted = _output_size(name, output_size, size)
    return x, single, (1,) * (dims == 1) + wanted


def covering(size: int, count: int) -> list[tuple[int, int]]:
    """(start, stop) of each of `count` windows that cover `size` elements."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _empty(x: Tensor, size: Sizes, dtype: dt.DType) -> Tensor:
    return spread(placed(tensor_of(0, dtype), place_like(x)), (*x._type.static_shape[:2], *size), ())


def _adaptive_avg(name: str, dims: int, input: Tensor, output_size: Any) -> Tensor:
    x, single, wanted = _adapted(name, dims, input, output_size)
    size = x._type.static_shape[2:]
    if 0 in wanted:
        return as_given(_empty(x, wanted, x._type.dtype), dims, single)
    if any(isinstance(n, Dim) for n in (*size, *wanted)):
        return as_given(averaged(x, wanted), dims, single)
    if not any(old % new for old, new in zip(size, wanted, strict=True)):
        pool = avg_pool2d if len(size) == 2 else avg_pool3d
        return as_given(pool(x, tuple([old // new for old, new in zip(size, wanted, strict=True)])), dims, single)
    return as_given(averaged(x, wanted), dims, single)


def averaged(x: Tensor, wanted: Sequence[int]) -> Tensor:
    """[N, C, ...], its other dims as averages of `wanted` windows that cover them."""
    dtype = x._type.dtype
    y = cast(x, dt.f32) if dtype.is_floating_point and dtype.itemsize == 2 else x
    size = dict(enumerate(y._type.static_shape))
    changed = {dim: new for dim, new in enumerate(wanted, 2) if not same(size[dim], new)}
    even = {dim: new for dim, new in changed.items()
            if (isinstance(size[dim], Dim) or isinstance(new, Dim)) and not size[dim] % new}
    if even:
        y = _evenly_averaged(y, even)
    for dim in [dim for dim in changed if dim not in even]:
        old, new = operator.index(size[dim]), operator.index(changed[dim])      # windows that overlap are for one size only
        if old != new:
            windows = [[(place, 1 / (stop - start)) for place in range(start, stop)]
                       for start, stop in covering(old, new)]
            y = dispatch(ops.weighted_sums(dim, old, windows), y)
    if dtype.is_floating_point:
        y = dispatch(ops.add, y, spread(tensor_of(0, y._type.dtype), y._type.static_shape, ()))       # sums start at +0
    return cast(y, dtype)


def _evenly_averaged(x: Tensor, counts: Mapping[int, int]) -> Tensor:
    """Averages along dims of which some size has a name, each of so many windows side by side."""
    shape: list[int] = []
    summed: list[int] = []
    points = 1
    for dim, size in enumerate(x._type.static_shape):
        if dim in counts:
            summed.append(len(shape) + 1)
            points *= size // counts[dim]
            shape += [counts[dim], size // counts[dim]]
        else:
            shape.append(size)
    return div(dispatch(ops.Sum(tuple(summed)), reshaped(x, tuple(shape))), points)


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """adaptive_avg_pool2d along the last dim of [N, C, L] or [C, L]."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The average of `output_size` windows that cover the image; a size of None keeps the input's."""
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """adaptive_avg_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_max(name: str, dims: int, input: Tensor, output_size: Any, return_indices: bool) -> Any:
    x, single, wanted = _adapted(name, dims, input, output_size)
    if 0 in wanted:
        values, indices = _empty(x, wanted, x._type.dtype), _empty(x, wanted, dt.i64)
    else:
        values, indices = _greatest(x, wanted)
    if return_indices:
        return as_given(values, dims, single), as_given(cast(indices, dt.i64), dims, single)
    return as_given(values, dims, single)


def _greatest(x: Tensor, wanted: Sizes) -> tuple[Tensor, Tensor]:
    """Windows that differ in length are made equal first: the last element of a shorter one stands there again, which
    changes neither what is greatest nor which is the first of those."""
    size = x._type.static_shape[2:]
    if any(isinstance(n, Dim) for n in (*size, *wanted)):
        if all(same(w, 1) for w in wanted):
            return _greatest_of_all(x, wanted)
        size, wanted = tuple(map(operator.index, size)), tuple(map(operator.index, wanted))
    places: list[np.ndarray | None] = []
    kernel = []
    for dim, (old, new) in enumerate(zip(size, wanted, strict=True), 2):
        windows = covering(old, new)
        longest = max(stop - start for start, stop in windows)
        kernel.append(longest)
        if old % new:
            within = np.minimum(np.add.outer([a for a, _ in windows], np.arange(longest)),
                                np.array([[stop - 1] for _, stop in windows])).reshape(-1)
            if x._type.dtype.is_floating_point:     # whose derivative is a gather too, not a scattered sum
                x = dispatch(ops.weighted_sums(dim, old, [[(place, 1.0)] for place in within.tolist()]), x)
            else:
                x = dispatch(ops.Take(dim), x, holding(within.astype(np.int64), dt.i64))
            places.append(within)
        else:
            places.append(None)
    values, at = max_of_windows(x, Windows(tuple(kernel), tuple(kernel), (0,) * len(kernel), (1,) * len(kernel), False))
    return values, _in_image(at, x._type.static_shape[2:], size, places)


def _greatest_of_all(x: Tensor, wanted: Sizes) -> tuple[Tensor, Tensor]:
    """One window, of whatever size."""
    n, c, *size = x._type.static_shape
    flat = reshaped(x, (n, c, math.prod(size)))
    at = reshaped(dispatch(ops.ArgMax(2), flat), (n, c, 1))
    return reshaped(dispatch(ops.TakeAlong(2), flat, at), (n, c, *wanted)), reshaped(at, (n, c, *wanted))


def _in_image(at: Tensor, grown: Sizes, size: Sizes, places: list[np.ndarray | None]) -> Tensor:
    """Flat positions in an image of sizes `grown` as those in one of `size`; places[d]: where an element of the former
    was in dim d."""
    if not any(place is not None for place in places):
        return at
    found, rest = tensor_of(0, dt.i64), cast(at, dt.i64)
    step = math.prod(grown)
    scale = math.prod(size)
    for old, new, place in zip(size, grown, places, strict=True):
        step, scale = step // new, scale // old
        here = dispatch(ops.floor_divide, rest, tensor_of(step, dt.i64))
        rest = dispatch(ops.sub, rest, dispatch(ops.mul, here, tensor_of(step, dt.i64)))
        if place is not None:
            here = dispatch(ops.Take(0), holding(place.astype(np.int64), dt.i64), here)
        found = dispatch(ops.add, dispatch(ops.mul, here, tensor_of(scale, dt.i64)), found)
    return found


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """adaptive_max_pool2d along the last dim of [N, C, L] or [C, L]."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The greatest element of each of `output_size` windows that cover the image; a size of None keeps the input's.

    return_indices: also where it is, i64 positions h * W + w in the plane."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """adaptive_max_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool1d, values and indices."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool2d, values and indices."""
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Tensor, output_size: Any,
                                     return_indices: bool = False) -> tuple[Tensor, Tensor]:
    """adaptive_max_pool3d, values and indices."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, True)


# -- fractional -------------------------------------------------------------------------------------------------------


def _fractional(name: str, dims: int, input: Tensor, kernel_size: Any, output_size: Any, output_ratio: Any,
                samples: Tensor | None) -> tuple[Tensor, Tensor]:
    x, single = images(input, dims, name)
    n, c, *size = x._type.static_shape
    kernel = sizes(kernel_size, dims, f"{name}: kernel_size")
    if (output_size is None) == (output_ratio is None):
        raise ValueError(f"{name}: pass either output_size or output_ratio")
    wanted = sizes(output_size, dims, f"{name}: output_size") if output_ratio is None else _scaled(name, output_ratio,
                                                                                                  size)
    for old, new, k in zip(size, wanted, kernel, strict=True):
        if new < 1 or k < 1 or new + k - 1 > old:
            raise RuntimeError(f"{name}: kernel {kernel} and output size {wanted} don't fit into {input._type}")
    if samples is None:
        dtype = x._type.dtype
        samples = uniform((n, c, dims), dtype if dtype.is_floating_point else dt.f32, place=place_like(x))
    elif samples._type.shape != (n, c, dims):
        raise RuntimeError(f"{name}: random samples must be [{n}, {c}, {dims}], got {samples._type}")
    at = _window_positions(samples, (n, c), size, wanted, kernel)
    windows, plane = at._type.static_shape[2], math.prod(size)
    flat = reshaped(x, (n, c, plane))
    taken = dispatch(ops.TakeAlong(2), flat, reshaped(at, (n, c, windows * at._type.static_shape[3])))
    best = dispatch(ops.ArgMax(3), reshaped(taken, at._type.static_shape))
    best = reshaped(best, (n, c, windows, 1))
    indices = reshaped(dispatch(ops.TakeAlong(3), at, best), (n, c, windows))
    values = dispatch(ops.TakeAlong(2), flat, indices)
    shape = (n, c, *wanted)
    return as_given(reshaped(values, shape), dims, single), as_given(reshaped(indices, shape), dims, single)


def _scaled(name: str, output_ratio: Any, size: Sequence[int]) -> Sizes:
    ratios = tuple(output_ratio) if isinstance(output_ratio, (tuple, list)) else (output_ratio,) * len(size)
    if len(ratios) != len(size) or not all(is_number(r) and 0 < r < 1 for r in ratios):
        raise ValueError(f"{name}: output_ratio must be between 0 and 1, got {output_ratio!r}")
    return tuple([int(old * r) for old, r in zip(size, ratios, strict=True)])


def _window_positions(samples: Tensor, lead: Sizes, size: Sequence[int], wanted: Sizes, kernel: Sizes) -> Tensor:
    """i64[N, C, windows, taps]: flat positions of the elements of each window.

    Along a dim, window i starts at floor((i + u) * a) - floor(u * a) with a = (size - kernel) / (windows - 1), u in
    [0, 1) the sample; the last one ends with the dim (Graham, "Fractional max-pooling", 2014, section 2)."""
    dims, found = len(size), tensor_of(0, dt.i64)
    if samples._type.dtype is not dt.f64:
        samples = cast(samples, dt.f32)
    shape = (*lead, *wanted, *kernel)
    step = math.prod(size)
    for d, (old, new, k) in enumerate(zip(size, wanted, kernel, strict=True)):
        step //= old
        starts = _starts(reshaped(_column(samples, 1 - d if dims == 2 else d), (*lead, 1)), old, new, k)
        at = dispatch(ops.add, spread(starts, shape, (0, 1, 2 + d)),
                      spread(dispatch(ops.Iota(k, dt.i64)), shape, (2 + dims + d,)))
        found = dispatch(ops.add, dispatch(ops.mul, at, tensor_of(step, dt.i64)), found)
    return reshaped(found, (*lead, math.prod(wanted), math.prod(kernel)))


def _column(samples: Tensor, d: int) -> Tensor:
    """[N, C, 1]. PyTorch has those of width first for planes, and those of depth first for rooms."""
    n, c, dims = samples._type.static_shape
    return dispatch(ops.Slice((0, 0, d), (n, c, d + 1), (1, 1, 1)), samples)


def _starts(u: Tensor, size: int, count: int, kernel: int) -> Tensor:
    """i64[N, C, count]"""
    lead = u._type.static_shape[:2]
    last = spread(tensor_of(size - kernel, dt.i64), (*lead, 1), ())
    if count == 1:
        return last
    dtype = u._type.dtype
    alpha = tensor_of((size - kernel) / (count - 1), dtype)
    shape = (*lead, count - 1)
    first = cast(dispatch(ops.mul, u, alpha), dt.i64)
    steps = dispatch(ops.add, spread(dispatch(ops.Iota(count - 1, dtype)), shape, (2,)), spread(u, shape, (0, 1, 2)))
    starts = dispatch(ops.sub, cast(dispatch(ops.mul, steps, alpha), dt.i64), spread(first, shape, (0, 1, 2)))
    return dispatch(ops.Concat(2), starts, last)


def _chosen(found: tuple[Tensor, Tensor], return_indices: bool) -> Any:
    return found if return_indices else found[0]


def fractional_max_pool2d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                          return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
    """The greatest element of each of `output_size` windows (or output_ratio of the sizes), which stand where samples in
    [0, 1) put them: _random_samples [N, C, 2], drawn when None."""
    return _chosen(_fractional("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio,
                               _random_samples), return_indices)


def fractional_max_pool3d(input: Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None,
                          return_indices: bool = False, _random_samples: Tensor | None = None) -> Any:
    """fractional_max_pool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _chosen(_fractional("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio,
                               _random_samples), return_indices)


def fractional_max_pool2d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """fractional_max_pool2d, values and indices."""
    return _fractional("fractional_max_pool2d", 2, input, kernel_size, output_size, output_ratio, _random_samples)


def fractional_max_pool3d_with_indices(input: Tensor, kernel_size: Any, output_size: Any = None,
                                       output_ratio: Any = None, return_indices: bool = False,
                                       _random_samples: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """fractional_max_pool3d, values and indices."""
    return _fractional("fractional_max_pool3d", 3, input, kernel_size, output_size, output_ratio, _random_samples)


__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool1d_with_indices", "adaptive_max_pool2d", "adaptive_max_pool2d_with_indices",
    "adaptive_max_pool3d", "adaptive_max_pool3d_with_indices", "fractional_max_pool2d",
    "fractional_max_pool2d_with_indices", "fractional_max_pool3d", "fractional_max_pool3d_with_indices",
]
public(globals(), __all__)
