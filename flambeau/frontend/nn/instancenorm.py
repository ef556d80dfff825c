"""Instance normalization: each channel of each example by its own statistics."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.normalization import instance_norm
from flambeau.frontend.nn.batchnorm import _NormBase
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType


class _InstanceNorm(_NormBase):
    """(x - mean) / sqrt(var + eps) * weight + bias for each channel of each example.

    With track_running_stats running statistics follow the average over examples, and are used in evaluation."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
                 track_running_stats: bool = False, device: Any = None, dtype: DType | None = None, *,
                 bias: bool = True):
        super().__init__()
        self._set_up(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        single = input.ndim == self.ranks[0]
        channel = 0 if single else 1
        if input.shape[channel] != self.num_features and self.affine:
            raise ValueError(f"expected input's size at dim={channel} to match num_features ({self.num_features}), but "
                             f"got: {input.shape[channel]}.")
        y = instance_norm(input.unsqueeze(0) if single else input, self.running_mean, self.running_var, self.weight,
                          self.bias, self.training or not self.track_running_stats,
                          0.0 if self.momentum is None else self.momentum, self.eps)
        return y.squeeze(0) if single else y


class InstanceNorm1d(_InstanceNorm):
    """input: [n, num_features, length] (or without n) -> the same shape."""

    ranks = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """input: [n, num_features, height, width] (or without n) -> the same shape."""

    ranks = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """input: [n, num_features, depth, height, width] (or without n) -> the same shape."""

    ranks = (4, 5)


__all__ = ["InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"]
