"""Matrix products."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir.op import Sample, register_instance
from flambeau.ir.ops.batching import merged, parted, spread_all
from flambeau.ir.ops.families import Bilinear, accumulating, check_arity, check_dtypes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


class _Matmul(Bilinear):
    """lhs: [B..., M, K], rhs: [B..., K, N] -> [B..., M, N], with equal batch dims. f16 and bf16 add up in f32."""

    name = "matmul"
    kernel_kind = "contraction"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        check_dtypes(self, operands, "number")
        return (self.product(*operands),)

    def product(self, lhs: TensorType, rhs: TensorType) -> TensorType:
        """Of lhs's dtype. Raises TypeInferenceError if the shapes do not fit."""
        if lhs.rank < 2 or lhs.rank != rhs.rank:
            raise self.fail(f"needs two operands of one rank, at least 2: lhs {lhs}, rhs {rhs}")
        if lhs.shape[:-2] != rhs.shape[:-2]:
            raise self.fail(f"batch dims differ: lhs {lhs}, rhs {rhs}", "broadcast them to one shape first")
        if lhs.shape[-1] != rhs.shape[-2]:
            raise self.fail(f"contracting dims differ: lhs {lhs} dim {lhs.rank - 1} is {lhs.shape[-1]}, "
                            f"rhs {rhs} dim {rhs.rank - 2} is {rhs.shape[-2]}", self._hint(lhs, rhs))
        return lhs.with_shape((*lhs.shape[:-1], rhs.shape[-1]))

    @staticmethod
    def _hint(lhs: TensorType, rhs: TensorType) -> str | None:
        if lhs.shape[-1] == rhs.shape[-1]:
            return "did you mean to transpose rhs (.mT)?"
        return "did you mean to transpose lhs (.mT)?" if lhs.shape[-2] == rhs.shape[-2] else None

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.matmul(*[_readable(accumulating(x)) for x in operands])

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.matmul(cotangent, b.transpose(rhs))

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        return b.matmul(b.transpose(lhs), cotangent)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        lhs, rhs = operands
        if len(rhs.shape) == 2 and not mapped[1]:               # rows of all examples
            return (parted(b, b.emit(self, merged(b, lhs, 0), rhs), 0, size),)
        if len(lhs.shape) == 2 and not mapped[0]:
            return (parted(b, b.emit(self, lhs, merged(b, rhs, 1)), 1, size),)
        return (b.emit(self, *spread_all(b, operands, mapped, size)),)

    def __repr__(self) -> str:
        return f"ops.{self.name}"

    def __reduce__(self) -> str:
        return self.name

    def samples(self) -> Iterator[Sample]:  # type: ignore[override]
        for shapes in (("2,3", "3,4"), ("1,5", "5,1"), ("2,2,3", "2,3,2"), ("2,1,3,2", "2,1,2,3"), ("3,0", "0,2"),
                       ("0,3", "3,2"), ("17,9", "9,33")):
            yield drawn(self, *(f"f32[{s}]" for s in shapes))
        for dtype in ("f64", "bf16", "f16", "i64"):
            yield drawn(self, f"{dtype}[3,5]", f"{dtype}[5,2]")


def _readable(x: np.ndarray) -> np.ndarray:
    """x in rows or columns without gaps, copied if it must be: matmul has a slow path for what BLAS can't read."""
    by_row, by_column = x.strides[-2:]
    size = x.itemsize
    if by_column == size and by_row >= size * x.shape[-1] or by_row == size and by_column >= size * x.shape[-2]:
        return x
    return np.ascontiguousarray(x)


class _ByteMatmul(_Matmul):
    """u8[B..., M, K] x i8[B..., K, N] -> i32[B..., M, N], summed in i32, which wraps: products of quantized numbers."""

    name = "byte_matmul"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        lhs, rhs = operands
        if (lhs.dtype, rhs.dtype) != (dt.u8, dt.i8):
            raise self.fail(f"needs u8 and i8, found {lhs} and {rhs}", "cast the operands first")
        return (self.product(lhs, rhs).with_dtype(dt.i32),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        exact = np.matmul(*[_readable(x.astype(np.float64)) for x in operands])     # below 2**53, and by BLAS
        return exact.astype(np.int64).astype(np.int32)

    def samples(self) -> Iterator[Sample]:  # type: ignore[override]
        for lhs, rhs in (("2,3", "3,4"), ("1,5", "5,1"), ("2,2,3", "2,3,2"), ("3,0", "0,2"), ("0,3", "3,2"),
                         ("17,70", "70,33")):
            yield drawn(self, f"u8[{lhs}]", f"i8[{rhs}]")


matmul, byte_matmul = _Matmul(), _ByteMatmul()
register_instance(matmul)
register_instance(byte_matmul)
