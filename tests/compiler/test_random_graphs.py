"""Random graphs compile to what the interpreter says, each element as near as rounding explains. A failure prints its
seed and the smallest graph found."""
from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from checked import compiled, run
from random_graphs import Generator
from rounding import bounds

from flambeau.backends import Backend, BuiltKernel, CpuBackend, Runnable, whole_kernel
from flambeau.ir.dtypes import to_compute
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.reduce import reduce
from flambeau.ir.graph.text import print_graph
from flambeau.ir.kernel import Kernel
from flambeau.ir.target import Target, generic_x86_64
from flambeau.passes.cpu import split_reductions
from flambeau.passes.cpu.prepare import in_parts
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.graph.convolutions import plain_convolutions
from flambeau.passes.lowering.lower import Call
from flambeau.passes.pipeline import Pass, graph_passes
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.program import Program


class Strange(Backend):
    """A device of odd tastes, drawn from a seed: limits of fusion, cores and caches that cut reductions up, no schedules.
    Its kernels are interpreted."""

    def __init__(self, seed: int):
        draw = random.Random(seed).choice
        limits = Limits(draw((1, 2, 5, 40, 192)), draw((0, 4, 32)), draw((0, 8)), draw((1, 4)))
        self.passes = graph_passes(Pass("layout", plain_convolutions), Pass("fuse", partial(fuse, limits=limits)))
        self.target = replace(generic_x86_64(), cores=draw((1, 2, 64)), l2_bytes=draw((1 << 10, 1 << 20)))

    def host(self) -> Target:
        return self.target

    def prepare(self, calls: Sequence[Call], target: Target) -> list[Call]:
        return super().prepare([part for call in calls for part in in_parts(call, target)], target)

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[BuiltKernel]:
        return [whole_kernel(kernel) for kernel in kernels]

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return InterpretedExecutable(program, [b.kernel for b in built])


class Tight(CpuBackend):
    """Native code for the same odd tastes."""

    def __init__(self, seed: int):
        super().__init__()
        self.passes = Strange(seed).passes


def agrees(graph: Graph, arrays: Sequence[np.ndarray], backend: str | Backend = "cpu") -> None:
    outcome = run(compiled(graph, backend=backend), arrays)
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


def failure(graph: Graph, arrays: Sequence[np.ndarray], backend: str | Backend = "cpu") -> str:
    """What goes wrong, in one line; nothing if all is well."""
    try:
        agrees(graph, arrays, backend)
    except Exception as error:          # any way of failing is one to report
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def report(seed: int, backend: str | Backend = "cpu") -> str:
    generator = Generator(seed)
    message = failure(generator.graph, generator.arrays, backend)
    if not message:
        return ""
    kind = message.split(":")[0]
    graph, arrays = reduce(generator.graph, generator.arrays, lambda g, a: failure(g, a, backend).startswith(kind))
    return f"seed {seed}: {message}\nshrunk: {failure(graph, arrays, backend)}\n{print_graph(graph)}"


def test_random_graphs_agree_with_the_interpreter(seeds: Iterator[int]) -> None:
    for seed in seeds:
        message = report(seed)
        assert not message, message


def test_random_graphs_mean_the_same_to_devices_of_other_tastes(
        seeds: Iterator[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they decide on fusion, layouts and parts; here everything that can be cut is."""
    monkeypatch.setattr(split_reductions, "LAUNCH_NS", 0.0)
    monkeypatch.setattr(split_reductions, "GAIN", np.inf)
    for seed in seeds:
        message = report(seed, Strange(seed)) or report(seed, Tight(seed))
        assert not message, message


if __name__ == "__main__":              # python tests/compiler/test_random_graphs.py FIRST LAST
    import sys

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number):
            print(found, flush=True)
