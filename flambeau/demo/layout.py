"""Graph -> a place on paper for each node: columns by depth, rows ordered so that few edges cross."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import networkx as nx

from flambeau.ir.graph import Graph, Node

_SWEEPS = 8


@dataclass(frozen=True)
class Placement:
    """position_of: node -> (column, row), rows centred on 0; tallest: nodes in the fullest column."""

    position_of: dict[Node, tuple[float, float]]
    n_layers: int
    tallest: int


def role_of_nodes(graph: Graph) -> dict[Node, str]:
    """input, state, forward, backward, or update: a forward op that reads a derivative, so an optimizer's."""
    role_of: dict[Node, str] = {}
    for node in graph.toposort():
        producers = {role_of[value.node] for value in node.operands}
        if node.op.name == "input":
            role_of[node] = "state" if getattr(node.op, "kind", "") == "state" else "input"
        elif node.phase == "backward":
            role_of[node] = "backward"
        else:
            role_of[node] = "update" if producers & {"backward", "update"} else "forward"
    return role_of


def place_in_layers(part: nx.DiGraph, order: Sequence[Node]) -> Placement:
    """Sugiyama's method: layer by longest path, then order each layer by its neighbours' mean row.

    order: the nodes of `part`, producers before consumers.
    """
    layer_of = _layers(part, order)
    columns: dict[int, list[Node]] = defaultdict(list)
    for node in order:
        columns[layer_of[node]].append(node)
    row_of = {node: row for column in columns.values() for node, row in _centred(column)}
    for sweep in range(_SWEEPS):
        neighbours = part.predecessors if sweep % 2 == 0 else part.successors
        for layer in sorted(columns, reverse=sweep % 2 == 1):
            means = {
                node: _mean([row_of[n] for n in neighbours(node)], row_of[node]) for node in columns[layer]
            }
            columns[layer].sort(key=means.__getitem__)
            row_of.update(_centred(columns[layer]))
    position_of = {node: (float(layer_of[node]), -row_of[node]) for node in order}
    return Placement(position_of, max(columns, default=0) + 1, max(map(len, columns.values()), default=0))


def _layers(part: nx.DiGraph, order: Sequence[Node]) -> dict[Node, int]:
    """Longest path from a source; sources, and what is made of sources alone, stand just before their first reader,
    not at the far left."""
    layer_of: dict[Node, int] = {}
    for node in order:
        layer_of[node] = max((layer_of[producer] + 1 for producer in part.predecessors(node)), default=0)
    movable: set[Node] = set()
    for node in order:
        if part.out_degree(node) and part.in_degree(node) <= 1 and movable.issuperset(part.predecessors(node)):
            movable.add(node)
    for node in reversed(order):
        if node in movable:
            layer_of[node] = min(layer_of[consumer] for consumer in part.successors(node)) - 1
    first = min(layer_of.values(), default=0)
    return {node: layer - first for node, layer in layer_of.items()}


def _centred(column: Sequence[Node]) -> list[tuple[Node, float]]:
    return [(node, row - (len(column) - 1) / 2) for row, node in enumerate(column)]


def _mean(rows: Sequence[float], otherwise: float) -> float:
    return sum(rows) / len(rows) if rows else otherwise
