"""Normalizations as `fb.batch_norm`, `fb.layer_norm`, ... have them: with the arguments of PyTorch's kernels, which differ
from those of `nn.functional` in order. `cudnn_enabled` says nothing here."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.frontend.functions import normalization
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, reshaped
from flambeau.frontend.functions.creation import zeros
from flambeau.frontend.functions.elementwise import add
from flambeau.frontend.functions.reductions import var_mean
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType


def batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
               running_var: Tensor | None, training: bool, momentum: float, eps: float, cudnn_enabled: bool) -> Tensor:
    """nn.functional.batch_norm."""
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
                  running_var: Tensor | None, use_input_stats: bool, momentum: float, eps: float,
                  cudnn_enabled: bool) -> Tensor:
    """nn.functional.instance_norm."""
    return normalization.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-05, cudnn_enable: bool = True) -> Tensor:
    """nn.functional.layer_norm."""
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
               eps: float = 1e-05, cudnn_enabled: bool = True) -> Tensor:
    """nn.functional.group_norm."""
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def rms_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None,
             eps: float | None = None) -> Tensor:
    """nn.functional.rms_norm."""
    return normalization.rms_norm(input, normalized_shape, weight, eps)


# -- with their moments -----------------------------------------------------------------------------------------------


def _moments(x: Tensor, dims: Sequence[int], eps: float, dtype: DType) -> tuple[Tensor, Tensor]:
    """(mean, 1 / sqrt(variance + eps)) over dims."""
    wide = cast(x, dt.f32) if x.dtype.itemsize == 2 else x
    variance, average = var_mean(wide, tuple(dims), correction=0)
    return cast(average, dtype), cast(dispatch(ops.rsqrt, add(variance, eps)), dtype)


def _dtype_of_moments(x: Tensor, *given: Tensor | None) -> DType:
    """That of the weight or bias if there is one."""
    return next((t.dtype for t in given if t is not None), x.dtype)


def native_layer_norm(input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None, bias: Tensor | None,
                      eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(layer_norm, mean, 1 / sqrt(variance + eps)); the latter with the normalized dims of size 1."""
    y = normalization.layer_norm(input, normalized_shape, weight, bias, eps)
    first = input.ndim - len(normalized_shape)
    shape = (*input.shape[:first], *(1,) * len(normalized_shape))
    mean, scale = _moments(input, range(first, input.ndim), eps, _dtype_of_moments(input, weight, bias))
    return y, reshaped(mean, shape), reshaped(scale, shape)


def native_group_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, N: int, C: int, HxW: int, group: int,
                      eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(group_norm, mean, 1 / sqrt(variance + eps)); the latter [N, group]."""
    y = normalization.group_norm(input, group, weight, bias, eps)
    grouped = reshaped(input, (N, group, C // group * HxW))
    return y, *_moments(grouped, (2,), eps, _dtype_of_moments(input, weight, bias))


def native_batch_norm(input: Tensor, weight: Tensor | None, bias: Tensor | None, running_mean: Tensor | None,
                      running_var: Tensor | None, training: bool, momentum: float,
                      eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(batch_norm, mean, 1 / sqrt(variance + eps)); the latter [C] when training, else [0]."""
    y = normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    dtype = _dtype_of_moments(input, weight, bias, running_mean, running_var)
    if not training:
        return y, zeros(0, dtype=dtype, device=y.device), zeros(0, dtype=dtype, device=y.device)
    return y, *_moments(input, (0, *range(2, input.ndim)), eps, dtype)


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "native_batch_norm", "native_group_norm",
           "native_layer_norm", "rms_norm"]
public(globals(), __all__)
