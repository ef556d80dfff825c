"""Faults planted at random places of the compiler: what shows is found, put down to its stage, and told in a few lines."""
from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from planted import Planted
from random_graphs import Generator

from flambeau.compiler import compile_graph
from flambeau.errors import VerificationError
from flambeau.repro import Repro, call_on_arrays

LINES, ELEMENTS = 15, 64              # and what a dim of the length that shows the fault takes


def test_what_planted_faults_are_shrunk_to(seeds: Iterator[int]) -> None:
    for seed in seeds:
        made = Generator(seed)
        with Planted(seed, made.graph) as fault:
            try:
                call_on_arrays(compile_graph(made.graph, verify=True, **fault.how), made.arrays)
            except VerificationError as error:
                repro = error.repro
                assert isinstance(repro, Repro), f"seed {seed}: {error}"
                assert repro.n_lines <= LINES, f"seed {seed}: {error}"
                assert sum(array.size for array in repro.arrays()) <= ELEMENTS + 2 * fault.length, f"seed {seed}: {error}"
                assert re.fullmatch(fault.blame, error.blame), f"seed {seed}, {fault.stage}: {error}"
                with pytest.raises(VerificationError) as again:     # it runs by itself
                    exec(str(repro), {"planted": fault.how.get("backend"), "passes": fault.how.get("passes")})
                assert again.value.blame == error.blame, f"seed {seed}: {error}"
