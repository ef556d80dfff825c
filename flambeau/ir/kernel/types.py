"""What types each scalar op and each reduction takes, by the rows of `SCALAR_OPS`; read by the verifier."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import IDENTITY_FREE, SCALAR_OPS, Address, Instr, Reduction, ScalarOp
from flambeau.ir.kernel.scalar import ANY, BOOL, NUMBER

__all__ = ["instr_mistake", "reduction_mistake"]

_REDUCED_KINDS: Final = {
    "sum": NUMBER, "prod": NUMBER, "max": ANY, "min": ANY, "argmax": ANY, "argmin": ANY, "any": BOOL, "all": BOOL,
}

Operand = tuple[int, DType]


def instr_mistake(instr: Instr, operands: Sequence[Operand]) -> str:
    """What is wrong with the op, the number and types of its operands (id, dtype), its attr or its dtype; or ""."""
    row = SCALAR_OPS.get(instr.op)
    if row is None:
        return "no such scalar op"
    if len(operands) != row.arity:
        return f"takes {row.arity} operands, has {len(operands)}"
    match instr.op:
        case "const":
            return _const_mistake(instr)
        case "index":
            return "" if instr.dtype is dtypes.i64 else f"gives i64, not {instr.dtype}"
        case "load":
            return "" if isinstance(instr.attr, Address) else "has no address"
        case "affine":
            return _affine_mistake(instr)
        case "acc" | "cast":
            return ""
        case "select":
            return _dtype_mistake(operands[:1], dtypes.bool_) or _dtype_mistake(operands[1:], instr.dtype)
        case "check":
            return _check_mistake(instr, operands)
        case "philox":
            return _philox_mistake(instr, operands)
        case _:
            return _computed_mistake(row, instr.dtype, operands)


def _affine_mistake(instr: Instr) -> str:
    if not isinstance(instr.attr, Address) or instr.attr.buffer != -1 or instr.attr.guard is not None:
        return "takes the terms of an address, without buffer and guard"
    return "" if instr.dtype is dtypes.i64 else f"gives i64, not {instr.dtype}"


def reduction_mistake(reduction: Reduction, value: DType) -> str:
    """What is wrong with the types of `reduction` of a value of dtype `value`; or ""."""
    kinds = _REDUCED_KINDS.get(reduction.combiner)
    if kinds is None:
        return "no such combiner"
    if value.kind not in kinds:
        return f"cannot reduce {value}"
    if reduction.combiner == "sum" and value is dtypes.f32 and reduction.dtype is dtypes.f64:
        return ""
    wanted = dtypes.i64 if reduction.combiner in IDENTITY_FREE else value
    return "" if reduction.dtype is wanted else f"gives {wanted}, not {reduction.dtype}"


def _computed_mistake(row: ScalarOp, dtype: DType, operands: Sequence[Operand]) -> str:
    shared = operands[0][1]
    wanted = dtypes.bool_ if row.is_test else shared
    if mistake := _dtype_mistake(operands[1:], shared):
        return mistake
    if shared.kind not in row.kinds:
        return f"is not defined on {shared}"
    return "" if dtype is wanted else f"gives {wanted}, not {dtype}"


def _dtype_mistake(operands: Sequence[Operand], wanted: DType) -> str:
    return next((f"operand %{id} is {dtype}, not {wanted}" for id, dtype in operands if dtype is not wanted), "")


def _check_mistake(instr: Instr, operands: Sequence[Operand]) -> str:
    if type(instr.attr) is not int or instr.attr == 0:
        return f"its status is {instr.attr!r}, not a nonzero int"
    wanted = "" if instr.dtype is dtypes.bool_ else f"gives bool, not {instr.dtype}"
    return _dtype_mistake(operands[:1], dtypes.bool_) or _dtype_mistake(operands[1:], dtypes.i64) or wanted


def _philox_mistake(instr: Instr, operands: Sequence[Operand]) -> str:
    if type(instr.attr) is not int or not 0 <= instr.attr < 4:
        return f"its word is {instr.attr!r}, not one of 0 to 3"
    wanted = "" if instr.dtype is dtypes.u32 else f"gives u32, not {instr.dtype}"
    return _dtype_mistake(operands, dtypes.u64) or wanted


def _const_mistake(instr: Instr) -> str:
    value, dtype = instr.attr, instr.dtype
    if isinstance(value, str):
        return "" if dtype.kind != "bool" else "a constant of bool is no runtime number"
    expected = {"float": float, "bool": bool}.get(dtype.kind, int)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        return f"a constant of {dtype} is a Python {expected.__name__}, not {value!r}"
    if dtype.is_integer and not np.iinfo(dtype.storage).min <= int(value) <= np.iinfo(dtype.storage).max:
        return f"{value} does not fit {dtype}"
    return ""
