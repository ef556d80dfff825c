"""Runs the text of a kernel on NumPy arrays, all threads in lockstep: the check of what is written for a GPU where there is
none.

A value is an array over the threads of the grid, or one number for all. Where threads part ways, statements run under a
mask. What a GPU would not say is an error that names the kernel's line: an element outside a buffer, one of shared memory
that nothing stored, a barrier or a shuffle that not all threads reach, and a race: an element stored by one thread and read
or stored by another without a barrier between them.

Types are numba's: ints narrower than 64 bits widen, uint64 stays.
"""
from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from flambeau.codegen.cuda.lockstep import (
    ATOMICALLY,
    WARP,
    Array,
    Memory,
    Sectors,
    Warps,
    rounded_to_tf32,
    widened,
)
from flambeau.codegen.cuda.text import KernelText
from flambeau.errors import KernelError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir.kernel.scalar import SCALAR_OPS

__all__ = ["emulate"]

_MOST_THREADS: Final = 1 << 16          # run at once


def emulate(text: KernelText, buffers: Sequence[Array], sizes: Sequence[int] = (), status: Array | None = None,
            ways: dict[int, int] | None = None, sectors: Sectors | None = None) -> None:
    """Run a kernel on flat arrays of its params' storage dtypes, in place. sizes: runtime sizes, in order. status: where
    the kernel reports one, and its detail; i64[2] of zeros. ways: is told, for each line that touches shared memory, how
    many rows of one bank a warp wants at once there; 1 is best. sectors: is told what buffers are asked
    for. Raises KernelError where it does and there is no such
    array, VerificationError where it does what no kernel may."""
    if status is None:
        status = np.zeros(2, np.int64)
        emulate(text, buffers, sizes, status, ways, sectors)
        if status[0]:
            raise KernelError(f"the kernel ended with status {status[0]}", status=int(status[0]),
                              details=(int(status[1]), 0))
        return
    (function,) = [node for node in ast.parse(text.source).body if isinstance(node, ast.FunctionDef)]
    blocks = text.blocks(sizes)
    stored = [np.asarray(b).view({"f2": np.uint16, "b1": np.uint8}.get(b.dtype.str[1:], b.dtype)) for b in buffers]
    memory: dict[tuple[object, ...], Memory] = {}          # params in one place are one memory
    places = [(b.ctypes.data, b.dtype, len(b)) for b in stored]
    given = [Memory("status", status), *[memory.setdefault(place, Memory(f"b{n}", b))
                                          for n, (place, b) in enumerate(zip(places, stored, strict=True))],
             *[int(size) for size in sizes]]
    step = max(1, _MOST_THREADS // text.threads)
    for first in range(0, blocks, step):
        grid = _Grid(text, function, first, min(step, blocks - first), ways)
        grid.sectors = sectors
        with np.errstate(all="ignore"):
            grid.call(function, dict(zip([a.arg for a in function.args.args], given, strict=True)))


class _Grid(Warps):
    """Some blocks of a launch, all at once."""

    def __init__(self, text: KernelText, function: ast.FunctionDef, first: int, blocks: int,
                 ways: dict[int, int] | None = None):
        super().__init__()
        self.ways = ways
        self.text, self.function, self.threads, self.blocks = text, function, text.threads, blocks
        self.n = blocks * text.threads
        lane = np.arange(self.n)
        self.block_of = lane // text.threads
        self.lane = lane + first * text.threads
        self.warp_of = self.lane // WARP
        self.line = 0
        self.block_epoch = self.warp_epoch = 1
        self.cuda = {"threadIdx": lane % text.threads, "blockIdx": self.block_of + first}
        self.names: dict[str, Any] = _NAMES

    # functions

    def call(self, function: ast.FunctionDef, names: dict[str, Any], mask: Array | None = None) -> Any:
        for statement in function.body:
            if isinstance(statement, ast.Return):
                assert statement.value is not None
                return self.value(statement.value, names, mask)
            self.run(statement, names, mask)
        return None

    def fail(self, what: str) -> VerificationError:
        line = self.text.source.split("\n")[self.line - 1].strip() if self.line else ""
        return VerificationError(f"the CUDA text of {self.text.name} {what}, in line {self.line}: {line}")

    # statements

    def run(self, statement: ast.stmt, names: dict[str, Any], mask: Array | None) -> None:
        if names.get("__kernel__", True) and hasattr(statement, "lineno"):
            self.line = statement.lineno
        match statement:
            case ast.Assign([ast.Name(name)], value):
                new = self.value(value, names, mask)
                names[name] = new if mask is None or name not in names else _chosen(mask, new, names[name])
            case ast.Assign([ast.Subscript(target, index)], value):
                self.store(self.value(target, names, mask), self.value(index, names, mask),
                           self.value(value, names, mask), mask)
            case ast.Expr(value):
                self.value(value, names, mask)
            case ast.If(test, body, []):
                inside = _both(mask, self.value(test, names, mask), self.n)
                if inside.any():
                    for inner in body:
                        self.run(inner, names, inside)
            case ast.For(ast.Name(name), ast.Call(ast.Name("range"), args), body):
                bounds = [self.value(arg, names, mask) for arg in args]
                at, stop, step = {1: (0, *bounds, 1), 2: (*bounds, 1), 3: tuple(bounds)}[len(bounds)]
                while (going := np.asarray(at < stop)).any():
                    there = mask if going.all() else _both(mask, going, self.n)
                    if there is not None and not there.any():
                        break
                    names[name] = at
                    for inner in body:
                        self.run(inner, names, there)
                    at = at + step
            case _:
                raise self.fail(f"has a statement that no kernel has ({ast.dump(statement)[:60]})")

    # values

    def value(self, node: ast.expr, names: dict[str, Any], mask: Array | None) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Name(name):
                return names[name] if name in names else self.names[name]
            case ast.BinOp(left, op, right):
                return self.computed(op, self.value(left, names, mask), self.value(right, names, mask))
            case ast.UnaryOp(op, operand):
                return _UNARY[type(op)](self.value(operand, names, mask))
            case ast.BoolOp(ast.And(), values):
                found = [np.asarray(self.value(value, names, mask)) for value in values]
                return np.logical_and.reduce(np.broadcast_arrays(*found))
            case ast.Compare(left, [op], [right]):
                return _COMPARED[type(op)](self.value(left, names, mask), self.value(right, names, mask))
            case ast.IfExp(test, body, orelse):
                return _chosen(np.asarray(self.value(test, names, mask)), self.value(body, names, mask),
                               self.value(orelse, names, mask))
            case ast.Attribute(ast.Attribute(ast.Name("cuda"), which), "x"):
                return self.cuda[which]
            case ast.Attribute(ast.Name("math"), name):
                return getattr(math, name)
            case ast.Attribute(ast.Name("libdevice"), name):
                return _device_function(name)
            case ast.Subscript(target, index):
                return self.load(self.value(target, names, mask), self.value(index, names, mask), mask)
            case ast.Call(ast.Attribute(ast.Attribute(ast.Name("cuda"), ("shared" | "local") as place), "array"),
                          [size, ast.Name(kind), *_]):
                return self.array(place, self.value(size, names, mask), kind)
            case ast.Call(ast.Attribute(ast.Name("cuda"), name), args):
                return getattr(self, name)(mask, *[self.value(arg, names, mask) for arg in args])
            case ast.Call(ast.Name(name), args) if name.rstrip("0123456789") in ("load", "store") and name[-1].isdigit():
                return self.wide(name, [self.value(arg, names, mask) for arg in args], mask)
            case ast.Call(ast.Name(name), args) if (together := self.together(name)) is not None:
                return together(mask, *[self.value(arg, names, mask) for arg in args])
            case ast.Call(ast.Name(name), args) if name.startswith("atomic_"):
                return self.atomic(name, mask, *[self.value(arg, names, mask) for arg in args])
            case ast.Call(ast.Name("report"), args):
                return self.report(mask, *[self.value(arg, names, mask) for arg in args])
            case ast.Call(called, args):
                values = [self.value(arg, names, mask) for arg in args]
                function = _library().get(called.id) if isinstance(called, ast.Name) else None
                if function is not None:
                    given = dict(zip([a.arg for a in function.args.args], values, strict=True))
                    return self.call(function, {**given, "__kernel__": False}, mask)
                return self.value(called, names, mask)(*values)
            case _:
                raise self.fail(f"has an expression that no kernel has ({ast.dump(node)[:60]})")

    def computed(self, op: ast.operator, left: Any, right: Any) -> Any:
        """An int op that gives a float has mixed int64 with uint64, as numba would."""
        result = _BINARY[type(op)](left, right)
        if not isinstance(op, ast.Div) and np.asarray(result).dtype.kind == "f" and not any(
                np.asarray(side).dtype.kind == "f" for side in (left, right)):
            raise self.fail("mixes int64 and uint64, which gives a float")
        return result

    # memory

    def place(self, memory: Memory, index: Any, mask: Array | None) -> tuple[Array, Array]:
        """(the threads that are there, the element of each)."""
        who = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        where = np.broadcast_to(np.asarray(index), (self.n,))[who].astype(np.int64)
        size = memory.per_block or len(memory.values)
        outside = (where < 0) | (where >= size)
        if outside.any():
            raise self.fail(f"touches element {where[outside][0]} of {memory.name}, which has {size}")
        return who, where + (who if memory.is_local else self.block_of[who]) * memory.per_block

    def load(self, memory: Memory, index: Any, mask: Array | None) -> Array:
        who, where = self.place(memory, index, mask)
        self.count_ways(memory, index, 1, mask)
        self.count_sectors(memory, index, 1, mask, "read")
        self.arrived(memory, where)
        if memory.defined is not None and not memory.defined[where].all():
            raise self.fail(f"reads an element of {memory.name} that nothing stored")
        if memory.is_local:
            return self.spread(memory, who, where)
        self.race(memory, who, where, memory.writer, "written", "reads what another thread stored")
        seen = memory.reader[where]
        same = self.is_now(memory, who, where, "read") & (seen != -1) & (seen != self.lane[who])
        memory.reader[where] = np.where(same, -2, self.lane[who])
        first = np.full(len(memory.values), -1)
        first[where] = self.lane[who]
        memory.reader[where] = np.where(first[where] != self.lane[who], -2, memory.reader[where])
        self.touch(memory, where, "read")
        return self.spread(memory, who, where)

    def spread(self, memory: Memory, who: Array, where: Array) -> Array:
        values = np.zeros(self.n, memory.values.dtype)
        values[who] = memory.values[where]
        return widened(values)

    def store(self, memory: Memory, index: Any, value: Any, mask: Array | None) -> None:
        who, where = self.place(memory, index, mask)
        self.count_ways(memory, index, 1, mask)
        self.count_sectors(memory, index, 1, mask, "stored")
        self.arrived(memory, where)
        if not memory.is_local:
            if len(np.unique(where)) < len(where):
                raise self.fail(f"stores an element of {memory.name} from two threads at once")
            self.race(memory, who, where, memory.writer, "written", "stores what another thread stored")
            self.race(memory, who, where, memory.reader, "read", "stores what another thread read")
            memory.writer[where] = self.lane[who]
            self.touch(memory, where, "written")
        values = np.broadcast_to(np.asarray(value), (self.n,))[who]
        memory.values[where] = values.astype(memory.values.dtype)
        if memory.defined is not None:
            memory.defined[where] = True

    def wide(self, name: str, given: Sequence[Any], mask: Array | None) -> None:
        """Neighbouring elements from a buffer to a local array, or back."""
        buffer, first, array = given
        width = int(name.lstrip("loadstre"))
        self.aligned(width, buffer, first, mask)
        self.count_sectors(buffer, first, width, mask, "read" if name.startswith("load") else "stored")
        with self.counted():
            for number in range(width):
                if name.startswith("load"):
                    self.store(array, number, self.load(buffer, first + number, mask), mask)
                else:
                    self.store(buffer, first + number, self.load(array, number, mask), mask)

    def atomic(self, name: str, mask: Array | None, memory: Memory, index: Any, value: Any) -> None:
        """One thread after another; on a GPU in any order. Whoever else touches the element has to be in another launch."""
        _, how, kind = name.split("_")
        who, where = self.place(memory, index, mask)
        self.count_sectors(memory, index, 1, mask, "stored")
        for last, what in ((memory.writer, "written"), (memory.reader, "read")):
            mine = last[where] != ATOMICALLY
            self.race(memory, who[mine], where[mine], last, what, "adds to what another thread touched")
        memory.writer[where] = ATOMICALLY
        self.touch(memory, where, "written")
        values = np.broadcast_to(np.asarray(value), (self.n,))[who]
        if kind in ("f16", "bf16"):
            to, back = _NAMES[f"{kind}_to"], _NAMES[f"{kind}_from"]
            for at, x in zip(where, values, strict=True):
                memory.values[at] = to(back(memory.values[at]) + x)
        else:
            {"add": np.add, "max": np.maximum}[how].at(memory.values, where, values.astype(memory.values.dtype))

    def is_now(self, memory: Memory, who: Array, where: Array, kind: str) -> Array:
        """Whether no barrier lies between now and the last time."""
        block_epoch, warp_epoch = memory.when[kind]
        other = memory.writer[where] if kind == "written" else memory.reader[where]
        same_block = (other // self.threads == self.lane[who] // self.threads) | (other == -2)
        same_warp = (other // WARP == self.warp_of[who]) & (other >= 0)
        waited = np.where(same_warp, warp_epoch[where] < self.warp_epoch, block_epoch[where] < self.block_epoch)
        return ~(same_block & waited)

    def race(self, memory: Memory, who: Array, where: Array, last: Array, kind: str, what: str) -> None:
        other = last[where]
        clash = (other != -1) & (other != self.lane[who]) & self.is_now(memory, who, where, kind)
        if clash.any():
            at = int(np.flatnonzero(clash)[0])
            raise self.fail(f"{what}, without a barrier between them: element {where[at]} of {memory.name}")

    def touch(self, memory: Memory, where: Array, kind: str) -> None:
        block_epoch, warp_epoch = memory.when[kind]
        block_epoch[where], warp_epoch[where] = self.block_epoch, self.warp_epoch

    def array(self, place: str, size: int, kind: str) -> Memory:
        """Shared memory of each block, or a local array of each thread. numba has none without elements."""
        if size < 1:
            raise self.fail(f"asks for an array of {size} elements")
        total = size * (self.blocks if place == "shared" else self.n)
        return Memory("shared memory" if place == "shared" else "a local array", np.zeros(total, _TYPES[kind]), size,
                      np.zeros(total, np.bool_), is_local=place == "local")

    # what threads do together

    def all_here(self, mask: Array | None, what: str, group: int) -> None:
        if mask is not None and (mask.reshape(-1, group).any(1) != mask.reshape(-1, group).all(1)).any():
            raise self.fail(f"has {what} that some threads do not reach")

    def syncthreads(self, mask: Array | None) -> None:
        self.all_here(mask, "a barrier", self.threads)
        self.block_epoch += 1
        self.warp_epoch += 1

    def syncwarp(self, mask: Array | None) -> None:
        self.all_here(mask, "a barrier", WARP)
        self.warp_epoch += 1

    def shfl_xor_sync(self, mask: Array | None, members: int, value: Any, distance: Any) -> Array:
        self.all_here(mask, "a shuffle", WARP)
        if np.asarray(value).dtype == np.uint64:
            raise self.fail("shuffles a uint64, which numba does not")
        away = int(np.asarray(distance).flat[0])
        lanes = np.broadcast_to(np.asarray(value), (self.n,)).reshape(-1, WARP)
        return lanes[:, np.arange(WARP) ^ away].reshape(-1)

    def report(self, mask: Array | None, status: Memory, code: int, detail: Any) -> None:
        who = np.arange(self.n) if mask is None else np.flatnonzero(mask)
        if not status.values[0]:
            status.values[:] = (code, np.broadcast_to(np.asarray(detail), (self.n,))[who[0]])


def _both(mask: Array | None, test: Any, n: int) -> Array:
    inside = np.broadcast_to(np.asarray(test, np.bool_), (n,))
    return inside if mask is None else mask & inside


def _chosen(test: Array, yes: Any, no: Any) -> Any:
    if isinstance(yes, Memory) or callable(yes):
        return yes
    yes, no = np.asarray(yes), np.asarray(no)
    kinds = {yes.dtype, no.dtype}
    if len(kinds) == 2 and np.dtype(np.uint64) in kinds and np.dtype(np.int64) in kinds:
        raise VerificationError("a CUDA text chooses between int64 and uint64")
    return np.where(test, yes, no)


def _int(kind: str) -> Callable[[Any], Array]:
    return lambda x: widened(np.asarray(x).astype(_TYPES[kind]))


_TYPES: Final = {name: np.dtype(name) for name in (
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")}

_BINARY: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: np.divide,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.BitXor: operator.xor, ast.LShift: np.left_shift, ast.RShift: np.right_shift}

_UNARY: Final[dict[type, Callable[[Any], Any]]] = {
    ast.USub: operator.neg, ast.Not: np.logical_not, ast.Invert: operator.invert}

_COMPARED: Final[dict[type, Callable[[Any, Any], Any]]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne}

_NAMES: Final[dict[str, Any]] = {
    **{name: _int(name) for name in _TYPES if "int" in name},
    "float32": lambda x: np.asarray(x).astype(np.float32), "float64": lambda x: np.asarray(x).astype(np.float64),
    "abs": abs,
    "f32_max": lambda a, b: SCALAR_OPS["max"].meaning(np.float32(a), np.float32(b)),      # type: ignore[misc]
    "f32_min": lambda a, b: SCALAR_OPS["min"].meaning(np.float32(a), np.float32(b)),      # type: ignore[misc]
    "bits_of_f32": lambda x: np.asarray(x, np.float32).view(np.uint32).astype(np.int64),
    "bits_of_f64": lambda x: np.asarray(x, np.float64).view(np.uint64),
    "f16": lambda x: np.asarray(x).astype(np.float16).astype(np.float32),
    "bf16": lambda x: dt.bf16_to_f32(dt.f32_to_bf16(np.asarray(x, np.float32))),
    "f16_of_f64": lambda x: np.asarray(x).astype(np.float16).astype(np.float32),
    "f16_from": lambda bits: np.asarray(bits).astype(np.uint16).view(np.float16).astype(np.float32),
    "f16_to": lambda x: np.asarray(x).astype(np.float16).view(np.uint16),
    "bf16_from": lambda bits: dt.bf16_to_f32(np.asarray(bits).astype(np.uint16)),
    "tf32": lambda x: rounded_to_tf32(np.atleast_1d(np.asarray(x, np.float32)).view(np.uint32)),
    "tf32_bits": rounded_to_tf32,
    "bf16_to": lambda x: dt.f32_to_bf16(np.asarray(x, np.float32)),
}


@cache
def _device_function(name: str) -> Callable[..., Array]:
    """A function of CUDA's device library, by the meaning of the scalar op."""
    op, kind = (name[:-1], np.float32) if name.endswith("f") and name != "erf" else (name, np.float64)
    row = SCALAR_OPS["round" if op == "rint" else op]
    assert row.meaning is not None
    meaning = row.meaning

    def called(*operands: Any) -> Array:
        wide = np.float64 if row.is_wide else kind
        return np.asarray(meaning(*[np.asarray(x).astype(wide) for x in operands])).astype(kind)

    return called


@cache
def _library() -> dict[str, ast.FunctionDef]:
    text = Path(__file__).with_name("library.py").read_text(encoding="utf-8")
    return {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
