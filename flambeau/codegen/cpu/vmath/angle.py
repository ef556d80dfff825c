"""Argument reduction for sin, cos and tan: x = n pi/2 + r, |r| <= pi/4, right for every finite x.

Up to 2^26 (f32) and 10^6 (f64) by Cody and Waite's exact products. Past that by Payne and Hanek's method: x times
the bits of 2/pi that matter, as integers, in a scalar function that any wide lane is sent through.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import F32, F64, I32, I64, Emitter
from flambeau.codegen.cpu.llvm.lltypes import undefined
from flambeau.codegen.cpu.vmath.vec import Vec, if_any, magnitude, product_error, where

TWO_OVER_PI = 0.6366197723675814
# pi/2 in pieces short enough that piece * n is exact, n < 2^26 (f32, computed in f64) and n < 2^20 (f64).
HALF_PI_27 = tuple(map(float.fromhex, ("0x1.921fb54p+0", "0x1.10b461p-30", "0x1.a62633145c06ep-58")))
HALF_PI_33 = tuple(
    map(float.fromhex, ("0x1.921fb544p+0", "0x1.0b4611a6p-34", "0x1.3198a2ep-69", "0x1.b839a252049c1p-104"))
)
HALF_PI_53 = tuple(map(float.fromhex, ("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54")))
_F32_LIMIT, _F64_LIMIT = 2.0**26, 1.0e6

I128 = ll.IntType(128)
_REDUCER = "flambeau.reduce_huge_angle"
_REDUCED = ll.LiteralStructType([F64, F64, I64])


class Angle(NamedTuple):
    """r = high + low in [-pi/4, pi/4] and the quadrant n (mod 4) as an integer of r's width."""

    high: Vec
    low: Vec
    quadrant: Vec


def reduce_angle(x: Vec) -> Angle:
    """x = n pi/2 + high + low. NaN and infinities give NaN. For f32, low is 0."""
    if x.is_f64:
        return Angle(*_with_huge(x, _F64_LIMIT, _reduce_medium(x)))
    wide = x.to(F64)
    high, _, quadrant = _with_huge(wide, _F32_LIMIT, _reduce_small(wide))
    return Angle(high.to(F32), x.constant(0.0), quadrant.to(I32))


def _nearest(x: Vec) -> tuple[Vec, Vec]:
    """n = x / (pi/2) to the nearest integer, as float and as bits (garbage, not poison, for huge x)."""
    magic = 1.5 * 2.0**52
    shifted = x * TWO_OVER_PI + magic
    return shifted - magic, shifted.bits()


def _reduce_small(x: Vec) -> tuple[Vec, Vec, Vec]:
    """f64 arithmetic for an f32 result: three pieces of pi/2."""
    n, quadrant = _nearest(x)
    first, second, third = HALF_PI_27
    r = ((x - n * first) - n * second) - n * third
    return r, x.constant(0.0), quadrant


def _reduce_medium(x: Vec) -> tuple[Vec, Vec, Vec]:
    """Four pieces of pi/2 and every rounding error kept, 2^-100 in all."""
    n, quadrant = _nearest(x)
    first, second, third, rest = HALF_PI_33
    high, low = x - n * first, x.constant(0.0)
    for piece in (second, third):
        high, lost = _two_sum(high, -(n * piece))
        low = low + lost
    low = low - n * rest
    total = high + low
    return total, (high - total) + low, quadrant


def _two_sum(a: Vec, b: Vec) -> tuple[Vec, Vec]:
    """a + b and its rounding error, exactly (Knuth)."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


def _with_huge(x: Vec, limit: float, usual: tuple[Vec, Vec, Vec]) -> list[Vec]:
    """`usual`, but lanes past limit through the Payne-Hanek function, when there are any."""
    a = magnitude(x)
    huge = (a > limit) & (a < float("inf"))

    def slow() -> list[Vec]:
        return [where(huge, special, ordinary) for special, ordinary in zip(_each_lane(x), usual, strict=True)]

    return if_any(huge, slow, usual)


def _each_lane(x: Vec) -> list[Vec]:
    """The huge-angle function over all lanes, in a loop so that the code stays small."""
    e, lanes = x.emitter, x.lanes
    function = _reducer(e.module, e)
    if lanes == 1:
        result = e.call(function, [x.value])
        return [x.of(e.extract_value(result, field)) for field in range(3)]
    inputs, outputs = e.stack(F64, lanes), [e.stack(kind, lanes) for kind in _REDUCED.elements]
    e.store_vector(x.value, inputs, 0, "f64")

    def body(lane: ll.Value) -> None:
        result = e.call(function, [e.load_scalar(inputs, lane, "f64")])
        for field, (array, dtype) in enumerate(zip(outputs, ("f64", "f64", "i64"), strict=True)):
            e.store_vector(e.extract_value(result, field), array, lane, dtype)

    e.loop(0, lanes, 1, body, name="angle")
    pairs = zip(outputs, ("f64", "f64", "i64"), strict=True)
    return [x.of(e.load_vector(array, 0, dtype, lanes)) for array, dtype in pairs]


@functools.cache
def two_over_pi_words(count: int = 21) -> tuple[int, ...]:
    """A word of zeros, then the first bits of 2/pi after the binary point, 64 a word, most significant first."""
    bits = 64 * (count - 1)
    guard = 64
    # Machin: pi = 16 atan(1/5) - 4 atan(1/239), in fixed point.
    pi = 16 * _atan_inverse(5, bits + guard) - 4 * _atan_inverse(239, bits + guard)
    quotient = (1 << (2 * bits + guard + 1)) // pi
    return tuple((quotient >> (64 * k)) & ((1 << 64) - 1) for k in reversed(range(count)))


def _atan_inverse(n: int, bits: int) -> int:
    """atan(1/n) * 2^bits, less than `bits` units off."""
    power, total, k = (1 << bits) // n, 0, 0
    while power:
        total += (-power if k & 1 else power) // (2 * k + 1)
        power //= n * n
        k += 1
    return total


def _reducer(module: ll.Module, like: Emitter) -> ll.Function:
    """The function {high, low, n} = reduce(double x) of this module, for |x| >= 1; made once."""
    if _REDUCER in module.globals:
        return module.globals[_REDUCER]
    function = ll.Function(module, ll.FunctionType(_REDUCED, [F64]), _REDUCER)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    e = Emitter(function.append_basic_block("entry"), like.target)
    x = Vec(e, function.args[0])
    top, negative = _fixed_point(x)
    result: ll.Value = undefined(_REDUCED)
    for field, part in enumerate(_to_radians(top, negative)):
        result = e.insert_value(result, part.value, field)
    e.ret(result)
    return function


def _fixed_point(x: Vec) -> tuple[Vec, Vec]:
    """(|x| 2/pi mod 4) * 2^126 as an i128, and whether x is negative."""
    e, bits = x.emitter, x.bits()
    exponent = (bits.logical_right(52) & 0x7FF) - 1075
    exponent = where(exponent < -62, -62, where(exponent > 971, 971, exponent))  # in the table whatever x is
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # |x| = mantissa 2^exponent, so the bit of 2/pi with weight 2^-i weighs 2^(exponent - i): start at weight 2.
    start = exponent + (64 - 2)
    words = _table_words(e, start.logical_right(6))
    shift = start & 63
    window = [
        _wide(words[k] << shift | words[k + 1].logical_right(1).logical_right(shift.constant(63) - shift))
        for k in range(3)
    ]
    factor = _wide(mantissa)
    top = ((factor * window[0]) << 64) + factor * window[1] + (factor * window[2]).logical_right(64)
    return top, bits < 0


def _wide(word: Vec) -> Vec:
    return word.of(word.emitter.zext(word.value, I128))


def _table_words(e: Emitter, first: Vec) -> list[Vec]:
    """Words first .. first+3 of 2/pi."""
    name = "flambeau.two_over_pi"
    words = two_over_pi_words()
    kind = ll.ArrayType(I64, len(words))
    table = e.module.globals.get(name)
    if table is None:
        table = ll.GlobalVariable(e.module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ll.Constant(kind, list(words))
    return [Vec(e, e.load(e.element(table, (first + k).value, I64), typ=I64, align=8)) for k in range(4)]


def _to_radians(top: Vec, negative: Vec) -> tuple[Vec, Vec, Vec]:
    """Split off the nearest quadrant and turn the signed fraction into radians, high + low."""
    e = top.emitter
    quadrant = (top.logical_right(126) + (top.logical_right(125) & 1)).to(I64)
    fraction = top << 2
    flips = fraction < 0
    fraction = where(flips, -fraction, fraction)
    leading = fraction.of(e.intrinsic("llvm.ctlz.i128", I128, [fraction.value, ll.Constant(ll.IntType(1), 0)]))
    digits = (fraction << leading).logical_right(64).to(I64)
    unit = ((-leading.to(I64) + (1023 - 64)) << 52).as_float()
    high = Vec(e, e.uitofp((digits & -2048).value, F64)) * unit
    low = Vec(e, e.uitofp((digits & 2047).value, F64)) * unit
    product = high * HALF_PI_53[0]
    rest = product_error(high, high.constant(HALF_PI_53[0]), product) + high * HALF_PI_53[1] + low * HALF_PI_53[0]
    turned = flips ^ negative
    return (
        where(turned, -product, product),
        where(turned, -rest, rest),
        where(negative, -quadrant, quadrant),
    )


