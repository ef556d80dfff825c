"""Calls of libraries: an op that LAPACK computes, matrix by matrix of a batch.

    library @k0 {
      in in0: f32[18]
      in in1: f32[12]
      out out0: f32[12]
      call solve(in0, in1) over %i0 = 2, %i1 = 3, %i2 = 2
    }

`FUNCTIONS` says for each what it means (an op) and how a Fortran routine does it: which arrays it works on, filled from
which operand, becoming which result, and its argument list as one would write it. The rest follows. In a program such a
kernel is a call of the host, `library.solve.f32`, which runs without the GIL, in the calling thread. Behind the name stands
native code, made when a program that needs it is loaded: it copies a matrix to scratch memory, column by column as
Fortran has it, calls the routine at the address that `runtime.lapack` gives, and copies what it finds there to the result.
Where no routine can be had, NumPy's meaning of the op stands behind the name, and takes the GIL.

The code serves all sizes, which come with each call: the batch, then the value of each expression in `Function.sizes`.
"""
from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from math import prod
from typing import Any, Final, Self

import llvmlite.ir as ll
import numpy as np

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.llvm.emitter import (
    I8,
    I32,
    I64,
    PTR,
    Emitter,
    constant,
    new_kernel,
    new_module,
    storage_type,
)
from flambeau.codegen.cpu.toolchain import emit_object
from flambeau.errors import KernelError
from flambeau.ir.dtypes import DTYPES, DType, i32
from flambeau.ir.graph import Node
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Machine
from flambeau.ir.kernel.parser import Parser
from flambeau.ir.kernel.text import Printer
from flambeau.ir.kernel.verifier import Checker
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.ops.matrices import failure_message
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target
from flambeau.kinds.routines import FUNCTIONS, Array, Function, arguments_of, value_of
from flambeau.passes.lowering.loops import locations, params_of
from flambeau.passes.lowering.lower import Call, call_of, lone_op
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.host import host_target
from flambeau.runtime.lapack import Lapack, lapack
from flambeau.runtime.loader import Library, load
from flambeau.runtime.native.layout import ContextRecord

# -- the kernel -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LibraryKernel(Kernel):
    """extents: the batch, then the function's dims. operands: the param behind each; the results are the last params."""

    keyword = "library"

    function: str
    operands: tuple[int, ...]

    @property
    def called(self) -> Function:
        return FUNCTIONS[self.function]

    @property
    def dtype(self) -> DType:
        """Of the elements."""
        return self.params[self.operands[0]].dtype

    @property
    def batch(self) -> int:
        return int(self.extents[0])

    @property
    def dims(self) -> dict[str, int]:
        """The function's dims, by name."""
        return {name: int(e) for (name, _, _), e in zip(self.called.dims, self.extents[1:], strict=True)}

    @property
    def results(self) -> tuple[int, ...]:
        """The param behind each result."""
        return tuple(range(len(self.params) - len(self.called.results), len(self.params)))

    @property
    def can_fail(self) -> bool:
        return self.called.fails is not None

    @property
    def messages(self) -> Mapping[int, str]:        # type: ignore[override]
        status = self.called.fails
        raised = {_RAISED: f"{self.function}: Python, which computes it here, was interrupted or raised an error"}
        return raised if status is None else {status: failure_message(status, self.batch)} | raised

    def may_share(self, read: int, written: int) -> bool:
        return False

    def lines(self, printer: Printer) -> Iterator[str]:
        operands = ", ".join(printer.param(number) for number in self.operands)
        yield f"  call {self.function}({operands}) over {', '.join(printer.extents(self.extents))}"

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        cursor = parser.cursor
        cursor.require("call")
        function = cursor.choice(f"a function ({', '.join(FUNCTIONS)})", FUNCTIONS)
        cursor.require("(")
        operands = cursor.listed(parser.buffer)
        cursor.require(")", "over")
        return cls(name, tuple(parser.params), parser.extents(0, static=True), function, operands)

    def check(self, checker: Checker) -> None:
        function = self.called
        if len(self.extents) != 1 + len(function.dims):
            checker.fail(f"{self.function} has a batch and {len(function.dims)} dims, not {len(self.extents)} extents")
        if len(self.operands) != len(function.operands) or len(self.params) <= len(function.results):
            checker.fail(f"{self.function} takes {len(function.operands)} operands and gives {len(function.results)}")
        sides = [(self.operands, function.operands, "in"), (self.results, function.results, "out")]
        for number in self.operands:
            if not 0 <= number < len(self.params):
                checker.fail(f"there is no param {number}")
        if self.dtype.name not in ("f32", "f64"):
            checker.fail(f"works on f32 or f64, not {self.dtype}")
        value = self.value
        for numbers, arrays, role in sides:
            for number, array in zip(numbers, arrays, strict=True):
                self._check_param(checker, number, array, prod(array.shape(self.batch, value)), role)
        checker.stored |= set(self.results)

    def _check_param(self, checker: Checker, number: int, array: Array, elements: int, role: str) -> None:
        param, dtype = self.params[number], self.dtype if array.holds == "elements" else i32
        item = f"param {param.name}"
        if param.role != role:
            checker.fail(f"is {param.role}, where {self.function} has {role}", item)
        if param.dtype is not dtype:
            checker.fail(f"is {param.dtype}, where {self.function} has {dtype}", item)
        if param.elements != elements:
            checker.fail(f"has {param.elements} elements, where {self.function} has {elements}", item)

    @property
    def value(self) -> dict[str, int]:
        """Of every expression that the function depends on."""
        return {expression: value_of(expression, self.dims) for expression in self.called.sizes}

    def run(self, machine: Machine) -> None:
        value = self.value
        operands = [machine.load(number).reshape(array.shape(self.batch, value))
                    for number, array in zip(self.operands, self.called.operands, strict=True)]
        for number, result in zip(self.results, _meaning(self.called, operands), strict=True):
            machine.store(number, result)


def _meaning(function: Function, operands: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    with np.errstate(all="ignore"):
        found = function.op.evaluate(*operands)
    return found if isinstance(found, tuple) else (found,)


def _lower(node: Node, name: str) -> list[Call]:
    (inner, operands), region = lone_op(node), node.regions[0]
    function = next(name for name, function in FUNCTIONS.items() if function.op == inner.op)
    shapes, called = [value.type.static_shape for value in inner.operands], FUNCTIONS[function]
    extents = (called.batch(shapes), *[called.extent(shapes, number) for number in range(len(called.dims))])
    return [call_of(node, LibraryKernel(name, params_of(region), extents, function, operands, locations=locations(region)))]


# -- calling it -------------------------------------------------------------------------------------------------------


def _emit(kernel: LibraryKernel, module: ll.Module, symbol: str, target: Target) -> tuple[list[Phase], list[int]]:
    """No code of its own: a call of the host, with scratch memory for the arrays that the routine works on."""
    function = kernel.called
    if not any(kernel.params[number].elements for number in kernel.results):
        return [], []
    dtype, value = kernel.dtype, kernel.value
    scratch = [prod(array.shape(1, value)) * (dtype.itemsize if array.holds == "elements" else 8)
               for array in function.arrays.values()]
    first = len(kernel.params)
    params = (*kernel.operands, *kernel.results, *range(first, first + len(scratch)))
    sizes = (kernel.batch, *value.values())
    return [Phase(f"{kernel.keyword}.{kernel.function}.{dtype}", 1, params, parallel=False, host=True, sizes=sizes,
                  errors=tuple(kernel.messages.items()))], scratch


def _host(symbol: str) -> int:
    """The address of what `library.solve.f32` names."""
    _, name, dtype = symbol.split(".")
    return _address(name, DTYPES[dtype], lapack() if FUNCTIONS[name].calls else None)


_kept: Final[dict[int, Any]] = {}           # what lies at each address, for as long as the process lives


@cache
def _address(name: str, dtype: DType, library: Lapack | None) -> int:
    made = _calling_back(name, dtype) if library is None else [_adapter(name, dtype, library)]
    (address,) = made[0].addresses.values()
    _kept[address] = made
    return address


def _adapter(name: str, dtype: DType, library: Lapack) -> Library:
    """Native code that calls the library's routines."""
    target, symbol = host_target(), f"flambeau_{name}_{dtype}_{library.name.partition(' ')[0]}"
    module = new_module(symbol, target)
    emission = _Adapter(FUNCTIONS[name], dtype, library.integer_bits, new_kernel(module, symbol, target))
    emission.emit()
    imports = {routine: library.address(routine) for routine in emission.routines}
    return load([emit_object(module, target)], [symbol], imports={_imported(r): a for r, a in imports.items()})


def _imported(routine: str) -> str:
    return f"flambeau_lapack_{routine}"


class _Adapter:
    """Writes the function. Its buffers are the operands, the results and the arrays, in this order."""

    def __init__(self, function: Function, dtype: DType, integer_bits: int, b: Emitter) -> None:
        self.function, self.dtype, self.b = function, dtype, b
        self.integer = ll.IntType(integer_bits)
        self.routines: list[str] = []
        self.value = {expression: b.size(1 + number) for number, expression in enumerate(function.sizes)}
        first = len(function.operands) + len(function.results)
        self.buffer_of = {name: b.buffer(first + number) for number, name in enumerate(function.arrays)}
        self.passed: dict[str, ll.Value] = {}                       # what is the same in all calls, by how it is written
        self.info = b.stack(self.integer, 1)

    def emit(self) -> None:
        b = self.b
        for argument in dict.fromkeys(chain.from_iterable(arguments_of(call) for call in self.function.calls)):
            self.passed[argument] = self.argument(argument)
        loaded = [a for a in self.function.arrays.values() if a.loads is not None]
        sizes = [self.value[expression] for array in loaded for expression in (array.rows, array.columns)]
        smallest = functools.reduce(lambda a, size: b.overloaded("smin", a, size), sizes)
        self.has_elements = b.icmp_signed(">", smallest, b.index(0))
        b.loop(0, b.size(0), 1, self.matrix, name="matrix")
        b.succeed()

    def argument(self, argument: str) -> ll.Value:
        """The address of an argument that Fortran is given."""
        b = self.b
        if argument in self.function.arrays:
            return self.buffer_of[argument]
        if argument == "info":
            return self.info
        if argument[0] == "'":
            value = ll.Constant(I8, ord(argument[1]))
        elif "." in argument:
            value = constant(storage_type(self.dtype.name), float(argument))
        else:
            value = self.value[argument]
            if self.integer != I64:
                value = b.trunc(value, self.integer)
        place = b.stack(value.type, 1)
        b.store(value, place)
        return place

    def matrix(self, number: ll.Value) -> None:
        """One of the batch: in, through the routines, and out."""
        b, function = self.b, self.function
        for name, array in function.arrays.items():
            if array.loads is not None:
                self.copy(array, b.buffer(array.loads), number, self.buffer_of[name], loads=True)
        if "info" in function.arrays:
            b.store(ll.Constant(self.integer, 0), self.buffer_of["info"])
        with b.if_then(self.has_elements):                  # routines refuse matrices of none
            for call in function.calls:
                self.call(call, number)
        if function.numbers is not None:
            self.require_numbers(function.numbers, number)
        for name, array in function.arrays.items():
            if array.gives is not None:
                buffer = b.buffer(len(function.operands) + array.gives)
                self.copy(array, buffer, number, self.buffer_of[name], loads=False)

    def call(self, call: str, number: ll.Value) -> None:
        b, module = self.b, self.b.module
        routine = f"{'s' if self.dtype.name == 'f32' else 'd'}{call.partition('(')[0]}"
        arguments = [self.passed[argument] for argument in arguments_of(call)]
        found = module.globals.get(_imported(routine))
        if found is None:
            self.routines.append(routine)
            found = ll.Function(module, ll.FunctionType(ll.VoidType(), [PTR] * len(arguments)), _imported(routine))
        b.call(found, arguments)
        if "info" in arguments_of(call) and "info" not in self.function.arrays:
            assert self.function.fails is not None, f"{call} can fail, and nothing says how"
            info = b.load(self.info, typ=self.integer)
            b.fail_if(b.icmp_signed("!=", info, ll.Constant(self.integer, 0)), self.function.fails, number, info)

    def require_numbers(self, name: str, number: ll.Value) -> None:
        """The first NaN on an array's diagonal, or in a vector, is a failure, as the routine should have seen."""
        array = self.function.arrays[name]
        b, rows, fails = self.b, self.value[array.rows], self.function.fails
        step = b.index(1) if array.columns == "1" else b.add(rows, b.index(1))

        def check(at: ll.Value) -> None:
            element = b.load_scalar(self.buffer_of[name], b.mul(at, step), self.dtype.name)
            is_nan, order = b.fcmp_unordered("uno", element, element), b.add(at, b.index(1))
            if fails is not None:
                b.fail_if(is_nan, fails, number, order)
                return
            found = b.load(self.buffer_of["info"], typ=self.integer)
            is_first = b.and_(is_nan, b.icmp_signed("==", found, ll.Constant(self.integer, 0)))
            order = order if self.integer == I64 else b.trunc(order, self.integer)
            b.store(b.select(is_first, order, found), self.buffer_of["info"])

        with b.if_then(self.has_elements):
            b.loop(0, rows, 1, check, name="diagonal")

    def could(self) -> ll.Value | None:
        """Whether info says so, where it is a result."""
        if "info" not in self.function.arrays or self.function.gives_failed:
            return None
        info = self.b.load(self.buffer_of["info"], typ=self.integer)
        return self.b.icmp_signed("==", info, ll.Constant(self.integer, 0))

    def copy(self, array: Array, buffer: ll.Value, number: ll.Value, columnwise: ll.Value, loads: bool) -> None:
        """A matrix of `buffer`, where it lies row by row, to scratch or from there. A few rows at a time, so that what lies
        in columns is read or written a cache line at once."""
        b, dtype = self.b, self.dtype.name if array.holds == "elements" else "i32"
        held = dtype if array.holds == "elements" else f"i{self.integer.width}"
        rows, columns = self.value[array.rows], self.value[array.columns]
        rowwise = b.element(buffer, b.mul(number, b.mul(rows, columns)), dtype)
        band, could = 64 // self.dtype.itemsize, None if loads or array.holds == "integers" else self.could()

        def element(row: ll.Value, column: ll.Value) -> None:
            place, other = b.add(b.mul(row, columns), column), b.add(row, b.mul(column, rows))
            if loads:
                value = b.load_scalar(rowwise, place, dtype)
                b.store_vector(b.sext(value, I64) if held == "i64" else value, columnwise, other, held)
                return
            value = b.load_scalar(columnwise, other, held)
            if held == "i64":
                value = b.trunc(value, I32)
            if could is not None:
                value = b.select(could, value, constant(value.type, float("nan")))
            if array.keeps != "all":
                kept = b.icmp_signed(">=" if array.keeps == "lower" else "<=", row, column)
                value = b.select(kept, value, constant(value.type, 0.0))
            b.store_vector(value, rowwise, place, dtype)

        def rows_from(first: ll.Value) -> None:
            last = b.overloaded("smin", b.add(first, b.index(band)), rows)
            b.loop(0, columns, 1, lambda column: b.loop(first, last, 1, lambda row: element(row, column)) and None)

        b.loop(0, rows, band, rows_from, name="rows")


# -- without a library ------------------------------------------------------------------------------------------------

_CALLBACK: Final = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int64),
                                    ctypes.POINTER(ctypes.c_int32))
_RAISED: Final = -1             # the status where Python raised something else than the function means to


def _calling_back(name: str, dtype: DType) -> list[Any]:
    """Native code that calls Python back, and the callback, which says in memory how it ended: where Python raises, such as
    for Ctrl-C before the first line, what ctypes returns is anything."""
    target, symbol = host_target(), f"flambeau_{name}_{dtype}_python"
    callback, module = _callback(FUNCTIONS[name], dtype), new_module(symbol, target)
    b = new_kernel(module, symbol, target)
    python = ll.Function(module, ll.FunctionType(ll.VoidType(), [PTR] * 4), f"{symbol}_callback")
    status = b.stack(I32, 1)
    b.store(ll.Constant(I32, _RAISED), status)
    b.call(python, [*b.function.args[:3], status])
    b.ret(b.load(status, typ=I32))
    address = ctypes.cast(callback, ctypes.c_void_p).value
    assert address is not None, "a callback lies somewhere"
    return [load([emit_object(module, target)], [symbol], imports={python.name: address}), callback]


def _callback(function: Function, dtype: DType) -> Any:
    """The same by NumPy: called from native code, it takes the GIL."""
    sides = [(array, dtype if array.holds == "elements" else i32) for array in (*function.operands, *function.results)]

    def call(context: int, buffers: Any, sizes: Any, status: Any) -> None:
        try:
            value = {expression: sizes[1 + number] for number, expression in enumerate(function.sizes)}
            arrays = []
            for number, (array, kind) in enumerate(sides):
                shape = array.shape(sizes[0], value)
                memory = Buffer(buffers[number] or 0, prod(shape) * kind.itemsize, "cpu", None)
                arrays.append(as_ndarray(memory, kind.storage, shape))
            count = len(function.operands)
            for place, found in zip(arrays[count:], _meaning(function, arrays[:count]), strict=True):
                place[...] = found.reshape(place.shape)
            status[0] = 0
        except KernelError as error:
            record = ContextRecord.from_address(context)
            record.detail0, record.detail1 = error.details
            status[0] = error.status
        except BaseException:                   # such as no memory, or Ctrl-C: nothing may pass through native code
            status[0] = _RAISED

    return _CALLBACK(call)


KIND = Kind("library", LibraryKernel, _lower, implementations={"cpu": Implementation(_emit, host=_host)})
