"""A short hand for writing LoopKernels in tests, and a runner that compiles and calls them."""

from __future__ import annotations

import ctypes
import itertools

import llvmlite.binding as llvm
import numpy as np

from flambeau.backends.cpu import CpuBackend
from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu import toolchain
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType, bool_, f32, i64
from flambeau.ir.kernel import Address, Instr, LoopKernel, LoopSchedule, Param, Reduction, Stage, Store
from flambeau.ir.target import Target, avx2, generic_x86_64
from flambeau.passes.cpu.schedule import schedule
from flambeau.runtime.host import host_target

HOST = host_target()
RUNNABLE = [HOST, *([avx2()] if HOST.has_feature("avx2") else []), *([generic_x86_64()] if HOST.is_x86 else [])]
_names = itertools.count()
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "check")


class Script:
    """Params, then stages: values are added to the stage being written, which `stage` closes."""

    def __init__(self) -> None:
        self.params: list[Param] = []
        self.stages: list[Stage] = []
        self.body: list[Instr] = []
        self.dtype_of: dict[int, DType] = {}

    def param(self, elements, dtype: DType = f32, role="in") -> int:
        self.params.append(Param(f"p{len(self.params)}", dtype, elements, role))
        return len(self.params) - 1

    def op(self, op: str, *operands: int, dtype: DType | None = None, attr=None) -> int:
        if dtype is None:
            dtype = bool_ if op in _COMPARISONS else self.dtype_of[operands[-1]]
        name = self._name(dtype)
        self.body.append(Instr(name, op, dtype, operands, attr))
        return name

    def const(self, number, dtype: DType = f32) -> int:
        return self.op("const", dtype=dtype, attr=number)

    def index(self, dim: int) -> int:
        return self.op("index", dtype=i64, attr=dim)

    def load(self, buffer: int, strides=None, **rest) -> int:
        return self.op("load", dtype=self.params[buffer].dtype, attr=at(buffer, strides, **rest))

    def stage(self, dims=(), reduce=(), stores=()) -> list[int]:
        """reduce: (combiner, value[, dtype]), whose results it returns; stores: (Address, value[, "add"])."""
        reductions = [
            Reduction(self._name(*dtype or (i64 if c.startswith("arg") else self.dtype_of[v],)), c, v, self._last)
            for c, v, *dtype in reduce
        ]
        stores = tuple(Store(address, value, *rest) for address, value, *rest in stores)
        self.stages.append(Stage(tuple(dims), tuple(self.body), tuple(reductions), stores))
        self.body = []
        return [reduction.id for reduction in reductions]

    def kernel(self, extents, n_parallel: int, schedule: LoopSchedule | None = None) -> LoopKernel:
        assert not self.body, "close the last stage"
        return LoopKernel("test", tuple(self.params), tuple(extents), n_parallel, tuple(self.stages), schedule=schedule)

    def _name(self, dtype: DType) -> int:
        self._last = dtype
        self.dtype_of[len(self.dtype_of)] = dtype
        return len(self.dtype_of) - 1


def at(buffer: int, strides=None, offset=0, dynamic=(), guard=None) -> Address:
    """strides: {dim: stride}; dynamic: (value, stride) pairs."""
    return Address(buffer, offset, tuple(sorted((strides or {}).items())), tuple(dynamic), guard)


def load_phase(code: bytes, phase: Phase):
    """(callable of the kernel ABI, what must stay alive)."""
    jit = llvm.create_lljit_compiler(toolchain.new_target_machine(HOST))
    builder = llvm.JITLibraryBuilder().add_object_img(code).export_symbol(phase.symbol)
    library = builder.link(jit, f"loops{next(_names)}")
    signature = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 2)
    return signature(library[phase.symbol]), (jit, library)


class Compiled:
    """A kernel as the CPU builds it, callable on flat arrays; tasks run in one call, or in calls of `step` tasks."""

    def __init__(self, kernel: LoopKernel, target: Target = HOST) -> None:
        self.kernel = schedule(kernel, target)
        [self.artifact] = CpuBackend().build([self.kernel], target)
        [self.phase] = self.artifact.phases
        self.function, self.alive = load_phase(self.artifact.object, self.phase)
        self.details = (0, 0)

    def __call__(self, *arrays: np.ndarray, sizes: tuple[int, ...] = (), step: int | None = None) -> int:
        assert all(array.flags.c_contiguous for array in arrays)
        pointers = (ctypes.c_void_p * len(arrays))(*[array.ctypes.data for array in arrays])
        numbers = (*sizes, *self.phase.sizes)
        extents = (ctypes.c_int64 * max(1, len(numbers)))(*numbers)
        ctx = (ctypes.c_int64 * 8)()
        tasks, status = self.phase.task_count(sizes), 0
        step = step or max(1, tasks)
        for begin in range(0, tasks, step):
            status = self.function(ctx, pointers, extents, begin, min(begin + step, tasks))
            if status:
                break
        self.details = (ctx[1], ctx[2])
        return status


def run(kernel: LoopKernel, *arrays: np.ndarray, sizes=(), target: Target = HOST, step: int | None = None) -> None:
    """Compile, call, and expect success."""
    assert Compiled(kernel, target)(*arrays, sizes=sizes, step=step) == 0


def filled(n: int, dtype: DType = f32, value=77) -> np.ndarray:
    """n elements of an output, followed by 64 that must not change; `intact` looks at those."""
    return np.full(n + 64, value, dtype.storage)


def draw(rng: np.random.Generator, dtype: DType, n: int, low: float = -4, high: float = 4) -> np.ndarray:
    """n random numbers in storage form."""
    if dtype.kind == "bool":
        return rng.integers(0, 2, n).astype(np.bool_)
    if dtype.kind == "uint":
        return rng.integers(0, int(high) + 1, n).astype(dtype.storage)
    if dtype.is_integer:
        return rng.integers(int(low), int(high) + 1, n).astype(dtype.storage)
    return dtypes.to_storage(rng.uniform(low, high, n).astype(dtype.compute), dtype)
