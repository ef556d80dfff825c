"""Random programs in the user's language give eager code's bits when compiled. A failure prints the seed, and the
shortest program found that fails, ready to be run."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from random_programs import Writer, Written, difference, shrink


def report(seed: int, **how: object) -> str:
    """What is wrong with a program and with the shortest like it; nothing if all is well."""
    program = Writer(seed).program
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


if __name__ == "__main__":      # FLAMBEAU_POISON=1 python tests/compiler/test_random_programs.py FIRST LAST [BACKEND]
    import sys

    backend = sys.argv[3] if len(sys.argv) > 3 else "cpu"
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        if found := report(number, backend=backend):
            print(found, flush=True)
