"""Kernels that the tests of the loop level share, written by hand through a small builder."""
from __future__ import annotations

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType, bool_, f32, i64
from flambeau.ir.kernel import (
    Address,
    ContractionKernel,
    Instr,
    LoopKernel,
    LoopSchedule,
    Param,
    Reduction,
    Stage,
    Store,
)

SOFTMAX_OF_ROWS = """loop @softmax {
  in x: f32[8192]
  out y: f32[8192]
  parallel %i0 = 64
  inner %i1 = 128
  stage (%i1) {
    %0 = load x[%i0*128 + %i1] : f32
    %1 = reduce max %0 : f32
  }
  stage (%i1) {
    %2 = load x[%i0*128 + %i1] : f32
    %3 = sub %2, %1 : f32
    %4 = exp %3 : f32
    %5 = reduce sum %4 : f32
  }
  stage (%i1) {
    %6 = load x[%i0*128 + %i1] : f32
    %7 = sub %6, %1 : f32
    %8 = exp %7 : f32
    %9 = div %8, %5 : f32
    store %9 to y[%i0*128 + %i1]
  }
}
"""


class Body:
    """SSA values of one kernel, in order. A finished stage takes what was added since the last one."""

    def __init__(self) -> None:
        self.next_id = 0
        self.instrs: list[Instr] = []
        self.dtype_of: dict[int, DType] = {}

    def fresh(self, dtype: DType) -> int:
        self.next_id += 1
        self.dtype_of[self.next_id - 1] = dtype
        return self.next_id - 1

    def add(self, op: str, *operands: int, dtype: DType | None = None, attr=None) -> int:
        dtype = dtype or self.dtype_of[operands[0]]
        id = self.fresh(dtype)
        self.instrs.append(Instr(id, op, dtype, operands, attr))
        return id

    def load(self, buffer: int, strides=(), offset=0, dynamic=(), guard=None, dtype: DType = f32) -> int:
        return self.add("load", dtype=dtype, attr=Address(buffer, offset, tuple(strides), tuple(dynamic), guard))

    def const(self, value, dtype: DType = f32) -> int:
        return self.add("const", dtype=dtype, attr=value)

    def index(self, dim: int) -> int:
        return self.add("index", dtype=i64, attr=dim)

    def stage(self, dims=(), reduce=(), stores=()) -> tuple[Stage, list[int]]:
        """reduce: (combiner, value) pairs. Returns the stage and the reductions' ids."""
        body, self.instrs = tuple(self.instrs), []
        reductions = []
        for combiner, value in reduce:
            dtype = i64 if combiner in ("argmax", "argmin") else self.dtype_of[value]
            reductions.append(Reduction(self.fresh(dtype), combiner, value, dtype))
        return Stage(tuple(dims), body, tuple(reductions), tuple(stores)), [r.id for r in reductions]


def elementwise(op: str, operand_dtypes, dtype: DType, n: int = 16) -> LoopKernel:
    """out[i] = op(in0[i], in1[i], ...)."""
    b = Body()
    operands = [b.load(p, [(0, 1)], dtype=d) for p, d in enumerate(operand_dtypes)]
    result = b.add(op, *operands, dtype=dtype)
    stage, _ = b.stage(stores=[Store(Address(len(operands), strides=((0, 1),)), result)])
    params = [Param(f"x{p}", d, n, "in") for p, d in enumerate(operand_dtypes)] + [Param("y", dtype, n, "out")]
    return LoopKernel(f"elementwise_{op}", tuple(params), (n,), 1, (stage,))


def softmax(rows: int = 5, columns: int = 7) -> LoopKernel:
    b, at = Body(), [(0, columns), (1, 1)]
    first, (top,) = b.stage([1], reduce=[("max", b.load(0, at))])
    exp = b.add("exp", b.add("sub", b.load(0, at), top))
    second, (total,) = b.stage([1], reduce=[("sum", exp)], stores=[Store(Address(1, strides=tuple(at)), exp)])
    quotient = b.add("div", b.load(1, at), total)
    third, _ = b.stage([1], stores=[Store(Address(1, strides=tuple(at)), quotient)])
    params = (Param("x", f32, rows * columns, "in"), Param("y", f32, rows * columns, "out"))
    return LoopKernel("softmax", params, (rows, columns), 1, (first, second, third),
                      schedule=LoopSchedule(vector_dim=1, unroll=4, grain=8),
                      locations=("train.py:12: p = logits.softmax(-1)",))


def layernorm(rows: int = 4, columns: int = 9) -> LoopKernel:
    b, at = Body(), [(0, columns), (1, 1)]
    first, (total,) = b.stage([1], reduce=[("sum", b.load(0, at))])
    mean = b.add("div", total, b.const(float(columns)))
    second, _ = b.stage()
    centred = b.add("sub", b.load(0, at), mean)
    third, (squares,) = b.stage([1], reduce=[("sum", b.add("mul", centred, centred))])
    variance = b.add("div", squares, b.const(float(columns)))
    scale = b.add("rsqrt", b.add("add", variance, b.const(1e-5)))
    fourth, _ = b.stage()
    normal = b.add("mul", b.add("sub", b.load(0, at), mean), scale)
    result = b.add("fma", normal, b.load(1, [(1, 1)]), b.load(2, [(1, 1)]))
    fifth, _ = b.stage([1], stores=[Store(Address(3, strides=tuple(at)), result)])
    n = rows * columns
    params = (Param("x", f32, n, "in"), Param("weight", f32, columns, "in"), Param("bias", f32, columns, "in"),
              Param("y", f32, n, "out"))
    return LoopKernel("layernorm", params, (rows, columns), 1, (first, second, third, fourth, fifth))


def row_reduce(combiner: str, rows: int, inner: tuple[int, ...], dtype: DType = f32, order=None) -> LoopKernel:
    """out[r] = combiner of in[r, ...] over the inner dims, walked in `order`."""
    b = Body()
    strides = [(d + 1, max(1, int(np.prod(inner[d + 1:])))) for d in range(len(inner))]
    dims = tuple(order or range(1, len(inner) + 1))
    x = b.load(0, [(0, max(1, int(np.prod(inner)))), *strides], dtype=dtype)
    first, (result,) = b.stage(dims, reduce=[(combiner, x)])
    second, _ = b.stage(stores=[Store(Address(1, strides=((0, 1),)), result)])
    params = (Param("x", dtype, rows * int(np.prod(inner)), "in"), Param("y", b.dtype_of[result], rows, "out"))
    return LoopKernel(combiner, params, (rows, *inner), 1, (first, second))


def gather(rows: int = 6, columns: int = 3, picks: int = 4) -> LoopKernel:
    """y[p, c] = x[index[p], c] where index[p] >= 0, else 0."""
    b = Body()
    index = b.load(0, [(0, 1)], dtype=i64)
    guard = b.add("ge", index, b.const(0, i64), dtype=bool_)
    x = b.load(1, [(1, 1)], dynamic=[(index, columns)], guard=guard)
    stage, _ = b.stage(stores=[Store(Address(2, strides=((0, columns), (1, 1))), x)])
    params = (Param("index", i64, picks, "in"), Param("x", f32, rows * columns, "in"),
              Param("y", f32, picks * columns, "out"))
    return LoopKernel("gather", params, (picks, columns), 2, (stage,))


def scatter_add(rows: int = 6, columns: int = 3, picks: int = 8, dtype: DType = f32) -> LoopKernel:
    """y[index[p], c] += x[p, c], parallel over c."""
    b = Body()
    index = b.load(0, [(1, 1)], dtype=i64)
    x = b.load(1, [(0, 1), (1, columns)], dtype=dtype)
    stage, _ = b.stage([1], stores=[Store(Address(2, strides=((0, 1),), dynamic=((index, columns),)), x, "add")])
    params = (Param("index", i64, picks, "in"), Param("x", dtype, picks * columns, "in"),
              Param("y", dtype, rows * columns, "inout"))
    return LoopKernel("scatter_add", params, (columns, picks), 1, (stage,))


def scale_rows(size: str = "n") -> LoopKernel:
    """y[i] = 2 * x[i] for a runtime number of i."""
    b = Body()
    doubled = b.add("mul", b.load(0, [(0, 1)]), b.const(2.0))
    stage, _ = b.stage(stores=[Store(Address(1, strides=((0, 1),)), doubled)])
    params = (Param("x", f32, size, "in"), Param("y", f32, size, "out"))
    return LoopKernel("scale", params, (size,), 1, (stage,), schedule=LoopSchedule(vector_dim=0, block=1024))


def matmul(batch: int = 2, m: int = 3, n: int = 4, k: int = 5, dtype: DType = f32, bias: bool = True,
           acc_dtype: DType | None = None) -> ContractionKernel:
    """out[b, m, n] = sum over k of lhs[b, m, k] * rhs[k, n], plus bias[n]; rhs has no batch."""
    acc_dtype = acc_dtype or dtype
    b = Body()
    acc = b.add("acc", dtype=acc_dtype)
    if bias:
        acc = b.add("add", acc, b.load(2, [(2, 1)], dtype=acc_dtype))
    params = [Param("lhs", dtype, batch * m * k, "in"), Param("rhs", dtype, k * n, "in")]
    params += [Param("bias", acc_dtype, n, "in")] if bias else []
    out = Address(len(params), strides=((0, m * n), (1, n), (2, 1)))
    stage, _ = b.stage(stores=[Store(out, acc)])
    params.append(Param("out", acc_dtype, batch * m * n, "out"))
    return ContractionKernel(
        "matmul", tuple(params), (batch, m, n, k), (0,), (1,), (2,), (3,),
        Address(0, strides=((0, m * k), (1, k), (3, 1))), Address(1, strides=((2, 1), (3, n))), acc_dtype, stage)


def convolution(images=2, height=5, width=6, c_in=3, c_out=4, taps=3) -> ContractionKernel:
    """NHWC, image already padded, no stride: dims n, h, w (m), f (n), r, s, c (k)."""
    out_h, out_w = height - taps + 1, width - taps + 1
    b = Body()
    acc = b.add("acc", dtype=f32)
    zero = b.const(0.0)
    relu = b.add("max", acc, zero)
    out = Address(2, strides=((0, out_h * out_w * c_out), (1, out_w * c_out), (2, c_out), (3, 1)))
    stage, _ = b.stage(stores=[Store(out, relu)])
    row, pixel = width * c_in, c_in
    lhs = Address(0, strides=((0, height * row), (1, row), (2, pixel), (4, row), (5, pixel), (6, 1)))
    rhs = Address(1, strides=((3, 1), (4, taps * c_in * c_out), (5, c_in * c_out), (6, c_out)))
    params = (Param("image", f32, images * height * row, "in"),
              Param("weight", f32, taps * taps * c_in * c_out, "in"),
              Param("out", f32, images * out_h * out_w * c_out, "out"))
    return ContractionKernel("conv2d", params, (images, out_h, out_w, c_out, taps, taps, c_in),
                             (), (0, 1, 2), (3,), (4, 5, 6), lhs, rhs, f32, stage)


def all_samples():
    return [
        softmax(), layernorm(), row_reduce("argmax", 3, (4, 5)), gather(), scatter_add(), scale_rows(), matmul(),
        convolution(), elementwise("select", [bool_, dtypes.bf16, dtypes.bf16], dtypes.bf16),
    ]
