"""Facts about dtypes, devices and tensors."""
from __future__ import annotations

import numpy as np

from flambeau.frontend.functions.calls import public
from flambeau.frontend.tensor.promotion import category, get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.records import dataclass


@dataclass(frozen=True)
class FloatInfo:
    """Limits of a floating-point dtype: eps is the gap after 1, tiny the least normal number."""

    dtype: DType
    bits: int
    eps: float
    max: float
    min: float
    tiny: float
    smallest_normal: float
    resolution: float


@dataclass(frozen=True)
class IntegerInfo:
    """Limits of an integer dtype."""

    dtype: DType
    bits: int
    max: int
    min: int


def finfo(dtype: DType | None = None) -> FloatInfo:
    """Limits of a floating-point dtype (the default one). Raises TypeError for others."""
    dtype = dtype or get_default_dtype()
    if not dtype.is_floating_point:
        raise TypeError(f"finfo: takes floating-point dtypes, got {dtype!r}; use iinfo")
    if dtype is dt.bf16:
        tiny, greatest = 2.0**-126, (2 - 2.0**-7) * 2.0**127
        return FloatInfo(dtype, 16, 2.0**-7, greatest, -greatest, tiny, tiny, 0.01)
    facts = np.finfo(dtype.storage)
    return FloatInfo(dtype, facts.bits, float(facts.eps), float(facts.max), float(facts.min), float(facts.tiny),
                     float(facts.tiny), float(facts.resolution))


def iinfo(dtype: DType) -> IntegerInfo:
    """Limits of an integer dtype. Raises TypeError for others."""
    if not dtype.is_integer:
        raise TypeError(f"iinfo: takes integer dtypes, got {dtype!r}; use finfo")
    facts = np.iinfo(dtype.storage)
    return IntegerInfo(dtype, facts.bits, int(facts.max), int(facts.min))


def can_cast(from_: DType, to: DType) -> bool:
    """Whether promotion may take `from_` to `to`: never to a lower category (float > integer > bool)."""
    return category(from_) <= category(to)


def is_tensor(obj: object) -> bool:
    """Whether this is a Tensor."""
    return isinstance(obj, Tensor)


def is_floating_point(input: Tensor) -> bool:
    """Whether the elements are floats."""
    return input.is_floating_point()


def numel(input: Tensor) -> int:
    """Number of elements."""
    return input.numel()


__all__ = ["can_cast", "finfo", "iinfo", "is_floating_point", "is_tensor", "numel"]
public(globals(), __all__)
