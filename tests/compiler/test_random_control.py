"""Random programs with nested choices and loops give eager code's bits: traced, printed, parsed and interpreted, and
compiled by both backends, checked at every step or not."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import flambeau as fb
from tests.compiler.random_control import Writer, difference, gradient_difference, interpreted

WAYS: dict[str, Callable[..., Any]] = {
    "interpreter": interpreted,
    "cpu": fb.compile,
    "interpret": partial(fb.compile, backend="interpret"),
    "verified": partial(fb.compile, verify=True),
}


def report(seed: int, way: str) -> str:
    """What is wrong with a program, and its text; nothing if all is well."""
    program = Writer(seed).program
    message = difference(program, WAYS[way])
    return f"seed {seed}, {way}: {message}\n{program.text()}" if message else ""


def gradient_report(seed: int, way: str) -> str:
    """What is wrong with a program's gradients, and its text; nothing if all is well, or both refuse it."""
    program = Writer(seed, differentiated=True).program
    try:
        message = gradient_difference(program, WAYS[way])
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return f"seed {seed}, {way}: {message}\n{program.text()}" if message else ""


@pytest.mark.parametrize("way", WAYS)
def test_programs_with_control_flow_give_eager_bits(seeds: Iterator[int], way: str) -> None:
    for seed in seeds:
        message = report(seed, way)
        assert not message, message


@pytest.mark.parametrize("way", ["cpu", "verified"])
def test_gradients_through_choices_and_bounded_loops_are_the_eager_ones(seeds: Iterator[int], way: str) -> None:
    for seed in seeds:
        message = gradient_report(seed, way)
        assert not message, message


if __name__ == "__main__":      # FLAMBEAU_POISON=1 python -m tests.compiler.test_random_control FIRST LAST [WAY gradients]
    import sys

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        check = gradient_report if "gradients" in sys.argv else report
        if found := check(number, sys.argv[3] if len(sys.argv) > 3 else "cpu"):
            print(found, flush=True)
