"""Module 4: pooling, max, softmax and dropout."""
from __future__ import annotations

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.minitorch import operators
from flambeau.minitorch.fast_ops import FastOps
from flambeau.minitorch.tensor import Tensor
from flambeau.minitorch.tensor_functions import _ints, _known

Kernel = tuple[int, int]

max_reduce = FastOps.reduce(operators.max, -1e9)


def tile(input: Tensor, kernel: Kernel) -> tuple[Tensor, int, int]:
    """[n, c, h, w] -> [n, c, h / kh, w / kw, kh * kw], and the two new sizes."""
    batch, channel, height, width = input.shape
    kh, kw = kernel
    assert not height % kh and not width % kw, f"kernel {kernel} does not divide an image of {height} x {width}"
    rows, columns = height // kh, width // kw
    tiles = input.value.reshape(batch, channel, rows, kh, columns, kw).permute(0, 1, 2, 4, 3, 5)
    return input._like(tiles.reshape(batch, channel, rows, columns, kh * kw)), rows, columns


def avgpool2d(input: Tensor, kernel: Kernel) -> Tensor:
    """The means of tiles: [n, c, h, w] -> [n, c, h / kh, w / kw]."""
    return input._like(F.avg_pool2d(input.value, kernel))


def maxpool2d(input: Tensor, kernel: Kernel) -> Tensor:
    """The largest elements of tiles: [n, c, h, w] -> [n, c, h / kh, w / kw]."""
    return input._like(F.max_pool2d(input.value, kernel))


def argmax(input: Tensor, dim: int) -> Tensor:
    """1 for the largest elements along dim, 0 for the others."""
    return input._like((input.value == input.value.amax(dim, keepdim=True)).to(fb.float64).detach())


Max = _known("Max", "The largest element along dim, which stays; equal ones share its derivative.",
             lambda x, dim: x.amax(_ints(dim)[0], keepdim=True))


def max(input: Tensor, dim: int) -> Tensor:
    """The largest element along dim, which stays; equal ones share its derivative."""
    return input._like(input.value.amax(dim, keepdim=True))


def softmax(input: Tensor, dim: int) -> Tensor:
    """e^x over its sum along dim."""
    return input._like(F.softmax(input.value, dim))


def logsoftmax(input: Tensor, dim: int) -> Tensor:
    """The logarithm of softmax."""
    return input._like(F.log_softmax(input.value, dim))


def dropout(input: Tensor, rate: float, ignore: bool = False) -> Tensor:
    """Zeros at random positions, each with probability `rate`; the others stay as they are, unlike in `F.dropout`."""
    if ignore:
        return input
    return input._like(input.value * (fb.rand_like(input.value) >= rate))


__all__ = ["Max", "argmax", "avgpool2d", "dropout", "logsoftmax", "max", "max_reduce", "maxpool2d", "softmax", "tile"]
