"""Anomaly mode for compiled functions: a call whose results are not finite is undone, and tells where that began.

While `fb.autograd.detect_anomaly()` is on, calls go through `watched`: the same machine code, then a look at each result
and at what was written. Only where one holds NaN or an infinity are the traced ops evaluated one by one, on what the call
was given, to find the first that made it (`ir.graph.nonfinite`). Entering and leaving the mode bumps the epoch, at which
entries look at everything anew, and choose (`Bindings.bind`): what is not watched runs what it ran before.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.errors import AnomalyError, FlambeauError
from flambeau.frontend.tape.autograd import anomaly
from flambeau.frontend.where import describe
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.nonfinite import NAN, Nonfinite, first_nonfinite, held
from flambeau.ir.types import TensorType
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.devices import memory_on

if TYPE_CHECKING:
    from flambeau.compiler import Compiled

__all__ = ["is_watching", "watched"]


def is_watching(looks: Mapping[int, bool] | None = None) -> bool:
    """Whether calls are watched. looks: what a function says of its own nodes."""
    return anomaly.is_on and anomaly.checks or bool(looks) and any(looks.values())          # type: ignore[union-attr]


def watched(compiled: Compiled, run: Callable[..., None], states: Sequence[int], device: str,
            looks: Mapping[int, bool] | None = None) -> Callable[..., None]:
    """`run`, the call of a program that is bound to these states, watched. looks: nodes by their place, whose anomalies
    are told or not whatever the mode is. Raises AnomalyError, once everything that was written is as it was before."""
    graph = compiled.source if all(v.type.is_static for v in compiled.source.inputs) else compiled.numbered
    kinds = [value.node.op.kind for value in graph.inputs]                                      # type: ignore[attr-defined]
    said = {node: looks[place] for place, node in enumerate(graph.toposort()) if place in looks} if looks else {}

    def tells(node: Node) -> bool:
        return said.get(node, is_watching())

    def call(*values: float) -> None:
        counts = {"arg": 0, "state": 0, "scalar": 0}
        n_args, n_scalars = kinds.count("arg"), kinds.count("scalar")
        sides = {"arg": values[:n_args], "scalar": values[n_args:n_args + n_scalars], "state": states}
        given: dict[Value, float] = {}
        for value, kind in zip(graph.inputs, kinds, strict=True):
            given[value] = sides[kind][counts[kind]]
            counts[kind] += 1
        memory = _Memory(device)
        before = {value: memory.read(int(given[value]), value.type) for value in graph.writes}
        run(*values)
        outs = values[n_args + n_scalars:]
        roots = [*zip(outs, graph.outputs, strict=False), *[(given[state], state) for state in graph.writes]]
        if not any(held(memory.read(int(pointer), value.type, copy=False), value.type) for pointer, value in roots):
            return
        written = {value: memory.read(int(given[value]), value.type) for value in graph.writes}
        for value, array in before.items():
            memory.write(int(given[value]), array)
        inputs = [before[value] if value in before else np.array(given[value], value.type.dtype.storage) if kind == "scalar"
                  else memory.read(int(given[value]), value.type) for value, kind in zip(graph.inputs, kinds, strict=True)]
        names = [f"result {n}" for n in range(len(graph.outputs))] + [
            f"{value.node.op.label or 'a captured tensor'}, as written" for value in graph.writes]  # type: ignore[attr-defined]
        found = _first(graph, inputs, tells)
        if found is not None:
            raise _error(compiled, graph, found, names)
        is_told = said and _first(graph, inputs) is not None        # by an op that none asks to be told of
        for name, (pointer, value) in () if is_told else zip(names, roots, strict=True):
            array = written[value] if value in written else memory.read(int(pointer), value.type, copy=False)
            if held(array, value.type) & NAN:
                raise AnomalyError(f"{graph.name}: {name} has NaN, which its ops, evaluated one by one, don't give",
                                   hint="fb.compile(f, verify=True) finds the pass or kernel that is wrong")
        for value, array in written.items():                # infinite because something given is, or not to be told
            memory.write(int(given[value]), array)

    return call


def _first(graph: Graph, inputs: Sequence[np.ndarray], tells: Callable[[Node], bool] = lambda node: True
           ) -> Nonfinite | None:
    try:
        return first_nonfinite(graph, inputs, tells)
    except (FlambeauError, ArithmeticError):
        return None


class _Memory:
    """What lies where a program computes."""

    def __init__(self, device: str):
        self.device = device
        self.there = memory_on(device) if device.startswith("cuda:") else None

    def read(self, pointer: int, type: TensorType, copy: bool = True) -> np.ndarray:
        buffer, shape = Buffer(pointer, type.nbytes, self.device, None), type.static_shape
        if self.there is not None:
            return self.there.to_host(buffer).view(type.dtype.storage).reshape(shape)
        array = as_ndarray(buffer, type.dtype.storage, shape)
        return array.copy() if copy else array

    def write(self, pointer: int, array: np.ndarray) -> None:
        buffer = Buffer(pointer, array.nbytes, self.device, None)
        if self.there is not None:
            self.there.write(buffer, 0, array)
        else:
            as_ndarray(buffer, array.dtype, array.shape)[...] = array


def _error(compiled: Compiled, graph: Graph, found: Nonfinite, names: Sequence[str]) -> AnomalyError:
    inner = found.inner
    name = inner.op.name
    what = "NaN" if found.result.n_nan else "an infinity"
    if name == "input":
        said = f"{graph.name}: {inner.op.label or 'a captured tensor'} came with NaN"           # type: ignore[attr-defined]
    elif name == "constant":
        said = f"{graph.name}: a constant of it is NaN"
    else:
        said = f"{graph.name}: {name}{' of the backward' if inner.phase == 'backward' else ''} made {what}"
    lines = [f"{said}: {found.result}"]
    lines += [f"operand {number} was {range}" for number, range in enumerate(found.operands)]
    if inner.loc is not None and inner.loc.module:
        lines.append(f"in {inner.loc.module}")
    provenance, numbers = compiled.provenance, {node: n for n, node in enumerate(graph.toposort())}
    kernels = [] if name == "input" else provenance.calls_of(list(compiled.source.toposort())[numbers[found.node]])
    lines += [f"kernel {compiled.memory.calls[number].kernel.name} ({provenance.words(number)})" for number in kernels[:1]]
    if found.nan is not None:
        lines.append(f"of the infinity {found.nan.op.name} made NaN{f', {found.nan.loc}' if found.nan.loc else ''}")
    lines.append(f"seen in {names[found.root]}; what the call wrote is undone")
    kernel = compiled.memory.calls[kernels[0]].kernel.name if kernels else ""
    module = inner.loc.module if inner.loc is not None else ""
    return AnomalyError("\n  ".join(lines), where=describe(inner.loc), op=name, kernel=kernel, module=module,
                        result=found.result, operands=found.operands)
