"""Windows of a tensor side by side: views of one dim, and whole blocks of images as columns."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import ShapeError, UnsupportedError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    full_of,
    one_tensor,
    permuted,
    reshaped,
    sizes_of,
    spread,
    user_line,
    wrap_dim,
)
from flambeau.frontend.functions.pooling import sizes
from flambeau.frontend.functions.views import another, clone, padded, sliced
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tape.writes import assign_
from flambeau.frontend.tensor.strides import is_row_major, strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dims import as_size
from flambeau.ir.ops.windows import Axis

# -- views ------------------------------------------------------------------------------------------------------------


def windows_along(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """`size` elements from every `step`-th on along a dim, as a view with a new last dim: x[..., i*step + j, ...] at
    [..., i, ..., j]. What overlaps can't be written to. Raises RuntimeError if no window fits."""
    x, size, step = one_tensor("unfold", self), as_size(size), as_size(step)
    dim = wrap_dim(dimension, x.ndim, "unfold")
    shape = x._type.static_shape or (1,)
    if not 0 <= size <= shape[dim]:
        raise ShapeError(f"unfold: size {size} must be from 0 to {shape[dim]}, dim {dim} of {x._type}",
                         where=user_line())
    if step < 1:
        raise RuntimeError(f"unfold: step must be positive, got {step}")
    if not x._type.shape:
        return sliced(another(x, reshaped(x, (1,))), 0, 0, size)
    if size == 0:
        found = (*shape[:dim], shape[dim] // step + 1, *shape[dim + 1:], 0)
        return reshaped(sliced(x, dim, 0, 0), found)
    return dispatch_view(ops.Windows(dim, size, step, 1), x)


def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A view of the elements at storage_offset + sum of index * stride, of a tensor without gaps.

    Raises UnsupportedError for other tensors and for elements outside it, RuntimeError for negative strides."""
    x, shape, steps = one_tensor("as_strided", input), sizes_of((size,), "as_strided"), sizes_of((stride,), "as_strided")
    if len(shape) != len(steps):
        raise RuntimeError(f"as_strided: mismatch in length of strides {steps} and shape {shape}")
    if any(n < 0 for n in (*shape, *steps)):
        raise RuntimeError(f"as_strided: sizes {shape} and strides {steps} must be at least 0")
    own = 0 if x._base is None else x.storage_offset()
    offset = (own if storage_offset is None else as_size(storage_offset)) - own
    reach = sum([(n - 1) * s for n, s in zip(shape, steps, strict=True)])
    if not is_row_major(x._type.static_shape, strides_of(x)):
        raise UnsupportedError(f"as_strided: takes a tensor whose elements lie without gaps, got {x._type} with strides "
                               f"{x.stride()}", where=user_line(), hint="pass x.contiguous()")
    if 0 in shape:
        return full_of(shape, 0, x._type.dtype, like=x)
    if offset < 0 or offset + reach >= x.numel():
        raise UnsupportedError(f"as_strided: sizes {shape}, strides {steps} and storage_offset {offset + own} reach beyond "
                               f"{x._type}", where=user_line(), hint="call it on the whole tensor")
    x = sliced(another(x, reshaped(x, (x.numel(),))), 0, offset, offset + reach + 1)
    return _strided(x, shape, steps)


def as_strided_scatter(input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """A copy of input whose elements that as_strided() would show are src's. Raises as it does, UnsupportedError where
    they overlap, and RuntimeError for another shape of src."""
    found = clone(one_tensor("as_strided_scatter", input))
    view = as_strided(found, size, stride, storage_offset)
    if one_tensor("as_strided_scatter", src)._type.shape != view._type.shape:
        raise ShapeError(f"as_strided_scatter: src must be {view._type}, got {src._type}", where=user_line())
    assign_(view, cast(src, found._type.dtype))
    return found


def _strided(x: Tensor, shape: Sequence[int], steps: Sequence[int]) -> Tensor:
    """A vector as windows of windows, from the widest stride on: each dim's are as long as all behind it need, and
    overlap only where elements do."""
    order = sorted(range(len(shape)), key=lambda d: -steps[d])
    rest = x._type.static_shape[0]
    for place, d in enumerate(order):
        rest -= (shape[d] - 1) * steps[d]
        lead = x._type.static_shape[:-1]
        if shape[d] == 1:
            x = dispatch_view(ops.Reshape((*lead, 1, rest)), x)
        elif steps[d]:
            x = dispatch_view(ops.Windows(place, rest, steps[d], 1), x)
        else:
            x = spread(x, (*lead, shape[d], rest), (*range(place), place + 1))
    x = another(x, reshaped(x, x._type.static_shape[:-1]))
    return permuted(x, sorted(range(len(order)), key=order.__getitem__))


# -- blocks of images -------------------------------------------------------------------------------------------------


def _geometry(name: str, kernel_size: Any, dilation: Any, padding: Any, stride: Any) -> list[tuple[int, ...]]:
    """(kernel, dilation, padding, stride), each for rows and columns. Raises RuntimeError for what is not positive."""
    found = [sizes(value, 2, f"{name}: {what}") for value, what in ((kernel_size, "kernel_size"), (dilation, "dilation"),
                                                   (padding, "padding"), (stride, "stride"))]
    for what, value, least in zip(("kernel_size", "dilation", "padding", "stride"), found, (1, 1, 0, 1), strict=True):
        if min(value) < least:
            raise RuntimeError(f"{name}: {what} must be at least {least}, got {value}")
    return found


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """[N, C, H, W] -> [N, C * kernel elements, blocks]: what each window of a convolution sees, as a column. [C, H, W]
    likewise. Raises RuntimeError if no window fits."""
    x = one_tensor("unfold", input)
    if x.ndim not in (3, 4) or 0 in x._type.static_shape[-3:]:
        raise ShapeError(f"unfold: takes [N, C, H, W] or [C, H, W], got {x._type}", where=user_line())
    kernel, gaps, pads, steps = _geometry("unfold", kernel_size, dilation, padding, stride)
    single = x.ndim == 3
    x = reshaped(x, (1, *x._type.static_shape)) if single else x
    x = padded(x, [(0, 0), (0, 0), (pads[0], pads[0]), (pads[1], pads[1])])
    n, c, *size = x._type.static_shape
    counts = _counts("unfold", size, kernel, gaps, steps)
    for d in (0, 1):
        x = dispatch_view(ops.Windows(2 + d, kernel[d], steps[d], gaps[d]), x)
    columns = dispatch(ops.Reshape((n, c * math.prod(kernel), math.prod(counts))), permuted(x, (0, 1, 4, 5, 2, 3)))
    return reshaped(columns, columns._type.static_shape[1:]) if single else columns


def _counts(name: str, size: Sequence[int], kernel: Sequence[int], gaps: Sequence[int],
            steps: Sequence[int]) -> tuple[int, ...]:
    """How many windows there are along each of the (padded) sizes."""
    counts = tuple([Axis(n, k, s, dilation=d).count for n, k, d, s in zip(size, kernel, gaps, steps, strict=True)])
    if min(counts) < 1:
        raise ShapeError(f"{name}: windows of {tuple(kernel)} (dilation {tuple(gaps)}) don't fit into {tuple(size)}",
                         where=user_line())
    return counts


def fold(input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0,
         stride: Any = 1) -> Tensor:
    """[N, C * kernel elements, blocks] -> [N, C, H, W] of `output_size`: each column added where `unfold` took it from.
    [C * kernel elements, blocks] likewise. Raises RuntimeError if the sizes don't fit."""
    x = one_tensor("fold", input)
    if x.ndim not in (2, 3) or 0 in x._type.static_shape[-2:]:
        raise ShapeError(f"fold: takes [N, C * kernel elements, blocks], got {x._type}", where=user_line())
    kernel, gaps, pads, steps = _geometry("fold", kernel_size, dilation, padding, stride)
    single, out = x.ndim == 2, sizes(output_size, 2, "fold: output_size")
    if any(o < 1 for o in out):
        raise RuntimeError(f"fold: output_size must be positive, got {out}")
    x = reshaped(x, (1, *x._type.static_shape)) if single else x
    n, channels, blocks = x._type.static_shape
    size = tuple([o + 2 * p for o, p in zip(out, pads, strict=True)])
    counts = _counts("fold", size, kernel, gaps, steps)
    if channels % math.prod(kernel) or blocks != math.prod(counts):
        raise ShapeError(f"fold: {input._type} must have a multiple of {math.prod(kernel)} rows and {math.prod(counts)} "
                         f"blocks for output_size {out}", where=user_line())
    c = channels // math.prod(kernel)
    x = permuted(reshaped(x, (n, c, *kernel, *counts)), (0, 1, 4, 5, 2, 3))
    for d in (1, 0):
        x = dispatch(ops.WindowsSum(size[d], 2 + d, kernel[d], steps[d], gaps[d]), x)
    for d in (0, 1):
        x = sliced(x, 2 + d, pads[d], pads[d] + out[d])
    x = dispatch(ops.Reshape(x._type.static_shape), x) if any(pads) else x
    return reshaped(x, x._type.static_shape[1:]) if single else x


__all__ = ["fold", "unfold"]
public(globals(), [*__all__, "as_strided", "as_strided_scatter", "windows_along"])
