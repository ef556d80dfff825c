"""Module 3: FastOps, the same functions as SimpleOps: ours run on whole tensors anyhow, and `fb.compile` fuses them."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.minitorch.tensor_data import strided
from flambeau.minitorch.tensor_ops import TensorOps, tensor_map, tensor_reduce, tensor_zip


class FastOps(TensorOps):
    """Module 3's, on the processor."""


def tensor_matrix_multiply(out: Any, out_shape: Any, out_strides: Any, *ab: Any) -> None:
    """f(*out.tuple(), *a.tuple(), *b.tuple()) fills out with the matrix product."""
    strided(out, out_shape, out_strides)[...] = np.matmul(strided(*ab[:3]), strided(*ab[3:]))


__all__ = ["FastOps", "tensor_map", "tensor_matrix_multiply", "tensor_reduce", "tensor_zip"]
