"""Module 3: CudaOps and the two exercises around it. Flambeau computes on the processor, and so do these."""
from __future__ import annotations

import math

import numba.cuda  # noqa: F401   programs of the course ask numba.cuda.is_available() and leave loading it to MiniTorch

from flambeau.minitorch.tensor import Tensor
from flambeau.minitorch.tensor_data import TensorData
from flambeau.minitorch.tensor_ops import TensorOps

THREADS_PER_BLOCK = 32


class CudaOps(TensorOps):
    """Module 3's, in name: `cuda` is False."""


def sum_practice(a: Tensor) -> TensorData:
    """The sums of 32 neighbours of a vector each; at least two of them, as the exercise has it."""
    blocks = max(2, math.ceil(a.size / THREADS_PER_BLOCK))
    padded = a.to_numpy().tolist() + [0.0] * (blocks * THREADS_PER_BLOCK - a.size)
    return TensorData([sum(padded[i:i + THREADS_PER_BLOCK]) for i in range(0, len(padded), THREADS_PER_BLOCK)], (blocks,))


def mm_practice(a: Tensor, b: Tensor) -> TensorData:
    """The product of two square matrices."""
    return (a @ b)._tensor


__all__ = ["CudaOps", "mm_practice", "sum_practice"]
