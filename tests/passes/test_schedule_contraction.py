"""Contractions become canonical without changing what they store, and schedules keep their promises to the backend."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import (
    Conv,
    address,
    attention_scores,
    expected_sums,
    gemm,
    input_grad,
    make_arrays,
    view,
)

from flambeau.ir import dtypes
from flambeau.ir.kernel import ContractionKernel, Instr, Param, Store
from flambeau.ir.kernel.contraction_dims import canonicalize, merge_strides, swap_roles
from flambeau.ir.target import Target, avx2, generic_aarch64, generic_x86_64
from flambeau.passes.cpu.schedule_contraction import choose_schedule, schedule_contraction


def avx512() -> Target:
    """A server core with 32 vector registers of 64 bytes, 48 KiB of L1 and 2 MiB of L2, and 8 such cores."""
    return Target(
        "x86_64-unknown-linux-gnu", "x86-64-v4", "+avx512f", 64, True, 32, l1_bytes=48 << 10, l2_bytes=2 << 20, cores=8
    )


TARGETS = [avx512(), avx2(), generic_x86_64(), generic_aarch64()]


def stored(kernel: ContractionKernel) -> np.ndarray:
    """The output buffer after every sum is stored, by the kernel's own addresses."""
    arrays = make_arrays(kernel)
    sums, _ = expected_sums(kernel, arrays)
    place = kernel.epilogue.stores[0].address
    dims = (*kernel.batch, *kernel.m, *kernel.n)
    out = np.full(arrays[place.buffer].size, np.nan)
    positions = np.arange(out.size, dtype="f8").astype("f4")
    out[view(positions, place, kernel, dims).astype(int)] = sums
    return out


# -- canonical dims -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kernel",
    [
        gemm(5, 7, 3, True, True),
        attention_scores(2, 3, 4, 5),
        Conv(2, 6, 5, 3, 4).forward(),
        Conv(2, 6, 5, 4, 4, groups=2).weight_grad(),
        Conv(1, 4, 4, 3, 5, r=1, s=1).forward(),
        input_grad(2, 3, 4, 2, 3),
    ],
    ids=lambda kernel: kernel.name,
)
def test_canonical_and_swapped_kernels_store_the_same_sums(kernel):
    expected = stored(kernel)
    for other in (canonicalize(kernel), canonicalize(swap_roles(kernel))):
        np.testing.assert_allclose(stored(other), expected, rtol=1e-12)


def test_a_convolution_of_one_tap_is_one_matrix_product():
    kernel = canonicalize(Conv(3, 8, 9, 16, 32, r=1, s=1).forward())
    assert [[kernel.extents[d] for d in dims] for dims in (kernel.batch, kernel.m, kernel.n, kernel.k)] == [
        [], [3 * 8 * 9], [32], [16],
    ]  # fmt: skip


def test_taps_of_a_row_merge_with_channels_unless_dilated():
    assert len(canonicalize(Conv(1, 9, 9, 4, 8).forward()).k) == 2
    assert len(canonicalize(Conv(1, 9, 9, 4, 8, dilation=2).forward()).k) == 3


def test_a_batch_dim_that_one_operand_ignores_joins_the_other_role():
    lhs, rhs, out = {0: 15, 1: 5, 3: 1}, {2: 1, 3: 7}, {0: 21, 1: 7, 2: 1}
    kernel = replace(
        gemm(3, 7, 5),
        params=(Param("a", dtypes.f32, 60, "in"), Param("b", dtypes.f32, 35, "in"), Param("c", dtypes.f32, 84, "out")),
        extents=(4, 3, 7, 5), batch=(0,), m=(1,), n=(2,), k=(3,), lhs=address(0, lhs), rhs=address(1, rhs),
    )  # fmt: skip
    kernel = replace(kernel, epilogue=replace(kernel.epilogue, stores=(Store(address(2, out), 0),)))
    canonical = canonicalize(kernel)
    assert canonical.batch == () and [canonical.extents[d] for d in canonical.m] == [12]


def test_a_dim_whose_index_the_epilogue_reads_does_not_merge():
    kernel = Conv(3, 8, 9, 16, 32, r=1, s=1).forward()
    body = (*kernel.epilogue.body, Instr(1, "index", dtypes.i64, (), 2))
    kernel = canonicalize(replace(kernel, epilogue=replace(kernel.epilogue, body=body)))
    assert 2 in kernel.m and kernel.extents[2] == 8


def test_swapping_twice_changes_nothing():
    kernel = attention_scores(2, 3, 4, 5)
    assert swap_roles(swap_roles(kernel)) == kernel


def test_strides_merge_where_every_column_composes():
    apart = ((2, 12, 100), (3, 4, 11), (4, 1, 1))
    assert merge_strides(apart) == apart
    assert merge_strides([(2, 12, 33), (3, 4, 11), (4, 1, 1)]) == ((6, 4, 11), (4, 1, 1))
    assert merge_strides([(2, 12, 24), (3, 4, 8), (4, 1, 2)]) == ((24, 1, 2),)
    assert merge_strides([(1, 5, 7), (1, 0, 0)]) == ((1, 0, 0),)


# -- schedules ----------------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (7, 13, 28), (64, 10, 256), (1, 768, 768), (768, 1, 768), (1024, 1000, 4096), (20, 24, 40000)]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.bf16, dtypes.i64], ids=str)
def test_a_tile_has_a_register_for_each_of_its_values(target, dtype):
    for shape in SHAPES:
        for layout in [(False, False), (False, True), (True, False), (True, True)]:
            kernel = schedule_contraction(gemm(*shape, *layout, dtype=dtype), target)
            schedule = kernel.schedule
            rows = math.prod(schedule.m_tile)
            # A tile of one row uses each vector of rhs once, straight from memory.
            operands = rows + schedule.n_vectors if schedule.vectors == "k" else 1 + schedule.n_vectors * (rows > 1)
            assert rows * schedule.n_vectors + operands <= target.n_vector_registers
            assert len(schedule.m_tile) == len(kernel.m)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.cpu)
def test_sums_kept_between_blocks_fit_the_stack(target):
    for shape in [(4096, 4096, 4096), (1000, 100, 20000), (64, 64, 100000)]:
        schedule = schedule_contraction(gemm(*shape), target).schedule
        if schedule.k_block and schedule.split_k == 1:
            lanes = target.lanes(4)
            tile = math.prod(schedule.m_tile) * schedule.n_vectors * lanes * 4
            assert schedule.m_block * schedule.n_block * tile <= 256 << 10


@pytest.mark.parametrize("width", [7, 8, 10, 13, 14, 28, 29])
def test_tiles_divide_image_rows_evenly(width):
    """No more than a tenth of the multiply-adds of a row is lost to the shape of tiles."""
    kernel = schedule_contraction(Conv(8, width + 2, width + 2, 64, 64).forward(), replace(avx512(), winograd=False))
    tile = kernel.schedule.m_tile[-1]
    tiles = -(-width // tile)
    assert tiles * tile <= 1.1 * width or width % tile >= tile - 1


def test_a_row_times_a_transposed_matrix_walks_k():
    kernel = schedule_contraction(gemm(1, 768, 768, False, True), avx512())
    assert kernel.schedule.vectors == "k" and not kernel.schedule.pack_rhs


def test_a_large_transposed_rhs_is_packed_and_a_row_reads_it_in_place():
    assert schedule_contraction(gemm(512, 512, 512), avx512()).schedule.pack_rhs
    assert not schedule_contraction(gemm(1, 512, 512), avx512()).schedule.pack_rhs


def test_long_sums_of_few_tiles_are_split_and_short_ones_are_not():
    assert schedule_contraction(Conv(32, 58, 58, 64, 64).weight_grad(), avx512()).schedule.split_k > 1
    assert schedule_contraction(gemm(1024, 1024, 1024), avx512()).schedule.split_k == 1
    assert schedule_contraction(gemm(20, 24, 100), avx512()).schedule.split_k == 1


def test_small_work_stays_on_one_thread_and_large_work_is_cut_into_many_tasks():
    assert not schedule_contraction(gemm(8, 8, 8), avx512()).schedule.parallel
    kernel = schedule_contraction(gemm(1024, 1024, 1024), avx512())
    schedule = kernel.schedule
    m_tiles = -(-1024 // math.prod(schedule.m_tile))
    n_tiles = -(-1024 // (16 * schedule.n_vectors))
    tasks = -(-m_tiles // schedule.m_block) * -(-n_tiles // schedule.n_block)
    assert schedule.parallel and tasks >= 64


def test_a_schedule_is_kept_and_choosing_ignores_it():
    kernel = schedule_contraction(gemm(64, 64, 64), avx512())
    assert schedule_contraction(kernel, avx2()) is kernel
    assert choose_schedule(kernel, avx512()) == kernel.schedule
