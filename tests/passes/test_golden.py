"""One runner for tests/golden: the text after the passes is the expected one, both sides give the same numbers, and
a second run changes nothing. `pytest --update-golden` rewrites the expectations."""
from __future__ import annotations

import pytest

from flambeau.ir.graph import clone
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.passes.graph.simplify import RULES, apply_rules
from flambeau.passes.pipeline import run
from tests.passes.golden import Case, GoldenFile, assert_same_results, golden_files, with_numbers

CASES = [(file, case) for file in golden_files() for case in file.cases]
IDS = [f"{file.path.parent.name}-{file.path.stem}-{case.name}" for file, case in CASES]
REPEATED = [n for n, (file, _) in enumerate(CASES) if file.passes[-1].name != "fuse"]      # which takes no fused graph


@pytest.fixture(scope="session", autouse=True)
def _updated(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        for file in {id(file): file for file, _ in CASES}.values():
            for case in file.cases:
                case.before = print_graph(parse(case.before))
                case.after = print_graph(run(parse(case.before), file.passes)[0])
            file.write()


@pytest.mark.parametrize(("file", "case"), CASES, ids=IDS)
def test_passes_give_the_expected_text(file: GoldenFile, case: Case) -> None:
    graph, _ = run(parse(case.before), file.passes, verify=True)
    assert print_graph(graph) == case.after


@pytest.mark.parametrize(("file", "case"), CASES, ids=IDS)
def test_both_sides_give_the_same_numbers(file: GoldenFile, case: Case) -> None:
    assert_same_results(with_numbers(case.after), with_numbers(case.before), exact=file.is_exact)


@pytest.mark.parametrize(("file", "case"), [CASES[n] for n in REPEATED], ids=[IDS[n] for n in REPEATED])
def test_a_second_run_changes_nothing(file: GoldenFile, case: Case) -> None:
    graph, _ = run(parse(case.after), file.passes)
    assert print_graph(graph) == case.after


@pytest.mark.parametrize(("file", "case"), CASES, ids=IDS)
def test_passes_leave_a_copy_alone(file: GoldenFile, case: Case) -> None:
    graph = parse(case.before)
    run(clone(graph)[0], file.passes)
    verify(graph)
    assert print_graph(graph) == case.before


def test_every_rule_has_a_golden_case() -> None:
    used: set[str] = set()
    for file, case in CASES:
        if any(p.name == "simplify" for p in file.passes):
            used |= set(apply_rules(parse(case.before)))
    assert {rule.rewrite for rule in RULES} - used == set()
