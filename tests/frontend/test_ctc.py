"""ctc_loss against PyTorch, and against the sum over all alignments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn


def by_hand(p: np.ndarray, target: list[int], blank: int) -> float:
    """-log of the sum over all paths that read as the target. p: [T, C]."""
    total = 0.0
    for path in itertools.product(range(p.shape[1]), repeat=p.shape[0]):
        if [c for c, _ in itertools.groupby(path) if c != blank] == target:
            total += float(np.prod([p[t, c] for t, c in enumerate(path)]))
    return float(-np.log(total)) if total else float("inf")


@pytest.mark.parametrize("target", [[], [1], [1, 2], [1, 1], [2, 1, 2], [1, 1, 1]])
def test_it_sums_over_all_alignments(target: list[int]) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(3), 4)
    for blank, t in ((0, target), (2, [c - 1 for c in target])):
        found = F.ctc_loss(fb.tensor(p).log(), fb.tensor(t, dtype=fb.int64), fb.tensor(4), fb.tensor(len(t)), blank,
                           "none")
        assert found.item() == pytest.approx(by_hand(p, t, blank))


# (steps, classes, labels [N, S], input lengths, target lengths)
CASES: list[tuple[int, int, list[list[int]], list[int], list[int]]] = [
    (6, 4, [[1, 2, 2], [3, 1, 0]], [6, 5], [3, 2]),
    (12, 3, [[1, 2, 1, 1], [2, 2, 2, 2], [1, 1, 2, 0]], [12, 10, 11], [4, 4, 0]),
    (20, 5, [[1, 2, 3, 4, 4, 1]], [20], [6]),
    (5, 3, [[1, 1, 1], [2, 1, 0]], [4, 5], [3, 2]),             # no way to align the first
]


@pytest.mark.torch
@pytest.mark.parametrize("case", CASES, ids=[f"T{case[0]}" for case in CASES])
@pytest.mark.parametrize("compiled", [False, True])
def test_ctc_agrees(case: Any, compiled: bool) -> None:
    import torch

    steps, classes, rows, input_lengths, target_lengths = case
    x = np.random.default_rng(1).normal(size=(steps, len(rows), classes))
    flat = [c for row, n in zip(rows, target_lengths, strict=True) for c in row[:n]]
    for labels, reduction, zero in ((rows, "none", True), (flat, "mean", False)):
        loss = nn.CTCLoss(reduction=reduction, zero_infinity=zero)
        a, b = fb.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y = (fb.compile(loss) if compiled else loss)(
            F.log_softmax(a, -1), fb.tensor(labels), fb.tensor(input_lengths), fb.tensor(target_lengths))
        z = torch.nn.CTCLoss(reduction=reduction, zero_infinity=zero)(
            b.log_softmax(-1), torch.tensor(labels), torch.tensor(input_lengths), torch.tensor(target_lengths))
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9)
        y.sum().backward(), z.sum().backward()
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-7, atol=1e-12)


def test_one_sample_and_tuples_of_lengths() -> None:
    x = fb.randn(7, 4).log_softmax(-1)
    alone = F.ctc_loss(x, fb.tensor([1, 3]), fb.tensor(7), fb.tensor(2))
    assert alone.item() == pytest.approx(fb.ctc_loss(x[:, None], fb.tensor([[1, 3]]), (7,), (2,), 0, 1).item())


@pytest.mark.parametrize(("arguments", "words"), [
    (([[1, 2]], [9], [2]), "input_lengths"), (([[1, 2]], [4], [3]), "target_lengths"), (([[1, 5]], [4], [2]), "targets"),
    (([1, 2, 2], [4], [2]), "add up"), (([[1, 2]], [4, 4], [2]), "must be 1 integers")])
def test_lengths_and_labels_that_do_not_fit_are_refused(arguments: Any, words: str) -> None:
    targets, steps, lengths = map(fb.tensor, arguments)
    with pytest.raises(RuntimeError, match=words):
        F.ctc_loss(fb.zeros(4, 1, 3), targets, steps, lengths)
