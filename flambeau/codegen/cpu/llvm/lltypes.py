"""LLVM types, constants and names for flambeau dtypes.

*Storage* types are what memory holds (bf16 is i16, f16 is half, bool is i8); *compute* types are what arithmetic
sees (bf16 and f16 widen to f32, bool is i1).
"""

from __future__ import annotations

import functools
import math
import struct

import llvmlite.ir as ll

I1, I8, I16, I32, I64 = (ll.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64, PTR = ll.HalfType(), ll.FloatType(), ll.DoubleType(), ll.PointerType()

_STORAGE = {
    "f16": F16, "bf16": I16, "f32": F32, "f64": F64, "bool": I8,
    "i8": I8, "i16": I16, "i32": I32, "i64": I64,
    "u8": I8, "u16": I16, "u32": I32, "u64": I64,
}  # fmt: skip
_COMPUTE = _STORAGE | {"f16": F32, "bf16": F32, "bool": I1}
_BYTES = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "i16": 2, "u16": 2}


def storage_type(dtype: str) -> ll.Type:
    """The LLVM type of one element in memory."""
    return _STORAGE[dtype]


def compute_type(dtype: str) -> ll.Type:
    """The LLVM type arithmetic uses for one element."""
    return _COMPUTE[dtype]


def storage_bytes(dtype: str) -> int:
    """Bytes of one element in memory."""
    return _BYTES.get(dtype, 1)


def is_float(dtype: str) -> bool:
    """Whether dtype is one of f16, bf16, f32, f64."""
    return dtype in ("f16", "bf16", "f32", "f64")


def is_signed(dtype: str) -> bool:
    """Whether dtype is a signed integer."""
    return dtype in ("i8", "i16", "i32", "i64")


@functools.lru_cache(maxsize=256)
def vector_type(element: ll.Type, lanes: int) -> ll.Type:
    """<lanes x element>; one lane is the bare element."""
    return element if lanes == 1 else ll.VectorType(element, lanes)


def lanes_of(value: ll.Value | ll.Type) -> int:
    """Lane count of a value or type; scalars have one."""
    kind = value if isinstance(value, ll.Type) else value.type
    return kind.count if isinstance(kind, ll.VectorType) else 1


def element_of(value: ll.Value | ll.Type) -> ll.Type:
    """Element type of a value or type; a scalar's is its own."""
    kind = value if isinstance(value, ll.Type) else value.type
    return kind.element if isinstance(kind, ll.VectorType) else kind


def constant(element: ll.Type, number: float | int, lanes: int = 1) -> ll.Constant:
    """A scalar or splat constant. Floats are rounded to the element type here, once; integers wrap."""
    if element == F32:
        number = round_to_f32(float(number))
    elif element == F64:
        number = float(number)
    else:
        number = wrap_integer(int(number), element.width)
    # repr tells -0.0 from 0.0, which are equal as keys.
    return _constant(element, repr(number), number, lanes)


class SplatConstant(ll.Constant):
    """A scalar constant in every lane, written `splat (float 1.0)`: spelling out 16 lanes took half of emission."""

    def __init__(self, scalar: ll.Constant, lanes: int) -> None:
        self.type = ll.VectorType(scalar.type, lanes)
        self.constant = [scalar] * lanes

    def _get_reference(self) -> str:
        return f"splat ({self.constant[0]})"


class _WordConstant(ll.Constant):
    """A constant that LLVM has a word for, of any type: spelt out lane by lane these were a quarter of all text."""

    def __init__(self, kind: ll.Type, word: str) -> None:
        self.type = kind
        self.constant = word

    def _get_reference(self) -> str:
        return self.constant


@functools.lru_cache(maxsize=1024)
def undefined(kind: ll.Type) -> ll.Constant:
    """The undefined value of a type."""
    return _WordConstant(kind, "undef")


@functools.lru_cache(maxsize=1024)
def zeros(kind: ll.Type) -> ll.Constant:
    """All bits zero: a null pointer, 0, or a vector of them."""
    return _WordConstant(kind, "zeroinitializer")


@functools.lru_cache(maxsize=1024)
def lane_number(number: int) -> ll.Constant:
    """An i32 that names a lane."""
    return ll.Constant(I32, number)


@functools.lru_cache(maxsize=1024)
def lane_order(order: tuple[int, ...]) -> ll.Constant:
    """The mask of a shuffle."""
    return ll.Constant(ll.VectorType(I32, len(order)), order)


@functools.lru_cache(maxsize=4096)
def _constant(element: ll.Type, spelling: str, number: float | int, lanes: int) -> ll.Constant:
    if lanes > 1:
        return SplatConstant(_constant(element, spelling, number, 1), lanes)
    return ll.Constant(element, number)


def round_to_f32(number: float) -> float:
    """The f32 nearest to number, infinite past the f32 range."""
    try:
        return struct.unpack("f", struct.pack("f", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)


def round_to_half(number: float) -> float:
    """The f16 nearest to number, infinite past the f16 range."""
    try:
        return struct.unpack("e", struct.pack("e", number))[0]
    except OverflowError:
        return math.copysign(math.inf, number)


def round_to_bf16(number: float) -> float:
    """The bf16 nearest to number rounded to f32: ties to even, NaN kept."""
    if number != number:
        return number
    (bits,) = struct.unpack("I", struct.pack("f", round_to_f32(number)))
    bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return struct.unpack("f", struct.pack("I", bits))[0]


def wrap_integer(number: int, bits: int) -> int:
    """number modulo 2**bits, as the unsigned literal LLVM accepts for any signedness."""
    return number & ((1 << bits) - 1)


def mangle(kind: ll.Type) -> str:
    """LLVM's suffix for an overloaded intrinsic: f32, v16f32, i64."""
    lanes, element = lanes_of(kind), element_of(kind)
    text = {F16: "f16", F32: "f32", F64: "f64"}.get(element) or f"i{element.width}"
    return text if lanes == 1 else f"v{lanes}{text}"
