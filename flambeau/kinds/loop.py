"""Elementwise ops, reductions, and whatever else has a value at every index, as loops over parallel dims."""
from __future__ import annotations

from dataclasses import replace

from flambeau.codegen.cpu.loops.functions import emit
from flambeau.ir.graph import Node
from flambeau.ir.kernel import LoopKernel
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.target import Target
from flambeau.passes.cpu.schedule_loops import schedule_loops
from flambeau.passes.lowering.loops import RegionLowering
from flambeau.passes.lowering.lower import Call, lower_loops


def _lower(node: Node, name: str) -> list[Call]:
    return lower_loops(RegionLowering(node, name).lower(), node.phase)


def _schedule(kernel: LoopKernel, target: Target) -> LoopKernel:
    return replace(kernel, schedule=schedule_loops(kernel, target))


KIND = Kind("loop", LoopKernel, _lower, reads="computed", has_epilogue=True,
            implementations={"cpu": Implementation(emit, _schedule)})
