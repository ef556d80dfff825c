"""Eager ops on another device: each runs as a small compiled program of its own, which is kept. Loaded with the first
tensor that lies there.

The key of a program is the op and, for each operand, its type; for a view that lies in memory otherwise than row-major in
one piece, the type of its base and the chain of view ops, which then are part of the program: views are never copied. A
rank-0 tensor of the CPU is a number that comes with the call. Ops that can't be compiled run on copies on the host.
"""
from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final

import numpy as np

from flambeau import config
from flambeau.backends import Runnable
from flambeau.compiler import compile_graph
from flambeau.errors import UnsupportedError
from flambeau.frontend.tape.mixing import check_mixing, device_among
from flambeau.frontend.tape.writes import through_views
from flambeau.frontend.tensor.storage import DeviceStorage
from flambeau.frontend.tensor.strides import aligned_address, plain_place
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.attributes import op_key
from flambeau.ir.builder import Builder
from flambeau.ir.devices import infer
from flambeau.ir.evaluation import apply
from flambeau.ir.graph import Graph, Value
from flambeau.ir.op import Op
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.devices import memory_on
from flambeau.runtime.program import Program

_EXACT: Final = 1 << 53                     # integers up to here are f64s
_NUMBER: Final = TensorType((), dt.f64)


class _Call:
    """What one call is given, operand by operand: pointers, numbers, and what keeps memory alive."""

    def __init__(self, device: str, target: DeviceStorage | None = None):
        self.device, self.target = device, target
        self.pointers: list[int] = []
        self.numbers: list[float] = []
        self.held: list[Any] = []

    def key(self, t: Tensor) -> Hashable:
        """How the program gets a tensor, which is put among what the call is given."""
        if t._type.device == "cpu":
            if not t._type.shape:
                return self._number(t)
            t = uploaded(t, self.device)    # an array that some function made for itself
        storage = t._storage
        assert isinstance(storage, DeviceStorage), f"{t._type} lies on a device"
        if storage is self.target:
            return "target", t._chain
        self.held.append(storage)
        address = aligned_address(t)
        if address is not None:
            self.pointers.append(address)
            return t._type
        self.pointers.append(storage.pointer)
        return storage.base, t._chain

    def _number(self, t: Tensor) -> Hashable:
        number = t.item()
        if t._type.dtype.is_integer and not -_EXACT <= number <= _EXACT:
            return "constant", ops.literal(number, t._type.dtype)
        self.numbers.append(float(number))
        return "number", t._type.dtype

    def run(self, runnable: Runnable, results: Sequence[TensorType]) -> tuple[Tensor, ...]:
        """The results, in new memory."""
        memory = memory_on(self.device)
        buffers = [memory.allocate(t.nbytes) for t in results]
        runnable.fast_call(*self.pointers, *self.numbers, *[buffer.ptr for buffer in buffers])
        return tuple([over(buffer, t) for buffer, t in zip(buffers, results, strict=True)])


def over(buffer: Buffer, type: TensorType) -> Tensor:
    """A tensor over memory of a device."""
    return Tensor._make(DeviceStorage(buffer, type), type)


def uploaded(t: Tensor, device: str, non_blocking: bool = False) -> Tensor:
    """A copy on `device` of a tensor of the CPU, off the tape."""
    array = np.ascontiguousarray(t._data())
    return over(memory_on(device).from_host(array, non_blocking=non_blocking), t._type.on(device))


# -- ops --------------------------------------------------------------------------------------------------------------


def evaluate(op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The results of an op some of whose operands lie on a device."""
    if isinstance(op, ops.Place):
        return (uploaded(operands[0], op.device),)
    device = device_among(op, operands)
    check_mixing(op, operands, device)
    call = _Call(device)
    keys = tuple([call.key(t) for t in operands])
    key = (device, op_key(op), keys)
    found = _programs.get(key)
    if found is None:                       # keys tell the operands' types, and those the results'
        results = infer(op, [t._type for t in operands])
        found = _programs[key] = _compiled(op, keys), results
    runnable, results = found
    if runnable is None:
        return _on_host(op, operands, results, device)
    return call.run(runnable, results)


def _compiled(op: Op, keys: Sequence[Hashable]) -> Runnable | None:
    """The program of one op; None where it can't be compiled."""
    graph = Graph(name=op.name)
    try:
        graph.outputs = list(graph.append(op, [_value(graph, key) for key in keys]).results)
        return compile_graph(graph).executable
    except (UnsupportedError, NotImplementedError):
        return None


def _value(graph: Graph, key: Any, target: Value | None = None) -> Value:
    """The operand that a key describes."""
    if isinstance(key, TensorType):
        return graph.add_input(key)
    kind, what = key
    if kind == "number":
        value = graph.add_input(_NUMBER, kind="scalar")
        return value if what is dt.f64 else graph.append(ops.Cast(what), (value,)).result
    if kind == "constant":
        return graph.append(ops.Constant(what)).result
    if kind == "target":
        assert target is not None, "an op has no target"
        value = target
    else:
        value = graph.add_input(kind)
    for view in what:
        value = graph.append(view, (value,)).result
    return value


def _on_host(op: Op, operands: Sequence[Tensor], results: Sequence[TensorType], device: str) -> tuple[Tensor, ...]:
    arrays = apply(op, [t._data() for t in operands], [t._type for t in operands], results)
    return tuple([over(memory_on(device).from_host(np.ascontiguousarray(array)), t)
                  for array, t in zip(arrays, results, strict=True)])


# -- writes -----------------------------------------------------------------------------------------------------------


def write(target: Tensor, value: Tensor) -> None:
    """Overwrite the elements of a tensor of a device; value: of the same shape and dtype, wherever it lies."""
    storage, device = target._storage, target._type.device
    assert isinstance(storage, DeviceStorage), "the target lies on a device"
    if value._type.device not in ("cpu", device):
        value = uploaded(value, device)
    memory, place = memory_on(device), plain_place(target)
    start = (place or 0) * target._type.dtype.itemsize
    if place is not None and value._type.device == "cpu":
        memory.write(storage.buffer, start, np.ascontiguousarray(value._data()))
        return
    if place is not None and value._storage is not storage:
        found = plain_place(value)
        if found is not None:
            begin, nbytes = found * value._type.dtype.itemsize, value._type.nbytes
            memory.copy(storage.buffer, start, value._storage.buffer, begin, nbytes)
            return
    _write_by_program(target, value, storage)


def _write_by_program(target: Tensor, value: Tensor, storage: DeviceStorage) -> None:
    call = _Call(target._type.device, storage)
    key = (target._type.device, "write", storage.base, target._chain, call.key(value))
    found = _programs.get(key)
    if found is None:
        graph = Graph(name="write")
        state = graph.add_input(storage.base, kind="state")
        b = Builder(graph)
        graph.writes[state] = through_views(b, state, target._chain, _value(graph, key[4], state), b.emit)
        found = _programs[key] = compile_graph(graph).executable, ()
    runnable, _ = found
    assert runnable is not None, "writes can be compiled"
    call.run(runnable.bind_states([storage.pointer]), ())


_programs: dict[Hashable, tuple[Runnable | None, tuple[TensorType, ...]]] = {}
config.watch("cuda", _programs.clear)       # they are another driver's then
config.watch("tf32", _programs.clear)       # and compute other numbers
config.watch("deterministic", _programs.clear)


def programs() -> list[Program]:
    """Those of ops and writes that ran until now."""
    return [runnable.program for runnable, _ in list(_programs.values()) if runnable is not None]


__all__ = ["evaluate", "over", "programs", "uploaded", "write"]
