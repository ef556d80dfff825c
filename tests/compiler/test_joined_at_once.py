"""Ops that fusion puts into a group at once get the plan that they get one by one: decision 059."""
from __future__ import annotations

import random
from functools import partial

import pytest
from random_graphs import Generator

from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.passes.cpu.pipeline import CPU_LIMITS, CPU_PASSES
from flambeau.passes.fusion.fuse import Planner, fuse
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.pipeline import run

SEEDS = 24                                  # of each shard; thousands were run


def fused(graph: Graph, limits: Limits) -> str:
    """The fused graph as text, with the places in the traced graph that each of its nodes stands for."""
    before, _ = run(clone(graph)[0], CPU_PASSES[:-1])
    made = partial(fuse, limits=limits)(before)
    return "\n".join([print_graph(made), *[str(node.origin) for node in made.toposort()]])


@pytest.mark.parametrize("shard", range(3))
def test_ops_join_at_once_where_they_would_one_by_one(shard: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = range(SEEDS * shard, SEEDS * (shard + 1))
    programs = []
    for seed in seeds:
        draw = random.Random(seed).choice
        limits = Limits(draw((1, 2, 5, 40, 192)), draw((0, 4, 32)), draw((0, 8)), draw((1, 4)))
        programs.append((seed, Generator(seed, None if seed % 3 else 40).graph, limits))
    found = {seed: fused(graph, limits) for seed, graph, limits in programs}
    monkeypatch.setattr(Planner, "_join_at_once", lambda self, node, uses: False)
    for seed, graph, limits in programs:
        assert found[seed] == fused(graph, limits), f"seed {seed}, {limits}"


def test_a_chain_makes_one_group_of_one_op(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = parse("""
    graph @f {
      %0 = input arg "x" : f32[4,8]
      %1 = exp(%0) : f32[4,8]
      %2 = neg(%1) : f32[4,8]
      %3 = tanh(%2) : f32[4,8]
      return %3
    }""")
    seeded = []
    seed = Planner._seed
    monkeypatch.setattr(Planner, "_seed", lambda self, node: seeded.append(node.op.name) or seed(self, node))
    fuse(graph, CPU_LIMITS)
    assert seeded == ["exp", "neg"]         # the second to learn where such an op stands
