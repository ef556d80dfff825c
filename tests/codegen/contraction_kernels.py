"""Contraction kernels to test with, ways to run them, and what they should give, by NumPy in f64."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import llvmlite.binding as llvm
import numpy as np

from flambeau.backends.cpu import CpuBackend
from flambeau.codegen.cpu import toolchain
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, ContractionKernel, ContractionSchedule, Instr, Param, Stage, Store
from flambeau.ir.target import Target, avx2, generic_x86_64
from flambeau.passes.cpu.schedule_contraction import schedule_contraction
from flambeau.runtime.host import host_target

HOST = host_target()
RUNNABLE = [
    HOST,
    *([avx2()] if HOST.has_feature("avx2") else []),
    *([generic_x86_64()] if HOST.is_x86 else []),
]
_SIGNATURE = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
_names = itertools.count()
Strides = dict[int, int]


# -- running ----------------------------------------------------------------------------------------------------


class Compiled:
    """A contraction as the CPU builds it, scheduled unless it is, and loaded. Call it with the arrays of its params."""

    def __init__(self, kernel: ContractionKernel, target: Target = HOST) -> None:
        self.kernel = schedule_contraction(kernel, target)
        [artifact] = CpuBackend().build([self.kernel], target)
        self.phases, self.scratch_bytes = artifact.phases, artifact.scratch_bytes
        self.jit = llvm.create_lljit_compiler(toolchain.new_target_machine(HOST))
        builder = llvm.JITLibraryBuilder().add_object_img(artifact.object)
        for phase in self.phases:
            builder.export_symbol(phase.symbol)
        self.library = builder.link(self.jit, f"contraction{next(_names)}")
        self.functions = [_SIGNATURE(self.library[phase.symbol]) for phase in self.phases]

    def __call__(self, *arrays: np.ndarray, chunk: int = 3, seed: int = 0) -> int:
        """Run all phases, tasks in chunks in a shuffled order (they are independent). Scratch starts as NaNs."""
        scratch = [np.full(n + 64, 0xFF, np.uint8) for n in self.scratch_bytes]
        aligned = [a.ctypes.data + -a.ctypes.data % 64 for a in scratch]
        pointers = (ctypes.c_void_p * (len(arrays) + len(scratch)))(
            *[a.ctypes.data for a in arrays], *aligned
        )
        context = (ctypes.c_int64 * 8)()
        order = np.random.default_rng(seed)
        for function, phase in zip(self.functions, self.phases, strict=True):
            assert phase.tasks is not None, "contractions have static extents"
            numbers = (ctypes.c_int64 * max(1, len(phase.sizes)))(*phase.sizes)
            for begin in order.permutation(range(0, phase.tasks, chunk)):
                status = function(context, pointers, numbers, int(begin), min(phase.tasks, int(begin) + chunk))
                if status:
                    return status
        return 0


def scheduled(kernel: ContractionKernel, schedule: ContractionSchedule) -> ContractionKernel:
    return replace(kernel, schedule=schedule)


# -- kernels ----------------------------------------------------------------------------------------------------


def store_acc(dtype: DType, address: Address) -> Stage:
    return Stage((), (Instr(0, "acc", dtype),), (), (Store(address, 0),))


def address(buffer: int, strides: Strides, offset: int = 0) -> Address:
    return Address(buffer, offset, tuple(sorted((d, s) for d, s in strides.items() if s)))


def gemm(
    m: int, n: int, k: int, lhs_transposed: bool = False, rhs_transposed: bool = False, dtype: DType = dtypes.f32,
    acc: DType | None = None,
) -> ContractionKernel:  # fmt: skip
    """c[m,n] = a @ b with a stored [m,k] or [k,m], b stored [k,n] or [n,k]."""
    lhs = {0: 1, 2: m} if lhs_transposed else {0: k, 2: 1}
    rhs = {1: k, 2: 1} if rhs_transposed else {1: 1, 2: n}
    acc = acc or dtype
    params = (Param("a", dtype, m * k, "in"), Param("b", dtype, k * n, "in"), Param("c", acc, m * n, "out"))
    return ContractionKernel(
        "gemm", params, (m, n, k), (), (0,), (1,), (2,), address(0, lhs), address(1, rhs), acc,
        store_acc(acc, address(2, {0: n, 1: 1})),
    )  # fmt: skip


def attention_scores(batch: int, heads: int, time: int, width: int) -> ContractionKernel:
    """scores[b,h,t,s] = q[b,t,h,:] . k[b,s,h,:], both operands permuted views of [batch, time, heads, width]."""
    token, row = heads * width, time * heads * width
    size = batch * row
    lhs = address(0, {0: row, 1: width, 2: token, 4: 1})
    rhs = address(1, {0: row, 1: width, 3: token, 4: 1})
    out = address(2, {0: heads * time * time, 1: time * time, 2: time, 3: 1})
    params = tuple(Param(name, dtypes.f32, size, "in") for name in "qk")
    params += (Param("scores", dtypes.f32, batch * heads * time * time, "out"),)
    return ContractionKernel(
        "scores", params, (batch, heads, time, time, width), (0, 1), (2,), (3,), (4,), lhs, rhs, dtypes.f32,
        store_acc(dtypes.f32, out),
    )  # fmt: skip


@dataclass(frozen=True)
class Conv:
    """A convolution over an image padded beforehand: x[n, h, w, c], w[r, s, c / groups, o], y[n, oh, ow, o]."""

    n: int
    h: int
    w: int
    c: int
    o: int
    r: int = 3
    s: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1

    @property
    def out_h(self) -> int:
        return (self.h - self.dilation * (self.r - 1) - 1) // self.stride + 1

    @property
    def out_w(self) -> int:
        return (self.w - self.dilation * (self.s - 1) - 1) // self.stride + 1

    def elements(self) -> tuple[int, int, int]:
        """Of x, w and y."""
        x, w = self.n * self.h * self.w * self.c, self.r * self.s * self.c // self.groups * self.o
        return x, w, self.n * self.out_h * self.out_w * self.o

    # dims: 0 group, 1 image, 2 out row, 3 out column, 4 output channel of the group, 5 r, 6 s, 7 channel of the group
    def _extents(self) -> tuple[int, ...]:
        g = self.groups
        return (g, self.n, self.out_h, self.out_w, self.o // g, self.r, self.s, self.c // g)

    def x_strides(self) -> Strides:
        image, row, c, g = self.h * self.w * self.c, self.w * self.c, self.c, self.groups
        d, t = self.dilation, self.stride
        return {0: c // g, 1: image, 2: t * row, 3: t * c, 5: d * row, 6: d * c, 7: 1}

    def w_strides(self) -> Strides:
        o, c = self.o, self.c // self.groups
        return {0: o // self.groups, 4: 1, 5: self.s * c * o, 6: c * o, 7: o}

    def y_strides(self) -> Strides:
        row = self.out_w * self.o
        return {0: self.o // self.groups, 1: self.out_h * row, 2: row, 3: self.o, 4: 1}

    def forward(self) -> ContractionKernel:
        return self._kernel(
            "forward", (1, 2, 3), (4,), (5, 6, 7), self.x_strides(), self.w_strides(), self.y_strides(), "xwy"
        )

    def weight_grad(self) -> ContractionKernel:
        """w from x and y: the gradient of the weights when y is that of the output."""
        return self._kernel(
            "wgrad", (5, 6, 7), (4,), (1, 2, 3), self.x_strides(), self.y_strides(), self.w_strides(), "xyw"
        )

    def _kernel(
        self, name: str, m: tuple[int, ...], n: tuple[int, ...], k: tuple[int, ...],
        lhs: Strides, rhs: Strides, out: Strides, operands: str,
    ) -> ContractionKernel:  # fmt: skip
        size = dict(zip("xwy", self.elements(), strict=True))
        roles = ("in", "in", "out")
        params = tuple(Param(p, dtypes.f32, size[p], role) for p, role in zip(operands, roles, strict=True))
        return ContractionKernel(
            name, params, self._extents(), (0,) if self.groups > 1 else (), m, n, k, address(0, lhs), address(1, rhs),
            dtypes.f32, store_acc(dtypes.f32, address(2, out)),
        )  # fmt: skip


def input_grad(n: int, h: int, w: int, c: int, o: int, r: int = 3, s: int = 3) -> ContractionKernel:
    """dx[n,h,w,c] from dy[n, h + r - 1, w + s - 1, o] (padded with zeros) and the forward weights[r,s,c,o], whose taps
    are read backwards: negative strides."""
    row = (w + s - 1) * o
    # dims: 0 image, 1 row, 2 column, 3 c, 4 r, 5 s, 6 o
    lhs = address(0, {0: (h + r - 1) * row, 1: row, 2: o, 4: row, 5: o, 6: 1})
    rhs = address(1, {3: o, 4: -s * c * o, 5: -c * o, 6: 1}, offset=(r * s - 1) * c * o)
    out = address(2, {0: h * w * c, 1: w * c, 2: c, 3: 1})
    params = (
        Param("dy", dtypes.f32, n * (h + r - 1) * row, "in"),
        Param("w", dtypes.f32, r * s * c * o, "in"),
        Param("dx", dtypes.f32, n * h * w * c, "out"),
    )
    return ContractionKernel(
        "dgrad", params, (n, h, w, c, r, s, o), (), (0, 1, 2), (3,), (4, 5, 6), lhs, rhs, dtypes.f32,
        store_acc(dtypes.f32, out),
    )  # fmt: skip


# -- data and expectations --------------------------------------------------------------------------------------


def make_arrays(kernel: ContractionKernel, seed: int = 0) -> list[np.ndarray]:
    """One flat array per param; outputs hold NaN (or a marker) so that an element left out shows."""
    rng = np.random.default_rng(seed)
    arrays = []
    for param in kernel.params:
        assert isinstance(param.elements, int), "contractions have static sizes"
        arrays.append(_filled(rng, param.dtype, param.elements, param.role))
    return arrays


def _filled(rng: np.random.Generator, dtype: DType, count: int, role: str) -> np.ndarray:
    if role == "out":
        marker = np.nan if dtype.is_floating_point else 77
        return dtypes.to_storage(np.full(count, marker, dtype.compute), dtype)
    if dtype.is_floating_point:
        return dtypes.to_storage(rng.standard_normal(count).astype(dtype.compute), dtype)
    info = np.iinfo(dtype.storage)
    return rng.integers(info.min, info.max, count, dtype.storage, endpoint=True)


def view(array: np.ndarray, at: Address, kernel: ContractionKernel, dims: Sequence[int]) -> np.ndarray:
    """The elements an address names over the points of `dims`, in f64 (integers as they are)."""
    dtype = kernel.params[at.buffer].dtype
    values = dtypes.to_compute(array, dtype)
    values = values.astype(np.float64) if dtype.is_floating_point else values
    positions = np.full([kernel.extents[d] for d in dims], at.offset)
    for axis, dim in enumerate(dims):
        shape = [-1 if a == axis else 1 for a in range(len(dims))]
        positions = positions + at.stride_of(dim) * np.arange(kernel.extents[dim]).reshape(shape)
    assert positions.size == 0 or (positions.min() >= 0 and positions.max() < array.size), (
        "addresses stay in their buffer"
    )
    return values[positions]


def expected_sums(kernel: ContractionKernel, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(sums, sums of the products' sizes), f64 over [batch..., m..., n...]; integers wrap in acc_dtype."""
    groups = (kernel.batch, kernel.m, kernel.n, kernel.k)
    batch, m, n, k = (math.prod(kernel.extents[d] for d in dims) for dims in groups)
    lhs = view(arrays[kernel.lhs.buffer], kernel.lhs, kernel, (*kernel.batch, *kernel.m, *kernel.k)).reshape(
        batch, m, k
    )
    rhs = view(arrays[kernel.rhs.buffer], kernel.rhs, kernel, (*kernel.batch, *kernel.k, *kernel.n)).reshape(
        batch, k, n
    )
    if not kernel.acc_dtype.is_floating_point:
        lhs, rhs = lhs.astype(kernel.acc_dtype.storage), rhs.astype(kernel.acc_dtype.storage)
    sizes = np.matmul(np.abs(lhs), np.abs(rhs))
    shape = [kernel.extents[d] for d in (*kernel.batch, *kernel.m, *kernel.n)]
    return np.matmul(lhs, rhs).reshape(shape), sizes.reshape(shape)


def sum_tolerance(kernel: ContractionKernel, sizes: np.ndarray) -> np.ndarray:
    """The error bound of a k-term sum of products in any order: (k + 2) * eps * sum |lhs * rhs|."""
    k = math.prod(kernel.extents[d] for d in kernel.k)
    eps = np.finfo(np.float32 if kernel.acc_dtype.itemsize < 8 else np.float64).eps
    return (k + 2) * eps * sizes + np.finfo(np.float32).tiny


def check_sums(kernel: ContractionKernel, target: Target = HOST, chunk: int = 3) -> Compiled:
    """Compile, run, and hold every stored sum against f64. The kernel's epilogue stores `acc` and nothing else."""
    arrays = make_arrays(kernel)
    sums, sizes = expected_sums(kernel, arrays)
    compiled = Compiled(kernel, target)
    assert compiled(*arrays, chunk=chunk) == 0
    out = kernel.epilogue.stores[0].address
    found = view(arrays[out.buffer], out, kernel, (*kernel.batch, *kernel.m, *kernel.n))
    if not kernel.acc_dtype.is_floating_point:
        assert (found == sums).all()
        return compiled
    tolerance = sum_tolerance(kernel, sizes)
    dtype = kernel.params[out.buffer].dtype
    if dtype.itemsize == 2:
        tolerance = tolerance + np.abs(sums) * (2.0**-8 if dtype is dtypes.bf16 else 2.0**-10)
    error = np.abs(found - sums)
    assert (error <= tolerance).all(), (
        f"worst error {np.nanmax(error - tolerance)} beyond tolerance, schedule {compiled.kernel.schedule}"
    )
    return compiled
