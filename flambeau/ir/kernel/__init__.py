"""The loop level: kernels, what they are written in (`grammar.py`), their text both ways, their rules and their meaning."""
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.contraction_kernel import (
    ContractionKernel,
    ContractionSchedule,
    TileSchedule,
    WinogradSchedule,
)
from flambeau.ir.kernel.grammar import (
    IDENTITY_FREE,
    Address,
    Attr,
    Combiner,
    Extent,
    Instr,
    Param,
    Reduction,
    Role,
    Stage,
    Store,
)
from flambeau.ir.kernel.loop_kernel import BlockSchedule, LoopKernel, LoopSchedule
from flambeau.ir.kernel.scalar import SCALAR_OPS, ScalarOp

__all__ = [
    "IDENTITY_FREE",
    "SCALAR_OPS",
    "Address",
    "Attr",
    "BlockSchedule",
    "Combiner",
    "ContractionKernel",
    "ContractionSchedule",
    "Extent",
    "Instr",
    "Kernel",
    "LoopKernel",
    "LoopSchedule",
    "Param",
    "Reduction",
    "Role",
    "ScalarOp",
    "Stage",
    "Store",
    "TileSchedule",
    "WinogradSchedule",
]
