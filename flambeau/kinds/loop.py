"""Elementwise ops, reductions, and whatever else has a value at every index, as loops over parallel dims."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.loops.functions import emit
from flambeau.codegen.cpu.loops.tasks import phase_of
from flambeau.ir.graph import Node
from flambeau.ir.kernel import LoopKernel, LoopSchedule
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.target import Target
from flambeau.passes.cpu.generalize import general_loops
from flambeau.passes.cpu.keep_between_stages import keep_between_stages
from flambeau.passes.cpu.schedule_loops import schedule_loops
from flambeau.passes.cpu.side_by_side import side_by_side
from flambeau.passes.cpu.split_reductions import split_reductions
from flambeau.passes.lowering.dims import collapse
from flambeau.passes.lowering.loops import RegionLowering
from flambeau.passes.lowering.lower import Call, call_of, finish_loops
from flambeau.passes.lowering.undivide import undivide


def _lower(node: Node, name: str) -> Sequence[Call]:
    return [call_of(node, collapse(undivide(RegionLowering(node, name).loops())))]


def _divide(call: Call, target: Target) -> Sequence[Call]:
    return [replace(call, kernel=side_by_side(keep_between_stages(kernel, target), target), buffers=buffers)
            for kernel, buffers in split_reductions(cast(LoopKernel, call.kernel), call.buffers, target)]


def _schedule(kernel: LoopKernel, target: Target) -> LoopKernel:
    return replace(kernel, schedule=schedule_loops(kernel, target))


def _phases(kernel: LoopKernel, general: LoopKernel, symbol: str, target: Target) -> tuple[list[Phase], tuple[int, ...]]:
    return [phase_of(kernel, general, symbol, target)], ()


def _steps_itself(kernel: LoopKernel) -> bool:
    """Tiles step through the places of many rows."""
    row_dim = kernel.schedule.row_dim if isinstance(kernel.schedule, LoopSchedule) else None
    return row_dim is None or row_dim >= kernel.n_parallel


KIND = Kind("loop", LoopKernel, _lower, reads="computed", has_epilogue=True, finish=finish_loops,
            implementations={"cpu": Implementation(emit, _schedule, _divide, general=general_loops, phases=_phases,
                                                   steps_itself=_steps_itself)})
