"""f16 and bf16 to f32 and back, without the library calls LLVM would make where an instruction is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.lltypes import F16, F32, I16, I32, constant, lanes_of, vector_type

if TYPE_CHECKING:
    from flambeau.codegen.cpu.llvm.emitter import Emitter


def bf16_to_float(e: Emitter, stored: ll.Value) -> ll.Value:
    """bf16 bits in i16 -> f32, exact."""
    lanes = lanes_of(stored)
    wide = e.zext(stored, vector_type(I32, lanes))
    return e.bitcast(e.shl(wide, constant(I32, 16, lanes)), vector_type(F32, lanes))


def float_to_bf16(e: Emitter, value: ll.Value) -> ll.Value:
    """f32 -> bf16 bits in i16, to nearest even; NaN stays NaN."""
    lanes = lanes_of(value)
    bits = e.bitcast(value, vector_type(I32, lanes))
    odd = e.and_(e.lshr(bits, constant(I32, 16, lanes)), constant(I32, 1, lanes))
    rounded = e.add(bits, e.add(odd, constant(I32, 0x7FFF, lanes)))
    # Rounding a NaN could carry it into infinity, so NaNs keep their top bits and become quiet.
    quiet = e.or_(bits, constant(I32, 0x400000, lanes))
    kept = e.select(e.fcmp_unordered("uno", value, value), quiet, rounded)
    return e.trunc(e.lshr(kept, constant(I32, 16, lanes)), vector_type(I16, lanes))


def _converts_half(e: Emitter) -> bool:
    return e.target.is_aarch64 or e.target.has_feature("f16c") or e.target.has_feature("avx512f")


def half_to_float(e: Emitter, value: ll.Value) -> ll.Value:
    """half -> f32, exact."""
    lanes = lanes_of(value)
    if _converts_half(e):
        return e.fpext(value, vector_type(F32, lanes))
    # Without the instruction LLVM would call a runtime library. Scale the shifted bits by 2**112 instead:
    # the product is exact, subnormals included. Infinities and NaNs get the f32 exponent by hand.
    bits = e.zext(e.bitcast(value, vector_type(I16, lanes)), vector_type(I32, lanes))
    magnitude = e.and_(bits, constant(I32, 0x7FFF, lanes))
    shifted = e.shl(magnitude, constant(I32, 13, lanes))
    scaled = e.fmul(e.bitcast(shifted, vector_type(F32, lanes)), constant(F32, 2.0**112, lanes))
    special = e.icmp_unsigned(">=", magnitude, constant(I32, 0x7C00, lanes))
    result = e.select(
        special,
        e.or_(shifted, constant(I32, 0x7F800000, lanes)),
        e.bitcast(scaled, vector_type(I32, lanes)),
    )
    sign = e.shl(e.and_(bits, constant(I32, 0x8000, lanes)), constant(I32, 16, lanes))
    return e.bitcast(e.or_(result, sign), vector_type(F32, lanes))


def float_to_half(e: Emitter, value: ll.Value) -> ll.Value:
    """f32 -> half, to nearest even; NaN stays NaN."""
    lanes = lanes_of(value)
    if _converts_half(e):
        return e.fptrunc(value, vector_type(F16, lanes))
    bits = e.bitcast(value, vector_type(I32, lanes))
    magnitude = e.and_(bits, constant(I32, 0x7FFFFFFF, lanes))
    rounded = _round_magnitude_to_half(e, magnitude)
    sign = e.lshr(e.and_(bits, constant(I32, 0x80000000, lanes)), constant(I32, 16, lanes))
    return e.bitcast(e.trunc(e.or_(rounded, sign), vector_type(I16, lanes)), vector_type(F16, lanes))


def _round_magnitude_to_half(e: Emitter, magnitude: ll.Value) -> ll.Value:
    """Bits of |x| as f32 -> bits of the nearest half (even on ties), in an i32."""
    lanes = lanes_of(magnitude)

    def number(k: int) -> ll.Value:
        return constant(I32, k, lanes)

    # Normal halves: rebias the exponent and round at bit 13; a carry into the exponent is right.
    odd = e.and_(e.lshr(magnitude, number(13)), number(1))
    normal = e.lshr(e.add(magnitude, e.add(odd, number(0xFFF - (112 << 23)))), number(13))
    # Subnormal halves: adding 0.5 lines the last bit up with 2**-24 and rounds in hardware.
    as_float = e.bitcast(magnitude, vector_type(F32, lanes))
    aligned = e.bitcast(e.fadd(as_float, constant(F32, 0.5, lanes)), vector_type(I32, lanes))
    subnormal = e.sub(aligned, number(0x3F000000))
    finite = e.select(e.icmp_unsigned("<", magnitude, number(113 << 23)), subnormal, normal)
    overflows = e.icmp_unsigned(">=", magnitude, number(0x477FF000))
    finite = e.select(overflows, number(0x7C00), finite)
    payload = e.and_(e.lshr(magnitude, number(13)), number(0x3FF))
    nan = e.or_(payload, number(0x7E00))
    return e.select(e.icmp_unsigned(">", magnitude, number(0x7F800000)), nan, finite)
