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
from dataclasses import dataclass
from functools import cache
from itertools import chain
from math import prod
from typing import Any, Final, Literal, Self

import llvmlite.ir as ll
import numpy as np

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.host import host_target
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
from flambeau.ir import ops
from flambeau.ir.dtypes import DTYPES, DType, i32
from flambeau.ir.graph import Node
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Machine
from flambeau.ir.kernel.parser import Parser
from flambeau.ir.kernel.text import Printer
from flambeau.ir.kernel.verifier import Checker
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.op import Op
from flambeau.ir.ops.linear_algebra import NOT_POSITIVE_DEFINITE, SINGULAR, failure_message
from flambeau.ir.target import Target
from flambeau.passes.lowering.loops import locations, params_of
from flambeau.passes.lowering.lower import Call, call_of, lone_op
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.lapack import Lapack, lapack
from flambeau.runtime.loader import Library, load
from flambeau.runtime.native.layout import ContextRecord

# -- what there is to call --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Array:
    """What a routine works on: scratch memory of a matrix, in columns, or of a vector. rows, columns: expressions of a
    function's dims, such as "n" or "3*n+1". loads: the operand it starts as. gives: the result it becomes; of a triangle
    that is kept the other one becomes zeros. holds: integers are as wide as the library has them, and i32 as results."""

    rows: str
    columns: str = "1"
    loads: int | None = None
    gives: int | None = None
    keeps: Literal["all", "lower", "upper"] = "all"
    holds: Literal["elements", "integers"] = "elements"

    def shape(self, batch: int, value: Mapping[str, int]) -> tuple[int, ...]:
        """Of all of them, as an op has it. value: of its expressions."""
        return (batch, value[self.rows]) if self.columns == "1" else (batch, value[self.rows], value[self.columns])


@dataclass(frozen=True)
class Function:
    """op: what it means. dims: (name, operand, dim of that operand) of each size that arrays depend on. calls: Fortran
    calls, without the letter for the dtype; an argument is an array, 'a letter', an expression, a number with a point, or
    `info`, which is 0 for success. fails: the status that another info becomes, with the number of the matrix and info as
    details. An array called info is no failure, but a result; what other arrays give is NaN then. numbers: an array whose
    diagonal holds numbers if the call succeeded (not every routine sees NaN)."""

    op: Op
    dims: tuple[tuple[str, int, int], ...]
    arrays: Mapping[str, Array]
    calls: tuple[str, ...]
    fails: int | None = None
    numbers: str | None = None

    @property
    def operands(self) -> list[Array]:
        """The array that each operand fills."""
        return self._placed([(array.loads, array) for array in self.arrays.values()])

    @property
    def results(self) -> list[Array]:
        """The array that each result comes from."""
        return self._placed([(array.gives, array) for array in self.arrays.values()])

    def _placed(self, found: Sequence[tuple[int | None, Array]]) -> list[Array]:
        placed = {number: array for number, array in found if number is not None}
        return [placed[number] for number in range(len(placed))]

    @property
    def sizes(self) -> tuple[str, ...]:
        """Every expression that the code of this function needs the value of, each once."""
        of_arrays = chain.from_iterable([(a.rows, a.columns) for a in self.arrays.values()])
        passed = [a for call in self.calls for a in _arguments(call) if self._is_size(a)]
        return tuple(dict.fromkeys([*of_arrays, *passed]))

    def _is_size(self, argument: str) -> bool:
        return argument not in self.arrays and argument != "info" and argument[0] != "'" and "." not in argument


def _arguments(call: str) -> list[str]:
    """`gesv(n, k, a)` -> n, k, a."""
    return [argument.strip() for argument in call.partition("(")[2].rstrip(")").split(",")]


def _value(expression: str, sizes: Mapping[str, int]) -> int:
    """`3*n+1` in numbers."""
    return sum(prod(sizes[f] if f in sizes else int(f) for f in term.split("*")) for term in expression.split("+"))


_EQUATIONS: Final = (("n", 0, -1), ("k", 1, -1))
_SOLVING: Final = {"a": Array("n", "n", loads=0), "b": Array("n", "k", loads=1, gives=0)}

FUNCTIONS: Final[dict[str, Function]] = {
    "solve": Function(
        ops.Solve(), _EQUATIONS, _SOLVING | {"pivots": Array("n", holds="integers")},
        ("gesv(n, k, a, n, pivots, b, n, info)",), fails=SINGULAR),
    "solve_lower": Function(
        ops.SolveTriangular(upper=False), _EQUATIONS, _SOLVING, ("trsm('L', 'L', 'N', 'N', n, k, 1.0, a, n, b, n)",)),
    "solve_upper": Function(
        ops.SolveTriangular(upper=True), _EQUATIONS, _SOLVING, ("trsm('L', 'U', 'N', 'N', n, k, 1.0, a, n, b, n)",)),
    "solve_unit_lower": Function(
        ops.SolveTriangular(upper=False, unit=True), _EQUATIONS, _SOLVING,
        ("trsm('L', 'L', 'N', 'U', n, k, 1.0, a, n, b, n)",)),
    "solve_unit_upper": Function(
        ops.SolveTriangular(upper=True, unit=True), _EQUATIONS, _SOLVING,
        ("trsm('L', 'U', 'N', 'U', n, k, 1.0, a, n, b, n)",)),
    "cholesky": Function(
        ops.Cholesky(), (("n", 0, -1),), {"a": Array("n", "n", loads=0, gives=0, keeps="lower")},
        ("potrf('L', n, a, n, info)",), fails=NOT_POSITIVE_DEFINITE, numbers="a"),
    "cholesky_ex": Function(
        ops.CholeskyEx(), (("n", 0, -1),),
        {"a": Array("n", "n", loads=0, gives=0, keeps="lower"), "info": Array("1", gives=1, holds="integers")},
        ("potrf('L', n, a, n, info)",), numbers="a"),
}


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
        return {expression: _value(expression, self.dims) for expression in self.called.sizes}

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
    shapes = [value.type.static_shape for value in inner.operands]
    extents = (prod(shapes[0][:-2]), *[shapes[operand][dim] for _, operand, dim in FUNCTIONS[function].dims])
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
    return _address(name, DTYPES[dtype], lapack())


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
        for argument in dict.fromkeys(chain.from_iterable(_arguments(call) for call in self.function.calls)):
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
        arguments = [self.passed[argument] for argument in _arguments(call)]
        found = module.globals.get(_imported(routine))
        if found is None:
            self.routines.append(routine)
            found = ll.Function(module, ll.FunctionType(ll.VoidType(), [PTR] * len(arguments)), _imported(routine))
        b.call(found, arguments)
        if "info" in _arguments(call) and "info" not in self.function.arrays:
            assert self.function.fails is not None, f"{call} can fail, and nothing says how"
            info = b.load(self.info, typ=self.integer)
            b.fail_if(b.icmp_signed("!=", info, ll.Constant(self.integer, 0)), self.function.fails, number, info)

    def require_numbers(self, name: str, number: ll.Value) -> None:
        """The first NaN on an array's diagonal is a failure, as the routine should have seen."""
        b, rows, fails = self.b, self.value[self.function.arrays[name].rows], self.function.fails

        def check(at: ll.Value) -> None:
            element = b.load_scalar(self.buffer_of[name], b.mul(at, b.add(rows, b.index(1))), self.dtype.name)
            is_nan, order = b.fcmp_unordered("uno", element, element), b.add(at, b.index(1))
            if fails is not None:
                b.fail_if(is_nan, fails, number, order)
                return
            found = b.load(self.buffer_of["info"], typ=self.integer)
            is_first = b.and_(is_nan, b.icmp_signed("==", found, ll.Constant(self.integer, 0)))
            order = order if self.integer == I64 else b.trunc(order, self.integer)
            b.store(b.select(is_first, order, found), self.buffer_of["info"])

        b.loop(0, rows, 1, check, name="diagonal")

    def could(self) -> ll.Value | None:
        """Whether info says so, where it is a result."""
        if "info" not in self.function.arrays:
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
                b.store_vector(b.load_scalar(rowwise, place, dtype), columnwise, other, dtype)
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
