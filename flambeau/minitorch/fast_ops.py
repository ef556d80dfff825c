"""Module 3: FastOps, the same functions as SimpleOps: ours run on whole tensors anyhow, and `fb.compile` fuses them."""
from __future__ import annotations

from flambeau.minitorch.tensor_ops import TensorOps


class FastOps(TensorOps):
    """Module 3's, on the processor."""


__all__ = ["FastOps"]
