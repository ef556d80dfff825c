"""One op's meaning on arrays as they are stored."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from flambeau.ir.dtypes import DType, bf16, to_compute, to_storage
from flambeau.ir.op import Op
from flambeau.ir.quiet import quietly
from flambeau.ir.types import TensorType


def apply(op: Op, arrays: Sequence[np.ndarray], operands: Sequence[TensorType],
          results: Sequence[TensorType]) -> tuple[np.ndarray, ...]:
    """One op on storage arrays, giving storage arrays of the inferred types."""
    for t in operands:
        if t.dtype is bf16:
            arrays = [to_compute(a, t.dtype) for a, t in zip(arrays, operands, strict=True)]
            break
    computed = quietly(op.evaluate, *arrays)
    if not isinstance(computed, tuple):
        computed = (computed,)
    return tuple([_stored(a, t.dtype) for a, t in zip(computed, results, strict=True)])


def _stored(array: np.ndarray, dtype: DType) -> np.ndarray:
    if array.dtype is dtype.storage and dtype is not bf16:
        return array
    return quietly(to_storage, array, dtype)
