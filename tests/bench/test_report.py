"""What the report concludes from measured numbers."""

from __future__ import annotations

import pytest

from benchmarks.driver import PeerResult, WorkloadResult
from benchmarks.report import agreement, best_other, ratio, seconds


def result_of(**peers: PeerResult) -> WorkloadResult:
    return WorkloadResult("w", "a workload", 1e-4, peers)


def test_values_within_rtol_agree() -> None:
    verdict, sentence = agreement(result_of(a=PeerResult(values=[2.0]), b=PeerResult(values=[2.0001])))
    assert verdict
    assert "5.0e-05" in sentence


def test_a_later_step_that_differs_is_a_disagreement() -> None:
    same_first = agreement(result_of(a=PeerResult(values=[2.0, 1.0]), b=PeerResult(values=[2.0, 1.1])))
    assert same_first[0] is False
    assert same_first[1].startswith("DISAGREE")


def test_nan_is_a_disagreement_and_names_the_peer() -> None:
    verdict, sentence = agreement(result_of(a=PeerResult(values=[1.0]), b=PeerResult(values=[float("nan")])))
    assert (verdict, sentence) == (False, "NOT FINITE: b")


def test_a_lone_peer_is_reported_as_not_cross_checked() -> None:
    assert "not cross-checked" in agreement(result_of(a=PeerResult(values=[1.0])))[1]


def test_ratio_is_taken_within_rounds() -> None:
    """Ours is twice as fast in rounds 1 and 2; a slow third slice of the other's must not count."""
    ours, other = PeerResult(steps=[1.0, 10.0, 2.0]), PeerResult(steps=[2.0, 20.0, 60.0])
    assert ratio(ours, other) == 2.0


def test_the_best_other_is_never_flambeau() -> None:
    slow, fast = PeerResult(steps=[3.0]), PeerResult(steps=[2.0])
    assert best_other(result_of(flambeau=PeerResult(steps=[1.0]), slow=slow, fast=fast)) is fast


@pytest.mark.parametrize(
    ("t", "text"), [(1.5, "1.5 s"), (0.0123, "12.3 ms"), (4.2e-6, "4.2 us"), (5e-8, "50 ns")]
)
def test_seconds_choose_a_readable_unit(t: float, text: str) -> None:
    assert seconds(t) == text
