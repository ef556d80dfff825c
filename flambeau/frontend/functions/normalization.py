"""Normalization over batches, layers, groups and vectors."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import Number, cast, one_tensor, reshaped, sizes_of, spread, user_line
from flambeau.frontend.functions.elementwise import add, clamp, div, mul
from flambeau.frontend.functions.inplace import overwrite
from flambeau.frontend.functions.reductions import mean, norm, over, var_mean
from flambeau.frontend.functions.views import clone
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import as_size


def _affine(name: str, y: Tensor, weight: Tensor | None, bias: Tensor | None, dims: Sequence[int]) -> Tensor:
    """y * weight + bias, both spread along `dims`, in the dtype of y. Never y itself where a gradient needs it: users may
    change theirs. Raises ShapeError where they don't fit."""
    shape, dtype = y._type.static_shape, y._type.dtype
    try:
        if weight is not None:
            y = mul(y, spread(weight, shape, dims))
        elif bias is None and active.differentiates(y):
            return clone(y)
        return cast(y if bias is None else add(y, spread(bias, shape, dims)), dtype)
    except TypeInferenceError:
        given = " and ".join([f"{what} {t._type}" for what, t in (("weight", weight), ("bias", bias)) if t is not None])
        raise ShapeError(f"{name}: {given} must be of shape {tuple([shape[d] for d in dims])} for input {y._type}",
                         where=user_line()) from None


def batch_norm(input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
               bias: Tensor | None = None, training: bool = False, momentum: Number = 0.1,
               eps: float = 1e-05) -> Tensor:
    """Each channel (dim 1) with mean 0 and variance 1, then * weight + bias.

    training: by the batch's own moments, which running_mean and running_var (unbiased) follow with `momentum`;
    else by the running ones. Raises ValueError when training on one value per channel, RuntimeError without moments."""
    x = one_tensor("batch_norm", input)
    if x.ndim < 2:
        if not x._type.numel:               # as in PyTorch
            return clone(x)
        raise ShapeError(f"batch_norm: takes [N, C, ...], got {x._type}", where=user_line())
    _check_moments("batch_norm", x, running_mean, running_var)
    if not training:
        return _by_running_moments("batch_norm", x, running_mean, running_var, weight, bias, eps)
    dims = (0, *range(2, x.ndim))
    n = math.prod([x._type.static_shape[d] for d in dims])
    if n == 1:
        raise ValueError(f"batch_norm: expected more than 1 value per channel when training, got {tuple(x.shape)}")
    if not n:
        return _affine("batch_norm", x, weight, bias, (1,))
    y, average, variance = _normalized(x, dims, eps)
    with set_grad_enabled(False):
        if running_mean is not None:
            _follow(running_mean, average, momentum)
        if running_var is not None:
            _follow(running_var, mul(variance, n / (n - 1)), momentum)
    return _affine("batch_norm", y, weight, bias, (1,))


def _normalized(x: Tensor, dims: tuple[int, ...], eps: Number) -> tuple[Tensor, Tensor, Tensor]:
    """((x - mean) / sqrt(variance + eps), mean, variance) over dims. eps is part of the op, unless it is a runtime
    number."""
    if not isinstance(eps, Scalar):
        found: tuple[Tensor, Tensor, Tensor] = dispatch(ops.Normalize(dims, float(eps)), x)
        return found
    wide = x if x.dtype.itemsize > 2 else cast(x, dt.f32)
    variance, average = var_mean(wide, dims, correction=0)
    centred = dispatch(ops.sub, wide, over(average, x, dims))
    scale = dispatch(ops.rsqrt, add(variance, eps))
    return cast(dispatch(ops.mul, centred, over(scale, x, dims)), x._type.dtype), average, variance


def _check_moments(name: str, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None) -> None:
    for what, t in (("running_mean", running_mean), ("running_var", running_var)):
        if t is not None and t._type.shape != x._type.shape[1:2]:
            raise ShapeError(f"{name}: {what} {t._type} must be of shape {tuple(x._type.shape[1:2])}, the channels of "
                             f"input {x._type}", where=user_line())


def _follow(running: Tensor, now: Tensor, momentum: Number) -> None:
    """running = (1 - momentum) * running + momentum * now, in place."""
    now = cast(now.detach(), running._type.dtype)
    overwrite(running, add(mul(running, 1 - momentum), mul(now, momentum)), "batch_norm")


def _by_running_moments(name: str, x: Tensor, running_mean: Tensor | None, running_var: Tensor | None,
                        weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """x * scale + shift, with one scale and one shift per channel."""
    if running_mean is None or running_var is None:
        raise RuntimeError(f"{name}: running_mean and running_var must be given where the input's own moments don't count")
    scale = dispatch(ops.rsqrt, add(running_var, eps))
    scale = scale if weight is None else mul(scale, weight)
    shift = mul(running_mean, dispatch(ops.neg, scale))
    shift = shift if bias is None else add(shift, bias)
    y = _affine(name, x, scale, shift, (1,))
    return cast(y, x._type.dtype)


def layer_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-05) -> Tensor:
    """The last dims (`normalized_shape`) with mean 0 and variance 1, then * weight + bias of that shape."""
    x = one_tensor("layer_norm", input)
    dims = _last_dims(x, normalized_shape, "layer_norm")
    y, _, _ = _normalized(x, dims, eps)
    return _affine("layer_norm", y, weight, bias, dims)


def _last_dims(x: Tensor, normalized_shape: Any, name: str) -> tuple[int, ...]:
    shape = sizes_of((normalized_shape,), name)
    first = x.ndim - len(shape)
    if not shape:
        raise ShapeError(f"{name}: normalized_shape must have 1 dim or more", where=user_line())
    if first < 0 or x._type.shape[first:] != shape:
        raise ShapeError(f"{name}: input {x._type} must end in normalized_shape {shape}", where=user_line())
    return tuple(range(first, x.ndim))


def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x**2) + eps) over the last dims, then * weight. eps None: the dtype's own."""
    x = one_tensor("rms_norm", input)
    dims = _last_dims(x, normalized_shape, "rms_norm")
    eps = 2.0**-52 if eps is None and x.dtype.itemsize == 8 else 2.0**-23 if eps is None else eps
    wide = x if x.dtype.itemsize > 2 else cast(x, dt.f32)
    scale = dispatch(ops.rsqrt, add(mean(mul(wide, wide), dims), eps))
    y = cast(mul(wide, over(scale, x, dims)), x._type.dtype)
    return _affine("rms_norm", y, weight, None, dims)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-05) -> Tensor:
    """Channels (dim 1) in `num_groups` groups, each with mean 0 and variance 1, then * weight + bias per channel."""
    x = one_tensor("group_norm", input)
    shape = x._type.static_shape
    num_groups = as_size(num_groups)
    if x.ndim < 2 or num_groups < 1 or shape[1] % num_groups:
        raise RuntimeError(f"group_norm: num_groups {num_groups} must divide the channels (dim 1) of {x._type}")
    if math.prod(shape) == num_groups:
        raise ValueError(f"group_norm: expected more than 1 value per group, got {tuple(shape)}")
    grouped = reshaped(x, (shape[0], num_groups, math.prod(shape[1:]) // num_groups))
    y, _, _ = _normalized(grouped, (2,), eps)
    return _affine("group_norm", reshaped(y, shape), weight, bias, (1,))


def instance_norm(input: Tensor, running_mean: Tensor | None = None, running_var: Tensor | None = None,
                  weight: Tensor | None = None, bias: Tensor | None = None, use_input_stats: bool = True,
                  momentum: Number = 0.1, eps: float = 1e-5) -> Tensor:
    """Each channel of each sample with mean 0 and variance 1, then * weight + bias per channel."""
    x = one_tensor("instance_norm", input)
    _check_moments("instance_norm", x, running_mean, running_var)
    if not use_input_stats:
        return _by_running_moments("instance_norm", x, running_mean, running_var, weight, bias, eps)
    dims = tuple(range(2, x.ndim))
    n = math.prod([x._type.static_shape[d] for d in dims])
    if n == 1:
        raise ValueError(f"instance_norm: expected more than 1 value per channel, got {tuple(x.shape)}")
    if not n:
        return _affine("instance_norm", x, weight, bias, (1,))
    y, average, variance = _normalized(x, dims, eps)
    with set_grad_enabled(False):
        if running_mean is not None:
            _follow(running_mean, mean(average, 0), momentum)
        if running_var is not None:
            _follow(running_var, mul(mean(variance, 0), n / (n - 1)), momentum)
    return _affine("instance_norm", y, weight, bias, (1,))


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(p-norm along dim, eps)."""
    return div(input, clamp(norm(input, p, dim, keepdim=True), min=eps))


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "normalize", "rms_norm"]
public(globals(), __all__)
