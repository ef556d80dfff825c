"""Sums at computed places: loops that fill the result and then update it, one after another. Their kernels are those of
`loop`, which schedules and emits them."""
from __future__ import annotations

from flambeau.ir.graph import Node
from flambeau.ir.kernel import LoopKernel
from flambeau.ir.kinds import Kind
from flambeau.passes.lowering.lower import Call, lower_loops
from flambeau.passes.lowering.scatters import ScatterLowering


def _lower(node: Node, name: str) -> list[Call]:
    return lower_loops(ScatterLowering(node, name).lower(), node.phase)


KIND = Kind("scatter", LoopKernel, _lower, reads="computed")
