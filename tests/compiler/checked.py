"""What the tests of compiled graphs stand on: run one between canaries, compare it with the interpreter, and replay
its memory plan."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plan_replay import replay

from flambeau.compiler import Compiled, compile_graph
from flambeau.ir.dtypes import DType, to_compute
from flambeau.ir.graph import Graph, Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.types import TensorType

MARGIN = 128                    # bytes around each buffer that no kernel may touch
CANARY = 0xA5
EPS = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "f64": 2.0**-52}


class Guarded:
    """A 64-byte aligned copy of an array with canaries on both sides."""

    def __init__(self, shape: tuple[int, ...], storage: np.dtype, content: np.ndarray | None = None):
        nbytes = int(np.prod(shape, dtype=np.int64)) * storage.itemsize
        self._bytes = np.full(nbytes + 2 * MARGIN + 64, CANARY, np.uint8)
        start = MARGIN + (-(self._bytes.ctypes.data + MARGIN)) % 64
        self._inside = slice(start, start + nbytes)
        self.array = self._bytes[self._inside].view(storage).reshape(shape)
        if content is not None:
            self.array[...] = content
        self.ptr = self._bytes.ctypes.data + start

    def is_intact(self) -> bool:
        return bool((self._bytes[:self._inside.start] == CANARY).all()
                    and (self._bytes[self._inside.stop:] == CANARY).all())


@dataclass
class Outcome:
    """What a compiled graph gave: its outputs and every state after the call, in the order of the inputs."""

    compiled: Compiled
    outputs: list[np.ndarray]
    states: dict[Value, np.ndarray]


def compiled(graph: Graph, **how: Any) -> Compiled:
    """Compiled, with the rules of graphs and kernels checked and the memory plan replayed."""
    made = compile_graph(graph, rules=True, **how)
    replay(made.fused, made.memory)
    return made


def run(made: Compiled, arrays: Sequence[np.ndarray]) -> Outcome:
    """Call it once on storage arrays in the order of the graph's inputs. Nothing outside the buffers may change, nor
    any argument; KernelError passes through."""
    graph = made.source
    buffers = [Guarded(v.type.static_shape, v.dtype.storage, a) for v, a in zip(graph.inputs, arrays, strict=True)]
    of_kind = {kind: [b for v, b in zip(graph.inputs, buffers, strict=True) if v.node.op.kind == kind]
               for kind in ("arg", "state", "scalar")}
    outs = [Guarded(v.type.static_shape, v.dtype.storage) for v in graph.outputs]
    states = {v: b.array for v, b in zip(graph.inputs, buffers, strict=True) if v.node.op.kind == "state"}
    executable = made.executable.bind_states([b.ptr for b in of_kind["state"]]) if states else made.executable
    outcome = Outcome(made, [o.array for o in outs], states)
    try:
        executable.call([b.ptr for b in of_kind["arg"]], [float(b.array) for b in of_kind["scalar"]],
                        [o.ptr for o in outs])
    except Exception as error:
        error.states = states                                   # type: ignore[attr-defined]
        raise
    finally:
        assert all(b.is_intact() for b in (*buffers, *outs)), "a kernel wrote outside its buffers"
    for buffer, value, array in zip(buffers, graph.inputs, arrays, strict=True):
        if value not in graph.writes:
            assert buffer.array.tobytes() == np.ascontiguousarray(array).tobytes(), f"{value!r} was written"
    return outcome


def check(graph: Graph, arrays: Sequence[np.ndarray], roundings: float | Sequence[float] = 8.0,
          by_element: bool = False, at_least: float = 0.0, **how: Any) -> Compiled:
    """Compiled == interpreted: outputs, and states after the call. Floats may differ by `roundings` units of rounding
    (one number, or one for each output and then each state), of the element itself (`by_element`) or of the largest
    finite one beside it (sums reorder, and their terms cancel), or of `at_least` (terms that cancel to nothing)."""
    made = compiled(graph, **how)
    outcome = run(made, arrays)
    outputs, writes = interpret(graph, arrays)
    found = [*outcome.outputs, *[outcome.states[state] for state in graph.writes]]
    labels = [*[f"output {n}" for n in range(len(outputs))], *[f"state {s.node.op.label}" for s in graph.writes]]
    allowed = roundings if isinstance(roundings, Sequence) else [roundings] * len(found)
    for array, expected, value, limit, label in zip(found, (*outputs, *writes), graph.roots(), allowed, labels,
                                                    strict=True):
        assert_close(array, expected, value.dtype, limit, by_element, at_least, label)
    return made


def assert_close(found: np.ndarray, expected: np.ndarray, dtype: DType, roundings: float, by_element: bool,
                 at_least: float, what: str) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype, f"{what}: {found.shape} {expected.shape}"
    left, right = to_compute(found, dtype), to_compute(expected, dtype)
    if not dtype.is_floating_point:
        different = left != right
    else:
        left, right = left.astype(np.float64), right.astype(np.float64)
        same = (left == right) | (np.isnan(left) & np.isnan(right))
        scale = np.abs(right) if by_element else np.abs(right[np.isfinite(right)]).max(initial=0.0)
        scale = np.maximum(scale, at_least)
        tiny = float(np.finfo(np.float16).smallest_subnormal) if dtype.name == "f16" else 1e-37
        with np.errstate(invalid="ignore"):
            different = ~same & ~(np.abs(left - right) <= roundings * EPS[dtype.name] * scale + tiny)
    if different.any():
        at = tuple(int(i) for i in np.argwhere(different)[0])
        raise AssertionError(f"{what}: {int(different.sum())} of {found.size} differ, first at {at}: "
                             f"found {left[at]}, expected {right[at]}")


def draw(type: TensorType, rng: np.random.Generator) -> np.ndarray:
    """A storage array: normal floats, integers in 0..2, coin tosses."""
    shape, dtype = type.static_shape, type.dtype
    if dtype.is_floating_point:
        values = np.asarray(rng.standard_normal(shape)).astype(dtype.compute)
        if dtype.name == "bf16":
            return (values.view(np.uint32) >> 16).astype(np.uint16)
        return values
    return np.asarray(rng.integers(0, 2 if dtype.kind == "bool" else 3, shape)).astype(dtype.storage)


def kernel_count(made: Compiled) -> int:
    return len(made.memory.calls)
