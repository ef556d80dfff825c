"""The instructions of a LoopKernel that touch no memory: indices here, computed ones in scalar_ops.py."""

from __future__ import annotations

import llvmlite.ir as ll

from flambeau.codegen.cpu import vmath
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.codegen.cpu.scalar_ops import emit_constant, emit_instr
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Instr


def emit_scalar(scope: Scope, instr: Instr, copy: int | None) -> ll.Value:
    """The instruction's value, in the compute form of its dtype: a vector if it is a copy's."""
    match instr.op:
        case "const":
            return emit_constant(scope.emitter, instr, scope.lanes(copy))
        case "index":
            assert isinstance(instr.attr, int), f"%{instr.id}: an index needs a dim"
            return scope.index_value(instr.attr, copy)
        case _:
            operands = [scope.read(operand, copy) for operand in instr.operands]
            return emit_instr(scope.emitter, instr, operands, [scope.plan.dtype_of[v] for v in instr.operands])


def emit_add(scope: Scope, lhs: ll.Value, rhs: ll.Value, dtype: DType, lanes: int) -> ll.Value:
    """lhs + rhs of one dtype, as a store with combine="add" adds."""
    return vmath.emit(scope.emitter, "add", dtype, lanes, [lhs, rhs])
