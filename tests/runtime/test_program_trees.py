"""Loops, branches, host calls and sizes of the call: native code does what the interpreter does."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from tree_programs import outcome, random_tree

from flambeau import config


@pytest.mark.parametrize("threads", [1, 3])
def test_random_trees_run_natively_as_they_are_interpreted(seeds: Iterator[int], threads: int) -> None:
    with config.set(num_threads=threads):
        for seed in seeds:
            tree = random_tree(seed)
            native, interpreted = tree.native(), tree.interpreted()
            for call in range(2):                   # the second one in memory that the first one left
                found, wanted = outcome(native, seed + call), outcome(interpreted, seed + call)
                assert found == wanted, f"seed {seed}, call {call}"
