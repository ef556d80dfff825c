"""Images of another size: interpolation, dim by dim, as weighted sums of the elements around each new place."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.functions.adaptive_pooling import averaged
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    is_number,
    one_tensor,
    reshaped,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.elementwise import add, clamp, div, mul, sub
from flambeau.frontend.scalars import plain
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, as_size, same
from flambeau.warned import warn

Terms = list[list[tuple[int, float]]]       # for each new place the old ones it is made of, with their weights

_RANKS: Final = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}


def interpolate(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
                align_corners: bool | None = None, recompute_scale_factor: bool | None = None,
                antialias: bool = False) -> Tensor:
    """[N, C, L], [N, C, H, W] or [N, C, D, H, W] resampled to `size`, or by `scale_factor`.

    mode: "nearest" (PyTorch's of old), "nearest-exact", "linear" (3 dims), "bilinear", "bicubic" (4), "trilinear" (5) or
    "area". align_corners: the outermost elements' centres, not their edges, stay where they are. antialias: a wider
    filter where "bilinear" or "bicubic" shrinks. recompute_scale_factor: the ratio of the sizes is the scale, not
    scale_factor. Raises ValueError, NotImplementedError for what does not go together."""
    x = one_tensor("interpolate", input)
    _check_mode(x, mode, align_corners, antialias)
    old = x._type.static_shape[2:]
    new, factors = _target(x, size, scale_factor, bool(recompute_scale_factor) or mode == "area")
    if any(size < 1 for size in (*old, *new, *x._type.static_shape[1:2])):
        raise ShapeError(f"interpolate: sizes must be positive, got {old} to {new}", where=user_line())
    if mode == "area":
        return averaged(x, new)
    if mode in _RANKS:
        return _summed(x, new, factors, mode, bool(align_corners), antialias)
    for dim, (o, n, factor) in enumerate(zip(old, new, factors, strict=True), 2):
        exact = mode == "nearest-exact"
        if isinstance(o, Dim) or isinstance(n, Dim):
            x = _nearest_computed(x, dim, n, factor, exact)
        else:
            x = _nearest(x, dim, _nearest_places(o, n, factor, exact, x._type.dtype))
    return x


def _check_mode(x: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in ("nearest", "nearest-exact", "area", *_RANKS) or x.ndim not in (3, 4, 5):
        raise NotImplementedError(f"interpolate: mode {mode!r} for {x._type}; there are nearest, nearest-exact and area "
                                  "for 3 to 5 dims, linear for 3, bilinear and bicubic for 4, trilinear for 5")
    if mode not in _RANKS and align_corners is not None:
        raise ValueError("interpolate: align_corners goes with the modes linear, bilinear, bicubic and trilinear only")
    if antialias and not (mode in ("bilinear", "bicubic") and x.ndim == 4):
        raise ValueError("interpolate: antialias goes with the modes bilinear and bicubic, and 4 dims, only")
    if mode in _RANKS and x.ndim != _RANKS[mode]:
        raise NotImplementedError(f"interpolate: mode {mode!r} takes {_RANKS[mode]} dims, got {x._type}")


def _target(x: Tensor, size: Any, scale_factor: Any,
            recompute: bool) -> tuple[tuple[int, ...], Sequence[float | None]]:
    """The new sizes, and the scale of each dim where it is not the ratio of the sizes."""
    old = x._type.static_shape[2:]
    if (size is None) == (scale_factor is None):
        raise ValueError("interpolate: pass either size or scale_factor")
    if size is not None:
        found = tuple(size) if isinstance(size, (tuple, list)) else (size,) * len(old)
        if any(isinstance(s, float) or not hasattr(type(s), "__index__") for s in found):
            raise TypeError(f"interpolate: size must be an int or {len(old)} ints, got {size!r}")
        if len(found) != len(old):
            raise ValueError(f"interpolate: size {size!r} must have a size for each of the {len(old)} dims behind [N, C]")
        return tuple([as_size(s) for s in found]), (None,) * len(old)
    factors = tuple(scale_factor) if isinstance(scale_factor, (tuple, list)) else (scale_factor,) * len(old)
    if len(factors) != len(old) or not all(is_number(f) and 0 < f < math.inf for f in factors):
        raise ValueError(f"interpolate: scale_factor must be a positive number or {len(old)} of them, got "
                         f"{scale_factor!r}")
    factors = tuple([float(plain(f)) for f in factors])
    new = tuple([_scaled(o, f) for o, f in zip(old, factors, strict=True)])
    return new, (None,) * len(old) if recompute else factors


def _scaled(size: int, factor: float) -> int:
    """floor(size * factor). A factor of few digits leaves a size with a name as one: the product is exact."""
    numerator, denominator = factor.as_integer_ratio()
    if isinstance(size, Dim) and denominator <= _FEW:
        return size * numerator // denominator
    return math.floor(int(size) * factor)


_FEW: Final = 1024

# -- nearest ----------------------------------------------------------------------------------------------------------


def _nearest_places(old: int, new: int, factor: float | None, exact: bool, dtype: dt.DType) -> np.ndarray:
    """i64[new]: where each element is from. Rounded as PyTorch's arithmetic is: in f32, for f64 at the end only."""
    kind: Any = np.float64 if dtype is dt.f64 else np.float32
    step = kind(old) / kind(new) if factor is None else kind(1 / factor)
    at = (np.arange(new).astype(kind) + kind(0.5 if exact else 0)) * step
    return np.minimum(np.floor(at.astype(np.float32)).astype(np.int64), old - 1)


def _nearest(x: Tensor, dim: int, places: np.ndarray) -> Tensor:
    """x at `places` along dim. What repeats or skips evenly needs no table."""
    shape, old, new = x._type.static_shape, x._type.static_shape[dim], len(places)
    if new % old == 0 and np.array_equal(places, np.repeat(np.arange(old), new // old)):
        return _repeated(x, dim, new // old)
    step = int(places[1] - places[0]) if new > 1 else 1
    if step > 0 and np.array_equal(places, places[0] + step * np.arange(new)):
        starts, limits, steps = [0] * x.ndim, list(shape), [1] * x.ndim
        starts[dim], limits[dim], steps[dim] = int(places[0]), int(places[-1]) + 1, step
        return dispatch(ops.Slice(tuple(starts), tuple(limits), tuple(steps)), x)
    return dispatch(ops.Take(dim), x, holding(places, dt.i64))


def _repeated(x: Tensor, dim: int, count: int) -> Tensor:
    """Each element so often along dim."""
    shape = x._type.static_shape
    if count == 1:
        return dispatch(ops.Reshape(shape), x)
    wide = (*shape[:dim + 1], count, *shape[dim + 1:])
    repeated = spread(x, wide, tuple([d for d in range(len(wide)) if d != dim + 1]))
    return reshaped(repeated, (*shape[:dim], shape[dim] * count, *shape[dim + 1:]))


def _nearest_computed(x: Tensor, dim: int, new: int, factor: float | None, exact: bool) -> Tensor:
    """The same for sizes that the program finds as it runs."""
    old = x._type.static_shape[dim]
    count = new // old if new % old == 0 else 0
    if type(count) is int and count and count & count - 1 == 0 and factor in (None, count):         # 1 / count is exact
        return _repeated(x, dim, count)
    kind = dt.f64 if x._type.dtype is dt.f64 else dt.f32
    step = tensor_of(1 / factor, kind) if factor is not None else dispatch(
        ops.div, tensor_of(old, kind), tensor_of(new, kind))
    at = dispatch(ops.add, cast(dispatch(ops.Iota(new, dt.i64)), kind), tensor_of(0.5 if exact else 0, kind))
    place = cast(dispatch(ops.floor, cast(dispatch(ops.mul, at, step), dt.f32)), dt.i64)
    return dispatch(ops.Take(dim), x, dispatch(ops.minimum, place, tensor_of(old - 1, dt.i64)))


# -- weighted sums ----------------------------------------------------------------------------------------------------


def _summed(x: Tensor, new: Sequence[int], factors: Sequence[float | None], mode: str, align_corners: bool,
            antialias: bool) -> Tensor:
    dtype, old = x._type.dtype, x._type.static_shape[2:]
    if dtype.is_integer and dtype is not dt.u8:
        raise NotImplementedError(f"interpolate: mode {mode!r} takes floats and uint8, got {x._type}")
    terms_of = _FILTERED[mode] if antialias else _TERMS[mode]
    is_bytes = dtype is dt.u8
    y = cast(x, dt.f64) if is_bytes else cast(x, dt.f32) if dtype.itemsize == 2 else x
    for dim in reversed(range(len(old))):
        o, n, factor = old[dim], new[dim], factors[dim]
        if isinstance(o, Dim) or isinstance(n, Dim):
            if not (is_bytes or antialias):
                if not (same(o, n) and factor in (None, 1)):
                    y = _summed_computed(y, dim + 2, n, factor, mode, align_corners)
                continue
            o, n = operator.index(o), operator.index(n)
        if align_corners:
            step = (o - 1) / (n - 1) if n > 1 else 0.0
        else:
            step = o / n if factor is None else 1 / factor
        if o == n and (step == 1.0 or is_bytes):
            continue
        terms = terms_of(o, n, step, align_corners)
        y = _of_bytes(y, dim + 2, o, terms) if is_bytes else dispatch(ops.weighted_sums(dim + 2, o, terms), y)
    return cast(dispatch(ops.Reshape(y._type.shape), y) if y is x else y, dtype)


def _summed_computed(y: Tensor, dim: int, new: int, factor: float | None, mode: str, align_corners: bool) -> Tensor:
    """The weighted sums along dim for sizes that the program finds as it runs."""
    old, one = y._type.static_shape[dim], tensor_of(1, dt.f64)
    at = dispatch(ops.Iota(new, dt.f64))
    if align_corners:
        at = mul(at, div(tensor_of(old - 1, dt.f64), new - 1) if new > 1 else 0.0)
    else:
        at = sub(mul(add(at, 0.5), div(tensor_of(old, dt.f64), new) if factor is None else 1 / factor), 0.5)
    at = at if mode == "bicubic" else clamp(at, min=0)
    low = dispatch(ops.floor, at)
    rest = sub(at, low)
    weights = cubic_weights(rest, one) if mode == "bicubic" else (sub(one, rest), rest)
    total: Tensor | None = None
    for step, weight in enumerate(weights, -1 if mode == "bicubic" else 0):
        place = cast(clamp(add(low, step), 0, old - 1), dt.i64)
        found = dispatch(ops.Take(dim), y, place)
        term = mul(found, spread(cast(weight, y._type.dtype), found._type.static_shape, (dim,)))
        total = term if total is None else add(total, term)
    assert total is not None, "an element is made of some"
    return total


def _of_bytes(y: Tensor, dim: int, size: int, terms: Terms) -> Tensor:
    """Weighted sums as PyTorch (and Pillow) have them for uint8: the weights are whole multiples of the smallest power of
    2 that keeps the greatest of them below 2**15, and every dim is rounded to a uint8. y: f64 of such, and so the
    result."""
    rows = []
    for row in terms:
        merged: dict[int, float] = {}
        for place, weight in row:
            merged[place] = merged.get(place, 0.0) + weight
        rows.append(list(merged.items()))
    greatest = max([weight for row in rows for _, weight in row])
    digits = next((d for d in range(22) if int(0.5 + greatest * (1 << d + 1)) >= 1 << 15), 22)
    whole = [[(place, float(int(math.copysign(0.5, weight) + weight * (1 << digits)))) for place, weight in row]
             for row in rows]
    total = dispatch(ops.mul, dispatch(ops.weighted_sums(dim, size, whole), y), tensor_of(0.5**digits, dt.f64))
    return clamp(dispatch(ops.floor, dispatch(ops.add, total, tensor_of(0.5, dt.f64))), 0, 255)


def _centres(new: int, step: float, align_corners: bool) -> np.ndarray:
    """f64[new]: where new elements stand among the old ones."""
    return np.arange(new) * step if align_corners else (np.arange(new) + 0.5) * step - 0.5


def _linear(old: int, new: int, step: float, align_corners: bool) -> Terms:
    """The two around each place."""
    at = np.maximum(_centres(new, step, align_corners), 0.0)
    low = np.minimum(at.astype(np.int64), old - 1)
    high = np.minimum(low + 1, old - 1)
    return [[(a, 1 - w), (b, w)] for a, b, w in zip(low.tolist(), high.tolist(), (at - low).tolist(), strict=True)]


def _cubic(old: int, new: int, step: float, align_corners: bool) -> Terms:
    """The four around each place; beyond the edge stands its element."""
    at = _centres(new, step, align_corners)
    first = np.floor(at)
    found = []
    for place, t in zip(first.astype(np.int64).tolist(), (at - first).tolist(), strict=True):
        found.append([(min(max(place + k - 1, 0), old - 1), w) for k, w in enumerate(cubic_weights(t))])
    return found


def cubic_weights(t: Any, one: Any = 1.0) -> tuple[Any, Any, Any, Any]:
    """The weights of the elements at -1, 0, 1 and 2 for a place t in [0, 1): Keys' cubic convolution with a = -0.75.
    Numbers, or tensors."""
    a = -0.75
    u = one - t

    def near(d: Any) -> Any:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: Any) -> Any:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return far(t + 1), near(t), near(u), far(u + 1)


def _filtered(support: float, kernel: Callable[[np.ndarray], np.ndarray]) -> Callable[[int, int, float, bool], Terms]:
    """Terms by a filter that is as wide as a new element where these are wider than the old ones."""
    def terms(old: int, new: int, step: float, align_corners: bool) -> Terms:
        scale = max(step, 1.0)
        found = []
        for centre in ((np.arange(new) + 0.5) * step).tolist():
            first = max(int(centre - support * scale + 0.5), 0)
            stop = min(int(centre + support * scale + 0.5), old)
            weights = kernel(np.abs((np.arange(first, stop) - centre + 0.5) / scale))
            weights = weights / (weights.sum() or 1.0)
            found.append(list(zip(range(first, stop), weights.tolist(), strict=True)))
        return found

    return terms


def _triangle(d: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - d, 0.0)


def _keys(d: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -0.5."""
    a = -0.5
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d < 1, near, np.where(d < 2, far, 0.0))


_TERMS: Final = {"linear": _linear, "bilinear": _linear, "trilinear": _linear, "bicubic": _cubic}
_FILTERED: Final = {"bilinear": _filtered(1.0, _triangle), "bicubic": _filtered(2.0, _keys)}


# -- older names ------------------------------------------------------------------------------------------------------


def upsample(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
             align_corners: bool | None = None) -> Tensor:
    """interpolate(), by its older name."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """interpolate() with mode "nearest"."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """interpolate() with mode "bilinear" and align_corners."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)


def _deprecated(name: str) -> None:
    warn("FB014", f"nn.functional.{name} is deprecated; use nn.functional.interpolate", stacklevel=3)


__all__ = ["interpolate", "upsample", "upsample_bilinear", "upsample_nearest"]
public(globals(), __all__)
