"""Elements put around a tensor: a constant, or parts of the tensor itself."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import expanded, one_tensor, spread, tensor_of, user_line
from flambeau.frontend.functions.joining import flip
from flambeau.frontend.functions.views import clone, padded, sliced
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size

Pair = tuple[int, int]


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """Elements before and after dims, from the last dim on: (left, right, top, bottom, ...). Negative ones crop.

    mode: "constant" (`value`, 0 by default); "reflect" (without the edge), "replicate" (the edge) and "circular" of the
    last 1 to 3 dims behind [N, C] or [C]. Raises RuntimeError if the sizes don't fit."""
    x, amounts = one_tensor("pad", input), [as_size(a) for a in pad]
    if mode not in _BORDERS and mode != "constant":
        raise NotImplementedError(f"pad: mode {mode!r} is none of constant, reflect, replicate, circular")
    if len(amounts) % 2 or len(amounts) > 2 * x.ndim:
        raise RuntimeError(f"pad: {tuple(amounts)} must be pairs for at most the {x.ndim} dims of {x._type}")
    pairs = list(zip(amounts[-2::-2], amounts[::-2], strict=True))
    first = x.ndim - len(pairs)
    if mode != "constant":
        return _with_borders(x, first, pairs, mode, value)
    return _with_constant(_cropped(x, first, pairs), [(0, 0)] * first + pairs, 0 if value is None else value)


def _cropped(x: Tensor, first: int, pairs: Sequence[Pair]) -> Tensor:
    """x without what negative amounts take away. Raises ShapeError for more than there is."""
    for dim, (low, high) in enumerate(pairs, first):
        if low < 0 or high < 0:
            start, stop = max(-low, 0), x._type.static_shape[dim] + min(high, 0)
            if start > stop:
                raise ShapeError(f"pad: {(low, high)} crops more than dim {dim} of {x._type} has", where=user_line())
            x = sliced(x, dim, start, stop)
    return x


def _with_constant(x: Tensor, pairs: Sequence[Pair], value: float) -> Tensor:
    pairs = [(max(low, 0), max(high, 0)) for low, high in pairs]
    if not any(map(any, pairs)):
        return clone(x)
    zeros_around = padded(x, pairs)
    if value == 0:
        return zeros_around
    dtype = x._type.dtype
    stored = bool(value) if dtype is dt.bool_ else int(value) if dtype.is_integer else value
    inside = padded(spread(tensor_of(True, dt.bool_), x._type.static_shape, ()), pairs)
    return dispatch(ops.where, inside, zeros_around, tensor_of(stored, dtype))


def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """pad() in mode "constant"."""
    return _pad(input, pad, "constant", value)


_pad = pad                                  # which constant_pad_nd has an argument of the name of


# -- parts of the tensor itself ---------------------------------------------------------------------------------------


def _with_borders(x: Tensor, first: int, pairs: Sequence[Pair], mode: str, value: float | None) -> Tensor:
    """x between parts of itself; negative amounts crop."""
    if value:
        raise RuntimeError(f"pad: mode {mode!r} takes no value, got {value!r}")
    if len(pairs) not in (1, 2, 3) or first not in (1, 2):
        raise NotImplementedError(f"pad: mode {mode!r} pads the last 1 to 3 dims behind [N, C] or [C], not {len(pairs)} "
                                  f"of {x._type}")
    if mode != "circular" and 0 in x._type.static_shape[first - 1:]:
        raise ShapeError(f"pad: {x._type} has nothing to {mode}", where=user_line())
    left = [size + low + high for size, (low, high) in zip(x._type.static_shape[first:], pairs, strict=True)]
    if min(left) < 0 or mode != "circular" and max(left) < 1:
        raise ShapeError(f"pad: {tuple(pairs)} leaves nothing of {x._type}", where=user_line())
    if mode == "circular":                  # which goes round what is left; others are parts of all of x
        x = _cropped(x, first, pairs)
    y = x
    for dim, (low, high) in enumerate(pairs, first):
        size, longest = x._type.static_shape[dim], max(low, high, 0)
        if mode != "replicate" and longest > max(size - (mode == "reflect"), 0):
            raise ShapeError(f"pad: {(low, high)} is too much for mode {mode!r} and size {size} of dim {dim}",
                             where=user_line())
        if longest:
            y = dispatch(ops.Concat(dim), *_BORDERS[mode](y, dim, max(low, 0), max(high, 0)))
    cropped = y if mode == "circular" else _cropped(y, first, pairs)
    return clone(cropped) if y is x or cropped is not y else y


def _around(x: Tensor, dim: int, before: Pair, after: Pair, turned: bool) -> list[Tensor]:
    """x between two parts of itself, from start to stop, turned round or not; those of no elements are left out."""
    made = [None if stop <= start else sliced(x, dim, start, stop) for start, stop in (before, after)]
    first, last = ([] if part is None else [flip(part, dim) if turned else part] for part in made)
    return [*first, x, *last]


def _reflected(x: Tensor, dim: int, low: int, high: int) -> list[Tensor]:
    size = x._type.static_shape[dim]
    return _around(x, dim, (1, low + 1), (size - 1 - high, size - 1), turned=True)


def _circular(x: Tensor, dim: int, low: int, high: int) -> list[Tensor]:
    size = x._type.static_shape[dim]
    return _around(x, dim, (size - low, size), (0, high), turned=False)


def _replicated(x: Tensor, dim: int, low: int, high: int) -> list[Tensor]:
    shape = x._type.static_shape
    edges = [(sliced(x, dim, 0, 1), low), (x, -1), (sliced(x, dim, shape[dim] - 1, shape[dim]), high)]
    return [part if count < 0 else expanded(part, (*shape[:dim], count, *shape[dim + 1:]))
            for part, count in edges if count]


_BORDERS: Final[dict[str, Callable[[Tensor, int, int, int], list[Tensor]]]] = {
    "reflect": _reflected, "circular": _circular, "replicate": _replicated}

__all__ = ["pad"]
public(globals(), ["constant_pad_nd", "pad"])
