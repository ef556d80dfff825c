"""Random graphs compile to what the interpreter says, each element as near as rounding explains. A failure prints its
seed and the smallest graph found."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from checked import compiled, run
from random_graphs import Generator, shrink
from rounding import bounds

from flambeau.ir.dtypes import to_compute
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.text import print_graph


def agrees(graph: Graph, arrays: Sequence[np.ndarray]) -> None:
    outcome = run(compiled(graph), arrays)
    outputs, writes = interpret(graph, arrays)
    found = [*outcome.outputs, *[outcome.states[state] for state in graph.writes]]
    for number, (value, mine, expected, bound) in enumerate(
            zip(graph.roots(), found, (*outputs, *writes), bounds(graph, arrays), strict=True)):
        assert mine.shape == expected.shape and mine.dtype == expected.dtype, f"result {number}: {mine.shape}"
        left, right = (to_compute(a, value.dtype).astype(np.float64) for a in (mine, expected))
        with np.errstate(invalid="ignore"):
            right_enough = (left == right) | (np.isnan(left) & np.isnan(right)) | (np.abs(left - right) <= bound)
        if not right_enough.all():
            at = tuple(int(i) for i in np.argwhere(~right_enough)[0])
            raise AssertionError(f"result {number}: {int((~right_enough).sum())} of {left.size} differ, first at {at}: "
                                 f"found {left[at]}, expected {right[at]} within {bound[at]:.3g}")


def failure(graph: Graph, arrays: Sequence[np.ndarray]) -> str:
    """What goes wrong, in one line; nothing if all is well."""
    try:
        agrees(graph, arrays)
    except Exception as error:          # any way of failing is one to report
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def report(seed: int) -> str:
    generator = Generator(seed)
    message = failure(generator.graph, generator.arrays)
    if not message:
        return ""
    kind = message.split(":")[0]
    graph, arrays = shrink(generator.graph, generator.arrays, lambda g, a: failure(g, a).startswith(kind))
    return f"seed {seed}: {message}\nshrunk: {failure(graph, arrays)}\n{print_graph(graph)}"


def test_random_graphs_agree_with_the_interpreter(seeds: Iterator[int]) -> None:
    for seed in seeds:
        message = report(seed)
        assert not message, message


if __name__ == "__main__":              # python tests/compiler/test_random_graphs.py FIRST LAST
    import sys

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number):
            print(found, flush=True)
