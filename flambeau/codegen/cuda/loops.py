"""LoopKernel (scheduled for CUDA) -> text. A block takes `points` points of the parallel dims, each by `lanes` threads,
which share out the points of a stage's inner dims and merge what they reduced:

    points=256, lanes=1     a thread for each point: elementwise kernels, short reductions, sums of long columns
    points=8, lanes=32      a warp for each row, merged by shuffles
    points=1, lanes=256     a block for each row: shuffles, then shared memory
    points=32, lanes=16     columns: lanes apart, so that neighbours in a warp read neighbours in memory (lanes_inner=False)

Merging gives every lane the result, always in the same order.
"""
from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.codegen.cuda.wide import emit_wide
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import IDENTITY_FREE, Address, BlockSchedule, LoopKernel, Reduction, Stage

__all__ = ["emit_loops"]

WARP = 32


def emit_loops(kernel: LoopKernel, name: str) -> KernelText:
    """The text of a kernel that has a `BlockSchedule`."""
    if kernel.schedule is not None and kernel.schedule.width > 1:       # type: ignore[union-attr]
        return emit_wide(kernel, name)
    return _Loops(kernel, name).text()


class _Loops(Code):
    def __init__(self, kernel: LoopKernel, name: str):
        assert isinstance(kernel.schedule, BlockSchedule), f"kernel {kernel.name} has no blocks"
        super().__init__(kernel, Writer())
        self.kernel: LoopKernel = kernel
        self.name, self.schedule = name, kernel.schedule
        self.points, self.lanes = kernel.schedule.points, kernel.schedule.lanes
        self.shared = self.lanes > 1                    # the work at a point, by several threads
        n_points = math.prod([e if isinstance(e, int) else 0 for e in kernel.extents[:kernel.n_parallel]])
        self.is_even = bool(n_points) and n_points % self.points == 0       # every thread of a block has a point
        self.loaded = self.stored = False               # by some lane, since all of them last met

    # the whole
    def text(self) -> KernelText:
        kernel, w = self.kernel, self.w
        count = self.product(kernel.extents[:kernel.n_parallel])
        with self.head(self.name):
            self.place()
            if self.shared:
                if not self.is_even:
                    w.line(f"active = point < {count}")
                    w.line(f"point = point if active else {self.cast(f'{count} - 1')}")
                self.stages()
            else:
                with w.block(f"if point < {count}:"):
                    self.stages()
        return self.finished(self.name, kernel.extents[:kernel.n_parallel], self.points, self.points * self.lanes)

    def place(self) -> None:
        """Which point and which lane a thread is."""
        w, points, lanes = self.w, self.points, self.lanes
        w.line(f"thread = {self.cast('cuda.threadIdx.x')}")
        here = "thread"
        if lanes > 1 and points == 1:
            w.line("lane = thread")
            here = ""
        elif lanes > 1 and self.schedule.lanes_inner:
            w.line(f"lane = {self.cast(f'thread % {lanes}')}")
            here = f"thread // {lanes}"
        elif lanes > 1:
            w.line(f"lane = {self.cast(f'thread // {points}')}")
            here = f"thread % {points}"
        block = f"cuda.blockIdx.x * {points}" if points > 1 else "cuda.blockIdx.x"
        start = f"{self.cast('cuda.blockIdx.x')} * {points}" if self.index == "int64" and points > 1 else block
        w.line(f"point = {self.cast(f'{start} + {here}' if here else start)}")

    def stages(self) -> None:
        self.split("point", list(range(self.kernel.n_parallel)))
        for stage in self.kernel.stages:
            self.stage(stage)

    def meet(self, stores: bool) -> None:
        """Lanes wait for each other where one may load what another stored, or, if there are stores to come, store what
        another loads: results may lie in the memory of operands."""
        if self.shared and (self.stored or (stores and self.loaded)):
            in_warp = self.schedule.lanes_inner and self.lanes <= WARP
            self.w.line("cuda.syncwarp()" if in_warp else "cuda.syncthreads()")
            self.loaded = self.stored = False

    # one stage

    def stage(self, stage: Stage) -> None:
        w = self.w
        self.meet(bool(stage.stores) and bool(stage.dims))
        self.active = "active" if self.shared and not self.is_even and not stage.dims else None
        self.loaded |= any(isinstance(instr.attr, Address) for instr in stage.body)
        if not stage.dims:
            self.body(stage)
            for reduction in stage.reductions:
                self.alone(reduction)
            if stage.stores:
                self.meet(stores=True)
                self.stores(stage.stores, ["(lane == 0)"] if self.shared else [])
                self.stored = True
            return
        self.stored |= bool(stage.stores)
        for reduction in stage.reductions:
            self.start(reduction)
        extents = [self.kernel.extents[d] for d in stage.dims]
        count = self.product(extents)
        first, step = ("lane", f", {self.lanes}") if self.shared else ("0", "")
        if len(stage.dims) == 1 or self.shared or any(isinstance(e, str) for e in extents):
            stop = count if not self.shared or self.is_even else f"({count} if active else 0)"
            with w.block(f"for at in range({first}, {stop}{step}):"):
                w.line(f"at_ = {self.cast('at')}")
                self.split("at_", stage.dims)
                self.points_of(stage, "at")
        else:
            self.nest(stage, list(stage.dims))
        for reduction in stage.reductions:
            self.merge(reduction)

    def nest(self, stage: Stage, dims: list[int]) -> None:
        """A loop for each dim, where one thread walks them all."""
        if not dims:
            at = " + ".join(
                [f"i{d} * {math.prod([self.kernel.extents[e] for e in stage.dims[n + 1:]])}"
                 for n, d in enumerate(stage.dims) if self.kernel.extents[d] != 1]) or "0"
            self.points_of(stage, at)
            return
        if self.kernel.extents[dims[0]] == 1:
            self.nest(stage, dims[1:])
            return
        with self.w.block(f"for x{dims[0]} in range({self.kernel.extents[dims[0]]}):"):
            self.w.line(f"i{dims[0]} = {self.cast(f'x{dims[0]}')}")
            self.nest(stage, dims[1:])

    def points_of(self, stage: Stage, at: str) -> None:
        """What happens at one point of a stage's dims, number `at`."""
        self.body(stage)
        for reduction in stage.reductions:
            self.add(reduction, at)
        self.stores(stage.stores)

    # reductions

    def start(self, reduction: Reduction) -> None:
        dtype = self.dtype_of(reduction)
        name = f"v{reduction.id}"
        if reduction.combiner in IDENTITY_FREE:
            self.w.line(f"{name}_best = {_lowest(dtype, reduction.combiner == 'argmax')}")
            self.w.line(f"{name} = int64(-1)")
            return
        match reduction.combiner:
            case "sum":
                first = ex.constant(0, dtype)
            case "prod":
                first = ex.constant(1, dtype)
            case "any" | "all":
                first = str(reduction.combiner == "all")
            case _:
                first = _lowest(dtype, reduction.combiner == "max")
        self.w.line(f"{name} = {first}")

    def dtype_of(self, reduction: Reduction) -> DType:
        """What its values are."""
        if reduction.value in self.dtypes:
            return self.dtypes[reduction.value]
        return next(i.dtype for i in self.kernel.instrs() if i.id == reduction.value)

    def add(self, reduction: Reduction, at: str) -> None:
        """The value at this point joins what was reduced so far."""
        name, value = f"v{reduction.id}", f"v{reduction.value}"
        if reduction.combiner in IDENTITY_FREE:
            self.w.line(f"{name}_at = int64({at})")
            self.better(reduction, value, f"{name}_at")
        else:
            self.w.line(f"{name} = {self.combined(reduction, name, value)}")

    def combined(self, reduction: Reduction, a: str, b: str) -> str:
        """Both, in the type that is summed in: f16 and bf16 are rounded at the end."""
        dtype = self.dtype_of(reduction)
        if dtype in (dt.f16, dt.bf16):
            dtype = dt.f32
        op = {"sum": "add", "prod": "mul", "any": "or", "all": "and"}.get(reduction.combiner, reduction.combiner)
        return ex.expression(op, dtype, [a, b])

    def better(self, reduction: Reduction, value: str, at: str) -> None:
        """Take (value, at) where it is further out, or as far and earlier. A NaN is furthest, the first of them."""
        name = f"v{reduction.id}"
        sign = ">" if reduction.combiner == "argmax" else "<"
        dtype = self.dtype_of(reduction)
        best = f"{name}_best"
        a, b = (f"int32({value})", f"int32({best})") if dtype is dt.bool_ else (value, best)
        beyond, tie = f"({a} {sign} {b})", f"({a} == {b})"
        if dtype.is_floating_point:
            beyond = f"({beyond} | ({a} != {a})) & ({b} == {b})"
            tie = f"({tie} | (({a} != {a}) & ({b} != {b})))"
        earlier = f"(({name} < 0) | ({at} < {name}))"
        self.w.line(f"{name}_wins = ({at} >= 0) & (({beyond}) | ({tie} & {earlier}))")
        self.w.line(f"{name} = {at} if {name}_wins else {name}")
        self.w.line(f"{best} = {value} if {name}_wins else {best}")

    def alone(self, reduction: Reduction) -> None:
        """Over no dims: the value itself, or position 0."""
        where = reduction.combiner in IDENTITY_FREE
        self.w.line(f"v{reduction.id} = {'int64(0)' if where else f'v{reduction.value}'}")
        self.dtypes[reduction.id] = reduction.dtype

    def merge(self, reduction: Reduction) -> None:
        """Every lane has the result of all."""
        name, w = f"v{reduction.id}", self.w
        if self.shared:
            in_warp = min(self.lanes, WARP) if self.schedule.lanes_inner else 1
            if in_warp > 1:
                self.shuffled(reduction, in_warp)
            if self.lanes > in_warp:
                self.through_shared(reduction, in_warp)
        dtype = self.dtype_of(reduction)
        if dtype in (dt.f16, dt.bf16) and reduction.combiner not in IDENTITY_FREE:
            w.line(f"{name} = {ex.rounded(name, dtype)}")
        self.dtypes[reduction.id] = reduction.dtype

    def shuffled(self, reduction: Reduction, lanes: int) -> None:
        name, w = f"v{reduction.id}", self.w
        steps = lanes.bit_length() - 1
        with w.block(f"for step in range({steps}):"):
            w.line(f"{name}_other = {self.exchanged(self.kept(reduction), self.dtype_of(reduction), lanes)}")
            if reduction.combiner in IDENTITY_FREE:
                w.line(f"{name}_at = {self.exchanged(name, dt.i64, lanes)}")
                self.better(reduction, f"{name}_other", f"{name}_at")
            else:
                w.line(f"{name} = {self.combined(reduction, name, f'{name}_other')}")

    def kept(self, reduction: Reduction) -> str:
        return f"v{reduction.id}_best" if reduction.combiner in IDENTITY_FREE else f"v{reduction.id}"

    def exchanged(self, text: str, dtype: DType, lanes: int) -> str:
        """The value that the lane `lanes / 2 >> step` away has."""
        wide = dtype.itemsize == 8 or dtype.is_floating_point
        word = text if wide else f"int32({text})"
        moved = f"cuda.shfl_xor_sync(0xffffffff, {word}, {lanes // 2} >> step)"
        if dtype is dt.bool_:
            return f"({moved} != 0)"
        return moved if wide else f"{ex.numba_type(dtype)}({moved})"

    def through_shared(self, reduction: Reduction, in_warp: int) -> None:
        """Groups of lanes that are merged already leave their results in shared memory, and each lane merges those of its
        point."""
        name, w, points = f"v{reduction.id}", self.w, self.points
        groups = self.lanes // in_warp
        parts = [(f"s{reduction.id}", self.kept(reduction), self.dtype_of(reduction))]
        if reduction.combiner in IDENTITY_FREE:
            parts.append((f"s{reduction.id}_at", name, dt.i64))
        row = "" if points == 1 else f" * {points} + {self.column()}"
        for shared, _, dtype in parts:
            kind = "uint8" if dtype is dt.bool_ else ex.numba_type(dtype)
            w.line(f"{shared} = cuda.shared.array({groups * points}, {kind})")
        group = "lane" if in_warp == 1 else f"lane // {in_warp}"
        with w.block(f"if lane % {in_warp} == 0:") if in_warp > 1 else nullcontext():
            for shared, text, dtype in parts:
                w.line(f"{shared}[uint32({group}{row})] = {f'uint8({text})' if dtype is dt.bool_ else text}")
        w.line("cuda.syncthreads()")
        self.loaded = self.stored = False
        self.start(reduction)
        with w.block(f"for group in range({groups}):"):
            for (shared, _, dtype), part in zip(parts, ("other", "at"), strict=False):
                w.line(f"{name}_{part} = {shared}[uint32(group{row})]{' != 0' if dtype is dt.bool_ else ''}")
            if reduction.combiner in IDENTITY_FREE:
                self.better(reduction, f"{name}_other", f"{name}_at")
            else:
                w.line(f"{name} = {self.combined(reduction, name, f'{name}_other')}")

    def column(self) -> str:
        return f"thread // {self.lanes}" if self.schedule.lanes_inner else f"thread % {self.points}"


def _lowest(dtype: DType, is_max: bool) -> str:
    """What every number is at least as far out as."""
    if dtype is dt.bool_:
        return str(not is_max)
    if dtype.is_floating_point:
        return ex.constant(-math.inf if is_max else math.inf, dtype)
    info = np.iinfo(dtype.storage)
    return ex.constant(int(info.min if is_max else info.max), dtype)
