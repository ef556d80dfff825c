"""Random programs of shape code, compiled once for many sizes: each size gives what eager code gives.

    FLAMBEAU_POISON=1 python tests/frontend/test_dynamic_random.py [FIRST:LAST]
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import size_programs
import symbolic

import flambeau as fb
from flambeau.frontend.pytree import flatten
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dims import Size, evaluated, names_of


def run(seed: int) -> tuple[int, int]:
    """How many sizes were compared, and in how many traces. Raises AssertionError where results differ."""
    function, arguments, shapes = size_programs.drawn(seed)
    rng = random.Random(seed)
    dynamic = rng.choice([True, None])
    f = fb.compile(function, dynamic=dynamic)
    sizes = {str(size): number for t, shape in zip(arguments, shapes, strict=True)
             for size, number in zip(shape, t.shape, strict=True) if names_of(size)}
    layouts = [rng.choice(["rows", "rows", "turned", "part"]) for _ in arguments]
    count = 0
    for turn in range(4):
        given, same = ([_resized(t, shape, sizes, layout) for t, shape, layout in zip(
            arguments, shapes, layouts, strict=True)] for _ in range(2))
        wanted = _results(function, same)
        found = _results(f, given)
        difference = symbolic.difference(found, wanted)
        assert difference is None, f"seed {seed}, turn {turn}, dynamic={dynamic}, sizes {sizes}: {difference}"
        count += 1
        low = 2 if turn < 2 else 0
        sizes = {name: rng.randint(low, 7) for name in sizes}
    return count, len(f.signatures)


def _resized(t: fb.Tensor, shape: Sequence[Size], sizes: dict[str, int], layout: str) -> fb.Tensor:
    """At other sizes, in row-major order, with the order of dims reversed, or as a part of a larger tensor."""
    array = np.resize(t._data(), tuple([evaluated(size, sizes) for size in shape])).copy()
    if layout == "turned":
        array = array.T.copy()
    elif layout == "part":
        array = np.concatenate([array, array[..., :1]], -1)
    made = Tensor._from_array(array, t.dtype)
    if layout == "turned":
        made = made.permute(*reversed(range(made.ndim)))
    elif layout == "part":
        made = made[..., :evaluated(shape[-1], sizes)]
    return made.requires_grad_(t.requires_grad)


def _results(function: Any, given: Sequence[fb.Tensor]) -> list[Any]:
    fb.manual_seed(1)
    return [r._data() if isinstance(r, Tensor) else r for r in flatten(function(*given))[0]]


def test_random_programs_at_many_sizes(seeds: Iterator[int]) -> None:
    for seed in seeds:
        run(seed)


def main(seeds: Sequence[int]) -> int:
    wrong = compared = traces = refused = 0
    for seed in seeds:
        try:
            sizes, signatures = run(seed)
        except AssertionError as error:
            wrong += 1
            print(str(error)[:400], flush=True)
        except Exception as error:
            refused += 1
            print(f"seed {seed}: {type(error).__name__}: {str(error)[:300]}", flush=True)
        else:
            compared, traces = compared + sizes, traces + signatures
    print(f"{len(seeds)} programs at {compared} sizes in {traces} traces, {wrong} wrong, {refused} stopped")
    return int(wrong + refused > 0)


if __name__ == "__main__":
    first, _, last = (sys.argv[1] if len(sys.argv) > 1 else "100").rpartition(":")
    sys.exit(main(range(int(first or 0), int(last))))
