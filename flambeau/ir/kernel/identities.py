"""What changes no result of a reduction: true on every device. (The interpreter has its own, to be held against.)"""
from __future__ import annotations

import math

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel.grammar import Combiner

__all__ = ["identity"]


def identity(combiner: Combiner, dtype: DType) -> float | int | bool:
    """The number that values of `dtype` begin with. For argmax and argmin that of max and min; it stands nowhere."""
    match combiner:
        case "sum" | "prod":
            number = float(combiner == "prod")
            return number if dtype.is_floating_point else int(number)
        case "any" | "all":
            return combiner == "all"
    upward = combiner in ("max", "argmax")
    if dtype.is_floating_point:
        return -math.inf if upward else math.inf
    if dtype is dt.bool_:
        return not upward
    return int(np.iinfo(dtype.storage).min if upward else np.iinfo(dtype.storage).max)
