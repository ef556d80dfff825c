"""An IRBuilder that speaks the kernel ABI, flambeau dtypes and vectors.

Values live in two forms. *Storage* is what memory holds (bf16 is i16, f16 is half, bool is i8);
*compute* is what arithmetic sees (bf16 and f16 widen to f32, bool is i1). Loads widen, stores round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.lltypes import (
    F16,
    F32,
    F64,
    I1,
    I8,
    I16,
    I32,
    I64,
    PTR,
    SplatConstant,
    compute_type,
    constant,
    element_of,
    is_float,
    is_signed,
    lane_number,
    lane_order,
    lanes_of,
    mangle,
    round_to_bf16,
    round_to_f32,
    round_to_half,
    storage_bytes,
    storage_type,
    undefined,
    vector_type,
    wrap_integer,
    zeros,
)
from flambeau.codegen.cpu.llvm.narrow_floats import bf16_to_float, float_to_bf16, float_to_half, half_to_float
from flambeau.codegen.cpu.llvm.numbers import Int, Number
from flambeau.codegen.cpu.llvm.text_builder import TextBuilder, index_constant
from flambeau.ir.kernel import Kernel
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target

__all__ = [
    "F16",
    "F32",
    "F64",
    "I1",
    "I8",
    "I16",
    "I32",
    "I64",
    "KERNEL_TYPE",
    "PTR",
    "Emitter",
    "KernelArguments",
    "RuntimeNumbers",
    "SplatConstant",
    "compute_type",
    "constant",
    "element_of",
    "is_float",
    "is_signed",
    "lanes_of",
    "mangle",
    "new_kernel",
    "new_module",
    "round_to_bf16",
    "round_to_f32",
    "round_to_half",
    "storage_bytes",
    "storage_type",
    "vector_type",
    "wrap_integer",
]

I128 = ll.IntType(128)
KERNEL_TYPE = ll.FunctionType(I32, [PTR, PTR, PTR, I64, I64])
_DETAIL_OFFSETS = (8, 16)


def new_module(name: str, target: Target) -> ll.Module:
    """An empty module. Its data layout is set by the toolchain."""
    module = ll.Module(name)
    module.triple = target.triple
    return module


def new_kernel(module: ll.Module, name: str, target: Target, kernel: Kernel | None = None) -> Emitter:
    """Begin `i32 name(ctx, buffers, sizes, begin, end)` and return an emitter placed in its entry block.

    The caller ends it with `emitter.succeed()`. kernel: whose runtime numbers the emitter knows by name.
    """
    function = ll.Function(module, KERNEL_TYPE, name)
    function.attributes.add("nounwind")
    for argument, label in zip(function.args, ("ctx", "buffers", "sizes", "begin", "end"), strict=True):
        argument.name = label
    for pointer in function.args[:3]:
        pointer.add_attribute("noalias")
    numbers = RuntimeNumbers({}, {}) if kernel is None else RuntimeNumbers.of(kernel)
    return Emitter(function.append_basic_block("entry"), target, numbers)


@dataclass(frozen=True)
class RuntimeNumbers:
    """Where each runtime number of a kernel is in the table of sizes, and the params that do not begin at element 0: their
    first one's name, and their dtype."""

    place: Mapping[str, int]
    first: Mapping[int, tuple[str, str]]

    @classmethod
    def of(cls, kernel: Kernel) -> RuntimeNumbers:
        first = {number: (param.first, param.dtype.name) for number, param in enumerate(kernel.params)
                 if isinstance(param.first, str)}
        return cls({name: number for number, name in enumerate(kernel.sizes)}, first)


@dataclass(frozen=True)
class KernelArguments:
    """The five arguments of the kernel ABI."""

    ctx: ll.Value
    buffers: ll.Value
    sizes: ll.Value
    begin: ll.Value
    end: ll.Value


class Emitter(TextBuilder):
    """Builds the body of one function for one target."""

    def __init__(self, block: ll.Block, target: Target, numbers: RuntimeNumbers | None = None) -> None:
        super().__init__(block)
        self.target = target
        self.numbers = RuntimeNumbers({}, {}) if numbers is None else numbers
        # Values that pure builders have made, by block and operands (see `vmath.emit_philox`).
        self.memo: dict[tuple[Any, ...], Any] = {}

    # -- kernel ABI ---------------------------------------------------------------------------------------------

    @property
    def kernel(self) -> KernelArguments:
        """The arguments of the kernel being built."""
        return KernelArguments(*self.function.args)

    def buffer(self, number: int) -> ll.Value:
        """Data pointer of kernel param `number`, at the element that its addresses count from."""
        start = self._table_entry(self.kernel.buffers, number, PTR)
        if number not in self.numbers.first:
            return start
        key = "buffer", number
        if key not in self.memo:
            name, dtype = self.numbers.first[number]
            offset = self.number(name)
            with self.goto_entry_block():
                self.memo[key] = self.element(start, offset, dtype)
        return self.memo[key]

    def size(self, number: int) -> ll.Value:
        """Entry `number` of the table of sizes, an i64."""
        return self._table_entry(self.kernel.sizes, number, I64)

    def number(self, name: str) -> ll.Value:
        """The runtime number of this name, an i64."""
        return self.size(self.numbers.place[name])

    def runtime_constant(self, name: str, dtype: str, lanes: int) -> ll.Value:
        """The const that is the runtime number `name`, in every lane. Asked again in the same block, the same value."""
        key = self.block.name, "const", name, dtype, lanes
        if key not in self.memo:
            kind = compute_type(dtype)
            value = self.load(self.element(self.kernel.sizes, self.numbers.place[name], I64), typ=kind, align=8)
            value.set_metadata("invariant.load", self.module.add_metadata([]))
            self.memo[key] = self.splat(value, lanes)
        return self.memo[key]

    def _table_entry(self, table: ll.Value, number: int, element: ll.Type) -> ll.Value:
        key = "entry", table.name, number
        if key not in self.memo:
            with self.goto_entry_block():
                value = self.load(self.element(table, number, element), typ=element, align=8)
            # The tables do not change while a kernel runs, whatever the kernel stores elsewhere.
            value.set_metadata("invariant.load", self.module.add_metadata([]))
            self.memo[key] = value
        return self.memo[key]

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
        start: ll.Value | Int,
        stop: ll.Value | Int,
        step: ll.Value | Int,
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

    def repeat(
        self,
        count: Int,
        body: Callable[..., Sequence[ll.Value]],
        carry: Sequence[ll.Value],
        name: str = "i",
    ) -> list[ll.Value]:
        """`count` times (at least once) carry = body(*carry). Returns the last carry."""
        assert not isinstance(count, int) or count > 0, "the loop tests its count at its end"
        times = self.index(count)
        before, inside, after = self.block, self.append_basic_block(name), self.append_basic_block(f"{name}.end")
        self.branch(inside)
        self.position_at_end(inside)
        left = self.phi(I64)
        left.add_incoming(times, before)
        carried = [self.phi(value.type) for value in carry]
        for phi, value in zip(carried, carry, strict=True):
            phi.add_incoming(value, before)
        results = list(body(*carried))
        rest = self.sub(left, index_constant(1), flags=("nsw",))
        left.add_incoming(rest, self.block)
        for phi, value in zip(carried, results, strict=True):
            phi.add_incoming(value, self.block)
        self.cbranch(self.icmp_signed("!=", rest, index_constant(0)), inside, after)
        self.position_at_end(after)
        return results

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

    def opaque(self, value: ll.Value) -> ll.Value:
        """The i64 or pointer `value`, hidden from LLVM's loop passes. They would search for the cheapest way to step
        whatever is computed from a loop counter; for the few addresses of a tile that costs milliseconds and saves
        nothing."""
        return self.asm(ll.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)

    # -- scalars and addresses ----------------------------------------------------------------------------------

    def index(self, value: ll.Value | Int) -> ll.Value:
        """A Python int as an i64 constant, a runtime number as the i64 that it is in this call; LLVM values pass."""
        if isinstance(value, int):
            return index_constant(value)
        return self._worked_out(value) if isinstance(value, Number) else value

    def _worked_out(self, number: Number) -> ll.Value:
        """A runtime number, worked out once when the function is entered."""
        key = "worked out", number
        if key not in self.memo:
            if number.op == "name":
                return self.number(str(number.operands[0]))
            x, y = (self.index(operand) for operand in number.operands if not isinstance(operand, str))
            with self.goto_entry_block():
                match number.op:
                    case "add":
                        value = self.add(x, y)
                    case "sub":
                        value = self.sub(x, y)
                    case "mul":
                        value = self.mul(x, y)
                    case "div":
                        value = self.udiv(x, y)
                    case "min" | "max":
                        value = self.select(self.icmp_signed("<" if number.op == "min" else ">", x, y), x, y)
            self.memo[key] = value
        return self.memo[key]

    def divided(self, value: ll.Value, by: ll.Value | Int) -> tuple[ll.Value, ll.Value]:
        """(value / by, value % by), of numbers that are not negative. By a runtime number below 2**32 a division costs a
        product with its reciprocal, which is worked out when the function is entered: with R = (2**64 - 1) / by, the upper
        half of (value + 1) * R is the quotient of every value below 2**32."""
        if not isinstance(by, Number):
            divisor = self.index(by)
            return self.udiv(value, divisor), self.urem(value, divisor)
        divisor, key = self.index(by), ("reciprocal", by)
        if key not in self.memo:
            with self.goto_entry_block():
                self.memo[key] = self.zext(self.udiv(ll.Constant(I64, -1), divisor), I128)
        product = self.mul(self.zext(self.add(value, self.index(1)), I128), self.memo[key])
        quotient = self.trunc(self.lshr(product, ll.Constant(I128, 64)), I64)
        return quotient, self.sub(value, self.mul(quotient, divisor))

    def widen_index(self, value: ll.Value) -> ll.Value:
        """A signed integer scalar as i64."""
        return value if value.type == I64 else self.sext(value, I64)

    def element(self, pointer: ll.Value, offset: ll.Value | Int, element: ll.Type | str) -> ll.Value:
        """Address of element number `offset`; element is a dtype name or an LLVM type."""
        place = self.index(offset)
        if isinstance(place, ll.Constant) and place.constant == 0:
            return pointer
        kind = storage_type(element) if isinstance(element, str) else element
        return self.gep(pointer, [place], inbounds=True, source_etype=kind)

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
        nothing = undefined(vector_type(scalar.type, lanes))
        first = self.insert_element(nothing, scalar, lane_number(0))
        return self.shuffle_vector(first, nothing, zeros(vector_type(I32, lanes)))

    def lane(self, vector: ll.Value, number: int) -> ll.Value:
        """One lane as a scalar."""
        return vector if lanes_of(vector) == 1 else self.extract_element(vector, lane_number(number))

    def from_lanes(self, scalars: Sequence[ll.Value]) -> ll.Value:
        """A vector of the given scalars."""
        if len(scalars) == 1:
            return scalars[0]
        vector = undefined(vector_type(scalars[0].type, len(scalars)))
        for number, scalar in enumerate(scalars):
            vector = self.insert_element(vector, scalar, lane_number(number))
        return vector

    def iota(self, lanes: int, element: ll.Type = I64, stride: int = 1) -> ll.Constant:
        """0, stride, 2*stride, ... as a constant vector."""
        if lanes == 1:
            return ll.Constant(element, 0)
        numbers = [wrap_integer(k * stride, element.width) for k in range(lanes)]
        return ll.Constant(ll.VectorType(element, lanes), numbers)

    def steps(self, lanes: int, stride: Int, element: ll.Type = I64) -> ll.Value:
        """0, stride, 2*stride, ... as a vector of integers; of a runtime number worked out once. A gather by i32, which
        they must fit, takes half the time of one by i64."""
        if isinstance(stride, int) or lanes == 1:
            return self.iota(lanes, element, stride if isinstance(stride, int) else 1)
        key = "steps", lanes, stride, element
        if key not in self.memo:
            number = self.index(stride)
            with self.goto_entry_block():
                step = self.trunc(number, element)
                self.memo[key] = self.mul(self.iota(lanes, element), self.splat(step, lanes))
        return self.memo[key]

    def tail_mask(self, lanes: int, active: ll.Value | int) -> ll.Value:
        """<lanes x i1> whose first `active` lanes are set; an int gives a constant."""
        if isinstance(active, int):
            return ll.Constant(ll.VectorType(I1, lanes), [int(k < active) for k in range(lanes)])
        return self.icmp_signed("<", self.iota(lanes, active.type), self.splat(active, lanes))

    def load_vector(
        self, pointer: ll.Value, offset: ll.Value | Int, dtype: str, lanes: int, active: ll.Value | int | None = None
    ) -> ll.Value:
        """`lanes` consecutive elements from element `offset`, in compute form.

        active: only that many leading lanes are read (an int, an i64, or a mask <lanes x i1>); the others are 0.
        """
        kind, align = storage_type(dtype), storage_bytes(dtype)
        address = self.element(pointer, offset, kind)
        mask = self._mask(lanes, active)
        if mask is None:
            return self.to_compute(self.load(address, typ=vector_type(kind, lanes), align=align), dtype)
        vector = vector_type(kind, lanes)
        arguments = [address, ll.Constant(I32, align), mask, zeros(vector)]
        return self.to_compute(self.intrinsic(f"llvm.masked.load.{mangle(vector)}.p0", vector, arguments), dtype)

    def store_vector(
        self,
        value: ll.Value,
        pointer: ll.Value,
        offset: ll.Value | Int,
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
        if active == 1 and isinstance(active, int) and lanes > 1:
            self.store(self.lane(stored, 0), address, align=align)
            return
        mask = self._mask(lanes, active)
        if mask is not None:
            arguments = [stored, address, ll.Constant(I32, align), self._store_mask(mask, stored, active)]
            self.intrinsic(f"llvm.masked.store.{mangle(stored.type)}.p0", ll.VoidType(), arguments)
            return
        store = self.store(stored, address, align=align * lanes if nontemporal else align)
        if nontemporal:
            store.set_metadata("nontemporal", self.module.add_metadata([ll.Constant(I32, 1)]))

    def _store_mask(self, mask: ll.Value, stored: ll.Value, active: ll.Value | int | None) -> ll.Value:
        """The mask, hidden from constant folding where LLVM could miscompile the store.

        With AVX-512, LLVM before 23 stores the *untruncated* element, past its end, when a truncated vector is
        stored under a mask it knows to have one lane (llvm/llvm-project#179489). Masks of a known lane count are
        handled by the caller; any other might turn out constant.
        """
        element, lanes = element_of(stored), lanes_of(stored)
        is_at_risk = isinstance(element, ll.IntType) and element.width < 64 and self.target.has_feature("avx512f")
        if not is_at_risk or isinstance(active, int):
            return mask
        bits, register = ll.IntType(lanes), I64 if lanes > 32 else I32
        number = self.bitcast(mask, bits)
        if bits != register:
            number = self.zext(number, register)
        number = self.asm(ll.FunctionType(register, [register]), "", "=r,0", [number], side_effect=False)
        if bits != register:
            number = self.trunc(number, bits)
        return self.bitcast(number, mask.type)

    def _mask(self, lanes: int, active: ll.Value | int | None) -> ll.Value | None:
        if active is None or (isinstance(active, int) and active >= lanes):
            return None
        assert lanes > 1, "a scalar access has no tail: guard it with a branch"
        if isinstance(active, int) or not isinstance(active.type, ll.VectorType):
            return self.tail_mask(lanes, active)
        return active

    def load_scalar(self, pointer: ll.Value, offset: ll.Value | Int, dtype: str) -> ll.Value:
        """One element in compute form."""
        return self.load_vector(pointer, offset, dtype, 1)

    def load_words(self, pointer: ll.Value, offset: ll.Value | Int, dtype: str, lanes: int) -> ll.Value:
        """`lanes` times 32 bits of neighbouring elements (two of bf16, four bytes) from element `offset`."""
        address = self.element(pointer, offset, dtype)
        return self.load(address, typ=vector_type(I32, lanes), align=storage_bytes(dtype))

    def load_strided(
        self,
        pointer: ll.Value,
        offset: ll.Value | Int,
        stride: ll.Value | Int,
        dtype: str,
        lanes: int,
        active: ll.Value | int | None = None,
    ) -> ll.Value:
        """Elements offset, offset + stride, ... in compute form. Strides 0 and 1 become a splat and a vector load.

        active: lanes from there on are not read and are 0.
        """
        if stride == 1:
            return self.load_vector(pointer, offset, dtype, lanes, active)
        if stride == 0:
            return self.splat(self.load_scalar(pointer, offset, dtype), lanes)
        kind, base, step = storage_type(dtype), self.index(offset), self.index(stride)
        if active is not None and not isinstance(active, int):
            indices = self.add(self.splat(base, lanes), self.mul(self.splat(step, lanes), self.iota(lanes)))
            return self.gather(pointer, indices, dtype, active)
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
        arguments = [addresses, ll.Constant(I32, storage_bytes(dtype)), mask, zeros(vector)]
        name = f"llvm.masked.gather.{mangle(vector)}.v{lanes}p0"
        return self.to_compute(self.intrinsic(name, vector, arguments), dtype)

    # -- storage and compute forms ------------------------------------------------------------------------------

    def to_compute(self, stored: ll.Value, dtype: str) -> ll.Value:
        """Storage form -> compute form."""
        lanes = lanes_of(stored)
        if dtype == "bool":
            return self.icmp_unsigned("!=", stored, constant(I8, 0, lanes))
        if dtype == "bf16":
            return bf16_to_float(self, stored)
        if dtype == "f16":
            return half_to_float(self, stored)
        return stored

    def to_storage(self, value: ll.Value, dtype: str) -> ll.Value:
        """Compute form -> storage form, rounding to nearest even; NaN stays NaN, overflow becomes infinite."""
        lanes = lanes_of(value)
        if dtype == "bool":
            return self.zext(value, vector_type(I8, lanes))
        if dtype == "bf16":
            return float_to_bf16(self, value)
        if dtype == "f16":
            return float_to_half(self, value)
        return value

    def round_to(self, value: ll.Value, dtype: str) -> ll.Value:
        """The compute value after a trip through storage: what a store and a load of dtype would give."""
        return self.to_compute(self.to_storage(value, dtype), dtype) if dtype in ("f16", "bf16") else value

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

    def multiply_add_groups(self, a: ll.Value, b: ll.Value, c: ll.Value, dtypes: tuple[str, str]) -> ll.Value:
        """c plus the products of the elements in each 32 bits of a and b, of these dtypes: two of bf16, summed in f32 one
        after the other, or four of an unsigned and a signed byte in i32. bf16 and sums below 2**-126 count as zero."""
        if dtypes == ("bf16", "bf16"):
            return self.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", c.type, [c, a, b])
        unsigned, signed = (a, b) if dtypes == ("u8", "i8") else (b, a)
        return self.intrinsic("llvm.x86.avx512.vpdpbusd.512", c.type, [c, unsigned, signed])

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
        return self.shuffle_vector(vector, undefined(vector.type), lane_order(tuple(range(start, start + count))))

    def _combine(self, kind: str, a: ll.Value, b: ll.Value) -> ll.Value:
        operation: Any = {"fadd": self.fadd, "fmul": self.fmul}[kind]
        return operation(a, b)
