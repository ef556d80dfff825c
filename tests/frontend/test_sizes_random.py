"""Random programs of shape code: one trace gives what eager code gives at all sizes that it is for."""

from __future__ import annotations

from collections.abc import Iterator

import size_programs


def test_one_trace_is_for_all_sizes(seeds: Iterator[int]) -> None:
    for seed in seeds:
        try:
            size_programs.check(seed)
        except Exception as error:
            raise AssertionError(size_programs.told(seed)) from error
