"""Random programs in the user's language give eager code's bits when compiled. A failure prints the seed, and the
shortest program found that fails, ready to be run."""
from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from random_programs import Writer, Written, difference, ordered, shrink


def report(seed: int, *, favoured: Callable[[Writer], str | None] | None = None, **how: object) -> str:
    """What is wrong with a program and with the shortest like it; nothing if all is well. favoured: a step that is taken
    often."""
    program = Writer(seed, favoured=favoured).program
    message = difference(program, **how)
    if not message:
        return ""

    def fails(smaller: Written) -> bool:
        return difference(smaller, **how).partition(":")[0] == message.partition(":")[0]

    smaller = shrink(program, fails)
    return f"seed {seed}: {message}\nshrunk: {difference(smaller, **how)}\n{smaller}"


@pytest.mark.parametrize("backend", ["cpu", "interpret"])
def test_compiled_programs_give_eager_bits(seeds: Iterator[int], backend: str) -> None:
    for seed in seeds:
        message = report(seed, backend=backend)
        assert not message, message


@pytest.mark.parametrize("backend", ["cpu", "interpret"])
def test_compiled_sorts_give_eager_bits(seeds: Iterator[int], backend: str) -> None:
    for seed in seeds:
        message = report(seed, favoured=ordered, backend=backend)
        assert not message, message


if __name__ == "__main__":  # FLAMBEAU_POISON=1 python tests/compiler/test_random_programs.py FIRST LAST [BACKEND] [sorts]
    import sys

    backend = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number, backend=backend, favoured=ordered if "sorts" in sys.argv else None):
            print(found, flush=True)
