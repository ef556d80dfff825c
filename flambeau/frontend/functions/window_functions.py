"""Windows for spectra: `fb.hann_window` and its like. They are computed by NumPy in float64, of numbers that are known, so
a compiled function holds them as constants."""
from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.creation import finished, holding
from flambeau.frontend.scalars import forced
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType


def made(name: str, count: int, shape: Callable[[int], np.ndarray], dtype: DType | None, device: Any,
         requires_grad: bool, periodic: bool) -> Tensor:
    """shape(n): the symmetric window of n numbers. A periodic one leaves out the last of n + 1."""
    place = place_of(device)
    n, dtype = operator.index(count), dtype or get_default_dtype()
    if n < 0 or not dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes a length >= 0 and a floating-point dtype, got {n} and {dtype!r}")
    values = np.ones(n) if n < 2 else shape(n + 1)[:-1] if periodic else shape(n)
    window = holding(np.ascontiguousarray(dt.to_storage(values.astype(dtype.compute), dtype)), dtype)
    return finished(window, requires_grad, place)


def cosines(weights: Iterable[float]) -> Callable[[int], np.ndarray]:
    """a0 - a1 cos(t) + a2 cos(2 t) - ... over one turn."""
    terms = [float(forced(a)) for a in weights]

    def shape(n: int) -> np.ndarray:
        turn = 2 * math.pi * np.arange(n) / (n - 1)
        found: np.ndarray = np.sum([(-1) ** i * a * np.cos(i * turn) for i, a in enumerate(terms)], axis=0)
        return found

    return shape


def triangle(n: int) -> np.ndarray:
    return 1 - np.abs(2 * np.arange(n) / (n - 1) - 1)


def kaiser_shape(beta: float) -> Callable[[int], np.ndarray]:
    """I0(beta * sqrt(1 - t**2)) / I0(beta) for t from -1 to 1."""
    def shape(n: int) -> np.ndarray:
        place = 2 * np.arange(n) / (n - 1) - 1
        return np.asarray(np.i0(beta * np.sqrt(np.maximum(1 - place * place, 0))) / np.i0(beta))

    return shape


def bartlett_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
                    device: Any = None, requires_grad: bool = False) -> Tensor:
    """A triangle from 0 up to 1 and down again."""
    return made("bartlett_window", window_length, triangle, dtype, device, requires_grad, periodic)


def blackman_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
                    device: Any = None, requires_grad: bool = False) -> Tensor:
    """0.42 - 0.5 cos(t) + 0.08 cos(2 t)."""
    return made("blackman_window", window_length, cosines((0.42, 0.5, 0.08)), dtype, device, requires_grad, periodic)


def hann_window(window_length: int, periodic: bool = True, *, dtype: DType | None = None, layout: Any = None,
                device: Any = None, requires_grad: bool = False) -> Tensor:
    """0.5 - 0.5 cos(t)."""
    return made("hann_window", window_length, cosines((0.5, 0.5)), dtype, device, requires_grad, periodic)


def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *,
                   dtype: DType | None = None, layout: Any = None, device: Any = None,
                   requires_grad: bool = False) -> Tensor:
    """alpha - beta cos(t)."""
    return made("hamming_window", window_length, cosines((alpha, beta)), dtype, device, requires_grad, periodic)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: DType | None = None,
                  layout: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Kaiser's window, the narrower the greater beta."""
    return made("kaiser_window", window_length, kaiser_shape(float(forced(beta))), dtype, device, requires_grad, periodic)


__all__ = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]
public(globals(), __all__)
