"""Contractions as a GPU computes them, run by the emulator: random kernels under every schedule give the bits that their
meaning has, shared memory is read without conflicts, and the scheduler's choices for two GPUs."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import Conv, attention_scores, gemm, make_arrays
from codegen.random_contractions import RandomContraction
from test_loops_random import same_numbers

from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.emulator import emulate
from flambeau.errors import GraphError
from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import SM80, SM90
from flambeau.ir.kernel import ContractionKernel, TileSchedule
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.passes.cuda.schedule_contraction import TILES, TILES_OF_8_BYTES, schedule_contraction

ODD_TILES = (TileSchedule(16, 16, 8, 1, 1), TileSchedule(32, 16, 16, 4, 1), TileSchedule(64, 64, 8, 8, 4),
             TileSchedule(32, 96, 4, 2, 6, stages=2))
CHEAP = [*ODD_TILES, *[tile for tile in (*TILES, *TILES_OF_8_BYTES) if tile.m * tile.n <= 4096]]


def check(kernel: ContractionKernel, arrays: list[np.ndarray], said: str) -> None:
    """The kernel's text and its meaning give the same bits."""
    expected, found = ([array.copy() for array in arrays] for _ in range(2))
    verify_kernel(kernel)
    interpret(kernel, expected)
    text = kernel_text(kernel)
    emulate(text, found)
    for param, ours, theirs in zip(kernel.params, found, expected, strict=True):
        assert same_numbers(ours, theirs, param.dtype), f"{said}, {kernel.schedule}: {param}\n{text.source}"


def test_random_kernels_give_the_bits_of_their_meaning(seeds: Iterator[int]) -> None:
    for seed in seeds:
        made = RandomContraction(seed)
        for tile in random.Random(seed).sample(CHEAP, 2):
            check(replace(made.kernel, schedule=tile), made.arrays, f"seed {seed}")


def test_random_kernels_as_they_are_scheduled(seeds: Iterator[int]) -> None:
    for seed in seeds:
        made = RandomContraction(seed)
        check(schedule_contraction(made.kernel, SM90), made.arrays, f"seed {seed}")


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: f"{tile.m}x{tile.n}x{tile.k}")
@pytest.mark.parametrize("layout", [(False, False), (False, True), (True, False), (True, True)])
def test_shared_memory_is_read_and_stored_without_conflicts(tile: TileSchedule, layout: tuple[bool, bool]) -> None:
    kernel = replace(gemm(tile.m, tile.n, 2 * tile.k, *layout), schedule=tile)
    text, ways = kernel_text(kernel), dict[int, int]()
    emulate(text, make_arrays(kernel), ways=ways)
    lines = text.source.split("\n")
    assert len(ways) >= 6 and not {lines[line - 1]: count for line, count in ways.items() if count > 1}


def test_conflicts_are_counted() -> None:
    kernel = replace(gemm(32, 32, 16), schedule=TileSchedule(32, 32, 16, 4, 4))
    text, ways = kernel_text(kernel), dict[int, int]()
    emulate(replace(text, source=text.source.replace("* 36", "* 32")), make_arrays(kernel), ways=ways)
    assert sorted(set(ways.values())) == [1, 2]


def test_memory_is_read_sixteen_bytes_at_once_where_it_runs() -> None:
    def widths(kernel: ContractionKernel) -> int:
        return kernel_text(replace(kernel, schedule=TILES[3])).source.count("_next, x * 4, b")

    for layout in ((False, False), (False, True), (True, False), (True, True)):
        assert widths(gemm(64, 64, 64, *layout)) == 4 and widths(gemm(63, 65, 62, *layout)) == 0
    assert widths(Conv(2, 9, 9, 8, 16).forward()) == widths(Conv(2, 9, 9, 8, 16).weight_grad()) == 4


BIG, WIDE, LOW, MIDDLE, SMALL = TILES[0], TILES[1], TILES[4], TILES[3], TILES[-1]


@pytest.mark.parametrize(("kernel", "on_90", "on_80"), [
    (gemm(8192, 8192, 8192), BIG, BIG), (gemm(2048, 2048, 2048), BIG, WIDE), (gemm(100_000, 16, 64), LOW, LOW),
    (attention_scores(32, 12, 64, 64), MIDDLE, MIDDLE), (gemm(64, 64, 64), SMALL, SMALL),
    (gemm(1024, 1024, 1024, dtype=dt.f64), TILES_OF_8_BYTES[0], TILES_OF_8_BYTES[0])], ids=lambda x: str(
        getattr(x, "extents", "")))
def test_tiles_suit_the_size_and_the_gpu(kernel: ContractionKernel, on_90: TileSchedule, on_80: TileSchedule) -> None:
    assert schedule_contraction(kernel, SM90).schedule == on_90
    assert schedule_contraction(kernel, SM80).schedule == on_80


def test_neighbouring_threads_store_neighbours() -> None:
    """What runs along m in memory is computed with the operands the other way round."""
    turned = gemm(64, 96, 32)
    turned = replace(turned, epilogue=replace(turned.epilogue, stores=tuple([
        replace(store, address=replace(store.address, strides=((0, 1), (1, 64)))) for store in turned.epilogue.stores])))
    made = schedule_contraction(turned, SM90)
    assert (made.m, made.n) == ((1,), (0,)) and "store4(b2" in kernel_text(replace(made, schedule=MIDDLE)).source


def test_threads_of_a_tile_fill_it() -> None:
    with pytest.raises(GraphError, match="threads of 3 x 4 points do not fill a tile of 64 x 64"):
        verify_kernel(replace(gemm(8, 8, 8), schedule=TileSchedule(64, 64, 8, 3, 4)))
