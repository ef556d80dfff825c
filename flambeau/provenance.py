"""From kernels and rewritten ops back to the ops that were traced, and forward again.

    print(step.provenance())            every kernel with the ops and user lines it computes, then what no kernel does
    p = step.provenance()
    p.ops_of(2)                         the traced ops behind kernel call 2, or behind a node after any pass
    p.calls_of(node)                    the kernel calls that compute a traced op
    p.rewrites_of(node)                 which rules were applied to what stands for it
    p.words(2)                          "LayerNorm backward of net.ln1 + add of net": what kernel call 2 does
    p.modules_of(2)                     the Modules whose calls it computes, by their dotted names

Every node that a pass makes carries the origin of the node it takes the place of (`ir.graph.origin`); a node that took
over the work of others carries theirs too.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from flambeau.ir import ops
from flambeau.ir.graph import Graph, Input, Node
from flambeau.ir.graph.origin import Origin, Rewrite
from flambeau.passes.graph.rewrite import graphs_within
from flambeau.passes.lowering.lower import Call
from flambeau.passes.pipeline import PassReport

__all__ = ["Provenance"]


class Provenance:
    """Of one compiled graph. ops: the traced ones, inputs left out, those inside regions after those around them."""

    def __init__(self, source: Graph, calls: Sequence[Call], report: PassReport):
        self._nodes = [node for graph in graphs_within(source) for node in graph.toposort()]
        self._number = {node: number for number, node in enumerate(self._nodes)}
        self.ops = [node for node in self._nodes if not isinstance(node.op, Input)]
        self.calls, self.report = calls, report

    def ops_of(self, place: Node | Call | int) -> list[Node]:
        """The traced ops behind a node (of the graph after any pass), a kernel call, or a kernel call's number."""
        if isinstance(place, Node) and place in self._number:
            return [place]
        return self._traced((self.calls[place] if isinstance(place, int) else place).origin)

    def lines_of(self, place: Node | Call | int) -> list[str]:
        """The user's lines behind it, `file:line`, each once. A derivative has the line of the op it belongs to."""
        return list(dict.fromkeys(str(node.loc) for node in self.ops_of(place) if node.loc is not None))

    def calls_of(self, op: Node) -> list[int]:
        """The kernel calls, by number, that compute a traced op or what took its place. None where nothing reads it, or
        a rule found its value without computing (`rewrites_of` says)."""
        return self._calls_of.get(self._number[op], [])

    def rewrites_of(self, op: Node) -> list[tuple[str, Rewrite]]:
        """(pass, rewrite) for each rule that was applied to what stood for this traced op, in order."""
        return self._rewrites_of.get(self._number[op], [])

    def words(self, number: int, most: int = 4) -> str:
        """What a kernel call does, in the names that the user's lines call it by. most: parts that are told."""
        parts = list(dict.fromkeys(map(_part, self.inner(number))))
        told = " + ".join(parts[:most]) + (f" + {len(parts) - most} more" if len(parts) > most else "")
        return told or self.calls[number].kernel.name

    def modules_of(self, number: int) -> list[str]:
        """The Modules whose calls a kernel call computes, each once; none for what no Module does."""
        modules = [node.loc.module for node in self.inner(number) if node.loc is not None]
        return list(dict.fromkeys(filter(None, modules)))

    def inner(self, number: int) -> list[Node]:
        """The ops that were fused to a kernel call, but constants, and views unless there is nothing else."""
        fusion = self.fusion_of(number)
        if fusion is None:
            return []
        found = [node for graph in fusion.regions for node in graph.toposort() if node.operands]
        return [node for node in found if not isinstance(node.op, ops.View | ops.Cast)] or found

    def fusion_of(self, number: int) -> Node | None:
        """The node of the fused graph that became a kernel call; None for a copy or a check of the memory plan."""
        call = self.calls[number]
        own = [value.node for value in call.results if isinstance(value.node.op, ops.Fusion)]
        return own[0] if own else self._fusions.get(id(call.origin))

    @cached_property
    def _fusions(self) -> dict[int, Node]:
        """By the origin that a fusion handed to its calls: those that were cut up store values of their own."""
        nodes = [value.node for call in self.calls for value in call.buffers]
        return {id(node.origin): node for node in nodes if isinstance(node.op, ops.Fusion) and node.origin is not None}

    @cached_property
    def _calls_of(self) -> dict[int, list[int]]:
        return _inverse((number, call.origin) for number, call in enumerate(self.calls))

    @cached_property
    def _rewrites_of(self) -> dict[int, list[tuple[str, Rewrite]]]:
        return _inverse(((record.name, rewrite), rewrite.origin)
                        for record in self.report.records for rewrite in record.rewrites)

    def _traced(self, origin: Origin | None) -> list[Node]:
        if origin is None:
            return []
        return [node for node in map(self._nodes.__getitem__, sorted(origin.numbers())) if not isinstance(node.op, Input)]

    def __str__(self) -> str:
        lines = []
        for number, call in enumerate(self.calls):
            lines.append(f"{number:3d} {call.kernel.name}")
            lines += [f"      {line}" for line in _by_line(self.ops_of(call))]
        left = [node for node in self.ops
                if not self.calls_of(node) and not node.regions and node.op.name != "constant"]
        if left:
            lines.append("in no kernel")
            lines += [f"      {_said(node)}{self._why(node)}" for node in left]
        return "\n".join(lines)

    def _why(self, node: Node) -> str:
        rewrites = self.rewrites_of(node)
        return f": {rewrites[-1][1].rule}" if rewrites else ""


def _inverse(pairs: Iterable[tuple[object, Origin | None]]) -> dict[int, list]:
    found: dict[int, list] = {}
    for place, origin in pairs:
        for number in origin.numbers() if origin is not None else ():
            found.setdefault(number, []).append(place)
    return found


def _part(node: Node) -> str:
    """`LayerNorm backward of net.ln1`."""
    called = node.loc.called if node.loc is not None else ""
    module = f" of {node.loc.module}" if node.loc is not None and node.loc.module else ""
    return f"{called or node.op.name}{' backward' if node.phase == 'backward' and called != 'backward' else ''}{module}"


def _said(node: Node) -> str:
    phase = "" if node.phase == "forward" else f" ({node.phase})"
    return f"{node.op.name}{phase}" + (f" at {node.loc}" if node.loc is not None else "")


def _by_line(nodes: Sequence[Node]) -> list[str]:
    """`matmul, add, relu at train.py:31`, and derivatives apart."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        if node.op.name == "constant":
            continue
        where = f" at {node.loc}" if node.loc is not None else ""
        found.setdefault(f"{' (derivatives)' if node.phase == 'backward' else ''}{where}", []).append(node.op.name)
    return [f"{', '.join(dict.fromkeys(names))}{where}" for where, names in found.items()]
