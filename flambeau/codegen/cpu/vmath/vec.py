"""`Vec`: an LLVM vector (or scalar) value with Python's operators, so that formulas read as formulas.

Floats follow IEEE with no flags. Numbers become constants of the other operand's type. `<`, `<=`, `>`, `>=` are
ordered float compares and signed integer compares; `==` stays Python identity, use `equals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import (
    F32,
    F64,
    I32,
    I64,
    Emitter,
    constant,
    element_of,
    lanes_of,
    vector_type,
)


class Vec:
    """One value of one type, bound to the emitter that extends it."""

    __slots__ = ("emitter", "value")

    def __init__(self, emitter: Emitter, value: ll.Value) -> None:
        self.emitter = emitter
        self.value = value

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def element(self) -> ll.Type:
        """Element type."""
        return element_of(self.value)

    @property
    def lanes(self) -> int:
        """Lane count; 1 for a scalar."""
        return lanes_of(self.value)

    @property
    def is_float(self) -> bool:
        """Whether elements are f32 or f64."""
        return self.element in (F32, F64)

    @property
    def is_f64(self) -> bool:
        """Whether elements are f64."""
        return self.element == F64

    @property
    def bit_width(self) -> int:
        """Bits of one element."""
        return {F32: 32, F64: 64}.get(self.element) or self.element.width

    def constant(self, number: float | int) -> Vec:
        """The number in this value's type."""
        return Vec(self.emitter, constant(self.element, number, self.lanes))

    def of(self, value: ll.Value) -> Vec:
        """Wrap an LLVM value built by this value's emitter."""
        return Vec(self.emitter, value)

    def _lift(self, other: Vec | float | int) -> ll.Value:
        return other.value if isinstance(other, Vec) else self.constant(other).value

    # -- arithmetic -----------------------------------------------------------------------------------------------

    def __add__(self, other: Vec | float | int) -> Vec:
        build = self.emitter.fadd if self.is_float else self.emitter.add
        return self.of(build(self.value, self._lift(other)))

    def __sub__(self, other: Vec | float | int) -> Vec:
        build = self.emitter.fsub if self.is_float else self.emitter.sub
        return self.of(build(self.value, self._lift(other)))

    def __mul__(self, other: Vec | float | int) -> Vec:
        build = self.emitter.fmul if self.is_float else self.emitter.mul
        return self.of(build(self.value, self._lift(other)))

    def __truediv__(self, other: Vec | float | int) -> Vec:
        return self.of(self.emitter.fdiv(self.value, self._lift(other)))

    def __radd__(self, other: float | int) -> Vec:
        return self + other

    def __rmul__(self, other: float | int) -> Vec:
        return self * other

    def __rsub__(self, other: float | int) -> Vec:
        return self.constant(other) - self

    def __rtruediv__(self, other: float | int) -> Vec:
        return self.constant(other) / self

    def __neg__(self) -> Vec:
        return self.of(self.emitter.fneg(self.value)) if self.is_float else self.constant(0) - self

    # -- bits -----------------------------------------------------------------------------------------------------

    def __and__(self, other: Vec | int) -> Vec:
        return self.of(self.emitter.and_(self.value, self._lift(other)))

    def __or__(self, other: Vec | int) -> Vec:
        return self.of(self.emitter.or_(self.value, self._lift(other)))

    def __xor__(self, other: Vec | int) -> Vec:
        return self.of(self.emitter.xor(self.value, self._lift(other)))

    def __invert__(self) -> Vec:
        return self ^ -1

    def __lshift__(self, other: Vec | int) -> Vec:
        return self.of(self.emitter.shl(self.value, self._lift(other)))

    def __rshift__(self, other: Vec | int) -> Vec:
        """Arithmetic: the sign fills."""
        return self.of(self.emitter.ashr(self.value, self._lift(other)))

    def logical_right(self, other: Vec | int) -> Vec:
        """Shift right, zeros fill."""
        return self.of(self.emitter.lshr(self.value, self._lift(other)))

    def bits(self) -> Vec:
        """The float's bits as an integer of the same width."""
        kind = I64 if self.is_f64 else I32
        return self.of(self.emitter.bitcast(self.value, vector_type(kind, self.lanes)))

    def as_float(self) -> Vec:
        """i32 or i64 bits as f32 or f64."""
        kind = F64 if self.element == I64 else F32
        return self.of(self.emitter.bitcast(self.value, vector_type(kind, self.lanes)))

    # -- comparison -----------------------------------------------------------------------------------------------

    def _compare(self, operator: str, other: Vec | float | int) -> Vec:
        build = self.emitter.fcmp_ordered if self.is_float else self.emitter.icmp_signed
        return self.of(build(operator, self.value, self._lift(other)))

    def __lt__(self, other: Vec | float | int) -> Vec:
        return self._compare("<", other)

    def __le__(self, other: Vec | float | int) -> Vec:
        return self._compare("<=", other)

    def __gt__(self, other: Vec | float | int) -> Vec:
        return self._compare(">", other)

    def __ge__(self, other: Vec | float | int) -> Vec:
        return self._compare(">=", other)

    def equals(self, other: Vec | float | int) -> Vec:
        """False where either is NaN."""
        return self._compare("==", other)

    def differs(self, other: Vec | float | int) -> Vec:
        """True where either is NaN."""
        if self.is_float:
            return self.of(self.emitter.fcmp_unordered("!=", self.value, self._lift(other)))
        return self._compare("!=", other)

    def below(self, other: Vec | int) -> Vec:
        """Unsigned integer less-than."""
        return self.of(self.emitter.icmp_unsigned("<", self.value, self._lift(other)))

    def is_nan(self) -> Vec:
        """True where NaN."""
        return self.of(self.emitter.fcmp_unordered("uno", self.value, self.value))

    def is_unordered(self, other: Vec) -> Vec:
        """True where either is NaN."""
        return self.of(self.emitter.fcmp_unordered("uno", self.value, other.value))

    # -- conversion -----------------------------------------------------------------------------------------------

    def to(self, element: ll.Type) -> Vec:
        """f32 <-> f64, or signed integer widening and narrowing."""
        if element == self.element:
            return self
        kind = vector_type(element, self.lanes)
        if self.is_float:
            build: Callable[..., ll.Value] = self.emitter.fpext if element == F64 else self.emitter.fptrunc
        else:
            build = self.emitter.sext if element.width > self.bit_width else self.emitter.trunc
        return self.of(build(self.value, kind))

    def to_float(self) -> Vec:
        """Signed i32 -> f32, i64 -> f64."""
        kind = F64 if self.element == I64 else F32
        return self.of(self.emitter.sitofp(self.value, vector_type(kind, self.lanes)))


def known_number(x: Vec) -> float | int | None:
    """The number, if x is one constant in every lane."""
    if not isinstance(x.value, ll.Constant):
        return None
    content = x.value.constant
    lanes = content if isinstance(content, (list, tuple)) else [content]
    numbers = [lane.constant if isinstance(lane, ll.Constant) else lane for lane in lanes]
    first = numbers[0]
    return first if isinstance(first, (int, float)) and all(number == first for number in numbers) else None


def fma(a: Vec, b: Vec | float, c: Vec | float) -> Vec:
    """a * b + c, fused where the target can. Only for results that are right either way."""
    return a.of(a.emitter.multiply_add(a.value, a._lift(b), a._lift(c)))


def where(mask: Vec, then: Vec | float | int, otherwise: Vec | float | int) -> Vec:
    """Lane by lane choice; at least one of the two is a Vec."""
    model = then if isinstance(then, Vec) else otherwise
    assert isinstance(model, Vec), "a choice between two numbers has no type"
    return model.of(mask.emitter.select(mask.value, model._lift(then), model._lift(otherwise)))


def intrinsic(name: str, *operands: Vec) -> Vec:
    """llvm.<name> of operands that share a type with the result."""
    return operands[0].of(operands[0].emitter.overloaded(name, *(operand.value for operand in operands)))


def magnitude(x: Vec) -> Vec:
    """|x|, NaN kept."""
    return intrinsic("fabs", x)


def with_sign_of(x: Vec, sign: Vec) -> Vec:
    """|x| with the sign bit of `sign`."""
    return intrinsic("copysign", x, sign)


def square_root(x: Vec) -> Vec:
    """Correctly rounded; NaN below zero, -0 for -0."""
    return intrinsic("sqrt", x)


def clamp(x: Vec, low: float | None, high: float | None) -> Vec:
    """x forced into [low, high]; NaN stays NaN, because each compare picks x when it fails."""
    if high is not None:
        x = where(x.constant(high) < x, high, x)
    if low is not None:
        x = where(x.constant(low) > x, low, x)
    return x


def polynomial(x: Vec, coefficients: Sequence[float]) -> Vec:
    """sum of coefficients[k] * x^k by Horner's rule."""
    total = x.constant(coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    return total


def any_lane(mask: Vec) -> ll.Value:
    """A scalar i1: whether any lane of an i1 vector is set."""
    if mask.lanes == 1:
        return mask.value
    word = ll.IntType(mask.lanes)
    return mask.emitter.icmp_unsigned("!=", mask.emitter.bitcast(mask.value, word), ll.Constant(word, 0))


def power_of_two(exponent: Vec) -> Vec:
    """2**k as a float for integer lanes k in the normal range (-126..127 or -1022..1023)."""
    mantissa_bits, bias = float_layout(exponent.element == I64)
    return ((exponent + bias) << mantissa_bits).as_float()


def float_layout(is_f64: bool) -> tuple[int, int]:
    """Mantissa bits and exponent bias."""
    return (52, 1023) if is_f64 else (23, 127)


def while_any(
    state: Iterable[Vec], goes_on: Callable[..., Vec], step: Callable[..., Sequence[Vec]]
) -> list[Vec]:
    """while any lane of goes_on(*state): state = step(*state). The lanes that are done must be left alone by step."""
    first = list(state)
    emitter, before = first[0].emitter, first[0].emitter.block
    head, body, after = (emitter.append_basic_block(f"while.{part}") for part in ("head", "body", "end"))
    emitter.branch(head)
    emitter.position_at_end(head)
    phis = [emitter.phi(vec.value.type) for vec in first]
    for phi, vec in zip(phis, first, strict=True):
        phi.add_incoming(vec.value, before)
    current = [Vec(emitter, phi) for phi in phis]
    emitter.cbranch(any_lane(goes_on(*current)), body, after)
    emitter.position_at_end(body)
    for phi, vec in zip(phis, step(*current), strict=True):
        phi.add_incoming(vec.value, emitter.block)
    emitter.branch(head)
    emitter.position_at_end(after)
    return current


def if_any(mask: Vec, then: Callable[[], Sequence[Vec]], otherwise: Sequence[Vec]) -> list[Vec]:
    """then() where any lane of mask is set, else `otherwise`: keeps rare, slow lanes off the common path."""
    emitter = mask.emitter
    values = emitter.branch_values(
        any_lane(mask), lambda: [vec.value for vec in then()], lambda: [vec.value for vec in otherwise]
    )
    return [Vec(emitter, value) for value in values]


def square_error(x: Vec, square: Vec) -> Vec:
    """x*x - square exactly, where square is x*x rounded."""
    return product_error(x, x, square)


def product_error(a: Vec, b: Vec, product: Vec) -> Vec:
    """a*b - product exactly, where product is a*b rounded: by FMA, or by Dekker's splitting where there is none."""
    if a.emitter.target.has_fma:
        return fma(a, b, -product)
    (a_hi, a_lo), (b_hi, b_lo) = _split(a), _split(b)
    return ((a_hi * b_hi - product) + a_hi * b_lo + a_lo * b_hi) + a_lo * b_lo


def _split(x: Vec) -> tuple[Vec, Vec]:
    """x = hi + lo exactly, each with half the mantissa, so that products of halves are exact."""
    low_bits = 27 if x.is_f64 else 12
    high = (x.bits() & -(1 << low_bits)).as_float()
    return high, x - high
