"""Unpooling: values go back to where a maximum pooling found them."""
from __future__ import annotations

import math
from typing import Any

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, reshaped, spread, tensor_of, user_line
from flambeau.frontend.functions.elementwise import choose
from flambeau.frontend.functions.pointwise import isfinite
from flambeau.frontend.functions.pooling import Sizes, Windows, as_given, images
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


def _unpool(name: str, dims: int, input: Tensor, indices: Tensor, kernel_size: Any, stride: Any, padding: Any,
            output_size: Any) -> Tensor:
    x, single = images(input, dims, name)
    if one_tensor(name, indices)._type.dtype is not dt.i64:
        raise RuntimeError(f"{name}: indices must be int64, got {indices._type}")
    if indices._type.shape != input._type.shape:
        raise ShapeError(f"{name}: indices {indices._type} must have the shape of {input._type}", where=user_line())
    windows = Windows.of(dims, kernel_size, stride, padding, 1, False, name)
    size = _unpooled_size(name, dims, x, windows, output_size)
    n, c, *old = x._type.static_shape
    flat = (n, c, math.prod(old))
    y = _put(name, reshaped(x, flat), reshaped(indices, flat), math.prod(size))
    return as_given(reshaped(y, (n, c, *size)), dims, single)


def _unpooled_size(name: str, dims: int, x: Tensor, windows: Windows, output_size: Any) -> Sizes:
    """What is asked for, or the least size that gives x's when pooled. Raises ValueError for a size beyond a stride of
    it."""
    old = x._type.static_shape[2:]
    least = tuple([(o - 1) * s + k - 2 * p for o, s, k, p
                   in zip(old, windows.stride, windows.kernel, windows.padding, strict=True)])
    if output_size is None:
        return least
    wanted = tuple([int(size) for size in output_size])
    if len(wanted) in (dims + 1, dims + 2):
        wanted = wanted[-dims:]
    if len(wanted) != dims:
        raise ValueError(f"{name}: output_size must have {dims} to {dims + 2} sizes, got {output_size!r}")
    wanted = (1,) * (dims == 1) + wanted
    for have, low, step in zip(wanted[-dims:], least[-dims:], windows.stride[-dims:], strict=True):
        if not low - step < have < low + step:
            raise ValueError(f"{name}: output_size {tuple(output_size)} is a stride {windows.stride[-dims:]} or more from "
                             f"{least[-dims:]}")
    return wanted


def _put(name: str, x: Tensor, at: Tensor, size: int) -> Tensor:
    """Zeros [N, C, size] with x[n, c, i] at at[n, c, i]. Of several values for one place the last stays, and all have its
    gradient: windows that overlap may have found one element."""
    if active.tracer is None:
        data = at._data()
        if data.size and not (data.min() >= 0 and data.max() < size):
            raise RuntimeError(f"{name}: found an invalid max index: {data.max() if data.min() >= 0 else data.min()} "
                               f"(the output has {size} places)")
    n, c, count = x._type.static_shape
    if not count:
        return spread(tensor_of(0, x._type.dtype), (n, c, size), ())
    return dispatch(ops.ScatterAlongAdd(size, 2), at, _last_ones(x, at, size))


def _last_ones(x: Tensor, at: Tensor, size: int) -> Tensor:
    """x, and 0 where a later element goes to the same place, though with x's derivative."""
    last = dispatch(ops.TakeAlong(2), dispatch(ops.LastAlong(size, 2), at), at)
    own = spread(dispatch(ops.Iota(at._type.static_shape[2], dt.i64)), at._type.static_shape, (2,))
    zero = tensor_of(0, x._type.dtype)
    if x._type.dtype.is_floating_point:
        zero = choose(isfinite(x), dispatch(ops.sub, x, dispatch(ops.stop_gradient, x)), zero)
    return choose(dispatch(ops.eq, last, own), x, zero)


def max_unpool1d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """max_unpool2d along the last dim of [N, C, L] or [C, L]."""
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """Zeros, with input's elements at the places `indices` that max_pool2d of this kernel gave.

    output_size: which of the sizes that pool to input's, the least by default. Raises RuntimeError for a place outside
    (KernelError in a compiled function, which finds it as it runs)."""
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Tensor, indices: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0,
                 output_size: Any = None) -> Tensor:
    """max_unpool2d over the last three dims of [N, C, D, H, W] or [C, D, H, W]."""
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]
public(globals(), __all__)
