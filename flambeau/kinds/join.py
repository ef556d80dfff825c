"""Parts one after another in one result: loops that walk each part. Their kernels are those of `loop`, which finishes,
schedules and emits them."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.ir.graph import Node
from flambeau.ir.kernel import LoopKernel
from flambeau.ir.kinds import Kind
from flambeau.passes.lowering.dims import collapse
from flambeau.passes.lowering.joins import JoinLowering
from flambeau.passes.lowering.lower import Call, call_of
from flambeau.passes.lowering.undivide import undivide


def _lower(node: Node, name: str) -> Sequence[Call]:
    return [call_of(node, collapse(undivide(JoinLowering(node, name).loops())))]


KIND = Kind("join", LoopKernel, _lower, reads="computed")
