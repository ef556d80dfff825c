"""Graph -> Graph. The order of all graph passes, and the runner that verifies, times and dumps them. A device says how
images lie in memory and how far to fuse; the rest is the same for all.

    fused, report = run(graph, verify=True, dump_dir=Path("dumps"))

writes dumps/00-input.txt, dumps/01-simplify.txt, ... `bisect` names the pass that changes a graph's results.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from flambeau.errors import GraphError
from flambeau.ir.dtypes import DType, to_compute
from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.origin import Origin, Rewrite
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify as verify_graph
from flambeau.ir.records import dataclass
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.graph.convolutions import plain_convolutions
from flambeau.passes.graph.cse import cse
from flambeau.passes.graph.dce import dce
from flambeau.passes.graph.decompose import decompose
from flambeau.passes.graph.fold import fold
from flambeau.passes.graph.rewrite import graphs_within
from flambeau.passes.graph.simplify import simplify

__all__ = ["GRAPH_PASSES", "Culprit", "Pass", "PassRecord", "PassReport", "bisect", "graph_passes", "run"]


@dataclass(frozen=True)
class Pass:
    """A function from a graph to a graph: the same one edited in place, or a new one."""

    name: str
    function: Callable[[Graph], Graph]


_UNTILED: Final = Pass("attention", lambda graph: graph)
_APART: Final = Pass("products", lambda graph: graph)
_BY_POINTS: Final = Pass("join", lambda graph: graph)


def graph_passes(layout: Pass, fuse: Pass, attention: Pass = _UNTILED, products: Pass = _APART, join: Pass = _BY_POINTS,
                 keep: tuple[Pass, ...] = ()) -> tuple[Pass, ...]:
    """The whole order. layout: leaves convolutions as `plain_convolutions` does; fuse: groups ops into kernels; attention:
    says which attention is tiled, in kernels of its own; products: which sums of products become one; join: what is joined
    part by part; keep: what is computed once for each version of captured tensors."""
    return (
        Pass("simplify", simplify),
        Pass("fold", fold),
        Pass("cse", cse),
        Pass("dce", dce),
        attention,
        layout,                             # before decompose: pooling and normalize sink through permutes as one op
        Pass("decompose", decompose),
        products,
        Pass("simplify", simplify),         # what layouts and decompositions left
        Pass("cse", cse),
        Pass("dce", dce),
        join,
        *keep,
        fuse,
    )


GRAPH_PASSES: Final = graph_passes(Pass("layout", plain_convolutions), Pass("fuse", fuse))
"""What a backend runs that has no passes of its own. Those of the CPU are `passes.cpu.pipeline.CPU_PASSES`."""


@dataclass(frozen=True)
class PassRecord:
    """One pass of one run."""

    name: str
    seconds: float
    nodes_before: int
    nodes_after: int
    dump: Path | None                       # the graph after the pass
    rewrites: tuple[Rewrite, ...] = ()      # which rules it applied, in order


@dataclass(frozen=True)
class PassReport:
    """What a run of passes did, in order."""

    records: tuple[PassRecord, ...]

    @property
    def seconds(self) -> float:
        """Time in passes, without verifying and dumping."""
        return sum(record.seconds for record in self.records)

    def __str__(self) -> str:
        lines = ["pass           ms    nodes"]
        lines += [f"{r.name:<12}{1e3 * r.seconds:>7.2f}  {r.nodes_before:>5} -> {r.nodes_after}" for r in self.records]
        return "\n".join([*lines, f"{'total':<12}{1e3 * self.seconds:>7.2f}"])


def run(graph: Graph, passes: Sequence[Pass] = GRAPH_PASSES, *, verify: bool = False, dump_dir: Path | None = None,
        on_pass: Callable[[Pass, Graph], object] | None = None) -> tuple[Graph, PassReport]:
    """`graph` after all passes, in order; it is edited, so give a clone to keep it.

    verify: check the graph before the first and after every pass. dump_dir: write its text there each time.
    on_pass: called after every pass with the graph as it is then. Raises GraphError, naming the pass, when a graph
    breaks a rule of the IR."""
    _number(graph)
    if verify:
        _verify(graph, "before the first pass")
    if dump_dir is not None:
        _dump(graph, dump_dir, 0, "input")
    records: list[PassRecord] = []
    for number, current in enumerate(passes, 1):
        before, started = len(graph), time.perf_counter()
        graph = current.function(graph)
        seconds = time.perf_counter() - started
        if verify:
            _verify(graph, f"after pass {number}, {current.name}")
        dump = _dump(graph, dump_dir, number, current.name) if dump_dir is not None else None
        records.append(PassRecord(current.name, seconds, before, len(graph), dump, _taken_rewrites(graph)))
        if on_pass is not None:
            on_pass(current, graph)
    return graph, PassReport(tuple(records))


def _number(graph: Graph) -> None:
    """Give nodes without origin their own, from their place in the order."""
    nodes = (node for current in graphs_within(graph) for node in current.toposort())
    for number, node in enumerate(nodes):
        if node.origin is None:
            node.origin = Origin(number)


def _taken_rewrites(graph: Graph) -> tuple[Rewrite, ...]:
    found: list[Rewrite] = []
    for current in graphs_within(graph):
        if current.rewrites:
            found += current.rewrites
            current.rewrites = []
    return tuple(found)


def _verify(graph: Graph, when: str) -> None:
    try:
        verify_graph(graph)
    except GraphError as error:
        raise GraphError(f"{when}: {error.message}", where=error.where, hint=error.hint) from error


def _dump(graph: Graph, directory: Path, number: int, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{number:02}-{name}.txt"
    path.write_text(print_graph(graph), encoding="utf-8")
    return path


# -- finding the pass that is wrong -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Culprit:
    """The first pass after which a result differs."""

    number: int                             # 1 is the first pass
    name: str
    result: str                             # "output 0", or "write 2"
    error: float                            # the largest, in units of the result's scale times its dtype's epsilon
    before: str                             # the graph's text before and after the pass
    after: str

    def __str__(self) -> str:
        return f"pass {self.number}, {self.name}, changes {self.result} by {self.error:.3g} eps of its scale"


def bisect(graph: Graph, inputs: Sequence[np.ndarray], passes: Sequence[Pass] = GRAPH_PASSES, *,
           tolerance: float = 1024.0) -> Culprit | None:
    """The first pass after which the interpreter gives results further than `tolerance` from those of `graph`; None
    if all keep them. `graph` is left as it was. inputs: storage arrays in the order of its inputs.

    A difference counts in units of eps(dtype) * the largest number of the result (bools and ints: any counts as
    infinite, as does a NaN or an infinity on one side only)."""
    current = clone(graph)[0]
    expected = _results(current, inputs)
    before = print_graph(current)
    for number, step in enumerate(passes, 1):
        current = step.function(current)
        after = print_graph(current)
        for (name, dtype, wanted), (_, _, found) in zip(expected, _results(current, inputs), strict=True):
            error = _distance(found, wanted, dtype)
            if error > tolerance:
                return Culprit(number, step.name, name, error, before, after)
        before = after
    return None


def _results(graph: Graph, inputs: Sequence[np.ndarray]) -> list[tuple[str, DType, np.ndarray]]:
    """(name, dtype, storage array) of every output and write."""
    outputs, writes = interpret(graph, inputs, effects=False)
    names = [f"output {i}" for i in range(len(outputs))] + [f"write {i}" for i in range(len(writes))]
    return [(name, value.dtype, array)
            for name, value, array in zip(names, graph.roots(), (*outputs, *writes), strict=True)]


def _distance(found: np.ndarray, wanted: np.ndarray, dtype: DType) -> float:
    """In units of eps(dtype) times the largest finite magnitude that is wanted."""
    if found.shape != wanted.shape or not wanted.size:
        return 0.0 if found.shape == wanted.shape else float("inf")
    if not dtype.is_floating_point:
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    left, right = (to_compute(array, dtype).astype(np.float64) for array in (found, wanted))
    special = ~(np.isfinite(left) & np.isfinite(right))
    if not np.array_equal(left[special], right[special], equal_nan=True):
        return float("inf")
    error = np.abs(np.where(special, 0.0, left) - np.where(special, 0.0, right)).max()
    scale = np.abs(np.where(special, 0.0, right)).max()
    eps = 2.0**-7 if dtype.name == "bf16" else float(np.finfo(dtype.compute).eps)
    return float(error / (eps * scale)) if scale else float("inf") if error else 0.0
