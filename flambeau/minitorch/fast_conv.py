"""Module 4: convolutions whose results are as large as the images: kernels reach to the right, over zeros at the end."""
from __future__ import annotations

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.minitorch.tensor_functions import _known


def _conv1d(x: fb.Tensor, weight: fb.Tensor) -> fb.Tensor:
    return F.conv1d(F.pad(x, (0, weight.shape[2] - 1)), weight)


def _conv2d(x: fb.Tensor, weight: fb.Tensor) -> fb.Tensor:
    return F.conv2d(F.pad(x, (0, weight.shape[3] - 1, 0, weight.shape[2] - 1)), weight)


Conv1dFun = _known("Conv1dFun", "input [n, c, w], weight [o, c, kw] -> [n, o, w]", _conv1d)
Conv2dFun = _known("Conv2dFun", "input [n, c, h, w], weight [o, c, kh, kw] -> [n, o, h, w]", _conv2d)
conv1d, conv2d = Conv1dFun.apply, Conv2dFun.apply

__all__ = ["Conv1dFun", "Conv2dFun", "conv1d", "conv2d"]
