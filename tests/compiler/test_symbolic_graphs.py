"""Graphs with named sizes, passed once and compiled at several sizes, give what the interpreter says there."""
from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import numpy as np
from checked import compiled, run
from rounding import bounds
from symbolic_graphs import Generator, arrays_for

from flambeau.compiler import fuse_graph
from flambeau.ir.answers import assuming
from flambeau.ir.dtypes import to_compute
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.graph.verifier import verify
from flambeau.passes.pipeline import PassReport


def agrees(graph: Graph, fused: Graph, seed: int) -> None:
    """What the fused graph compiles to is what the graph means."""
    arrays = arrays_for(graph, seed)
    outputs, writes = interpret(graph, arrays)
    outcome = run(compiled(graph, fused=(fused, PassReport(()))), arrays)
    found = [*outcome.outputs, *[outcome.states[state] for state in graph.writes]]
    for value, mine, expected, bound in zip(graph.roots(), found, (*outputs, *writes), bounds(graph, arrays), strict=True):
        assert mine.shape == expected.shape and mine.dtype == expected.dtype
        left, right = (to_compute(a, value.dtype).astype(np.float64) for a in (mine, expected))
        with np.errstate(invalid="ignore"):
            fits = (left == right) | (np.isnan(left) & np.isnan(right)) | (np.abs(left - right) <= bound)
        assert fits.all(), f"found {left[~fits][0]}, expected {right[~fits][0]}"


def others(sizes: Mapping[str, int], facts: Facts, r: random.Random) -> Iterator[dict[str, int]]:
    """Sizes that meet the conditions: those of the traced call, the least, and any."""
    tried = [dict(sizes), {name: low for name, (low, _) in facts.ranges.items()}]
    tried += [{name: r.choice([size, size + 1, size - 1, 1, 2, 5, 9]) for name, size in sizes.items()} for _ in range(4)]
    fitting = [found for found in tried if facts.broken(found) is None]
    assert sizes in fitting
    yield from fitting[:4]


def check(seed: int) -> Facts:
    r = random.Random(seed)
    sizes = {"B": r.choice([3, 4, 6]), "T": r.choice([4, 5, 2, 1])}
    facts = Facts(sizes, dict.fromkeys(sizes, (r.choice([0, 1, 1]), LARGEST)))
    with assuming(facts):
        graph = Generator(seed, sizes).graph
        verify(graph)
        fused, _ = fuse_graph(graph)
    for found in others(sizes, facts, r):
        try:
            static, there = with_sizes(graph, found), with_sizes(fused, found)
            verify(static)
            verify(there)
            agrees(static, there, seed)
        except Exception as error:
            conditions = ", ".join(map(str, facts.conditions))
            raise AssertionError(f"seed {seed} at {found}, where {conditions}: {error}\n{graph}") from error
    return facts


def test_random_graphs_passed_once_are_right_at_all_sizes(seeds: Iterator[int]) -> None:
    for seed in seeds:
        check(seed)


if __name__ == "__main__":              # python tests/compiler/test_symbolic_graphs.py FIRST LAST
    import sys
    import traceback
    from collections import Counter

    asked: Counter[str] = Counter()
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        try:
            asked.update([str(condition) for condition in check(number).conditions])
        except Exception as error:
            print("".join(traceback.format_exception(error)), flush=True)
    print(asked.most_common(30))
