"""What the hyperparameters of optimizers must be."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.tensor.tensor import Tensor


def require_nonnegative(*named: tuple[str, Any]) -> None:
    """Raises ValueError for the first of the (name, number) pairs that is negative or NaN."""
    for name, value in named:
        if not isinstance(value, Tensor) and not value >= 0.0:
            raise ValueError(f"Invalid {name}: {value}")


def refuse_negative(*named: tuple[str, Any]) -> None:
    """Raises ValueError for the first of the (name, number) pairs that is negative; NaN is let through, as PyTorch's SGD
    does."""
    for name, value in named:
        if not isinstance(value, Tensor) and value < 0.0:
            raise ValueError(f"Invalid {name}: {value}")


def require_betas(betas: tuple[float, float]) -> None:
    """Raises ValueError unless both are in [0, 1)."""
    for index, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {beta}")
