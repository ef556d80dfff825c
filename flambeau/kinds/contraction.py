"""Matrix products and convolutions, with what is computed from each result element as their epilogue."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.codegen.cpu.contraction.functions import emit, phases_of
from flambeau.ir.graph import Node
from flambeau.ir.kernel import ContractionKernel
from flambeau.ir.kinds import Implementation, Kind
from flambeau.passes.cpu.generalize import general_contraction
from flambeau.passes.cpu.schedule_contraction import schedule_contraction
from flambeau.passes.lowering.contractions import ContractionLowering
from flambeau.passes.lowering.lower import Call, call_of, finish_code
from flambeau.passes.lowering.undivide import undivide


def _lower(node: Node, name: str) -> Sequence[Call]:
    return [call_of(node, undivide(ContractionLowering(node, name).contraction_kernel()))]


KIND = Kind("contraction", ContractionKernel, _lower, reads="strided", has_epilogue=True, finish=finish_code,
            implementations={"cpu": Implementation(emit, schedule_contraction, weight=1, general=general_contraction,
                                                   phases=phases_of, steps_itself=lambda kernel: True)})
