"""Channels and places of images traded for each other."""
from __future__ import annotations

from typing import Any

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, permuted, reshaped, user_line
from flambeau.frontend.functions.views import clone
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dims import as_size


def _image_sizes(name: str, input: Tensor) -> tuple[int, ...]:
    """[..., C, H, W]. Raises ShapeError for fewer dims."""
    if one_tensor(name, input).ndim < 3:
        raise ShapeError(f"{name}: takes [..., C, H, W], got {input._type}", where=user_line())
    return input._type.static_shape


def _positive(what: str, number: Any) -> int:
    if isinstance(number, bool) or not hasattr(type(number), "__index__") or as_size(number) < 1:
        raise RuntimeError(f"{what} must be a positive int, got {number!r}")
    return as_size(number)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., C*r*r, H, W] -> [..., C, H*r, W*r]."""
    *lead, c, h, w = _image_sizes("pixel_shuffle", input)
    r = _positive("pixel_shuffle: upscale_factor", upscale_factor)
    if r == 1:
        return clone(input)
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle: {c} channels are no multiple of {r * r}")
    x, k = reshaped(input, (*lead, c // (r * r), r, r, h, w)), len(lead)
    x = permuted(x, (*range(k), k, k + 3, k + 1, k + 4, k + 2))
    return reshaped(x, (*lead, c // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[..., C, H*r, W*r] -> [..., C*r*r, H, W]."""
    *lead, c, h, w = _image_sizes("pixel_unshuffle", input)
    r = _positive("pixel_unshuffle: downscale_factor", downscale_factor)
    if r == 1:
        return clone(input)
    if h % r or w % r:
        raise RuntimeError(f"pixel_unshuffle: {h} x {w} is no multiple of {r}")
    x, k = reshaped(input, (*lead, c, h // r, r, w // r, r)), len(lead)
    x = permuted(x, (*range(k), k, k + 2, k + 4, k + 1, k + 3))
    return reshaped(x, (*lead, c * r * r, h // r, w // r))


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """[N, C, ...], its channels as `groups` rows read column by column. Raises RuntimeError unless they divide."""
    x = one_tensor("channel_shuffle", input)
    if x.ndim < 3:
        raise ShapeError(f"channel_shuffle: takes 3 dims or more, got {x._type}", where=user_line())
    groups = _positive("channel_shuffle: groups", groups)
    n, c, *rest = x._type.static_shape
    if c % groups:
        raise RuntimeError(f"channel_shuffle: {c} channels are no multiple of {groups}")
    rows = reshaped(x, (n, groups, c // groups, *rest))
    found = reshaped(permuted(rows, (0, 2, 1, *range(3, rows.ndim))), (n, c, *rest))
    return clone(found) if found._base is not None else found


def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """channel_shuffle()."""
    return channel_shuffle(input, groups)


__all__ = ["channel_shuffle", "native_channel_shuffle", "pixel_shuffle", "pixel_unshuffle"]
public(globals(), __all__)
