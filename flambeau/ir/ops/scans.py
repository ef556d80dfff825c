"""Running sums."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.op import Sample, register
from flambeau.ir.ops.families import Linear, check_arity, check_dims, check_dtypes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.ops.slices import Pad, Slice
from flambeau.ir.ops.views import Flip
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


@register("cumsum")
@dataclass(frozen=True)
class Cumsum(Linear):
    """y[i] = x[0] + ... + x[i] along dim."""

    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, "number")
        check_dims(self, (self.dim,), operands[0].rank, operands[0])
        return operands

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        if x.dtype.kind != "f":
            return np.cumsum(x, self.dim, dtype=x.dtype)
        return np.cumsum(x, self.dim, dtype=np.float64) + 0.0           # a sum starts from +0

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        flip = Flip((self.dim,))
        return (b.emit(flip, b.emit(self, b.emit(flip, cotangent))),)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(Cumsum(self.dim + 1), *operands),)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """Doubling: after step k each element holds the sum of the 2**k elements that end at it.
        Hillis and Steele, "Data parallel algorithms", CACM 1986. Floats add up in f64: what is finite in the end may
        not have been on the way."""
        (x,) = operands
        y, reach = b.cast(x, dtypes.f64) if x.dtype.is_floating_point else x, 1
        if x.dtype.is_floating_point:
            y = b.add(y, b.scalar(0.0, y))                              # a sum starts from +0
        while reach < x.shape[self.dim]:
            y = b.add(y, _moved_up(b, y, self.dim, reach))
            reach *= 2
        return (b.cast(y, x.dtype),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, shape in ((0, "f32[5]"), (1, "f32[2,7]"), (0, "f32[3,2]"), (0, "f32[0,2]"), (1, "f32[2,1]"),
                           (0, "i64[6]"), (0, "bf16[4]"), (0, "f64[9]")):
            yield drawn(cls(dim), shape)


def _moved_up(b: Builder, x: Value, dim: int, by: int) -> Value:
    """x moved `by` places up `dim`, zeros moving in."""
    rank = len(x.shape)
    limits = tuple(size - by if d == dim else size for d, size in enumerate(x.shape))
    kept = b.emit(Slice((0,) * rank, limits, (1,) * rank), x)
    return b.emit(Pad(tuple(by if d == dim else 0 for d in range(rank)), (0,) * rank, (0,) * rank), kept)
