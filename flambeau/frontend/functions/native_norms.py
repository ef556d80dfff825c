"""Normalizations as `fb.batch_norm`, `fb.layer_norm`, ... have them: with the arguments of PyTorch's kernels, which differ
from those of `nn.functional` in order. `cudnn_enabled` says nothing here."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.frontend.functions import normalization
from flambeau.frontend.functions.calls import public
from flambeau.frontend.tensor.tensor import Tensor


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


__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm"]
public(globals(), __all__)
