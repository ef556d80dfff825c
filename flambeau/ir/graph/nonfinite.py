"""Where a graph's first NaN or infinity comes from: interpreted on its inputs, op by op.

    found = first_nonfinite(graph, inputs)      None where every result is finite, or infinite as something given was
    found.inner                                 the first op, in program order, that made one of what had none, and whose
                                                result one of the graph's depends on

So a NaN that `where` leaves out is none, and an attention mask of -inf is none as long as it does its work.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir.dtypes import to_compute
from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.op import RegionOp
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node, Value

__all__ = ["INF", "NAN", "Nonfinite", "Range", "first_nonfinite", "held"]

INF, NAN = 1, 2


@dataclass(frozen=True)
class Range:
    """What an array holds. low, high: of its finite elements; None where there are none."""

    type: TensorType
    low: float | None
    high: float | None
    n_nan: int
    n_inf: int

    @classmethod
    def of(cls, array: np.ndarray, type: TensorType) -> Range:
        """array: in storage layout."""
        wide = to_compute(array, type.dtype)
        if not type.dtype.is_floating_point:
            low, high = (float(wide.min()), float(wide.max())) if wide.size else (None, None)
            return cls(type, low, high, 0, 0)
        n_nan, is_finite = int(np.isnan(wide).sum()), np.isfinite(wide)
        finite = wide[is_finite]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
        return cls(type, low, high, n_nan, wide.size - finite.size - n_nan)

    def __str__(self) -> str:
        """`f32[4] from 0 to 3, 1 NaN and 2 inf`."""
        parts = [] if self.low is None else [f"{self.low:.6g}" if self.low == self.high
                                             else f"from {self.low:.6g} to {self.high:.6g}"]
        counts = " and ".join([*[f"{self.n_nan} NaN"] * bool(self.n_nan), *[f"{self.n_inf} inf"] * bool(self.n_inf)])
        return f"{self.type} {', '.join([*parts, *[counts] * bool(counts)]) or 'of no elements'}"


@dataclass(frozen=True)
class Nonfinite:
    """node: of the graph; inner: the op, `node` itself or one in a region of it; an input or a constant where that brought
    the NaN. result, operands: of `inner`. nan: the first op that made NaN of the infinity, if that came first. root: which
    of the graph's roots."""

    node: Node
    inner: Node
    result: Range
    operands: tuple[Range, ...]
    nan: Node | None
    root: int


def held(array: np.ndarray, type: TensorType) -> int:
    """What it holds: INF, NAN, both (their sum) or neither (0). array: in storage layout."""
    if not type.dtype.is_floating_point:
        return 0
    wide = to_compute(array, type.dtype)
    if np.isfinite(wide).all():
        return 0
    return INF * bool(np.isinf(wide).any()) | NAN * bool(np.isnan(wide).any())


def first_nonfinite(graph: Graph, inputs: Sequence[np.ndarray], tells: Callable[[Node], bool] = lambda node: True
                    ) -> Nonfinite | None:
    """inputs: storage arrays in the order of the graph's inputs, whose sizes are numbers. tells: which nodes of the graph,
    inputs too, are looked at."""
    return _Walk(graph, inputs).found(tells)


class _Walk:
    """One evaluation, and what each value was. Arrays go as soon as nobody reads them."""

    def __init__(self, graph: Graph, inputs: Sequence[np.ndarray]):
        self.graph = graph
        self.holds: dict[Value, int] = {}
        self.made: dict[Node, tuple[int, Nonfinite]] = {}   # what nodes have in a result that no operand had
        self.arrays = dict(zip(graph.inputs, inputs, strict=True))
        for value, array in self.arrays.items():
            self.note(value.node, (value,), (array,))
        nodes = [node for node in graph.toposort() if node.op.name != "input"]
        reads = Counter(value for node in nodes for value in node.operands) + Counter(graph.roots())
        for node in nodes:
            self.evaluate(node)
            reads.subtract(node.operands)
            for value in {*node.operands, *node.results}:
                if not reads[value]:
                    del self.arrays[value]

    def evaluate(self, node: Node) -> None:
        operands = [self.arrays[value] for value in node.operands]
        looking = _Looking()
        results = tuple(node.op.evaluate_regions(looking, node.regions, operands)) if isinstance(node.op, RegionOp) \
            else evaluate_node(node, operands, effects=False)
        self.arrays.update(zip(node.results, results, strict=True))
        self.note(node, node.results, results, looking.first)

    def note(self, node: Node, values: Sequence[Value], arrays: Sequence[np.ndarray],
             inside: Nonfinite | None = None) -> None:
        """inside: what was found in the node's regions."""
        before = 0 if node.operands else INF            # what is given may be infinite
        for value in node.operands:
            before |= self.holds[value]
        for value, array in zip(values, arrays, strict=True):
            self.holds[value] = held(array, value.type)
            new = self.holds[value] & ~before
            if new and node not in self.made:
                operands = tuple([Range.of(self.arrays[v], v.type) for v in node.operands])
                self.made[node] = new, Nonfinite(node, node, Range.of(array, value.type), operands, None, 0) \
                    if inside is None else Nonfinite(node, inside.inner, inside.result, inside.operands, inside.nan, 0)

    def found(self, tells: Callable[[Node], bool] = lambda node: True) -> Nonfinite | None:
        """For the first root that is not finite, and has not got that from an infinity that was given."""
        order = {node: number for number, node in enumerate(self.graph.toposort())}
        for number, root in enumerate(self.graph.roots()):
            wanted = INF if self.holds[root] == INF else INF | NAN          # an infinity may become NaN, not the reverse
            makers = [node for node in self.behind(root, wanted)
                      if node in self.made and self.made[node][0] & wanted and tells(node)]
            if not self.holds[root] or not makers:
                continue
            makers.sort(key=order.__getitem__)
            first, later = self.made[makers[0]][1], [node for node in makers[1:] if self.made[node][0] & NAN]
            nan = first.nan or (later[0] if later and not first.result.n_nan else None)
            return Nonfinite(first.node, first.inner, first.result, first.operands, nan, number)
        return None

    def behind(self, root: Value, wanted: int) -> set[Node]:
        """The nodes from which what is not finite reaches a root, through values that hold what is wanted."""
        seen: set[Node] = set()
        pending = [root.node]
        while pending:
            node = pending.pop()
            if node not in seen:
                seen.add(node)
                pending += [value.node for value in node.operands if self.holds[value] & wanted]
        return seen


class _Looking:
    """Evaluates regions, and keeps what was found first."""

    def __init__(self) -> None:
        self.first: Nonfinite | None = None

    def outputs(self, region: Graph, operands: Sequence[np.ndarray]) -> list[np.ndarray]:
        walk = _Walk(region, operands)
        self.first = self.first or walk.found()
        return [walk.arrays[value] for value in region.outputs]

    def holds(self, predicate: np.ndarray) -> bool:
        return bool(predicate)
