"""Sizes and containers that make no sense get one sentence, eager and compiled, whatever the mode of Python."""
from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.errors import FlambeauError, UnsupportedError

X = fb.ones(2, 3)
IMAGE = fb.ones(1, 1, 4, 4)
NEGATIVE, HUGE = "negative size", "larger than any memory"
ABSURD: dict[str, tuple[Callable[[], Any], str]] = {
    "zeros(-1)": (lambda: fb.zeros(-1), NEGATIVE),
    "zeros(2**62)": (lambda: fb.zeros(2**62), HUGE),
    "zeros(2**31, 2**33)": (lambda: fb.zeros(2**31, 2**33), HUGE),
    "zeros(0, 2**63)": (lambda: fb.zeros(0, 2**63), HUGE),
    "empty(2**64)": (lambda: fb.empty(2**64), HUGE),
    "full": (lambda: fb.full((2**62, 4), 1.0), HUGE),
    "randn(2**62)": (lambda: fb.randn(2**62), HUGE),
    "rand(-2)": (lambda: fb.rand(-2), NEGATIVE),
    "randperm(-1)": (lambda: fb.randperm(-1), NEGATIVE),
    "arange(2**62)": (lambda: fb.arange(2**62), HUGE),
    "arange(1e30)": (lambda: fb.arange(1e30), HUGE),
    "arange(inf)": (lambda: fb.arange(float("inf")), "no end to counting"),
    "linspace(-1)": (lambda: fb.linspace(0, 1, -1), "must not be negative"),
    "linspace(2**62)": (lambda: fb.linspace(0, 1, 2**62), HUGE),
    "expand(-2)": (lambda: X.expand(-2, 2, 3), NEGATIVE),
    "expand(2**62)": (lambda: X.expand(2**62, 2, 3), HUGE),
    "repeat(-1, 1)": (lambda: X.repeat(-1, 1), NEGATIVE),
    "repeat(2**40, 2**40)": (lambda: X.repeat(2**40, 2**40), HUGE),
    "repeat_interleave(-1)": (lambda: X.repeat_interleave(-1), NEGATIVE),
    "tile(-1)": (lambda: fb.tile(X, (-1, 2)), NEGATIVE),
    "pad(2**62)": (lambda: F.pad(X, (2**62, 2**62)), HUGE),
    "conv2d(padding=2**40)": (lambda: F.conv2d(IMAGE, IMAGE, padding=2**40), HUGE),
    "interpolate(size=0)": (lambda: F.interpolate(IMAGE, size=0), "sizes must be positive"),
    "tensor_split(0)": (lambda: X.tensor_split(0), "must be positive"),
    "Linear(-1)": (lambda: nn.Linear(-1, 2), NEGATIVE),
    "Linear(2**40)": (lambda: nn.Linear(2**40, 2**40), HUGE),
}


@pytest.mark.parametrize("mode", ["eager", "compiled"])
@pytest.mark.parametrize("name", ABSURD)
def test_absurd_sizes_are_errors_of_the_op(name: str, mode: str) -> None:
    f, message = ABSURD[name]
    with pytest.raises(RuntimeError, match=message):
        (fb.compile(f) if mode == "compiled" else f)()


def test_more_memory_than_there_is_says_how_much() -> None:
    with pytest.raises(MemoryError, match="can't allocate 70368744177664 bytes"):
        fb.compile(lambda: fb.zeros(2**44))()


def nested(levels: int, leaf: Any) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(levels), leaf)


def cyclic() -> list[Any]:
    loop: list[Any] = [X]
    loop.append(loop)
    return loop


@pytest.mark.parametrize("make", [lambda: nested(300, X), lambda: nested(100_000, X), cyclic, lambda: {"a": cyclic()}])
def test_cyclic_and_very_deep_containers_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UnsupportedError, match="contains itself, or nests more than 100 deep"):
        fb.compile(lambda tree: X + 1)(make())
    with pytest.raises(UnsupportedError, match="contains itself, or nests more than 100 deep"):
        fb.compile(lambda x: make())(X)


def test_fifty_levels_are_fine() -> None:
    found = fb.compile(lambda tree: tree)(nested(50, X))
    assert str(found).count("[") >= 50


def test_optimized_python_raises_the_same_errors() -> None:
    """`python -O` drops asserts: nothing that a user can reach may depend on one."""
    code = """
import sys; sys.path[:0] = ["tests/frontend"]
import flambeau as fb, test_absurd_arguments as t
assert False, "asserts are on"
for name, (f, _) in t.ABSURD.items():
    for run in (f, fb.compile(f)):
        try:
            run()
        except RuntimeError as error:
            print("RIGHT")
        else:
            print("NO ERROR", name)
"""
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-O", "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["RIGHT"] * 2 * len(ABSURD), done.stdout[-500:] + done.stderr[-2000:]


def test_every_error_here_is_ours() -> None:
    for f, _ in ABSURD.values():
        with pytest.raises((FlambeauError, RuntimeError)):
            f()
