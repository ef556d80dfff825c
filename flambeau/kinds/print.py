"""Printing: a call of Python from a program, on the thread that runs it. `callback.py` is made of the same parts."""
from __future__ import annotations

import ctypes
import json
from collections.abc import Iterator, Sequence
from functools import cache
from math import prod
from typing import Any, Self

import numpy as np

from flambeau.codegen.artifact import Phase
from flambeau.ir.dtypes import DTYPES
from flambeau.ir.graph import Node
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import Machine
from flambeau.ir.kernel.parser import Parser
from flambeau.ir.kernel.text import Printer
from flambeau.ir.kernel.verifier import Checker
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.ops.printing import printed
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.loops import locations, params_of
from flambeau.passes.lowering.lower import Call, call_of, lone_op
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.host_functions import RAISED, host_address, register_host_function


@dataclass(frozen=True)
class PythonKernel(Kernel):
    """A call of Python with arrays. what: says which; operands: the param behind each; shapes: of each. extents: (1,)."""

    what: str
    operands: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    def lines(self, printer: Printer) -> Iterator[str]:
        shown = [f"{printer.param(number)} as {json.dumps(shape)}"
                 for number, shape in zip(self.operands, map(_spelled, self.shapes), strict=True)]
        yield f"  {self.keyword} {json.dumps(self.what)}{' of ' * bool(shown)}{', '.join(shown)}"

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        cursor = parser.cursor
        cursor.require(cls.keyword)
        what, operands, shapes = cursor.string("a text"), list[int](), list[tuple[int, ...]]()
        while cursor.accept("," if operands else "of"):
            operands.append(parser.buffer())
            cursor.require("as")
            shapes.append(_read(cursor.string("a shape")))
        return cls(name, tuple(parser.params), (1,), what, tuple(operands), tuple(shapes))

    def check(self, checker: Checker) -> None:
        if len(self.operands) != len(self.shapes):
            checker.fail(f"prints {len(self.operands)} operands of {len(self.shapes)} shapes")
        for number, shape in zip(self.operands, self.shapes, strict=True):
            if not 0 <= number < len(self.params):
                checker.fail(f"there is no param {number}")
            if self.params[number].elements != prod(shape):
                checker.fail(f"has {self.params[number].elements} elements, where its shape has {prod(shape)}",
                             f"param {self.params[number].name}")

    def run(self, machine: Machine) -> None:
        arrays = [machine.load(number).reshape(shape) for number, shape in zip(self.operands, self.shapes, strict=True)]
        self.call(self.what, arrays)

    @staticmethod
    def call(what: str, arrays: Sequence[np.ndarray]) -> None:
        """What it does. arrays: in storage layout."""
        raise NotImplementedError


@dataclass(frozen=True)
class PrintKernel(PythonKernel):
    """what: the text to fill."""

    keyword = "print"

    @staticmethod
    def call(what: str, arrays: Sequence[np.ndarray]) -> None:
        print(printed(what, arrays), flush=True)


def _spelled(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _read(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split("x"))) if text else ()


def python_call(node: Node, name: str, kind: type[PythonKernel], what: str) -> list[Call]:
    """The one call of a fused group that is an op which calls Python."""
    (inner, operands), region = lone_op(node), node.regions[0]
    shapes = tuple([value.type.static_shape for value in inner.operands])
    return [call_of(node, kind(name, params_of(region), (1,), what, operands, shapes, locations=locations(region)))]


def emit_python(kernel: PythonKernel, module: Any, symbol: str, target: Any) -> tuple[list[Phase], list[int]]:
    """No code of its own: a call of the host, whose name says all."""
    types = [f"{kernel.params[number].dtype}:{_spelled(shape)}"
             for number, shape in zip(kernel.operands, kernel.shapes, strict=True)]
    name = ".".join([kernel.keyword, kernel.what.encode().hex(), *types])
    return [Phase(name, 1, kernel.operands, parallel=False, host=True, sizes=(0,),
                  errors=((RAISED, f"debug_{kernel.keyword}: Python raised something that is lost"),))], []


def python_host(kind: type[PythonKernel], symbol: str) -> int:
    """The address of what `print.68690a.f32:2x3` names."""
    _, text, *types = symbol.split(".")
    what = bytes.fromhex(text).decode()
    sides = [(DTYPES[dtype], _read(shape)) for dtype, shape in (spelled.split(":") for spelled in types)]

    def call(context: int, buffers: int, sizes: int, begin: int, end: int) -> int:
        pointers = (ctypes.c_void_p * len(sides)).from_address(buffers) if sides else ()
        kind.call(what, [as_ndarray(Buffer(pointer or 0, prod(shape) * dtype.itemsize, "cpu", None), dtype.storage, shape)
                         for pointer, (dtype, shape) in zip(pointers, sides, strict=True)])
        return 0

    register_host_function(symbol, call)
    return host_address(symbol)


def _lower(node: Node, name: str) -> list[Call]:
    return python_call(node, name, PrintKernel, lone_op(node)[0].op.text)           # type: ignore[attr-defined]


@cache
def _host(symbol: str) -> int:
    return python_host(PrintKernel, symbol)


KIND = Kind("print", PrintKernel, _lower, implementations={"cpu": Implementation(emit_python, host=_host)})
