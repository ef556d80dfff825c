"""Fusions that are alike, as the layers of a deep network are, are lowered and made ready once: the next one has the same
kernels under names of its own, at work on its own values."""
from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from flambeau.ir.attributes import op_key
from flambeau.ir.graph import Node, Value
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.loops import faults, locations

if TYPE_CHECKING:
    from flambeau.passes.lowering.lower import Call

__all__ = ["Alike"]


class Alike:
    """Lowers fusions, equal ones once. lower: what does it, by no more than `form_of` tells of a node."""

    def __init__(self, lower: Callable[[Node, str], list[Call]]):
        self._lower = lower
        self._known: dict[Hashable, _Example] = {}

    def calls(self, node: Node, name: str) -> list[Call]:
        """name: what those of its kernels begin with."""
        form = form_of(node)
        example = self._known.get(form)
        if example is not None:
            return example.calls_of(node, name)
        calls = self._lower(node, name)
        if form is not None and all(call.kernel.name.startswith(name) for call in calls):
            self._known[form] = _Example(node, name, calls)
        return calls


def form_of(node: Node) -> Hashable:
    """Equal for two fusions that differ by the values they read and give, and by where they come from in passes; None where
    there is more to a fusion than ops and types: effects, or regions in its region."""
    region = node.regions[0]
    nodes = region.toposort()
    if not node.is_pure or [inner for inner in nodes if inner.regions]:
        return None
    number_of = {inner: number for number, inner in enumerate(nodes)}
    code = tuple([(op_key(inner.op), tuple([(number_of[v.node], v.index) for v in inner.operands]),
                   tuple([(v.type.shape, v.type.dtype.name, v.type.device) for v in inner.results])) for inner in nodes])
    ends = tuple([(number_of[v.node], v.index) for v in (*region.inputs, *region.outputs)])
    place = {value: number for number, value in enumerate(node.operands)}
    return (op_key(node.op), node.phase, tuple([place[v] for v in node.operands]), code, ends, locations(region))


@dataclass(frozen=True)
class _Example:
    node: Node
    name: str
    calls: Sequence[Call]

    def calls_of(self, node: Node, name: str) -> list[Call]:
        """What the example's calls are for another fusion of its form. Values between them are made anew."""
        value_of = dict(zip((*self.node.operands, *self.node.results), (*node.operands, *node.results), strict=True))

        def value(old: Value) -> Value:
            if old not in value_of:
                value_of[old] = Value(node if old.node is self.node else old.node, old.index, old.type)
            return value_of[old]

        for call in self.calls:
            kernel_key(call.kernel)                         # worked out once for all
        return [replace(call, kernel=call.kernel.renamed(name + call.kernel.name[len(self.name):]),
                        buffers=tuple([value(v) for v in call.buffers]), origin=node.origin,
                        faults=faults(node.regions[0]) if call.faults else ()) for call in self.calls]
