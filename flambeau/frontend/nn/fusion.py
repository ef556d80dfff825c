"""nn.utils: a batch normalization in evaluation folded into the convolution or linear layer before it."""
from __future__ import annotations

import copy
from typing import TypeVar

from flambeau.frontend.functions.coerce import spread
from flambeau.frontend.functions.creation import ones_like, zeros_like
from flambeau.frontend.nn.batchnorm import _BatchNorm
from flambeau.frontend.nn.conv import _ConvNd
from flambeau.frontend.nn.linear import Linear
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.tensor.tensor import Tensor

Conv = TypeVar("Conv", bound=_ConvNd)
Lin = TypeVar("Lin", bound=Linear)


def fuse_conv_bn_eval(conv: Conv, bn: _BatchNorm, transpose: bool = False) -> Conv:
    """A copy of `conv` that does what both modules, in evaluation, do after each other. transpose: `conv` is a transposed
    convolution, whose weight has its output channels in dim 1.

    Raises AssertionError, as PyTorch does, if a module is training or bn has no running statistics."""
    _check(conv, bn)
    fused = copy.deepcopy(conv)
    fused.weight, fused.bias = fuse_conv_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps,
                                                    bn.weight, bn.bias, transpose)
    return fused


def fuse_conv_bn_weights(conv_w: Tensor, conv_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float,
                         bn_w: Tensor | None, bn_b: Tensor | None, transpose: bool = False) -> tuple[Parameter, Parameter]:
    """(weight, bias) of fuse_conv_bn_eval's convolution."""
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_eval(linear: Lin, bn: _BatchNorm) -> Lin:
    """A copy of `linear` that does what both modules, in evaluation, do after each other.

    Raises AssertionError if a module is training, bn has no running statistics, or neither as many features as linear
    gives nor one."""
    _check(linear, bn)
    if linear.out_features != bn.num_features and bn.num_features != 1:
        raise AssertionError(f"fuse_linear_bn_eval: linear gives {linear.out_features} features, bn takes "
                             f"{bn.num_features}")
    fused = copy.deepcopy(linear)
    fused.weight, fused.bias = fuse_linear_bn_weights(fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps,
                                                      bn.weight, bn.bias)
    return fused


def fuse_linear_bn_weights(linear_w: Tensor, linear_b: Tensor | None, bn_rm: Tensor, bn_rv: Tensor, bn_eps: float,
                           bn_w: Tensor | None, bn_b: Tensor | None) -> tuple[Parameter, Parameter]:
    """(weight, bias) of fuse_linear_bn_eval's layer."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _check(module: _ConvNd | Linear, bn: _BatchNorm) -> None:
    if module.training or bn.training:
        raise AssertionError("fusion with batch norm is for modules in evaluation: call eval() on both")
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("fusion with batch norm needs its running statistics: track_running_stats is False")


def _fused(w: Tensor, b: Tensor | None, mean: Tensor, var: Tensor, eps: float, scale: Tensor | None,
           shift: Tensor | None, dim: int) -> tuple[Parameter, Parameter]:
    """Output channels lie along `dim` of w."""
    b = zeros_like(mean) if b is None else b
    scale = ones_like(mean) if scale is None else scale
    shift = zeros_like(mean) if shift is None else shift
    factor = scale * (var + eps).rsqrt()
    wide = factor.expand(w.shape[dim]) if factor.numel() == 1 else factor
    weight = (w * spread(wide.detach(), tuple(w.shape), (dim,))).to(w.dtype)
    bias = ((b - mean) * factor + shift).to(w.dtype)
    return (Parameter(weight.detach(), w.requires_grad), Parameter(bias.detach(), b.requires_grad))


__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]
