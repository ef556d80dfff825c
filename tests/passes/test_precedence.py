"""The kept order of groups against paths in a graph of them, as random groups enter and merge."""
from __future__ import annotations

import random

import networkx as nx
import pytest

from flambeau.errors import VerificationError
from flambeau.ir.graph.parser import parse
from flambeau.ir.kinds import kind_named
from flambeau.passes.fusion.groups import Group
from flambeau.passes.fusion.outline import outline
from flambeau.passes.fusion.precedence import Precedence


def group() -> Group:
    return Group(kind_named("loop"), (), frozenset(), {}, set(), set())


def leads_through_a_third(graph: nx.DiGraph, first: Group, second: Group) -> bool:
    return any(nx.has_path(graph, third, second) for third in graph.successors(first) if third is not second)


def line_of(order: Precedence) -> list[Group]:
    found, current = [], order._last
    while current is not None:
        found.append(current)
        current = current.previous
    return found[::-1]


@pytest.mark.parametrize("seed", range(60))
def test_paths_and_order_are_those_of_the_graph(seed: int) -> None:
    draw = random.Random(seed)
    order, graph, groups = Precedence(), nx.DiGraph(), list[Group]()
    merged = 0
    for _ in range(60):
        new = group()
        before = draw.sample(groups, min(len(groups), draw.randint(0, 3)))
        order.enter(new, before)
        graph.add_node(new)
        graph.add_edges_from((producer, new) for producer in before)
        groups.append(new)
        for _ in range(draw.randint(0, 2)):
            a, b = draw.choice(groups), draw.choice(groups)
            if a is b:
                continue
            assert order.are_connected(a, b) == (nx.has_path(graph, a, b) or nx.has_path(graph, b, a))
            first, second = (a, b) if a.at < b.at else (b, a)
            is_cycle = leads_through_a_third(graph, first, second)
            assert (order.between(first, second) is None) == is_cycle
            if not is_cycle:
                merged += 1
                order.merge(a, b)
                groups.remove(b)
                nx.contracted_nodes(graph, a, b, self_loops=False, copy=False)
                place = {one: number for number, one in enumerate(line_of(order))}
                assert set(place) == set(groups)
                assert all(place[x] < place[y] for x, y in graph.edges)
                assert all(x.at < y.at for x, y in zip(line_of(order), line_of(order)[1:], strict=False))
    assert merged > 10
    connected = order.connected(groups[::2])
    for one in groups[::2]:
        paths = {other for other in groups[::2] if nx.has_path(graph, one, other) or nx.has_path(graph, other, one)}
        assert set(connected.groups(connected.of(one))) == paths


def test_room_between_neighbours_is_made_when_it_runs_out() -> None:
    order, first = Precedence(), group()
    order.enter(first, [])
    last = group()
    order.enter(last, [])
    for _ in range(200):
        order._put([new := group()], first, first.next)
        assert first.at < new.at < new.next.at                              # type: ignore[union-attr]
    assert len({one.at for one in line_of(order)}) == 202


def test_groups_in_a_circle_are_an_error_and_no_endless_walk() -> None:
    graph = parse("graph @g {\n  %0 = input arg \"x\" : f32[3]\n  %1 = sin(%0) : f32[3]\n  %2 = cos(%1) : f32[3]\n"
                  "  %3 = tan(%2) : f32[3]\n  return %3\n}")
    outer, inner = group(), group()
    first, second, third = (node for node in graph.toposort() if node.op.name != "input")
    outer.members, inner.members = {first, third}, {second}
    with pytest.raises(VerificationError, match="groups read each other in a circle"):
        outline(graph, {first: outer, second: inner, third: outer}, {}, lambda region: region)
