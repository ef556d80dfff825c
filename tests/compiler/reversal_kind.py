"""A kind of kernel that is not Flambeau's, in one file: an op, its kernel, and how both are compiled and run.

`reversal(x)` gives x with each row (its last dim) from back to front, and where each element stood. A NaN is refused, with
the number of its row. It stands for kinds that need whole rows, have several results and may fail, such as sorts and
calls of libraries.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, ClassVar, Self

import llvmlite.ir as ll
import numpy as np

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, new_kernel
from flambeau.errors import KernelError
from flambeau.ir import dtypes
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Node, Value
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Machine
from flambeau.ir.kernel.parser import Parser
from flambeau.ir.kernel.text import Printer
from flambeau.ir.kernel.verifier import Checker
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.op import Op, Sample
from flambeau.ir.ops.families import check_arity
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.passes.lowering.loops import locations, params_of
from flambeau.passes.lowering.lower import Call, call_of, lone_op

NOT_A_NUMBER = 77

# -- the op -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reversal(Op):
    """x -> (x from back to front along its last dim, the i64 position there that each element comes from)."""

    name = "reversal"
    kernel_kind = "reversal"

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if x.rank == 0:
            raise self.fail(f"needs a dim, found {x}")
        return x, x.with_dtype(dtypes.i64)

    def evaluate(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        (x,) = operands
        _refuse(x.reshape(-1, x.shape[-1]) if x.size else x)
        positions = np.broadcast_to(np.arange(x.shape[-1])[::-1], x.shape)
        return x[..., ::-1], positions.astype(np.int64)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        return (None if cotangents[0] is None else b.emit(self, cotangents[0])[0],)

    def errors(self, types: Sequence[TensorType], operands: Sequence[np.ndarray], errors: Sequence[np.ndarray | None],
               results: Sequence[np.ndarray]) -> Sequence[np.ndarray | None]:
        return None if errors[0] is None else errors[0][..., ::-1], None

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for x in ("f32[2,3]", "f32[5]", "bf16[3,1]", "i64[2,2,4]", "bool[3,5]", "f64[0,3]", "f32[3,0]"):
            yield drawn(cls(), x)


def _refuse(rows: np.ndarray) -> None:
    bad = np.flatnonzero((rows != rows).any(-1)) if rows.size else []
    if len(bad):
        raise KernelError(ReversalKernel.messages[NOT_A_NUMBER].format(bad[0], 0), status=NOT_A_NUMBER,
                          details=(int(bad[0]), 0))


# -- the kernel -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReversalSchedule:
    """grain: rows handed to a thread at a time. parallel: worth more than one thread."""

    grain: int = 1
    parallel: bool = True


@dataclass(frozen=True)
class ReversalKernel(Kernel):
    """Params: x, then x from back to front along the last of `extents`, then where each element stood."""

    keyword: ClassVar[str] = "reversal"
    schedules: ClassVar[Mapping[str, type]] = {"schedule": ReversalSchedule}
    messages: ClassVar[Mapping[int, str]] = {NOT_A_NUMBER: "row {0} has a NaN"}

    extents: tuple[int, ...]
    schedule: ReversalSchedule | None = field(default=None, kw_only=True)

    def lines(self, printer: Printer) -> Iterator[str]:
        yield f"  rows {', '.join(printer.extents(self.extents))}"

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        parser.cursor.require("rows")
        extents: Any = parser.extents(0, static=True)
        return cls(name, tuple(parser.params), extents)

    def check(self, checker: Checker) -> None:
        if [p.role for p in self.params] != ["in", "out", "out"]:
            checker.fail("needs an operand and two results")
        x, y, positions = self.params
        if x.dtype is not y.dtype or positions.dtype is not dtypes.i64:
            checker.fail(f"gives {y.dtype} and {positions.dtype}, not {x.dtype} and i64")
        for param in self.params:
            if param.elements != prod(self.extents):
                checker.fail(f"has {prod(self.extents)} elements to store, not {param.elements}", f"param {param.name}")
        if self.schedule is not None:
            checker.require_positive(self.schedule, ("grain",))
        checker.stored |= {1, 2}

    def run(self, machine: Machine) -> None:
        rows = machine.load(0).reshape(-1, self.extents[-1]) if prod(self.extents) else machine.load(0)
        _refuse(rows)
        if rows.size:
            machine.store(1, rows[:, ::-1])
            machine.store(2, np.broadcast_to(np.arange(self.extents[-1])[::-1], rows.shape))


# -- compiling it -----------------------------------------------------------------------------------------------------


def lower(node: Node, name: str) -> list[Call]:
    (op, (x,)), region = lone_op(node), node.regions[0]
    assert x == 0, "its only operand"
    kernel = ReversalKernel(name, params_of(region), op.operands[0].type.static_shape, locations=locations(region))
    return [call_of(node, kernel)]


def schedule(kernel: ReversalKernel, target: Target) -> ReversalKernel:
    rows = prod(kernel.extents[:-1])
    return replace(kernel, schedule=ReversalSchedule(max(1, rows // (4 * target.cores)), target.cores > 1))


def emit(kernel: ReversalKernel, module: ll.Module, symbol: str, target: Target) -> tuple[list[Phase], tuple[int, ...]]:
    """One function; a task is a row."""
    assert kernel.schedule is not None
    emitter, columns = new_kernel(module, symbol, target), kernel.extents[-1]
    arguments = emitter.kernel
    x, y, positions = (emitter.buffer(number) for number in range(3))
    emitter.loop(arguments.begin, arguments.end, 1,
                 lambda row: _emit_row(emitter, row, columns, kernel.params[0].dtype, x, y, positions))
    emitter.succeed()
    tasks = prod(kernel.extents[:-1]) if columns else 0
    return [Phase(symbol, tasks, (0, 1, 2), kernel.schedule.grain, kernel.schedule.parallel,
                  errors=tuple(kernel.messages.items()))], ()


def _emit_row(b: Emitter, row: ll.Value, columns: int, dtype: dtypes.DType, x: ll.Value, y: ll.Value,
              positions: ll.Value) -> None:
    start = b.mul(row, b.index(columns))

    def one(i: ll.Value) -> None:
        source = b.sub(b.index(columns - 1), i)
        element = b.load_scalar(x, b.add(start, source), dtype.name)
        if dtype.is_floating_point:
            b.fail_if(b.fcmp_unordered("uno", element, element), NOT_A_NUMBER, row, ll.Constant(I64, 0))
        b.store_vector(element, y, b.add(start, i), dtype.name)
        b.store_vector(source, positions, b.add(start, i), "i64")

    b.loop(0, columns, 1, one)


KIND = Kind("reversal", ReversalKernel, lower, implementations={"cpu": Implementation(emit, schedule)})
