"""The kernel that most programs are made of: parallel dims, and inside them an ordered list of stages.

A stage walks its own inner dims, evaluates a flat SSA body at every point, reduces some values over its dims, and stores
others. Values reduced by a stage, and values of a stage without inner dims, are visible to every later stage; all other
values live in their stage. One such kernel is a softmax, a LayerNorm or a cross-entropy with its gradient.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, ClassVar, Self

from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import Extent, Stage
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.kernel.interpreter import Array, Machine
    from flambeau.ir.kernel.parser import Parser
    from flambeau.ir.kernel.text import Printer
    from flambeau.ir.kernel.verifier import Checker

__all__ = ["LoopKernel", "LoopSchedule"]


@dataclass(frozen=True, slots=True)
class LoopSchedule:
    """vector_dim: the dim walked in vectors (an inner dim of the stages, or a parallel dim: then every value is a
    vector over it), None for scalar code. unroll: vectors per step. block: elements of a parallel vector_dim that
    one task takes, in general kernels perhaps a runtime number. grain: tasks per chunk handed to a thread. parallel:
    worth more than one thread.
    row_dim, rows: a dim whose points go `rows` at a time beside the vectors of a parallel vector_dim. The innermost
    dim of reductions: each row has accumulators of its own, merged at the end. Another parallel dim: square tiles (at
    most a vector wide), whose accesses run along row_dim where memory does and are transposed in registers.

    Tasks number the parallel dims other than vector_dim in row-major order, times the blocks of vector_dim when it
    is parallel (blocks innermost, or, where vectors jump through memory that another parallel dim is contiguous
    along, that dim innermost: give such kernels blocks of a vector or two)."""

    vector_dim: int | None = None
    unroll: int = 1
    block: Extent = 1
    grain: int = 1
    parallel: bool = True
    row_dim: int | None = None
    rows: int = 1


@dataclass(frozen=True, slots=True)
class BlockSchedule:
    """For a device of many threads in blocks: each block takes `points` points of the parallel dims, one after another in
    row-major order, each by `lanes` threads, which share out the points of a stage's inner dims. lanes_inner: the lanes of
    a point are neighbours, else those of one number. width: so many neighbouring points are one thread's, which loads and
    stores them at once: of the last parallel dim, which it divides, in kernels of one stage without inner dims; else of the
    last dim of each stage where it divides that. kept: what stages along the same dims compute alike, the first of them
    computes, and each thread keeps it in registers. tile_dim: of one stage without inner dims, whose memory runs along this
    parallel dim here and along the last one there; a block takes 32 points along each. atomic: of stages that only store,
    a launch for each, whose points store in any order, all dims of a stage among those that blocks share out."""

    points: int
    lanes: int = 1
    lanes_inner: bool = True
    width: int = 1
    kept: bool = False
    tile_dim: int | None = None
    atomic: bool = False


@dataclass(frozen=True)
class LoopKernel(Kernel):
    """extents: of all dims; the first `n_parallel` are parallel, the rest are inner."""

    keyword: ClassVar[str] = "loop"
    schedules: ClassVar[Mapping[str, type]] = {"schedule": LoopSchedule, "blocks": BlockSchedule}
    takes_sizes: ClassVar[bool] = True

    n_parallel: int
    stages: tuple[Stage, ...]
    schedule: LoopSchedule | BlockSchedule | None = field(default=None, kw_only=True)

    @property
    def code(self) -> tuple[Stage, ...]:
        return self.stages

    def with_code(self, code: Sequence[Stage]) -> Self:
        return replace(self, stages=tuple(code))

    @property
    def parallel(self) -> tuple[int, ...]:
        return tuple(range(self.n_parallel))

    # Text

    def lines(self, printer: Printer) -> Iterator[str]:
        dims = printer.extents(self.extents)
        for keyword, some in (("parallel", dims[: self.n_parallel]), ("inner", dims[self.n_parallel :])):
            if some:
                yield f"  {keyword} {', '.join(some)}"
        for stage in self.stages:
            yield from printer.stage("stage", stage)

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        parallel = parser.cursor.optional("parallel", lambda: parser.extents(0))
        inner = parser.cursor.optional("inner", lambda: parser.extents(len(parallel)))
        stages = []
        while parser.cursor.is_next("stage"):
            stages.append(parser.stage("stage"))
        return cls(name, tuple(parser.params), parallel + inner, len(parallel), tuple(stages))

    # Rules

    def check(self, checker: Checker) -> None:
        if not 0 <= self.n_parallel <= len(self.extents):
            checker.fail(f"{self.n_parallel} of its {len(self.extents)} dims are said to be parallel")
        for number, stage in enumerate(self.stages):
            checker.place = f"stage {number}"
            for dim in stage.dims:
                if not self.n_parallel <= dim < len(self.extents):
                    checker.fail(f"walks dim %i{dim}, which is not an inner dim")
            if len(set(stage.dims)) < len(stage.dims):
                checker.fail(f"walks a dim twice: {', '.join(f'%i{dim}' for dim in stage.dims)}")
            checker.check_stage(stage, {*self.parallel, *stage.dims})
        checker.place = "schedule"
        if isinstance(self.schedule, LoopSchedule):
            self._check_schedule(checker, self.schedule)
        elif self.schedule is not None:
            checker.require_positive(self.schedule, ("points", "lanes", "width"))
            if self.schedule.lanes & (self.schedule.lanes - 1):
                checker.fail(f"lanes={self.schedule.lanes} is no power of two, which halves until one is left")
            self._check_width(checker, self.schedule)
            self._check_tile(checker, self.schedule)

    def _check_width(self, checker: Checker, schedule: BlockSchedule) -> None:
        if schedule.width == 1:
            return
        if any(stage.dims for stage in self.stages):
            if not schedule.lanes_inner:
                checker.fail(f"width={schedule.width} is of rows whose lanes are neighbours")
            return
        last = self.extents[self.n_parallel - 1] if self.n_parallel else 1
        if len(self.stages) != 1 or schedule.lanes != 1:
            checker.fail(f"width={schedule.width} without inner dims is for one stage, a thread to a point")
        if isinstance(last, str) and len(self.extents) == 1:
            return                                          # the last few points are taken one by one
        if not isinstance(last, int) or last % schedule.width:
            checker.fail(f"width={schedule.width} does not divide the last parallel dim, of {last}")

    def _check_tile(self, checker: Checker, schedule: BlockSchedule) -> None:
        if (dim := schedule.tile_dim) is None:
            return
        if len(self.stages) != 1 or self.stages[0].dims or (schedule.lanes, schedule.width) != (1, 1):
            checker.fail(f"tile_dim %i{dim} is for one stage without inner dims, a thread to a point")
        if not 0 <= dim < self.n_parallel - 1 or any(isinstance(self.extents[d], str) for d in self.parallel):
            checker.fail(f"tile_dim %i{dim} is no parallel dim before the last, of known size as all are")
        if schedule.points % 32 or 32 % (schedule.points // 32):
            checker.fail(f"points={schedule.points} are not lines of 32 that divide a square")

    def _check_schedule(self, checker: Checker, schedule: LoopSchedule) -> None:
        checker.require_positive(schedule, ("unroll", "block", "grain", "rows"))
        vector_dim, walked = schedule.vector_dim, {d for stage in self.stages for d in stage.dims}
        if vector_dim is not None and vector_dim not in walked and not 0 <= vector_dim < self.n_parallel:
            checker.fail(f"vector_dim %i{vector_dim} is neither parallel nor walked by a stage")
        if schedule.block != 1 and (vector_dim is None or vector_dim >= self.n_parallel):
            checker.fail(f"block={schedule.block} needs a parallel vector_dim")
        if (row_dim := schedule.row_dim) is None:
            return
        if not 0 <= row_dim < len(self.extents) or row_dim == vector_dim:
            checker.fail(f"row_dim %i{row_dim} is not another dim than vector_dim")
        if not isinstance(self.extents[row_dim], int):
            checker.fail(f"row_dim %i{row_dim} has a runtime size")
        if vector_dim is None or vector_dim >= self.n_parallel:
            checker.fail(f"row_dim %i{row_dim} needs a parallel vector_dim")

    # Meaning

    def run(self, machine: Machine) -> None:
        if 0 in machine.shape(self.parallel):
            return
        visible: dict[int, Array] = {}          # what later stages may read
        for stage in self.stages:
            made = machine.run_stage(stage, self.walked(stage), self.n_parallel, visible)
            names = [r.id for r in stage.reductions] + ([i.id for i in stage.body] if not stage.dims else [])
            visible |= {name: made[name] for name in names}
