"""`fb.signal.windows`: windows that are symmetric unless asked otherwise (`sym=False`: periodic)."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.window_functions import cosines, kaiser_shape, made, triangle
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


def _made(name: str, M: int, shape: Callable[[int], np.ndarray], dtype: DType | None, device: Any, requires_grad: bool,
          periodic: bool) -> Tensor:
    """A window of M float32 or float64 numbers. Raises ValueError for others."""
    if operator.index(M) < 0 or (dtype or get_default_dtype()) not in (dt.f32, dt.f64):
        raise ValueError(f"{name}: takes M >= 0 and float32 or float64, got {M} and {dtype!r}")
    return made(name, M, shape, dtype, device, requires_grad, periodic)


def bartlett(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """A triangle from 0 up to 1 and down again."""
    return _made("bartlett", M, triangle, dtype, device, requires_grad, not sym)


def blackman(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """0.42 - 0.5 cos(t) + 0.08 cos(2 t)."""
    return _made("blackman", M, cosines((0.42, 0.5, 0.08)), dtype, device, requires_grad, not sym)


def cosine(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
           requires_grad: bool = False) -> Tensor:
    """Half a turn of the sine, between its zeros."""
    count = operator.index(M)
    total = count if sym or count < 2 else count + 1
    return _made("cosine", M, lambda n: np.sin(math.pi * (np.arange(n) + 0.5) / max(total, 1)), dtype, device,
                 requires_grad, not sym)


def exponential(M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: DType | None = None,
                layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """exp(-|i - center| / tau), the center in the middle; another one goes with sym=False only."""
    if not tau > 0 or (sym and center is not None):
        raise ValueError(f"exponential: takes tau > 0, and a center with sym=False only, got {tau} and {center}")
    return _made("exponential", M, lambda n: np.exp(-np.abs(
        np.arange(n) - ((n - 1) / 2 if center is None else center)) / tau), dtype, device, requires_grad, not sym)


def gaussian(M: int, *, std: float = 1.0, sym: bool = True, dtype: DType | None = None, layout: Any = None,
             device: Any = None, requires_grad: bool = False) -> Tensor:
    """exp(-((i - middle) / std)**2 / 2)."""
    if not std > 0:
        raise ValueError(f"gaussian: std must be positive, got {std}")
    return _made("gaussian", M, lambda n: np.exp(-((np.arange(n) - (n - 1) / 2) / std) ** 2 / 2), dtype, device,
                 requires_grad, not sym)


def general_cosine(M: int, *, a: Iterable[float], sym: bool = True, dtype: DType | None = None, layout: Any = None,
                   device: Any = None, requires_grad: bool = False) -> Tensor:
    """a[0] - a[1] cos(t) + a[2] cos(2 t) - ..."""
    if not isinstance(a, Iterable):
        raise TypeError("general_cosine: coefficients must be a list or tuple")
    weights = list(a)
    if not weights:
        raise ValueError("general_cosine: coefficients can't be empty")
    return _made("general_cosine", M, cosines(weights), dtype, device, requires_grad, not sym)


def general_hamming(M: int, *, alpha: float = 0.54, sym: bool = True, dtype: DType | None = None, layout: Any = None,
                    device: Any = None, requires_grad: bool = False) -> Tensor:
    """alpha - (1 - alpha) cos(t)."""
    return _made("general_hamming", M, cosines((alpha, 1 - alpha)), dtype, device, requires_grad, not sym)


def hamming(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
    """0.54 - 0.46 cos(t)."""
    return _made("hamming", M, cosines((0.54, 0.46)), dtype, device, requires_grad, not sym)


def hann(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """0.5 - 0.5 cos(t)."""
    return _made("hann", M, cosines((0.5, 0.5)), dtype, device, requires_grad, not sym)


def kaiser(M: int, *, beta: float = 12.0, sym: bool = True, dtype: DType | None = None, layout: Any = None,
                     device: Any = None, requires_grad: bool = False) -> Tensor:
    """Kaiser's window, the narrower the greater beta."""
    if beta < 0:
        raise ValueError(f"kaiser: beta must not be negative, got {beta}")
    return _made("kaiser", M, kaiser_shape(beta), dtype, device, requires_grad, not sym)


def nuttall(M: int, *, sym: bool = True, dtype: DType | None = None, layout: Any = None, device: Any = None,
            requires_grad: bool = False) -> Tensor:
    """Nuttall's four terms of least side lobes."""
    return _made("nuttall", M, cosines((0.3635819, 0.4891775, 0.1365995, 0.0106411)), dtype, device, requires_grad,
                 not sym)


__all__ = ["bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
           "hann", "kaiser", "nuttall"]
public(globals(), __all__)
