"""Lazy modules: they learn how many features they take from the first input, and become the ordinary module then."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from flambeau.errors import UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.nn import conversion
from flambeau.frontend.nn.batchnorm import BatchNorm1d, BatchNorm2d, BatchNorm3d, _NormBase
from flambeau.frontend.nn.conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Sizes,
    _ConvNd,
)
from flambeau.frontend.nn.instancenorm import InstanceNorm1d, InstanceNorm2d, InstanceNorm3d
from flambeau.frontend.nn.linear import Linear
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.uninitialized import UninitializedBuffer, UninitializedParameter, is_lazy
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType


class LazyModuleMixin(Module):
    """A module with uninitialized parameters: `initialize_parameters(*args)`, which a subclass defines, gives them their
    shapes before the first forward, and the module becomes one of `cls_to_become`, if that is a class.

    The first call can't be part of a compiled one: it raises UnsupportedError."""

    cls_to_become: ClassVar[type[Module] | None] = None

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Materialize the parameters for the first input."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {self._get_name()}")

    def has_uninitialized_params(self) -> bool:
        """True before the first forward, or load_state_dict()."""
        return any(map(is_lazy, (*self._parameters.values(), *self._buffers.values())))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.cls_to_become is None and not self.has_uninitialized_params():
            return super().__call__(*args, **kwargs)
        if active.tracer is not None:
            raise UnsupportedError(f"{self._get_name()}: a lazy module takes its shapes from its first input, and that "
                                   "call can't be compiled", hint="call the model once before it is compiled")
        self._infer_parameters(self, args, kwargs)
        if self.cls_to_become is None:
            return super().__call__(*args, **kwargs)
        self.__class__ = self.cls_to_become     # type: ignore[assignment]
        return self(*args, **kwargs)

    def _infer_parameters(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> None:
        module.initialize_parameters(*args, **(kwargs or {}))
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        if recurse:
            for child in self.children():
                child._apply(fn)
        for tensor in (*self._parameters.values(), *self._buffers.values()):
            if is_lazy(tensor):
                tensor.convert(fn)
            elif tensor is not None:
                conversion.apply_to(tensor, fn)
        return self

    def _take(self, name: str, key: str, target: Tensor, value: Any, assign: bool) -> str | None:
        """Uninitialized parameters take the shapes of what is loaded."""
        if is_lazy(value) and is_lazy(target):
            return None
        if is_lazy(target) and not assign and hasattr(value, "shape"):
            target.materialize(tuple(value.shape))      # type: ignore[attr-defined]
        return super()._take(name, key, target, value, assign)


def _parameter(wanted: bool, device: Any, dtype: DType | None) -> UninitializedParameter | None:
    return UninitializedParameter(device=device, dtype=dtype) if wanted else None


class LazyLinear(LazyModuleMixin, Linear):
    """Linear whose in_features are those of the first input."""

    cls_to_become = Linear

    def __init__(self, out_features: int, bias: bool = True, device: Any = None, dtype: DType | None = None):
        super().__init__(0, 0, False)
        self.out_features = out_features
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.bias = _parameter(bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew; before there are any this does nothing."""
        if not self.has_uninitialized_params() and self.in_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Take in_features from the input's last dim."""
        if self.has_uninitialized_params():
            self.in_features = input.shape[-1]
            _materialize(self.weight, (self.out_features, self.in_features))
            _materialize(self.bias, (self.out_features,))
            self.reset_parameters()
        elif not self.in_features:              # after load_state_dict()
            self.in_features = self.weight.shape[-1]


class _LazyConv(LazyModuleMixin, _ConvNd):
    """What lazy convolutions share."""

    def _be_lazy(self, out_channels: int, bias: bool, device: Any, dtype: DType | None) -> None:
        self.out_channels = out_channels
        self.weight = UninitializedParameter(device=device, dtype=dtype)
        self.bias = _parameter(bias, device, dtype)

    def reset_parameters(self) -> None:
        """Draw weight and bias anew; before there are any this does nothing."""
        if not self.has_uninitialized_params() and self.in_channels:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor, *args: Any, **kwargs: Any) -> None:
        """Take in_channels from the input. Raises RuntimeError for another number of dims."""
        if self.has_uninitialized_params():
            if input.ndim not in (self.rank + 1, self.rank + 2):
                raise RuntimeError(f"Expected {self.rank + 1}D (unbatched) or {self.rank + 2}D (batched) input to "
                                   f"{self._get_name()}, but got input of size: {input.shape}")
            self.in_channels = input.shape[input.ndim - self.rank - 1]
            if self.in_channels % self.groups:
                raise ValueError("in_channels must be divisible by groups")
            _materialize(self.weight, self._weight_shape())
            _materialize(self.bias, (self.out_channels,))
            self.reset_parameters()
        elif not self.in_channels:              # after load_state_dict()
            self.in_channels = self.weight.shape[0] if self.transposed else self.weight.shape[1] * self.groups


class _LazyPlain(_LazyConv):
    def __init__(self, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes | str = 0,
                 dilation: Sizes = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
                 dtype: DType | None = None):
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode)
        self._be_lazy(out_channels, bias, device, dtype)


class LazyConv1d(_LazyPlain, Conv1d):
    """Conv1d whose in_channels are those of the first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyPlain, Conv2d):
    """Conv2d whose in_channels are those of the first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyPlain, Conv3d):
    """Conv3d whose in_channels are those of the first input."""

    cls_to_become = Conv3d


class _LazyTransposed(_LazyConv):
    def __init__(self, out_channels: int, kernel_size: Sizes, stride: Sizes = 1, padding: Sizes = 0,
                 output_padding: Sizes = 0, groups: int = 1, bias: bool = True, dilation: Sizes = 1,
                 padding_mode: str = "zeros", device: Any = None, dtype: DType | None = None):
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode)
        self._be_lazy(out_channels, bias, device, dtype)


class LazyConvTranspose1d(_LazyTransposed, ConvTranspose1d):
    """ConvTranspose1d whose in_channels are those of the first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyTransposed, ConvTranspose2d):
    """ConvTranspose2d whose in_channels are those of the first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyTransposed, ConvTranspose3d):
    """ConvTranspose3d whose in_channels are those of the first input."""

    cls_to_become = ConvTranspose3d


class _LazyNorm(LazyModuleMixin, _NormBase):
    """What lazy normalizations share."""

    def __init__(self, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True, track_running_stats: bool = True,
                 device: Any = None, dtype: DType | None = None, *, bias: bool = True):
        super().__init__(0, eps, momentum, affine, track_running_stats, device, dtype, bias=bias)
        if affine:
            self.weight = UninitializedParameter(device=device, dtype=dtype)
            self.bias = _parameter(bias, device, dtype)
        if track_running_stats:
            self.running_mean = UninitializedBuffer(device=device, dtype=dtype)
            self.running_var = UninitializedBuffer(device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, running statistics as at the start; before there are any this does nothing."""
        if not self.has_uninitialized_params() and self.num_features:
            super().reset_parameters()

    def initialize_parameters(self, input: Tensor) -> None:
        """Take num_features from the input's dim 1."""
        if self.has_uninitialized_params():
            self.num_features = input.shape[1]
            for tensor in (self.weight, self.bias, self.running_mean, self.running_var):
                _materialize(tensor, (self.num_features,))
            self.reset_parameters()
        elif not self.num_features:             # after load_state_dict(), or without parameters
            known = self.weight if self.weight is not None else self.running_mean
            self.num_features = input.shape[1] if known is None else known.shape[0]


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """BatchNorm1d whose num_features are the channels of the first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """BatchNorm2d whose num_features are the channels of the first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """BatchNorm3d whose num_features are the channels of the first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """InstanceNorm1d whose num_features are the channels of the first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """InstanceNorm2d whose num_features are the channels of the first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """InstanceNorm3d whose num_features are the channels of the first input."""

    cls_to_become = InstanceNorm3d


def _materialize(tensor: Any, shape: tuple[int, ...]) -> None:
    if is_lazy(tensor):
        tensor.materialize(shape)


__all__ = [
    "LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d", "LazyConv1d", "LazyConv2d", "LazyConv3d",
    "LazyConvTranspose1d", "LazyConvTranspose2d", "LazyConvTranspose3d", "LazyInstanceNorm1d", "LazyInstanceNorm2d",
    "LazyInstanceNorm3d", "LazyLinear", "UninitializedBuffer", "UninitializedParameter",
]
