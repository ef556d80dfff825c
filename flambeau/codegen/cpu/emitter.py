"""An IRBuilder that speaks the kernel ABI, flambeau dtypes and vectors.

Values live in two forms. *Storage* is what memory holds (bf16 is i16, f16 is half, bool is i8);
*compute* is what arithmetic sees (bf16 and f16 widen to f32, bool is i1). Loads widen, stores round.
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import llvmlite.ir as ll

from flambeau.ir.target import Target

I1, I8, I16, I32, I64 = (ll.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64, PTR = ll.HalfType(), ll.FloatType(), ll.DoubleType(), ll.PointerType()

_STORAGE = {
    "f16": F16, "bf16": I16, "f32": F32, "f64": F64, "bool": I8,
    "i8": I8, "i16": I16, "i32": I32, "i64": I64,
    "u8": I8, "u16": I16, "u32": I32, "u64": I64,
}  # fmt: skip
_COMPUTE = _STORAGE | {"f16": F32, "bf16": F32, "bool": I1}
_BYTES = {"f64": 8, "i64": 8, "u64": 8, "f32": 4, "i32": 4, "u32": 4, "f16": 2, "bf16": 2, "i16": 2, "u16": 2}

KERNEL_TYPE = ll.FunctionType(I32, [PTR, PTR, PTR, I64, I64])
_DETAIL_OFFSETS = (8, 16)


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


def new_module(name: str, target: Target) -> ll.Module:
    """An empty module. Its data layout is set by the toolchain."""
    module = ll.Module(name)
    module.triple = target.triple
    return module


def new_kernel(module: ll.Module, name: str, target: Target) -> Emitter:
    """Begin `i32 name(ctx, buffers, sizes, begin, end)` and return an emitter placed in its entry block.

    The caller ends it with `emitter.succeed()`.
    """
    function = ll.Function(module, KERNEL_TYPE, name)
    function.attributes.add("nounwind")
    for argument, label in zip(function.args, ("ctx", "buffers", "sizes", "begin", "end"), strict=True):
        argument.name = label
    for pointer in function.args[:3]:
        pointer.add_attribute("noalias")
    return Emitter(function.append_basic_block("entry"), target)


@dataclass(frozen=True)
class KernelArguments:
    """The five arguments of the kernel ABI."""

    ctx: ll.Value
    buffers: ll.Value
    sizes: ll.Value
    begin: ll.Value
    end: ll.Value


class Emitter(ll.IRBuilder):
    """Builds the body of one function for one target."""

    def __init__(self, block: ll.Block, target: Target) -> None:
        super().__init__(block)
        self.target = target
        # Values that pure builders have made, by block and operands (see `vmath.emit_philox`).
        self.memo: dict[tuple[Any, ...], Any] = {}

    # -- kernel ABI ---------------------------------------------------------------------------------------------

    @property
    def kernel(self) -> KernelArguments:
        """The arguments of the kernel being built."""
        return KernelArguments(*self.function.args)

    def buffer(self, number: int) -> ll.Value:
        """Data pointer of kernel param `number`."""
        return self._table_entry(self.kernel.buffers, number, PTR)

    def size(self, number: int) -> ll.Value:
        """Runtime extent `number`, an i64."""
        return self._table_entry(self.kernel.sizes, number, I64)

    def _table_entry(self, table: ll.Value, number: int, element: ll.Type) -> ll.Value:
        with self.goto_entry_block():
            value = self.load(self.element(table, number, element), typ=element, align=8)
        # The tables do not change while a kernel runs, whatever the kernel stores elsewhere.
        value.set_metadata("invariant.load", self.module.add_metadata([]))
        return value

    def succeed(self) -> None:
        """Return status 0."""
        self.ret(ll.Constant(I32, 0))

    def fail(self, status: int, *details: ll.Value) -> None:
        """Return `status` after leaving up to two integers in ctx."""
        assert status != 0, "status 0 means success"
        for offset, detail in zip(_DETAIL_OFFSETS, details, strict=False):
            self.store(self.widen_index(detail), self.element(self.kernel.ctx, offset, I8), align=8)
        self.ret(ll.Constant(I32, status))

    def fail_if(self, condition: ll.Value, status: int, *details: ll.Value) -> None:
        """Return `status` where the scalar i1 `condition` holds, else go on."""
        with self.if_then(condition, likely=False):
            self.fail(status, *details)

    # -- control flow -------------------------------------------------------------------------------------------

    def loop(
        self,
        start: ll.Value | int,
        stop: ll.Value | int,
        step: ll.Value | int,
        body: Callable[..., Sequence[ll.Value] | ll.Value | None],
        carry: Sequence[ll.Value] = (),
        name: str = "i",
    ) -> list[ll.Value]:
        """for (i = start; i < stop; i += step) carry = body(i, *carry). Returns the last carry.

        Without iterations that is the given one. Indices are i64, step is positive, stop + step must not overflow.
        """
        first, last, stride = self.index(start), self.index(stop), self.index(step)
        before = self.block
        head, inside, after = (self.append_basic_block(f"{name}.{part}") for part in ("head", "body", "end"))
        self.branch(head)
        self.position_at_end(head)
        counter = self.phi(I64, name)
        counter.add_incoming(first, before)
        carried = [self.phi(value.type) for value in carry]
        for phi, value in zip(carried, carry, strict=True):
            phi.add_incoming(value, before)
        self.cbranch(self.icmp_signed("<", counter, last), inside, after)
        self.position_at_end(inside)
        outcome = body(counter, *carried)
        results = [] if outcome is None else [outcome] if isinstance(outcome, ll.Value) else list(outcome)
        counter.add_incoming(self.add(counter, stride, flags=("nsw",)), self.block)
        for phi, value in zip(carried, results, strict=True):
            phi.add_incoming(value, self.block)
        self.branch(head)
        self.position_at_end(after)
        return list(carried)

    def branch_values(
        self,
        condition: ll.Value,
        then: Callable[[], Sequence[ll.Value]],
        otherwise: Callable[[], Sequence[ll.Value]],
    ) -> list[ll.Value]:
        """Run one of two bodies by the scalar i1 `condition`; both yield values of the same types."""
        arms = [self.append_basic_block("then"), self.append_basic_block("else")]
        self.cbranch(condition, *arms)
        after = self.append_basic_block("join")
        outcomes = []
        for arm, body in zip(arms, (then, otherwise), strict=True):
            self.position_at_end(arm)
            values = list(body())
            outcomes.append((values, self.block))
            self.branch(after)
        self.position_at_end(after)
        merged = []
        for pair in zip(outcomes[0][0], outcomes[1][0], strict=True):
            phi = self.phi(pair[0].type)
            for value, (_, block) in zip(pair, outcomes, strict=True):
                phi.add_incoming(value, block)
            merged.append(phi)
        return merged

    # -- scalars and addresses ----------------------------------------------------------------------------------

    def index(self, value: ll.Value | int) -> ll.Value:
        """A Python int as an i64 constant; LLVM values pass."""
        return ll.Constant(I64, value) if isinstance(value, int) else value

    def widen_index(self, value: ll.Value) -> ll.Value:
        """A signed integer scalar as i64."""
        return value if value.type == I64 else self.sext(value, I64)

    def element(self, pointer: ll.Value, offset: ll.Value | int, element: ll.Type | str) -> ll.Value:
        """Address of element number `offset`; element is a dtype name or an LLVM type."""
        kind = storage_type(element) if isinstance(element, str) else element
        return self.gep(pointer, [self.index(offset)], inbounds=True, source_etype=kind)

    def byte(self, pointer: ll.Value, offset: ll.Value | int) -> ll.Value:
        """Address `offset` bytes past pointer."""
        return self.element(pointer, offset, I8)

    def stack(self, element: ll.Type | str, count: int, align: int = 64) -> ll.Value:
        """An uninitialised array of `count` elements on the stack, allocated once at function entry."""
        kind = storage_type(element) if isinstance(element, str) else element
        with self._at_function_start():
            array = self.alloca(ll.ArrayType(kind, count))
        array.align = align
        # llvmlite would type it as a pointer to the array, and then check stores of elements against that.
        array.type = PTR
        return array

    @contextmanager
    def _at_function_start(self) -> Iterator[None]:
        block = self.block
        entry = self.function.entry_basic_block
        if entry.instructions:
            self.position_before(entry.instructions[0])
        else:
            self.position_at_end(entry)
        yield
        self.position_at_end(block)

    # -- vectors ------------------------------------------------------------------------------------------------

    def splat(self, scalar: ll.Value, lanes: int) -> ll.Value:
        """The scalar in every lane."""
        if lanes == 1:
            return scalar
        kind = ll.VectorType(scalar.type, lanes)
        undefined = ll.Constant(kind, ll.Undefined)
        first = self.insert_element(undefined, scalar, ll.Constant(I32, 0))
        return self.shuffle_vector(first, undefined, ll.Constant(ll.VectorType(I32, lanes), None))

    def lane(self, vector: ll.Value, number: int) -> ll.Value:
        """One lane as a scalar."""
        return vector if lanes_of(vector) == 1 else self.extract_element(vector, ll.Constant(I32, number))

    def from_lanes(self, scalars: Sequence[ll.Value]) -> ll.Value:
        """A vector of the given scalars."""
        if len(scalars) == 1:
            return scalars[0]
        vector = ll.Constant(ll.VectorType(scalars[0].type, len(scalars)), ll.Undefined)
        for number, scalar in enumerate(scalars):
            vector = self.insert_element(vector, scalar, ll.Constant(I32, number))
        return vector

    def iota(self, lanes: int, element: ll.Type = I64, stride: int = 1) -> ll.Constant:
        """0, stride, 2*stride, ... as a constant vector."""
        if lanes == 1:
            return ll.Constant(element, 0)
        numbers = [wrap_integer(k * stride, element.width) for k in range(lanes)]
        return ll.Constant(ll.VectorType(element, lanes), numbers)

    def tail_mask(self, lanes: int, active: ll.Value | int) -> ll.Value:
        """<lanes x i1> whose first `active` lanes are set; an int gives a constant."""
        if isinstance(active, int):
            return ll.Constant(ll.VectorType(I1, lanes), [int(k < active) for k in range(lanes)])
        return self.icmp_signed("<", self.iota(lanes, active.type), self.splat(active, lanes))

    def load_vector(
        self, pointer: ll.Value, offset: ll.Value | int, dtype: str, lanes: int, active: ll.Value | int | None = None
    ) -> ll.Value:
        """`lanes` consecutive elements from element `offset`, in compute form.

        active: only that many leading lanes are read (an int, an i64, or a mask <lanes x i1>); the others are 0.
        """
        kind, align = storage_type(dtype), storage_bytes(dtype)
        address = self.element(pointer, offset, kind)
        mask = self._mask(lanes, active)
        if mask is None:
            return self.to_compute(self.load(address, typ=vector_type(kind, lanes), align=align), dtype)
        vector = ll.VectorType(kind, lanes)
        zero = ll.Constant(vector, None)
        arguments = [address, ll.Constant(I32, align), mask, zero]
        return self.to_compute(self.intrinsic(f"llvm.masked.load.{mangle(vector)}.p0", vector, arguments), dtype)

    def store_vector(
        self,
        value: ll.Value,
        pointer: ll.Value,
        offset: ll.Value | int,
        dtype: str,
        active: ll.Value | int | None = None,
        nontemporal: bool = False,
    ) -> None:
        """Round a compute value to dtype and store it from element `offset`. active: see `load_vector`.

        nontemporal asks for a streaming store, for outputs larger than L3; the address must then be a whole
        vector's multiple.
        """
        stored = self.to_storage(value, dtype)
        address = self.element(pointer, offset, storage_type(dtype))
        lanes, align = lanes_of(stored), storage_bytes(dtype)
        mask = self._mask(lanes, active)
        if mask is not None:
            arguments = [stored, address, ll.Constant(I32, align), mask]
            self.intrinsic(f"llvm.masked.store.{mangle(stored.type)}.p0", ll.VoidType(), arguments)
            return
        store = self.store(stored, address, align=align * lanes if nontemporal else align)
        if nontemporal:
            store.set_metadata("nontemporal", self.module.add_metadata([ll.Constant(I32, 1)]))

    def _mask(self, lanes: int, active: ll.Value | int | None) -> ll.Value | None:
        if active is None or (isinstance(active, int) and active >= lanes):
            return None
        assert lanes > 1, "a scalar access has no tail: guard it with a branch"
        if isinstance(active, int) or not isinstance(active.type, ll.VectorType):
            return self.tail_mask(lanes, active)
        return active

    def load_scalar(self, pointer: ll.Value, offset: ll.Value | int, dtype: str) -> ll.Value:
        """One element in compute form."""
        return self.load_vector(pointer, offset, dtype, 1)

    def load_strided(
        self,
        pointer: ll.Value,
        offset: ll.Value | int,
        stride: ll.Value | int,
        dtype: str,
        lanes: int,
        active: int | None = None,
    ) -> ll.Value:
        """Elements offset, offset + stride, ... in compute form. Strides 0 and 1 become a splat and a vector load.

        active: lanes from there on are not read and are 0.
        """
        if stride == 1:
            return self.load_vector(pointer, offset, dtype, lanes, active)
        if stride == 0:
            return self.splat(self.load_scalar(pointer, offset, dtype), lanes)
        kind, base, step = storage_type(dtype), self.index(offset), self.index(stride)
        scalars: list[ll.Value] = []
        for number in range(lanes):
            if active is not None and number >= active:
                scalars.append(ll.Constant(kind, 0))
                continue
            position = self.add(base, self.mul(step, self.index(number)))
            scalars.append(self.load(self.element(pointer, position, kind), typ=kind, align=storage_bytes(dtype)))
        return self.to_compute(self.from_lanes(scalars), dtype)

    def gather(
        self, pointer: ll.Value, indices: ll.Value, dtype: str, active: ll.Value | int | None = None
    ) -> ll.Value:
        """pointer[indices[k]] for each lane of an i64 (or i32) vector, in compute form; inactive lanes are 0."""
        kind, lanes = storage_type(dtype), lanes_of(indices)
        if lanes == 1:
            return self.load_scalar(pointer, self.widen_index(indices), dtype)
        addresses = self.gep(self.splat(pointer, lanes), [indices], source_etype=kind)
        # llvmlite types a gep over a vector of pointers by its scalar rule, so say what it is.
        addresses.type = ll.VectorType(PTR, lanes)
        mask = self._mask(lanes, active)
        if mask is None:
            mask = self.tail_mask(lanes, lanes)
        vector = ll.VectorType(kind, lanes)
        arguments = [addresses, ll.Constant(I32, storage_bytes(dtype)), mask, ll.Constant(vector, None)]
        name = f"llvm.masked.gather.{mangle(vector)}.v{lanes}p0"
        return self.to_compute(self.intrinsic(name, vector, arguments), dtype)

    # -- storage and compute forms ------------------------------------------------------------------------------

    def to_compute(self, stored: ll.Value, dtype: str) -> ll.Value:
        """Storage form -> compute form."""
        lanes = lanes_of(stored)
        if dtype == "bool":
            return self.icmp_unsigned("!=", stored, constant(I8, 0, lanes))
        if dtype == "bf16":
            wide = self.zext(stored, vector_type(I32, lanes))
            return self.bitcast(self.shl(wide, constant(I32, 16, lanes)), vector_type(F32, lanes))
        if dtype == "f16":
            return self._half_to_float(stored)
        return stored

    def to_storage(self, value: ll.Value, dtype: str) -> ll.Value:
        """Compute form -> storage form, rounding to nearest even; NaN stays NaN, overflow becomes infinite."""
        lanes = lanes_of(value)
        if dtype == "bool":
            return self.zext(value, vector_type(I8, lanes))
        if dtype == "bf16":
            return self._float_to_bf16(value)
        if dtype == "f16":
            return self._float_to_half(value)
        return value

    def round_to(self, value: ll.Value, dtype: str) -> ll.Value:
        """The compute value after a trip through storage: what a store and a load of dtype would give."""
        return self.to_compute(self.to_storage(value, dtype), dtype) if dtype in ("f16", "bf16") else value

    def _float_to_bf16(self, value: ll.Value) -> ll.Value:
        lanes = lanes_of(value)
        bits = self.bitcast(value, vector_type(I32, lanes))
        odd = self.and_(self.lshr(bits, constant(I32, 16, lanes)), constant(I32, 1, lanes))
        rounded = self.add(bits, self.add(odd, constant(I32, 0x7FFF, lanes)))
        # Rounding a NaN could carry it into infinity, so NaNs keep their top bits and become quiet.
        quiet = self.or_(bits, constant(I32, 0x400000, lanes))
        kept = self.select(self.fcmp_unordered("uno", value, value), quiet, rounded)
        return self.trunc(self.lshr(kept, constant(I32, 16, lanes)), vector_type(I16, lanes))

    def _converts_half(self) -> bool:
        return self.target.is_aarch64 or self.target.has_feature("f16c") or self.target.has_feature("avx512f")

    def _half_to_float(self, value: ll.Value) -> ll.Value:
        lanes = lanes_of(value)
        if self._converts_half():
            return self.fpext(value, vector_type(F32, lanes))
        # Without the instruction LLVM would call a runtime library. Scale the shifted bits by 2**112 instead:
        # the product is exact, subnormals included. Infinities and NaNs get the f32 exponent by hand.
        bits = self.zext(self.bitcast(value, vector_type(I16, lanes)), vector_type(I32, lanes))
        magnitude = self.and_(bits, constant(I32, 0x7FFF, lanes))
        shifted = self.shl(magnitude, constant(I32, 13, lanes))
        scaled = self.fmul(self.bitcast(shifted, vector_type(F32, lanes)), constant(F32, 2.0**112, lanes))
        special = self.icmp_unsigned(">=", magnitude, constant(I32, 0x7C00, lanes))
        result = self.select(
            special,
            self.or_(shifted, constant(I32, 0x7F800000, lanes)),
            self.bitcast(scaled, vector_type(I32, lanes)),
        )
        sign = self.shl(self.and_(bits, constant(I32, 0x8000, lanes)), constant(I32, 16, lanes))
        return self.bitcast(self.or_(result, sign), vector_type(F32, lanes))

    def _float_to_half(self, value: ll.Value) -> ll.Value:
        lanes = lanes_of(value)
        if self._converts_half():
            return self.fptrunc(value, vector_type(F16, lanes))
        bits = self.bitcast(value, vector_type(I32, lanes))
        magnitude = self.and_(bits, constant(I32, 0x7FFFFFFF, lanes))
        rounded = self._round_magnitude_to_half(magnitude)
        sign = self.lshr(self.and_(bits, constant(I32, 0x80000000, lanes)), constant(I32, 16, lanes))
        return self.bitcast(self.trunc(self.or_(rounded, sign), vector_type(I16, lanes)), vector_type(F16, lanes))

    def _round_magnitude_to_half(self, magnitude: ll.Value) -> ll.Value:
        """Bits of |x| as f32 -> bits of the nearest half (even on ties), in an i32."""
        lanes = lanes_of(magnitude)

        def number(k: int) -> ll.Value:
            return constant(I32, k, lanes)

        # Normal halves: rebias the exponent and round at bit 13; a carry into the exponent is right.
        odd = self.and_(self.lshr(magnitude, number(13)), number(1))
        normal = self.lshr(self.add(magnitude, self.add(odd, number(0xFFF - (112 << 23)))), number(13))
        # Subnormal halves: adding 0.5 lines the last bit up with 2**-24 and rounds in hardware.
        as_float = self.bitcast(magnitude, vector_type(F32, lanes))
        aligned = self.bitcast(self.fadd(as_float, constant(F32, 0.5, lanes)), vector_type(I32, lanes))
        subnormal = self.sub(aligned, number(0x3F000000))
        finite = self.select(self.icmp_unsigned("<", magnitude, number(113 << 23)), subnormal, normal)
        overflows = self.icmp_unsigned(">=", magnitude, number(0x477FF000))
        finite = self.select(overflows, number(0x7C00), finite)
        payload = self.and_(self.lshr(magnitude, number(13)), number(0x3FF))
        nan = self.or_(payload, number(0x7E00))
        return self.select(self.icmp_unsigned(">", magnitude, number(0x7F800000)), nan, finite)

    # -- intrinsics ---------------------------------------------------------------------------------------------

    def intrinsic(
        self, name: str, result: ll.Type, arguments: Sequence[ll.Value], flags: Sequence[str] = ()
    ) -> ll.Value:
        """Call an LLVM intrinsic (or any external function) by full name, declared once per module."""
        function = self.module.globals.get(name)
        if function is None:
            signature = ll.FunctionType(result, [argument.type for argument in arguments])
            function = ll.Function(self.module, signature, name)
        return self.call(function, list(arguments), fastmath=tuple(flags))

    def overloaded(self, name: str, *arguments: ll.Value) -> ll.Value:
        """Call `llvm.<name>` of the first argument's type, which is also the result's: fabs, sqrt, ctpop, umax..."""
        kind = arguments[0].type
        return self.intrinsic(f"llvm.{name}.{mangle(kind)}", kind, arguments)

    def multiply_add(self, a: ll.Value, b: ll.Value, c: ll.Value) -> ll.Value:
        """a * b + c: one rounding where the target has FMA, two where it has not (never a library call)."""
        if self.target.has_fma:
            return self.overloaded("fma", a, b, c)
        return self.fadd(self.fmul(a, b, flags=("contract",)), c, flags=("contract",))

    def fma(self, a: ll.Value, b: ll.Value, c: ll.Value, name: str = "", flags: Sequence[str] = ()) -> ll.Value:
        """Same as `multiply_add`; hides the base class's, which would call libm where there is no FMA."""
        return self.multiply_add(a, b, c)

    def fast_sum(self, a: ll.Value, b: ll.Value) -> ll.Value:
        """a + b where the sum's order is free: reassociation and contraction allowed, nothing else."""
        return self.fadd(a, b, flags=("reassoc", "contract"))

    def reduce(self, kind: str, vector: ll.Value, start: ll.Value | None = None) -> ll.Value:
        """All lanes to one scalar. kind: fadd, fmul (start needed), add, mul, and, or, xor, smax, smin, umax, umin.

        Float sums and products go in a tree whose shape depends on the lane count alone.
        """
        if lanes_of(vector) == 1:
            return vector if start is None else self._combine(kind, start, vector)
        element = element_of(vector)
        name = f"llvm.vector.reduce.{kind}.{mangle(vector.type)}"
        if kind in ("fadd", "fmul"):
            first = start if start is not None else constant(element, -0.0 if kind == "fadd" else 1.0)
            return self.intrinsic(name, element, [first, vector], flags=("reassoc",))
        assert start is None, f"reduce {kind} takes no start value"
        return self.intrinsic(name, element, [vector])

    def fold(self, vector: ll.Value, combine: Callable[[ll.Value, ll.Value], ll.Value]) -> ll.Value:
        """All lanes to one scalar through `combine`, by halving: for operations LLVM has no reduction for."""
        lanes = lanes_of(vector)
        assert lanes & (lanes - 1) == 0, f"fold needs a power of two lanes, got {lanes}"
        while lanes > 1:
            half = lanes // 2
            low, high = (self.slice_lanes(vector, start, half) for start in (0, half))
            vector, lanes = combine(low, high), half
        return vector

    def slice_lanes(self, vector: ll.Value, start: int, count: int) -> ll.Value:
        """Lanes start .. start+count of vector."""
        if count == 1:
            return self.lane(vector, start)
        mask = ll.Constant(ll.VectorType(I32, count), list(range(start, start + count)))
        return self.shuffle_vector(vector, ll.Constant(vector.type, ll.Undefined), mask)

    def concat_lanes(self, low: ll.Value, high: ll.Value) -> ll.Value:
        """Two vectors of one type, one after the other."""
        count = lanes_of(low)
        if count == 1:
            return self.from_lanes([low, high])
        mask = ll.Constant(ll.VectorType(I32, 2 * count), list(range(2 * count)))
        return self.shuffle_vector(low, high, mask)

    def _combine(self, kind: str, a: ll.Value, b: ll.Value) -> ll.Value:
        operation: Any = {"fadd": self.fadd, "fmul": self.fmul}[kind]
        return operation(a, b)


def mangle(kind: ll.Type) -> str:
    """LLVM's suffix for an overloaded intrinsic: f32, v16f32, i64."""
    lanes, element = lanes_of(kind), element_of(kind)
    text = {F16: "f16", F32: "f32", F64: "f64"}.get(element) or f"i{element.width}"
    return text if lanes == 1 else f"v{lanes}{text}"
