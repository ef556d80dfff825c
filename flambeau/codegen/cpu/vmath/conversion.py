"""Casts between flambeau dtypes, in compute form.

float -> int truncates, saturates and sends NaN to 0 (NumPy and PyTorch leave those cases to the hardware);
int -> int wraps; anything -> bool is `!= 0`, so NaN is True; float -> narrower float rounds to nearest even.
"""

from __future__ import annotations

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import (
    F32,
    F64,
    Emitter,
    compute_type,
    constant,
    element_of,
    is_float,
    is_signed,
    lanes_of,
    mangle,
    vector_type,
)
from flambeau.codegen.cpu.vmath.vec import Vec, magnitude, where


def cast(e: Emitter, value: ll.Value, source: str, result: str) -> ll.Value:
    """value of dtype `source` as dtype `result`. The result is rounded to f16 or bf16 when it is one."""
    if source == result:
        return value
    if result == "bool":
        zero = constant(compute_type(source), 0, lanes_of(value))
        return e.fcmp_unordered("!=", value, zero) if is_float(source) else e.icmp_unsigned("!=", value, zero)
    kind = vector_type(compute_type(result), lanes_of(value))
    if is_float(source):
        return _from_float(e, value, result, kind)
    if is_float(result):
        build = e.sitofp if is_signed(source) else e.uitofp
        return e.round_to(build(value, kind), result)
    return _between_integers(e, value, source, kind)


def _from_float(e: Emitter, value: ll.Value, result: str, kind: ll.Type) -> ll.Value:
    if not is_float(result):
        return _saturate(e, value, result, kind)
    if value.type == kind:
        return e.round_to(value, result)
    if element_of(kind) == F64:
        return e.fpext(value, kind)
    if result == "f16":
        return e.round_to(_round_to_odd(Vec(e, value)).value, "f16")
    return e.round_to(e.fptrunc(value, kind), result)


def _saturate(e: Emitter, value: ll.Value, result: str, kind: ll.Type) -> ll.Value:
    name = f"llvm.fpto{'s' if is_signed(result) else 'u'}i.sat.{mangle(kind)}.{mangle(value.type)}"
    return e.intrinsic(name, kind, [value])


def _between_integers(e: Emitter, value: ll.Value, source: str, kind: ll.Type) -> ll.Value:
    have, want = element_of(value).width, element_of(kind).width
    if have == want:
        return value
    if have > want:
        return e.trunc(value, kind)
    return e.sext(value, kind) if is_signed(source) else e.zext(value, kind)


def _round_to_odd(x: Vec) -> Vec:
    """f64 -> f32 so that a second rounding, to f16, gives what one rounding would: inexact results end in a 1 bit."""
    nearest = x.to(F32)
    back = nearest.to(F64)
    inexact = x.of(x.emitter.fcmp_ordered("!=", back.value, x.value))
    toward_zero = magnitude(back) > magnitude(x)
    bits = nearest.bits()
    odd = where((bits & 1).differs(0), bits, where(toward_zero, bits - 1, bits + 1))
    return where(inexact, odd, bits).as_float()
