"""Batch normalization. Running statistics are buffers changed in place, so that they trace as state."""
from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from flambeau.frontend.functions.coerce import sizes_of
from flambeau.frontend.functions.normalization import batch_norm
from flambeau.frontend.nn.init import ones_, zeros_
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import empty_parameter
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tape.moves import placed
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


class _NormBase(Module):
    """Weight and bias per channel, and running statistics."""

    ranks: ClassVar[tuple[int, ...]]
    _version = 2                            # of the state: 2 has num_batches_tracked
    num_batches_tracked: Tensor | None

    def _set_up(self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
                device: Any, dtype: DType | None, bias: bool) -> None:
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        shape = sizes_of((num_features,), "num_features")
        if num_features < 0:
            raise ValueError(f"num_features must not be negative, got {num_features}")
        self.register_parameter("weight", empty_parameter(shape, dtype, device) if affine else None)
        self.register_parameter("bias", empty_parameter(shape, dtype, device) if affine and bias else None)
        storage, place = dtype or get_default_dtype(), place_of(device)
        for name in ("running_mean", "running_var"):
            zeros = placed(Tensor._from_array(np.zeros(shape, storage.storage), storage), place)
            self.register_buffer(name, zeros if track_running_stats else None)
        count = placed(Tensor._from_array(np.zeros((), np.int64), dt.i64), place)
        self.register_buffer("num_batches_tracked", count if track_running_stats else None)
        self.reset_parameters()

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: dict[str, Any], *rest: Any) -> None:
        """States of version 1, and those that say none, may lack num_batches_tracked, which then stays as it is."""
        if (local_metadata.get("version") or 1) < 2 and self.num_batches_tracked is not None:
            state_dict.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)

    def reset_running_stats(self) -> None:
        """Mean 0, variance 1, no batches seen."""
        if self.track_running_stats:
            zeros_(self.running_mean)
            ones_(self.running_var)
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.zero_()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, running statistics as at the start."""
        self.reset_running_stats()
        if self.weight is not None:
            ones_(self.weight)
        if self.bias is not None:
            zeros_(self.bias)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim not in self.ranks:
            wanted = " or ".join(f"{rank}D" for rank in self.ranks)
            raise ValueError(f"expected {wanted} input (got {input.ndim}D input)")

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")


class _BatchNorm(_NormBase):
    """(x - mean) / sqrt(var + eps) * weight + bias per channel (dim 1); mean and biased var over all other dims.

    In training the statistics are the batch's, and the running ones move towards them (with the unbiased variance)
    by `momentum`; momentum None averages over all batches seen. In evaluation the running ones are used."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, device: Any = None, dtype: DType | None = None, *,
                 bias: bool = True):
        super().__init__()
        self._set_up(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        use_batch = self.training or self.running_mean is None
        update = self.training and self.track_running_stats
        factor: Any = 0.0 if self.momentum is None else self.momentum
        if update and self.num_batches_tracked is not None:
            with no_grad():
                self.num_batches_tracked.add_(1)
                if self.momentum is None:
                    factor = 1.0 / self.num_batches_tracked.to(dt.f64)
        tracked = update or not use_batch
        return batch_norm(input, self.running_mean if tracked else None, self.running_var if tracked else None,
                          self.weight, self.bias, use_batch, factor, self.eps)


class BatchNorm1d(_BatchNorm):
    """input: [n, num_features] or [n, num_features, length] -> the same shape."""

    ranks = (2, 3)


class BatchNorm2d(_BatchNorm):
    """input: [n, num_features, height, width] -> the same shape."""

    ranks = (4,)


class BatchNorm3d(_BatchNorm):
    """input: [n, num_features, depth, height, width] -> the same shape."""

    ranks = (5,)


class SyncBatchNorm(_BatchNorm):
    """BatchNorm over all processes that train together; here there is one. input: [n, num_features, *]."""

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True, process_group: Any = None, device: Any = None,
                 dtype: DType | None = None, *, bias: bool = True):
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        self.process_group = process_group

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"expected at least 2D input (got {input.ndim}D input)")

    @classmethod
    def convert_sync_batchnorm(cls, module: Module, process_group: Any = None) -> Module:
        """The module with a SyncBatchNorm, of the same parameters and statistics, in the place of each BatchNorm."""
        made = module
        if isinstance(module, _BatchNorm):
            made = cls(module.num_features, module.eps, module.momentum, module.affine, module.track_running_stats,
                       process_group, bias=module.bias is not None)
            for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                setattr(made, name, getattr(module, name))
            made.training = module.training
        for name, child in list(module._modules.items()):
            if child is not None:
                made.register_module(name, cls.convert_sync_batchnorm(child, process_group))
        return made


__all__ = ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"]
