"""LoopKernel (scheduled for CUDA) -> text. A block takes `points` points of the parallel dims, each by `lanes` threads,
which share out the points of a stage's inner dims and merge what they reduced:

    points=256, lanes=1     a thread for each point: elementwise kernels, short reductions, sums of long columns
    points=8, lanes=32      a warp for each row, merged by shuffles
    points=1, lanes=256     a block for each row: shuffles, then shared memory
    points=32, lanes=16     columns: lanes apart, so that neighbours in a warp read neighbours in memory (lanes_inner=False)

With a width a lane takes so many neighbours of a row at once. With `kept` what several stages compute is computed by the
first of them, and stays in registers: a row is read once.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.lanes import WARP, Lanes
from flambeau.codegen.cuda.scatters import emit_scatter
from flambeau.codegen.cuda.text import KernelText, PhasedText, Writer
from flambeau.codegen.cuda.transposes import emit_transpose
from flambeau.codegen.cuda.wide import emit_wide
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, BlockSchedule, Instr, LoopKernel, Stage
from flambeau.ir.kernel.dataflow import dims_of_values
from flambeau.ir.kernel.repeats import Rest, rests

__all__ = ["emit_loops"]


def emit_loops(kernel: LoopKernel, name: str) -> KernelText | PhasedText:
    """The text of a kernel that has a `BlockSchedule`."""
    assert isinstance(kernel.schedule, BlockSchedule), f"kernel {kernel.name} has no blocks"
    if kernel.schedule.atomic:
        return emit_scatter(kernel, name)
    if kernel.schedule.tile_dim is not None:
        return emit_transpose(kernel, name)
    if kernel.schedule.width > 1 and not any(stage.dims for stage in kernel.stages):
        return emit_wide(kernel, name)
    return _Loops(kernel, name).text()


class _Loops(Lanes):
    def __init__(self, kernel: LoopKernel, name: str):
        super().__init__(kernel, Writer())
        assert isinstance(kernel.schedule, BlockSchedule)
        self.kernel: LoopKernel = kernel
        self.name, self.schedule = name, kernel.schedule
        self.points, self.lanes = kernel.schedule.points, kernel.schedule.lanes
        self.shared = self.lanes > 1
        n_points = math.prod([e if isinstance(e, int) else 0 for e in kernel.extents[:kernel.n_parallel]])
        self.is_even = bool(n_points) and n_points % self.points == 0       # every thread of a block has a point
        self.dims_of = dims_of_values(kernel)
        self.dtype_named = {i.id: i.dtype for i in kernel.instrs()}
        self.rests = rests(kernel) if kernel.schedule.kept else tuple([Rest((), s.body) for s in kernel.stages])

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
        for stage, rest in zip(self.kernel.stages, self.rests, strict=True):
            self.stage(stage, rest)

    def meet(self, stores: bool) -> None:
        """Lanes wait for each other where one may load what another stored, or, if there are stores to come, store what
        another loads: results may lie in the memory of operands."""
        if self.shared and (self.stored or (stores and self.loaded)):
            in_warp = self.schedule.lanes_inner and self.lanes <= WARP
            self.w.line("cuda.syncwarp()" if in_warp else "cuda.syncthreads()")
            self.loaded = self.stored = False

    # one stage

    def stage(self, stage: Stage, rest: Rest) -> None:
        self.meet(bool(stage.stores) and bool(stage.dims))
        self.width = self.width_of(stage)
        self.last = stage.dims[-1] if stage.dims else -1
        self.active = "active" if self.shared and not self.is_even and not stage.dims else None
        self.loaded |= any(isinstance(instr.attr, Address) for instr in rest.body)
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
        body = self.row_values(stage, rest)
        kept = self.kernel.schedule.kept and not self.has_runtime_size(stage)           # type: ignore[union-attr]
        if kept or self.shared or self.width > 1 or self.has_runtime_size(stage):
            with self.in_chunks(stage, rest) if kept else self.from_end_to_end(stage):
                self.split("at_", stage.dims)
                self.points_of(stage, rest, body, "at", "c" if kept else "")
        else:
            self.nest(stage, rest, body, list(stage.dims))
        for reduction in stage.reductions:
            self.merge(reduction)

    def width_of(self, stage: Stage) -> int:
        """Of this stage: it takes neighbours at once where they never end in another row."""
        last = self.kernel.extents[stage.dims[-1]] if stage.dims else 1
        return self.schedule.width if isinstance(last, int) and last % self.schedule.width == 0 else 1

    def has_runtime_size(self, stage: Stage) -> bool:
        return any(isinstance(self.kernel.extents[d], str) for d in stage.dims)

    def row_values(self, stage: Stage, rest: Rest) -> list[Instr]:
        """What is left of a stage's body when what is the same all along the row is computed before it."""
        if any(instr.op == "check" for instr in rest.body):
            return list(rest.body)
        dims = set(stage.dims)
        rows: list[Instr] = []
        body: list[Instr] = []
        for instr in rest.body:
            (body if self.dims_of[instr.id] & dims else rows).append(instr)
        self.checked = None
        self.active = "active" if self.shared and not self.is_even else None
        self.instrs(rows)
        self.active = None
        return body

    @contextmanager
    def from_end_to_end(self, stage: Stage) -> Iterator[None]:
        """A loop over the row, whose lanes begin side by side."""
        count, width = self.product([self.kernel.extents[d] for d in stage.dims]), self.width
        first = ("0" if not self.shared else "lane") if width == 1 or not self.shared else self.cast(f"lane * {width}")
        step = self.lanes * width
        stop = count if not self.shared or self.is_even else f"({count} if active else 0)"
        with self.w.block(f"for at in range({first}, {stop}{f', {step}' if step > 1 else ''}):"):
            self.w.line(f"at_ = {self.cast('at')}")
            yield

    @contextmanager
    def in_chunks(self, stage: Stage, rest: Rest) -> Iterator[None]:
        """So many neighbours to each lane, as often as it takes, with memory for what later stages are given."""
        count = math.prod([int(self.kernel.extents[d]) for d in stage.dims])
        step = self.lanes * self.width
        chunks = -(-count // step)
        for value in rest.kept:
            dtype = self.dtype_named[value]
            kind = "uint8" if dtype is dt.bool_ else ex.numba_type(dtype)
            self.w.line(f"kept{value} = cuda.local.array({chunks * self.width}, {kind})")
        lane = "lane" if self.shared else "0"
        within = ["active"] if self.shared and not self.is_even else []
        within += [f"(at_ < {count})"] if count % step else []
        with self.w.block(f"for c in range({chunks}):"):
            at = f"(c * {self.lanes} + {lane}) * {self.width}" if self.width > 1 else f"c * {self.lanes} + {lane}"
            self.w.line(f"at_ = {self.cast(at)}")
            with self.w.block(f"if {' & '.join(within)}:") if within else nullcontext():
                self.w.line("at = int64(at_)")
                yield

    def nest(self, stage: Stage, rest: Rest, body: list[Instr], dims: list[int]) -> None:
        """A loop for each dim, where one thread walks them all."""
        if not dims:
            at = " + ".join(
                [f"i{d} * {math.prod([self.kernel.extents[e] for e in stage.dims[n + 1:]])}"
                 for n, d in enumerate(stage.dims) if self.kernel.extents[d] != 1]) or "0"
            self.points_of(stage, rest, body, at)
            return
        if self.kernel.extents[dims[0]] == 1:
            self.nest(stage, rest, body, dims[1:])
            return
        with self.w.block(f"for x{dims[0]} in range({self.kernel.extents[dims[0]]}):"):
            self.w.line(f"i{dims[0]} = {self.cast(f'x{dims[0]}')}")
            self.nest(stage, rest, body, dims[1:])

    def points_of(self, stage: Stage, rest: Rest, body: list[Instr], at: str, chunk: str = "") -> None:
        """What happens at `width` points of a stage's dims, of which the first is number `at`."""
        place = f"{chunk} * {self.width} + x" if self.width > 1 else chunk
        here = at if self.width == 1 else f"{at} + x"

        def given() -> None:
            for value, kept in rest.given:
                self.dtypes[value] = self.dtype_named[value]
                self.w.line(f"v{value} = {_kept(kept, place, self.dtypes[value])}")

        def each() -> None:
            for value in rest.kept:
                what = f"uint8(v{value})" if self.dtype_named[value] is dt.bool_ else f"v{value}"
                self.w.line(f"kept{value}[{place}] = {what}")
            for reduction in stage.reductions:
                self.add(reduction, here)

        self.side_by_side(stage, body, given, each)


def _kept(value: int, place: str, dtype: DType) -> str:
    return f"kept{value}[{place}]{' != 0' if dtype is dt.bool_ else ''}"
