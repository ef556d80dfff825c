"""Random graphs compile to what the interpreter says. A failure prints its seed and the smallest graph found."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from checked import EPS, check
from random_graphs import Generator, shrink

from flambeau.ir.graph import Graph
from flambeau.ir.text import print_graph

ROUNDINGS = 64.0        # of values of order one, through some twenty ops


def agrees(graph: Graph, arrays: Sequence[np.ndarray]) -> None:
    narrowest = max(EPS.get(v.dtype.name, 0.0) for node in graph for v in node.results)
    check(graph, arrays, roundings=ROUNDINGS * narrowest / EPS["f32"], at_least=1.0)


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


@pytest.mark.parametrize("seed", range(200))
def test_random_graph_agrees_with_the_interpreter(seed: int) -> None:
    message = report(seed)
    assert not message, message


if __name__ == "__main__":              # python tests/compiler/test_random_graphs.py FIRST LAST
    import sys

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number):
            print(found, flush=True)
