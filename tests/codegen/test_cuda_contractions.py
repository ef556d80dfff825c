"""Contractions as a GPU computes them, run by the emulator: random kernels under every schedule give the bits that their
meaning has, shared memory is read without conflicts, and the scheduler's choices for two GPUs."""
from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import Conv, attention_scores, gemm, make_arrays
from codegen.cuda_kernels import Collecting, of_workload
from codegen.random_contractions import RandomContraction
from test_loops_random import same_numbers

import flambeau as fb
from benchmarks.workloads import BY_NAME
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.emulator import emulate
from flambeau.codegen.cuda.lockstep import rounded_to_tf32
from flambeau.codegen.cuda.text import KernelText
from flambeau.errors import GraphError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import SM80, SM90
from flambeau.ir.kernel import ContractionKernel, TileSchedule
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.passes.cuda.schedule_contraction import (
    MATRIX_TILES,
    TF32_TILES,
    TILES,
    TILES_OF_8_BYTES,
    schedule_contraction,
)

ODD_TILES = (TileSchedule(16, 16, 8, 1, 1), TileSchedule(32, 16, 16, 4, 1), TileSchedule(64, 64, 8, 8, 4),
             TileSchedule(32, 96, 4, 2, 6, stages=2))
MATRICES = (TileSchedule(32, 32, 16, 16, 16, 2, unit="mma"), TileSchedule(16, 64, 64, 16, 32, 4, unit="mma"),
            TileSchedule(64, 32, 32, 32, 16, 3, unit="mma"))
ROUNDED = (*TF32_TILES, TileSchedule(32, 64, 8 * 4, 32, 16, 2, unit="tf32"))
HALVES = ((dt.bf16, dt.f32), (dt.f16, dt.f32))
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


def test_random_products_of_16_bits_give_the_bits_of_their_meaning(seeds: Iterator[int]) -> None:
    for seed in seeds:
        made = RandomContraction(seed, HALVES)
        for tile in random.Random(seed).sample([*MATRICES, *MATRIX_TILES], 3):
            check(replace(made.kernel, schedule=tile), made.arrays, f"seed {seed}")


def test_random_products_in_tf32_give_the_bits_of_their_meaning(seeds: Iterator[int]) -> None:
    """Small whole numbers are numbers of TF32 too."""
    for seed in seeds:
        made = RandomContraction(seed, [(dt.f32, dt.f32)])
        check(replace(made.kernel, schedule=random.Random(seed).choice(ROUNDED)), made.arrays, f"seed {seed}")


def test_random_kernels_as_they_are_scheduled(seeds: Iterator[int]) -> None:
    for seed in seeds:
        made = RandomContraction(seed)
        check(schedule_contraction(made.kernel, SM90), made.arrays, f"seed {seed}")


@pytest.mark.parametrize("tile", [*TILES, *MATRIX_TILES, *TF32_TILES], ids=str)
@pytest.mark.parametrize("layout", [(False, False), (False, True), (True, False), (True, True)])
def test_shared_memory_is_read_and_stored_without_conflicts(tile: TileSchedule, layout: tuple[bool, bool]) -> None:
    """But for the narrow operand of the narrowest tiles, which is stored in two turns."""
    halves = {"dtype": dt.bf16, "acc": dt.f32} if tile.unit == "mma" else {}
    kernel = replace(gemm(tile.m, tile.n, 2 * tile.k, *layout, **halves), schedule=tile)
    text, ways = kernel_text(kernel), dict[int, int]()
    emulate(text, make_arrays(kernel), ways=ways)
    lines = text.source.split("\n")
    most = 2 if min(tile.m, tile.n) == 8 else 1
    assert len(ways) >= 4 and not {lines[line - 1]: count for line, count in ways.items() if count > most}


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


BIG, WIDE, NARROW, MIDDLE, SMALL = TILES[0], TILES[1], TILES[9], TILES[3], TILES[-1]


@pytest.mark.parametrize(("kernel", "on_90", "on_80"), [
    (gemm(8192, 8192, 8192), BIG, BIG), (gemm(2048, 2048, 2048), BIG, WIDE), (gemm(100_000, 16, 64), NARROW, NARROW),
    (attention_scores(32, 12, 64, 64), MIDDLE, MIDDLE), (gemm(64, 64, 64), SMALL, SMALL),
    (gemm(1024, 1024, 1024, dtype=dt.f64), TILES_OF_8_BYTES[0], TILES_OF_8_BYTES[0])], ids=lambda x: str(
        getattr(x, "extents", "")))
def test_tiles_suit_the_size_and_the_gpu(kernel: ContractionKernel, on_90: TileSchedule, on_80: TileSchedule) -> None:
    assert schedule_contraction(kernel, SM90).schedule == on_90
    assert schedule_contraction(kernel, SM80).schedule == on_80


@pytest.mark.parametrize("shape", [(0, 5, 6), (5, 0, 6), (5, 6, 0), (0, 0, 0)])
@pytest.mark.parametrize("dtype", [dt.f32, dt.bf16, dt.f64])
def test_products_without_points_have_a_schedule(shape: tuple[int, int, int], dtype: dt.DType) -> None:
    kernel = schedule_contraction(gemm(*shape, dtype=dtype, acc=dt.f64 if dtype is dt.f64 else dt.f32), SM90)
    found = make_arrays(kernel)
    emulate(kernel_text(kernel), found)
    assert (found[2] == 0).all()


def test_neighbouring_threads_store_neighbours() -> None:
    """What runs along m in memory is computed with the operands the other way round."""
    turned = gemm(64, 96, 32)
    turned = replace(turned, epilogue=replace(turned.epilogue, stores=tuple([
        replace(store, address=replace(store.address, strides=((0, 1), (1, 64)))) for store in turned.epilogue.stores])))
    made = schedule_contraction(turned, SM90)
    assert (made.m, made.n) == ((1,), (0,)) and "store4(b2" in kernel_text(replace(made, schedule=MIDDLE)).source


@pytest.mark.parametrize(("kernel", "tile", "message"), [
    (gemm(8, 8, 8), TileSchedule(64, 64, 8, 3, 4), "threads of 3 x 4 points do not fill a tile of 64 x 64"),
    (gemm(8, 8, 8), MATRIX_TILES[0], "tensor cores sum products of bf16 or of f16 in f32"),
    (gemm(8, 8, 8, dtype=dt.f16, acc=dt.f32), TileSchedule(64, 64, 16, 8, 16, unit="mma"),
     "warps of 8 x 16 points, 16 of k, are no matrices")])
def test_senseless_tiles_are_refused(kernel: ContractionKernel, tile: TileSchedule, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        verify_kernel(replace(kernel, schedule=tile))


def test_sums_of_16_bits_are_rounded_once() -> None:
    """1 + 256 * 2^-9 is 1.5 in f32; in bf16 each of these would be lost."""
    kernel = gemm(16, 16, 272, dtype=dt.bf16, acc=dt.f32)
    lhs, rhs = np.full((16, 272), 2.0**-9, np.float32), np.ones((272, 16), np.float32)
    lhs[:, 0], lhs[:, 257:] = 1.0, 0.0
    arrays = [dt.to_storage(a.ravel(), dt.bf16) for a in (lhs, rhs)]
    for tile in (MATRICES[0], ODD_TILES[0]):
        found = np.zeros(256, np.float32)
        emulate(kernel_text(replace(kernel, schedule=tile)), [*arrays, found])
        assert (found == 1.5).all()


def test_tf32_rounds_operands_and_only_where_it_is_allowed() -> None:
    x, w = fb.randn(40, 24), fb.randn(24, 16)
    wanted = (x @ w).numpy()
    product = fb.compile(lambda x, w: x @ w, backend="cuda-emulator")
    with fb.config.set(tf32=False):
        np.testing.assert_allclose(product(x, w).numpy(), wanted, atol=1e-5)
        fb.backends.cuda.matmul.allow_tf32 = True
        rounded = product(x, w).numpy()
        assert "mma_tf32" in product.ir("cuda") and "TF32 is allowed" in product.explain()
        assert 1e-5 < np.abs(rounded - wanted).max() < 24 * 9 * 2.0**-10
        fb.set_float32_matmul_precision("highest")
        np.testing.assert_allclose(product(x, w).numpy(), wanted, atol=1e-5)
    assert len(product.signatures) == 2                 # the first is still there


def test_numbers_are_rounded_to_tf32_as_the_instruction_does() -> None:
    step = 2.0**-10
    given = np.array([1 + step / 2, 1 + step / 2 - 2.0**-23, -1 - 3 * step / 2, np.inf, -np.inf, np.nan, 0.0, -0.0],
                     np.float32)
    found = rounded_to_tf32(given.view(np.uint32)).astype(np.uint32).view(np.float32)
    np.testing.assert_array_equal(found, np.array([1 + step, 1, -1 - 2 * step, np.inf, -np.inf, np.nan, 0.0, -0.0],
                                                  np.float32))
    assert np.signbit(found[-1])


# -- what a pipeline of copies may do wrong ---------------------------------------------------------------------------

PIPELINE = """def k(status, b0, b1):
    t = uint32(cuda.threadIdx.x)
    s = cuda.shared.array(1024, uint16, 16)
    cp_async8(s, uint32(t * 8), b0, uint32(t * 8), True)
    cp_async_commit()
    cp_async8(s, uint32(512 + t * 8), b0, uint32(t * 8), t < 32)
    cp_async_commit()
    cp_async_wait1()
    cuda.syncthreads()
    b1[t] = s[uint32(511 - t)]
    cp_async_wait0()
    cuda.syncthreads()
    b1[t] = b1[t] + s[uint32(1023 - t)]
"""


def pipeline(source: str) -> np.ndarray:
    found = np.zeros(64, np.uint16)
    text = KernelText("k", source, ("int64*", "uint16*", "uint16*"), (512, 64), (1,), 1, 64)
    emulate(text, [np.arange(512, dtype=np.uint16), found])
    return found


def test_copies_go_on_until_they_are_waited_for() -> None:
    assert pipeline(PIPELINE).tolist() == list(range(511, 447, -1))          # beyond 256 the second copy gave zeros
    assert pipeline(PIPELINE.replace("1023 - t", "512 + t")).tolist() == [511] * 64


@pytest.mark.parametrize(("old", "new", "message"), [
    ("    cp_async_wait1()\n", "", "element of shared memory whose copy was not waited for"),
    ("cp_async_wait1", "cp_async_wait2", "element of shared memory whose copy was not waited for"),
    ("    cp_async_wait0()\n", "", "element of shared memory whose copy was not waited for"),
    ("    cp_async_commit()\n", "", "element of shared memory whose copy was not waited for"),
    ("    cuda.syncthreads()\n", "", "reads what another thread stored, without a barrier"),
    ("s, uint32(512 + t * 8), b0", "s, uint32(t * 8), b0", "whose copy was not waited for"),
    ("uint32(512 + t * 8), b0, uint32(t * 8)", "uint32(512 + t * 8), b0, uint32(t * 4)", "8 elements of b0 from 4"),
    ("uint32(512 + t * 8)", "uint32(516 + t * 8)", "touches 8 elements of shared memory from 516|touches element 1024"),
    ("    cp_async_commit()\n", "    if t < 40:\n        cp_async_commit()\n", "a group of copies that some threads"),
    ("t < 32", "t < 90", None),
    ("b0, uint32(t * 8), t < 32", "b0, uint32(512 + t * 8), t < 32", "touches element 512 of b0, which has 512"),
    ("b0, uint32(t * 8), t < 32", "b0, uint32(512 + t * 8), t < 0", None)])
def test_copies_that_nobody_waited_for_are_found(old: str, new: str, message: str | None) -> None:
    assert old in PIPELINE
    if message is None:
        pipeline(PIPELINE.replace(old, new))
        return
    with pytest.raises(VerificationError, match=message):
        pipeline(PIPELINE.replace(old, new))


@pytest.mark.parametrize(("old", "new", "message"), [
    ("cp_async_wait1()", "cp_async_wait2()", "whose copy was not waited for"),
    ("        cuda.syncthreads()\n", "", "without a barrier"),
    ("(step + 2) % 3", "(step + 1) % 3", "whose copy was not waited for|stores what another"),
    ("        cp_async_commit()\n        for x", "        for x", "whose copy was not waited for"),
    ("% 8)) * 8", "% 8)) * 4", "touches 8 elements of shared memory")])
def test_a_mistake_in_the_text_of_a_product_is_found(old: str, new: str, message: str) -> None:
    kernel = replace(gemm(64, 64, 256, dtype=dt.bf16, acc=dt.f32), schedule=TileSchedule(64, 64, 32, 32, 32, 3, unit="mma"))
    text = kernel_text(kernel)
    assert old in text.source
    with pytest.raises(VerificationError, match=message):
        emulate(replace(text, source=text.source.replace(old, new)), make_arrays(kernel))


def test_parts_of_one_point_are_sound() -> None:
    """The weights' gradients of a LeNet are cut along the rows of images, into as many parts as there are rows."""
    backend = Collecting(SM90)
    assert of_workload(BY_NAME["lenet"], backend) == 2
    assert any("out partial" in each.text.source for each in backend.emitted.values())
