"""Module 4: convolutions whose results are as large as the images: kernels reach to the right, over zeros at the end."""
from __future__ import annotations

from typing import Any

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.minitorch.tensor_data import strided
from flambeau.minitorch.tensor_functions import _known


def _conv1d(x: fb.Tensor, weight: fb.Tensor) -> fb.Tensor:
    return F.conv1d(F.pad(x, (0, weight.shape[2] - 1)), weight)


def _conv2d(x: fb.Tensor, weight: fb.Tensor) -> fb.Tensor:
    return F.conv2d(F.pad(x, (0, weight.shape[3] - 1, 0, weight.shape[2] - 1)), weight)


Conv1dFun = _known("Conv1dFun", "input [n, c, w], weight [o, c, kw] -> [n, o, w]", _conv1d)
Conv2dFun = _known("Conv2dFun", "input [n, c, h, w], weight [o, c, kh, kw] -> [n, o, h, w]", _conv2d)
conv1d, conv2d = Conv1dFun.apply, Conv2dFun.apply



def tensor_conv1d(out: Any, out_shape: Any, out_strides: Any, out_size: int, input: Any, input_shape: Any,
                  input_strides: Any, weight: Any, weight_shape: Any, weight_strides: Any, reverse: bool) -> None:
    """Fill a storage with the convolution of two others; reverse: kernels reach to the left, over zeros at the start."""
    x, w = _operands(input, input_shape, input_strides, weight, weight_shape, weight_strides)
    found = F.conv1d(F.pad(x, (w.shape[2] - 1, 0)), w.flip(2)) if reverse else _conv1d(x, w)
    strided(out, out_shape, out_strides)[...] = found.numpy()


def tensor_conv2d(out: Any, out_shape: Any, out_strides: Any, out_size: int, input: Any, input_shape: Any,
                  input_strides: Any, weight: Any, weight_shape: Any, weight_strides: Any, reverse: bool) -> None:
    """As tensor_conv1d, of images."""
    x, w = _operands(input, input_shape, input_strides, weight, weight_shape, weight_strides)
    around = (w.shape[3] - 1, 0, w.shape[2] - 1, 0)
    found = F.conv2d(F.pad(x, around), w.flip(2, 3)) if reverse else _conv2d(x, w)
    strided(out, out_shape, out_strides)[...] = found.numpy()


def _operands(*storages: Any) -> tuple[fb.Tensor, fb.Tensor]:
    return fb.tensor(strided(*storages[:3])), fb.tensor(strided(*storages[3:]))


__all__ = ["Conv1dFun", "Conv2dFun", "conv1d", "conv2d", "tensor_conv1d", "tensor_conv2d"]
