"""Where the results of an op lie: on the one device of its operands that is not "cpu", whichever has it.

What no input goes into (a constant, an iota, a number) has no place of its own and says "cpu", so "cpu" joins with any one
other device. Type rules see no devices: they are asked with all operands on "cpu", and what they give is put on the device
here. (A rule asked directly, on operands of one device, keeps it wherever it makes a type out of an operand's.)
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from flambeau.ir.op import Op, RegionOp
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph

__all__ = ["NOWHERE", "Elsewhere", "infer", "infer_regions", "joined"]

NOWHERE: Final = "cpu"                      # of what has no place of its own; and of the host's memory


class Elsewhere(Exception):
    """What is to be computed lies on another device than NumPy's arrays. Whoever evaluates ops there goes on."""


def joined(op: Op, types: Sequence[TensorType]) -> str:
    """The one device that is not "cpu", or "cpu". Raises TypeInferenceError where there are two."""
    found = NOWHERE
    for t in types:
        if t.device != found and t.device != NOWHERE:
            if found != NOWHERE:
                raise op.fail(f"operands must lie on one device, found {', '.join(map(str, types))}",
                              "move one of them with to()")
            found = t.device
    return found


def infer(op: Op, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
    """Result types of an op without regions. Raises TypeInferenceError as its rule does, and for two devices."""
    for t in operands:
        if t.device != NOWHERE:
            return _inferred(op, operands)
    return op.infer(*operands)


def _inferred(op: Op, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
    found = op.infer(*[t.on(NOWHERE) for t in operands])
    device = joined(op, [*operands, *found])
    return tuple([t.on(device) for t in found])


def infer_regions(op: RegionOp, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
    """Result types of an op with regions, which may have what they give from elsewhere than its operands."""
    found = op.infer_regions([t.on(NOWHERE) for t in operands], regions)
    device = joined(op, [*operands, *[value.type for region in regions for value in region.outputs]])
    return found if device == NOWHERE else tuple([t.on(device) for t in found])

