"""A fault of the compiler -> the smallest program that shows it, as text that runs by itself.

    shrink = shrinking(compile_graph, backend, passes, target)
    error.repro = shrink(graph, arrays, error)
    print(error.repro)                      a Python program: IR text, inputs, the call that raises

The graph is reduced (`ir.graph.reduce`) as long as the same stage is to blame, then its inputs become ones that a line of
NumPy makes, if those show the fault too.
"""
from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from flambeau.errors import FlambeauError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir.graph import Graph, Value, clone
from flambeau.ir.graph.reduce import reduce
from flambeau.ir.graph.text import print_graph
from flambeau.ir.records import dataclass
from flambeau.passes.pipeline import Pass, run

__all__ = ["Repro", "call_on_arrays", "shrinking"]

Shrink = Callable[[Graph, Sequence[np.ndarray], VerificationError], "Repro | None"]
_SECONDS: Final = 20.0              # of CPU for reducing, of which most programs need one
_WRITTEN: Final = 32                # elements of an input that are written out


@dataclass(frozen=True)
class Repro:
    """text: of the graph; inputs: a line of Python for each input; error: what is raised; options: what `fb.compile` was
    told besides verify, as it is written; rules: those that the pass applied which is to blame, if one is."""

    text: str
    inputs: tuple[str, ...]
    error: str
    options: str = ""
    rules: tuple[str, ...] = ()

    @property
    def n_lines(self) -> int:
        """Of IR."""
        return len(self.text.splitlines())

    def arrays(self) -> list[np.ndarray]:
        """The inputs, in storage layout."""
        names = {"np": np, "base64": base64}
        return [eval(line, names) for line in self.inputs]

    def __str__(self) -> str:
        imports = ["import base64"] * any("base64" in line for line in self.inputs)
        is_bf16 = any("uint16" in line for line in self.inputs)
        tensor = "fb.from_numpy(a.view(np.int16)).view(fb.bfloat16) if a.dtype == np.uint16 else fb.from_numpy(a)"
        given = f"*[{tensor} for a in inputs]" if is_bf16 else "*map(fb.from_numpy, inputs)"
        rules = [f"rules of that pass: {', '.join(self.rules)}"] * bool(self.rules)
        lines = [*imports, "import numpy as np", "import flambeau as fb", "", 'graph = fb.ir.parse("""', self.text.rstrip(),
                 '""")', "inputs = [", *[f"    {line}," for line in self.inputs], "]",
                 f"fb.compile(graph, verify=True{self.options})({given})      # graph(*inputs) is what it means"]
        return "\n".join([*lines, *[f"# {line}" for line in (*self.error.splitlines(), *rules)]])


def shrinking(compile: Callable[..., Any], backend: Any, passes: Sequence[Pass] | None, target: Any) -> Shrink:
    """How a fault is shrunk that shows when `compile`, which is `compiler.compile_graph`, is given these: (graph, inputs,
    error) -> what shows it, or None where it does not show a second time."""
    def failure(graph: Graph, arrays: Sequence[np.ndarray], blame: str) -> VerificationError | None:
        try:
            call_on_arrays(compile(graph, verify=True, device="cpu", shrinks=False, backend=backend, passes=passes,
                                   target=target), arrays)
        except VerificationError as raised:
            return raised if raised.blame == blame else None
        except (FlambeauError, ArithmeticError, LookupError, TypeError, ValueError, AssertionError):
            pass                            # it goes wrong in another way
        return None

    def shrink(graph: Graph, arrays: Sequence[np.ndarray], error: VerificationError) -> Repro | None:
        def fails(candidate: Graph, given: Sequence[np.ndarray]) -> bool:
            return failure(candidate, given, error.blame) is not None

        plain = _bare(clone(graph)[0])
        if not fails(plain, arrays):
            return None
        small, found = reduce(plain, arrays, fails, _SECONDS)
        small = _bare(small)
        repro = Repro(print_graph(small), tuple(_inputs(small, found, fails)), "")
        final = failure(small, repro.arrays(), error.blame)
        if final is None:
            return None
        options = f", backend={backend!r}" * (type(backend).__name__ != "CpuBackend") + ", passes=passes" * bool(passes)
        return replace(repro, error=final.message, options=options,
                       rules=_rules_of(small, error.blame, passes or backend.passes))

    return shrink


def _rules_of(graph: Graph, blame: str, passes: Sequence[Pass]) -> tuple[str, ...]:
    """The rules that the pass applies to a graph, if it is a pass that is to blame: `pass 9, fuse`."""
    if not blame.startswith("pass "):
        return ()
    number = int(blame.removeprefix("pass ").partition(",")[0])
    _, report = run(clone(graph)[0], passes[:number])
    return tuple(dict.fromkeys(rewrite.rule for rewrite in report.records[number - 1].rewrites))


def call_on_arrays(compiled: Any, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs, as storage arrays, of a compiled graph that computes in the host's memory, on storage arrays in the
    order of the graph's inputs, which stay as they are."""
    graph, of_kind = compiled.source, dict[str, list[np.ndarray]](arg=[], state=[], scalar=[])
    for value, array in zip(graph.inputs, arrays, strict=True):
        of_kind[value.node.op.kind].append(np.array(array, order="C"))
    outs = [np.empty(value.type.static_shape, value.dtype.storage) for value in graph.outputs]
    states = [array.ctypes.data for array in of_kind["state"]]
    executable = compiled.executable.bind_states(states) if states else compiled.executable
    executable.fast_call(*[array.ctypes.data for array in of_kind["arg"]], *map(float, of_kind["scalar"]),
                         *[array.ctypes.data for array in outs])
    return outs


def _bare(graph: Graph) -> Graph:
    """`graph` without locations, each of which is a line of text."""
    pending = [graph]
    while pending:
        current = pending.pop()
        for node in current.toposort():
            node.loc, node.origin = None, None
            pending += node.regions
    return graph


# -- inputs -----------------------------------------------------------------------------------------------------------


def _inputs(graph: Graph, arrays: Sequence[np.ndarray],
            fails: Callable[[Graph, Sequence[np.ndarray]], bool]) -> list[str]:
    """A line for each, the simplest with which it still fails."""
    found = [_written(array) for array in arrays]
    current = list(arrays)
    for number, value in enumerate(graph.inputs):
        for line in _simple(value, number):
            made = eval(line, {"np": np})
            if fails(graph, [*current[:number], made, *current[number + 1:]]):
                found[number], current[number] = line, made
                break
    return found


def _simple(value: Value, number: int) -> list[str]:
    shape, dtype = value.type.static_shape, value.dtype
    name = dtype.storage.name
    if dtype is dt.bf16:
        return [f"np.full({shape}, 0x3f80, np.uint16)"]                     # ones
    if dtype.storage.kind == "b":
        return [f"np.ones({shape}, bool)", f"np.zeros({shape}, bool)"]
    ones, count = f"np.ones({shape}, np.{name})", f"np.arange({value.type.numel}).astype(np.{name}).reshape({shape})"
    if dtype.is_floating_point:
        return [ones, count, f"np.random.default_rng({number}).standard_normal({shape}).astype(np.{name})"]
    return [f"np.zeros({shape}, np.{name})", ones, count]


def _written(array: np.ndarray) -> str:
    """The array itself."""
    name = array.dtype.name
    if array.size <= _WRITTEN and (array.dtype.kind != "f" or np.isfinite(array).all()):
        flat = f"np.array({array.tolist()}, {'bool' if name == 'bool' else f'np.{name}'})"
        return flat if array.size else f"np.zeros({array.shape}, {'bool' if name == 'bool' else f'np.{name}'})"
    data = base64.b64encode(array.tobytes()).decode()
    return f"np.frombuffer(base64.b64decode('{data}'), '{name}').reshape({array.shape}).copy()"
