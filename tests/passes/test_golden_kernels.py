"""One runner for the golden files of `lower` and `schedule`: the text is the expected one, lowered kernels give the
graph's numbers, and a schedule changes no loop. `pytest --update-golden` rewrites the expectations."""
from __future__ import annotations

import math
from dataclasses import replace

import pytest

from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.kernel import ContractionKernel
from flambeau.ir.kernel.text import parse_kernels, print_kernels
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.passes.lowering.lower import finish
from tests.passes.golden import Case, GoldenFile, assert_close, draws, golden_files, results
from tests.passes.golden_kernels import (
    kernel_results,
    lowered,
    print_calls,
    scheduled,
    starts_from_kernels,
    target_of,
    unfinished,
    without_schedules,
)

FILES = golden_files(of_kernels=True)
LOWERED = [(file, case) for file in FILES for case in file.cases if not starts_from_kernels(file)]
SCHEDULED = [(file, case) for file in FILES for case in file.cases if starts_from_kernels(file)]


def each(cases: list[tuple[GoldenFile, Case]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("file", "case"), cases, ids=[f"{f.path.parent.name}-{f.path.stem}" for f, _ in cases])


@pytest.fixture(scope="session", autouse=True)
def _updated(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        for file, case in LOWERED:
            case.before = print_graph(parse(case.before))
            case.after = print_calls(*lowered(case.before, target_of(file)))
        for file, case in SCHEDULED:
            case.before = without_schedules(case.before)
            case.after = scheduled(case.before, target_of(file))
        for file in FILES:
            file.write()


@each(LOWERED)
def test_lowering_gives_the_expected_kernels(file: GoldenFile, case: Case) -> None:
    assert print_graph(parse(case.before)) == case.before
    assert print_calls(*lowered(case.before, target_of(file))) == case.after


@each(LOWERED)
def test_kernels_give_the_graphs_numbers(file: GoldenFile, case: Case) -> None:
    graph, (fused, calls) = parse(case.before), lowered(case.before, target_of(file))
    n_compared = 0
    for inputs in draws(graph.inputs):
        expected, found = results(graph, inputs), kernel_results(fused, calls, inputs)
        assert (found is None) == isinstance(expected, str)
        if found is not None and not isinstance(expected, str):
            n_compared += 1
            assert_close(found, expected, graph, inputs, exact=False, terms=64)
    assert n_compared


@each(LOWERED)
def test_lowered_kernels_come_back_from_text(file: GoldenFile, case: Case) -> None:
    _, calls = lowered(case.before, target_of(file))
    assert parse_kernels(case.after) == tuple(call.kernel for call in calls)


@each(LOWERED)
def test_calls_are_kernels_before_they_are_finished_too(file: GoldenFile, case: Case) -> None:
    """They print, parse, keep the rules and mean the graph, index values being `affine`; and finishing is done once."""
    graph, (fused, calls) = parse(case.before), unfinished(case.before)
    for call in calls:
        verify_kernel(call.kernel)
        assert parse_kernels(print_kernels([call.kernel])) == (call.kernel,)
        done = finish(call)
        assert finish(done) == done and all(instr.op != "affine" for instr in done.kernel.instrs())
    inputs = next(draws(graph.inputs))
    expected, found = results(graph, inputs), kernel_results(fused, calls, inputs)
    if found is not None and not isinstance(expected, str):
        assert_close(found, expected, graph, inputs, exact=False, terms=64)


def test_some_of_these_calls_have_index_values_to_spell_out() -> None:
    kernels = [call.kernel for _, case in LOWERED for call in unfinished(case.before)[1]]
    assert sum(any(instr.op == "affine" for instr in kernel.instrs()) for kernel in kernels) >= 5


@each(SCHEDULED)
def test_schedules_are_the_expected_ones(file: GoldenFile, case: Case) -> None:
    assert scheduled(case.before, target_of(file)) == case.after


@each(SCHEDULED)
def test_a_schedule_changes_no_loop(file: GoldenFile, case: Case) -> None:
    """Those of a contraction bring its dims into canonical order, and may swap its operands."""
    assert print_kernels(parse_kernels(case.before)) == case.before
    for before, after in zip(parse_kernels(case.before), parse_kernels(case.after), strict=True):
        verify_kernel(after)
        if not isinstance(before, ContractionKernel):
            assert replace(after, schedule=None) == before
        else:
            assert after.params == before.params and math.prod(after.extents) == math.prod(before.extents)


@each(SCHEDULED)
def test_a_schedule_is_kept(file: GoldenFile, case: Case) -> None:
    assert scheduled(case.after, target_of(file)) == case.after


@pytest.mark.parametrize("stage", ["layout", "fuse", "lower", "schedule"])
def test_forty_graphs_of_their_own_pin_each_stage(stage: str) -> None:
    files = [file for file in [*FILES, *golden_files()] if file.path.parent.name == stage]
    assert len({case.before.partition("{")[2] for file in files for case in file.cases}) >= 40
