"""Operands for `Op.samples`: drawn from fixed seeds, so that a failing sample can be run again by number."""
from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import numpy as np

from flambeau.ir.dtypes import from_numpy_dtype, to_storage
from flambeau.ir.op import Op, Sample
from flambeau.ir.types import TensorType, parse_type

Interval = tuple[float, float]

ANYWHERE: Final[tuple[Interval, ...]] = ((-2.0, 2.0),)
AWAY_FROM_ZERO: Final[tuple[Interval, ...]] = ((-2.0, -0.2), (0.2, 2.0))
POSITIVE: Final[tuple[Interval, ...]] = ((0.2, 3.0),)
BETWEEN_STEPS: Final[tuple[Interval, ...]] = ((-2.4, -2.1), (-0.9, -0.6), (0.1, 0.4), (1.6, 1.9))
"""Away from the integers and from the halves: floor, ceil, trunc and round are flat there."""

SPECIAL: Final = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.5, 1e30], np.float32)


def draw(type: TensorType, within: Sequence[Interval] = ANYWHERE, seed: int = 0) -> np.ndarray:
    """A storage array of `type`: floats within the intervals, small integers, or coin tosses."""
    rng = np.random.default_rng((zlib.crc32(str(type).encode()), seed))
    shape, dtype = type.static_shape, type.dtype
    if dtype.kind == "bool":
        return np.asarray(rng.integers(0, 2, shape)).astype(np.bool_)
    if dtype.is_integer:
        return np.asarray(rng.integers(-6 if dtype.is_signed else 0, 7, shape)).astype(dtype.storage)
    bounds = np.array(within)[rng.integers(0, len(within), shape)]
    values = np.asarray(bounds[..., 0] + rng.random(shape) * (bounds[..., 1] - bounds[..., 0]))
    return to_storage(values.astype(dtype.compute), dtype)


def drawn(op: Op, *types: str | TensorType, within: Sequence[Interval] = ANYWHERE,
          differentiable: tuple[bool, ...] = (), tolerance: float = 1.0) -> Sample:
    """A sample of `op` with random operands of these types, spelt as in IR text: `drawn(op, "f32[2,3]")`."""
    parsed = tuple(parse_type(t) if isinstance(t, str) else t for t in types)
    arrays = tuple(draw(t, within, seed) for seed, t in enumerate(parsed))
    return Sample(op, arrays, parsed, differentiable, tolerance)


def given(op: Op, *arrays: np.ndarray, differentiable: bool = False) -> Sample:
    """A sample with these very operands; value only unless `differentiable`."""
    types = tuple(TensorType(a.shape, from_numpy_dtype(a.dtype)) for a in arrays)
    return Sample(op, arrays, types, () if differentiable else (False,) * len(arrays))
