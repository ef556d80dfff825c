"""One computed instruction of a kernel's scalar language -> an LLVM value, scalar or vector alike."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu import vmath
from flambeau.codegen.cpu.llvm.emitter import Emitter, lanes_of
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Instr


def emit_constant(emitter: Emitter, instr: Instr, lanes: int) -> ll.Value:
    """The number of a `const`, in every lane."""
    return vmath.emit(emitter, "const", instr.dtype, lanes, (), instr.attr)


def emit_instr(
    emitter: Emitter, instr: Instr, operands: Sequence[ll.Value], operand_dtypes: Sequence[DType]
) -> ll.Value:
    """The value of an instruction that has operands, in the compute form of its dtype (f16 and bf16 are rounded).

    operands: compute form, all of the same lane count; operand_dtypes: their dtypes.
    """
    attr = instr.dtype if instr.op == "cast" else instr.attr
    return vmath.emit(emitter, instr.op, operand_dtypes[-1], lanes_of(operands[-1]), operands, attr)
