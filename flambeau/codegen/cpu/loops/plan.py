"""LoopKernel + Target -> LoopPlan: what varies along which dims, and at which loop level each value is computed.

Levels, outer to inner: FUNCTION (once a call), TASK (once a task: the parallel dims are known), STAGE (at the
start of a stage, once per vector of a blocked parallel dim), then STAGE + 1 + j inside loop j of the stage.
A value is computed at the outermost level where everything it depends on is known, so no value is computed twice
because a loop stands around it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace

from flambeau.codegen.cpu.llvm.emitter import compute_type, storage_bytes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Extent, Instr, LoopKernel, LoopSchedule, Stage
from flambeau.ir.kernel.dataflow import dims_of_values, own_dims, values_read, vectors_a_step
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

FUNCTION, TASK, STAGE = 0, 1, 2
INNERMOST = 1 << 30                     # deeper than any level


@dataclass(frozen=True)
class LoopPlan:
    """lanes is 1 for scalar code; then `vector_dim` is None, while `block_dim` may still split a parallel dim.

    rows of row_dim (None: rows is 1) go side by side with the vectors of a blocked vector_dim: see LoopSchedule."""

    kernel: LoopKernel
    schedule: LoopSchedule
    lanes: int
    vector_dim: int | None
    block_dim: int | None
    dims_of: dict[int, frozenset[int]] = field(default_factory=dict)
    level_of: dict[int, int] = field(default_factory=dict)
    dtype_of: dict[int, DType] = field(default_factory=dict)
    read_as_vector: set[int] = field(default_factory=set)
    row_dim: int | None = None
    rows: int = 1
    by_row: set[int] = field(default_factory=set)       # values that have a vector for each row side by side

    @property
    def written(self) -> set[int]:
        """Buffers that the kernel stores to."""
        return {store.address.buffer for stage in self.kernel.stages for store in stage.stores}

    def divisor(self, extent: Extent) -> int:
        """A number that divides it."""
        if isinstance(extent, int):
            return extent
        return next((modulus for name, modulus, residue in self.kernel.residues if name == extent and residue == 0), 1)

    def varies(self, value: int) -> bool:
        """Whether the value differs from lane to lane, or from row to row: then there is a vector of it a copy."""
        return (self.vector_dim is not None and self.vector_dim in self.dims_of[value]) or value in self.by_row

    @property
    def is_tiled(self) -> bool:
        """Whether rows are points of a parallel dim."""
        return self.row_dim is not None and self.row_dim < self.kernel.n_parallel

    def rows_of(self, stage: Stage) -> int:
        """Points of row_dim that the innermost level of the stage has side by side; a tile's follow one another."""
        return self.rows if self.row_dim is not None and stage.dims[-1:] == (self.row_dim,) else 1

    def is_vectorised(self, stage: Stage) -> bool:
        """Whether the innermost level of the stage works on vectors."""
        return self.vector_dim is not None and (self.vector_dim == self.block_dim or self.vector_dim in stage.dims)

    def unroll(self, stages: Sequence[Stage]) -> int:
        """Vectors per step of a loop around `stages`."""
        if self.vector_dim is None or self.is_tiled:
            return 1
        extent = self.kernel.extents[self.vector_dim]
        return _step_vectors(extent, self.divisor(extent), stages, self.schedule.unroll, self.lanes)

    def dim_level(self, stage: Stage, dim: int) -> int:
        """Where the index of `dim` is known."""
        if dim < self.kernel.n_parallel:
            return STAGE if dim == self.block_dim or dim == self.row_dim else TASK
        assert dim in stage.dims, f"dim {dim} is read in a stage that walks {stage.dims}"
        return STAGE + 1 + stage.dims.index(dim)

    def address_varies(self, stage: Stage, address: Address) -> bool:
        """Whether the lanes or rows read different places, or are guarded one by one."""
        if self.vector_dim is None:
            return False
        if self.row_dim is not None and self.rows_of(stage) > 1 and address.step_of(self.row_dim):
            return True
        read = [value for value, _ in address.dynamic] + ([] if address.guard is None else [address.guard])
        return address.step_of(self.vector_dim) != 0 or any(self.varies(value) for value in read)

    def instrs_at(self, stage: Stage, level: int) -> list[Instr]:
        """The body's instructions that are computed at `level`, in order."""
        return [instr for instr in stage.body if self.level_of[instr.id] == level]


def is_empty(kernel: LoopKernel, stage: Stage) -> bool:
    """Whether the stage is known to have no points."""
    return any(kernel.extents[dim] == 0 for dim in stage.dims)


def plan_loops(kernel: LoopKernel, schedule: LoopSchedule, target: Target) -> LoopPlan:
    """Decide lanes and levels for `kernel` under `schedule`."""
    dims_of = dims_of_values(kernel)
    dim = schedule.vector_dim
    lanes = 1 if dim is None else choose_lanes(kernel, dims_of, dim, target)
    vector_dim = dim if lanes > 1 else None
    block_dim = dim if dim is not None and dim < kernel.n_parallel else None
    plan = LoopPlan(kernel, schedule, lanes, vector_dim, block_dim, dims_of)
    if schedule.row_dim is not None and schedule.rows > 1 and vector_dim is not None and vector_dim == block_dim:
        plan = _with_rows(plan, schedule.row_dim, schedule.rows)
    plan.dtype_of.update(_dtypes_of_values(kernel))
    _assign_levels(plan)
    _mark_vector_reads(plan)
    return plan


def _with_rows(plan: LoopPlan, row_dim: int, rows: int) -> LoopPlan:
    """The plan with rows; tiles are square, as wide as the narrower of a vector and `rows`."""
    extent = plan.kernel.extents[row_dim]
    lanes = plan.lanes
    if row_dim < plan.kernel.n_parallel:
        lanes = rows = min(lanes, 1 << (rows.bit_length() - 1))
    if lanes == 1 or (isinstance(extent, int) and rows > extent):        # a runtime number has more
        return plan
    plan = replace(plan, lanes=lanes, row_dim=row_dim, rows=rows)
    for stage in plan.kernel.stages:
        if plan.rows_of(stage) > 1:
            plan.by_row.update(instr.id for instr in stage.body if row_dim in plan.dims_of[instr.id])
            plan.by_row.update(r.id for r in stage.reductions if row_dim in plan.dims_of[r.id])
    return plan


def _step_vectors(extent: Extent, divisor: int, stages: Sequence[Stage], wanted: int, lanes: int) -> int:
    """Vectors a step along a dim: at most `wanted` and what it has, fewer where the body alone keeps the machine busy, and
    if that costs at most half of them, a number that leaves no single vectors behind: a loop less to compile."""
    most = vectors_a_step(stages, wanted)
    whole = divisor // lanes
    if isinstance(extent, int):
        most = max(1, min(most, whole))
    elif divisor % lanes:
        return most
    return next((n for n in range(most, (most - 1) // 2, -1) if whole % n == 0), most)


def _dtypes_of_values(kernel: LoopKernel) -> dict[int, DType]:
    found = {instr.id: instr.dtype for instr in kernel.instrs()}
    return found | {reduction.id: reduction.dtype for stage in kernel.stages for reduction in stage.reductions}


def kernel_addresses(kernel: LoopKernel) -> list[Address]:
    """Every address a kernel loads from or stores to."""
    loads = [instr.attr for instr in kernel.instrs() if isinstance(instr.attr, Address)]
    return loads + [store.address for stage in kernel.stages for store in stage.stores]


def _assign_levels(plan: LoopPlan) -> None:
    kernel = plan.kernel
    written = plan.written
    for stage in kernel.stages:
        for instr in stage.body:
            levels = [FUNCTION, *(plan.level_of[value] for value in values_read(instr))]
            levels += [plan.dim_level(stage, dim) for dim in own_dims(instr)]
            if isinstance(instr.attr, Address) and instr.attr.buffer in written:
                levels.append(STAGE)            # after the stores of earlier stages
            if _may_fault(instr):
                levels.append(_innermost_runtime_level(plan, stage))
            plan.level_of[instr.id] = max(levels)
        for reduction in stage.reductions:
            plan.level_of[reduction.id] = STAGE


def _may_fault(instr: Instr) -> bool:
    """Whether the instruction must not be run for a stage that turns out to have no points."""
    return instr.op == "check" or (isinstance(instr.attr, Address) and bool(instr.attr.dynamic))


def _innermost_runtime_level(plan: LoopPlan, stage: Stage) -> int:
    runtime = [depth for depth, dim in enumerate(stage.dims) if isinstance(plan.kernel.extents[dim], str)]
    return STAGE + 1 + runtime[-1] if runtime else FUNCTION


def _mark_vector_reads(plan: LoopPlan) -> None:
    """Uniform values that vector instructions read: each is splatted once, where it is computed."""
    for stage in plan.kernel.stages:
        if not plan.is_vectorised(stage):
            continue
        for instr in stage.body:
            if plan.varies(instr.id):
                plan.read_as_vector.update(values_read(instr))
        for store in stage.stores:
            plan.read_as_vector.add(store.value)
        plan.read_as_vector.update(reduction.value for reduction in stage.reductions)
    plan.read_as_vector.difference_update([value for value in plan.dims_of if plan.varies(value)])


def choose_lanes(kernel: LoopKernel, dims_of: dict[int, frozenset[int]], dim: int, target: Target) -> int:
    """Lanes for the values that vary along `dim`: full registers of the commonest compute width, and never more
    lanes than points. Wider values then take several registers an operation, which costs no extra instructions."""
    votes = {1: 0, 2: 0, 4: 0, 8: 0}
    for instr in kernel.instrs():
        if dim in dims_of[instr.id] and instr.op != "check":
            votes[_compute_bytes(instr)] += 1
    wide, narrow = votes[8], votes[4]
    if wide > narrow:
        width = 8
    else:
        width = max((bytes_ for bytes_, count in votes.items() if count and bytes_ < 8), default=4)
    lanes = target.lanes(width)
    extent: Extent = kernel.extents[dim]
    if isinstance(extent, int):
        while lanes > 1 and lanes // 2 >= extent:
            lanes //= 2
    return lanes


def _compute_bytes(instr: Instr) -> int:
    """Bytes of one element in a register. A bool made by a comparison is one bit, and counts as one byte."""
    if instr.dtype.name == "bool":
        return 1
    return 4 if compute_type(instr.dtype.name).intrinsic_name == "f32" else storage_bytes(instr.dtype.name)
