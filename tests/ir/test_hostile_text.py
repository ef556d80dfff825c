"""Whatever the text says, reading it ends soon, in a graph or kernel, or in an error of ours that names the line."""
from __future__ import annotations

import random
import time

import kernel_samples
import pytest

from flambeau.errors import ParseError
from flambeau.ir.graph.text import print_graph
from flambeau.ir.kernel.text import print_kernel
from tests.ir.graph_samples import BY_HAND, training_step
from tests.ir.hostile import LONGEST_READ_S, NESTED, mutated, read_graph, read_kernel, truncations

BUDGET_S = 6.0                      # of each test that mutates
GRAPHS = [print_graph(make()) for make in BY_HAND]
KERNELS = [print_kernel(kernel) for kernel in kernel_samples.all_samples()]


def test_truncated_graphs_are_refused_with_their_line() -> None:
    for text in truncations(print_graph(training_step()).split("#0")[0].rstrip()):
        assert read_graph(text) == "refused", text


@pytest.mark.parametrize("text", [min(KERNELS, key=len), next(text for text in KERNELS if "contraction" in text)])
def test_truncated_kernels_are_refused_with_their_line(text: str) -> None:
    for part in truncations(text.rstrip()):
        assert read_kernel(part) == "refused", part


@pytest.mark.parametrize(("read", "texts"), [(read_graph, GRAPHS), (read_kernel, KERNELS)], ids=["graphs", "kernels"])
def test_mutated_text_ends_in_an_error_of_ours(read, texts) -> None:
    rng, ends, seen = random.Random(0), time.monotonic() + BUDGET_S, {"refused": 0, "invalid": 0, "read": 0}
    while time.monotonic() < ends:
        text, started = mutated(rng.choice(texts), rng, texts), time.monotonic()
        try:
            seen[read(text)] += 1
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}: {error}\n{text!r}") from error
        assert time.monotonic() - started < LONGEST_READ_S, text
    assert min(seen["refused"], seen["invalid"]) > 0, seen


@pytest.mark.parametrize(("read", "text"), NESTED, ids=range(len(NESTED)))
def test_deep_long_and_huge_text_is_refused_soon(read, text) -> None:
    started = time.monotonic()
    with pytest.raises(ParseError, match=r"^line \d+, column \d+: "):
        read(text)
    assert time.monotonic() - started < LONGEST_READ_S
