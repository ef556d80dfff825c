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


@pytest.mark.parametrize("way", WAYS)
def test_programs_with_control_flow_give_eager_bits(seeds: Iterator[int], way: str) -> None:
    for seed in seeds:
        message = report(seed, way)
        assert not message, message


@pytest.mark.parametrize("way", ["cpu", "verified"])
def test_gradients_through_choices_are_the_eager_ones(seeds: Iterator[int], way: str) -> None:
    for seed in seeds:
        program = Writer(seed, differentiated=True).program
        message = gradient_difference(program, WAYS[way])
        assert not message, f"seed {seed}, {way}: {message}\n{program.text()}"


if __name__ == "__main__":      # FLAMBEAU_POISON=1 python -m tests.compiler.test_random_control FIRST LAST [WAY]
    import sys

    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number, sys.argv[3] if len(sys.argv) > 3 else "cpu"):
            print(found, flush=True)
