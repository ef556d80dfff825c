"""Contractions of every shape, layout and schedule give the sums that f64 gives, to the bound of an f32 sum."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import (
    HOST,
    RUNNABLE,
    Compiled,
    Conv,
    address,
    attention_scores,
    check_sums,
    expected_sums,
    gemm,
    input_grad,
    make_arrays,
    scheduled,
    sum_tolerance,
    view,
)
from codegen.random_contractions import RandomContraction

from flambeau.backends.cpu import CpuBackend
from flambeau.ir import dtypes
from flambeau.ir.kernel import (
    Address,
    ContractionKernel,
    ContractionSchedule,
    Instr,
    Kernel,
    Param,
    Stage,
    Store,
)
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.target import Target

targets = pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]

# -- shapes and layouts -----------------------------------------------------------------------------------------


@targets
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 7, 13), (29, 33, 100), (13, 100, 7), (64, 10, 256), (100, 29, 1000)]
)
def test_gemm_of_any_layout_is_the_sum_of_products(target, shape):
    for lhs_transposed, rhs_transposed in LAYOUTS:
        check_sums(gemm(*shape, lhs_transposed, rhs_transposed), target)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 15, 16, 17, 31, 33, 64])
def test_every_length_of_sum(k):
    for layout in LAYOUTS:
        check_sums(gemm(17, 19, k, *layout))


@targets
@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_row_and_one_column(target, layout):
    for shape in [(1, 300, 70), (300, 1, 70), (1, 1, 1000), (1, 37, 3)]:
        check_sums(gemm(*shape, *layout), target)


def test_large_sums_are_blocked_and_split():
    compiled = check_sums(gemm(20, 24, 40000, True, False), chunk=1)
    assert compiled.kernel.schedule.split_k > 1 and compiled.kernel.schedule.k_block > 0
    assert check_sums(gemm(300, 260, 7000)).kernel.schedule.k_block > 0


@targets
@pytest.mark.parametrize(
    "dtype", [dtypes.f64, dtypes.f16, dtypes.bf16, dtypes.i32, dtypes.i64, dtypes.u8], ids=str
)
def test_dtypes(target, dtype):
    for layout in LAYOUTS:
        check_sums(gemm(13, 35, 50, *layout, dtype=dtype), target)


@pytest.mark.parametrize(
    ("dtype", "acc"),
    [(dtypes.bf16, dtypes.f32), (dtypes.f32, dtypes.f64), (dtypes.i8, dtypes.i32), (dtypes.u8, dtypes.i64)],
)
def test_sums_wider_than_their_operands(dtype, acc):
    for layout in LAYOUTS:
        check_sums(gemm(9, 40, 33, *layout, dtype=dtype, acc=acc))


@pytest.mark.parametrize("extents", [(0, 5, 3), (5, 0, 3)])
def test_nothing_to_store_runs_no_task(extents):
    kernel = gemm(*extents)
    assert Compiled(kernel)(*make_arrays(kernel)) == 0


def test_a_sum_of_nothing_is_zero():
    check_sums(gemm(5, 20, 0))


@targets
def test_batches_of_permuted_operands(target):
    for sizes in [(2, 3, 5, 8), (1, 4, 17, 33), (2, 2, 16, 1)]:
        check_sums(attention_scores(*sizes), target)


def test_outer_product_over_two_dims_of_each_role():
    """c[i,j,p,q] = sum over s,t of a[i,s,j,t] * b[t,p,s,q]: no two dims of one role merge."""
    i, j, p, q, s, t = 3, 5, 2, 21, 4, 7
    lhs = address(0, {0: s * j * t, 1: t, 4: j * t, 5: 1})
    rhs = address(1, {2: s * q, 3: 1, 4: q, 5: p * s * q})
    out = address(2, {0: j * p * q, 1: q, 2: j * q, 3: 1})
    params = (
        Param("a", dtypes.f32, i * s * j * t, "in"),
        Param("b", dtypes.f32, t * p * s * q, "in"),
        Param("c", dtypes.f32, i * j * p * q, "out"),
    )
    epilogue = Stage((), (Instr(0, "acc", dtypes.f32),), (), (Store(out, 0),))
    kernel = ContractionKernel(
        "c", params, (i, j, p, q, s, t), (), (0, 1), (2, 3), (4, 5), lhs, rhs, dtypes.f32, epilogue
    )
    check_sums(kernel)
    # Stored transposed, the other dim of n is contiguous.
    out = address(2, {0: j * p * q, 1: p * q, 2: 1, 3: p})
    check_sums(replace(kernel, epilogue=replace(epilogue, stores=(Store(out, 0),))))


# -- schedules --------------------------------------------------------------------------------------------------

SCHEDULES = [
    ContractionSchedule((14,), 2),
    ContractionSchedule((6,), 3, pack_rhs=True, m_block=2, n_block=3),
    ContractionSchedule((5,), 1, pack_rhs=True, pack_lhs=True, k_block=5, m_block=3),
    ContractionSchedule((29,), 1, pack_lhs=True),
    ContractionSchedule((5,), 2, split_k=3, m_block=3),
    ContractionSchedule((4,), 2, pack_rhs=True, split_k=3, k_block=2, m_block=3, n_block=2),
    ContractionSchedule((1,), 4, k_block=64, n_block=2),
]
DOT_SCHEDULES = [
    ContractionSchedule((2,), 3, vectors="k"),
    ContractionSchedule((1,), 1, vectors="k", split_k=2),
    ContractionSchedule((4,), 4, vectors="k", m_block=2, n_block=2),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
def test_every_kind_of_schedule_sums_alike(schedule):
    for shape in [(29, 33, 7), (13, 100, 64)]:
        check_sums(scheduled(gemm(*shape), schedule), chunk=1)
        if schedule.pack_rhs:
            check_sums(scheduled(gemm(*shape, True, True), schedule), chunk=1)


@targets
@pytest.mark.parametrize("schedule", DOT_SCHEDULES, ids=repr)
def test_dot_tiles(target, schedule):
    for shape in [(29, 33, 7), (13, 10, 100)]:
        check_sums(scheduled(gemm(*shape, False, True), schedule), target)


def test_runs_give_the_same_bits():
    kernel = gemm(20, 24, 40000, True, False)
    compiled, results = Compiled(kernel), []
    for seed, chunk in [(0, 1), (1, 2), (2, 100)]:
        arrays = make_arrays(kernel)
        assert compiled(*arrays, chunk=chunk, seed=seed) == 0
        results.append(arrays[2].tobytes())
    assert len(set(results)) == 1


# -- convolutions -----------------------------------------------------------------------------------------------

CONVS = [
    Conv(2, 9, 9, 16, 32),
    Conv(1, 16, 15, 5, 7),
    Conv(3, 12, 12, 1, 16, r=5, s=5),
    Conv(2, 11, 13, 8, 20, stride=2),
    Conv(2, 12, 30, 3, 33, dilation=2),
    Conv(1, 7, 30, 12, 18, groups=3),
    Conv(2, 8, 8, 6, 6, groups=6),
    Conv(2, 10, 10, 24, 8, r=1, s=1),
    Conv(1, 9, 12, 4, 40, stride=3, dilation=2, r=2, s=3),
]


@targets
@pytest.mark.parametrize("conv", CONVS, ids=repr)
def test_convolution(target, conv):
    check_sums(conv.forward(), target)


@pytest.mark.parametrize("conv", CONVS, ids=repr)
def test_convolution_weight_gradient(conv):
    check_sums(conv.weight_grad())


@targets
@pytest.mark.parametrize("sizes", [(2, 8, 7, 16, 32), (1, 5, 13, 3, 10), (2, 6, 28, 1, 16)])
def test_convolution_input_gradient(target, sizes):
    check_sums(input_grad(*sizes), target)


def test_convolution_agrees_with_its_definition():
    conv = Conv(2, 7, 8, 3, 5, stride=2)
    x, w, y = make_arrays(conv.forward())
    assert Compiled(conv.forward())(x, w, y) == 0
    image, weights = x.reshape(2, 7, 8, 3).astype("f8"), w.reshape(3, 3, 3, 5).astype("f8")
    for row in range(conv.out_h):
        for column in range(conv.out_w):
            window = image[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            expected = np.einsum("nrsc,rsco->no", window, weights)
            found = y.reshape(2, conv.out_h, conv.out_w, 5)[:, row, column]
            assert np.abs(found - expected).max() <= 29 * np.finfo("f4").eps * 27 * 9


@pytest.mark.parametrize("tile", [(1, 1, 7), (1, 2, 7), (1, 3, 4), (2, 1, 5)])
def test_tiles_over_several_image_rows(tile):
    conv = Conv(3, 9, 9, 4, 20)
    check_sums(scheduled(conv.forward(), ContractionSchedule(tile, 1, m_block=2)))
    check_sums(scheduled(conv.forward(), ContractionSchedule(tile, 2, k_block=6, m_block=2)))


# -- epilogues --------------------------------------------------------------------------------------------------

F32 = dtypes.f32


def with_epilogue(
    kernel: ContractionKernel, extra: tuple[Param, ...], body: tuple[Instr, ...], stores: tuple[Store, ...]
) -> ContractionKernel:
    return replace(kernel, params=(*kernel.params, *extra), epilogue=Stage((), body, (), stores))


def run_on_every_schedule(kernel: ContractionKernel, target, check) -> None:
    """check(arrays before, arrays after, sums, tolerance) for the epilogue in registers, on spilled tiles, after k
    blocks, after split sums, and with dot tiles."""
    m_tile = (4,) * len(kernel.m)
    schedules = [None, *(
        ContractionSchedule(m_tile, **options)
        for options in (
            {"n_vectors": 2, "pack_rhs": True, "m_block": 2},
            {"n_vectors": 1, "pack_rhs": True, "k_block": 9, "n_block": 2},
            {"n_vectors": 1, "pack_rhs": True, "split_k": 3},
            {"n_vectors": 3, "vectors": "k"},
        )
    )]  # fmt: skip
    for schedule in schedules:
        arrays = make_arrays(kernel)
        before = [array.copy() for array in arrays]
        sums, sizes = expected_sums(kernel, arrays)
        assert Compiled(replace(kernel, schedule=schedule), target)(*arrays) == 0
        check(before, arrays, sums, sum_tolerance(kernel, sizes))


M, N, K = 11, 37, 29


def base() -> ContractionKernel:
    return gemm(M, N, K, False, True)


def acc_instr() -> Instr:
    return Instr(0, "acc", F32)


def at(buffer: int, **strides: int) -> Address:
    return address(buffer, {{"m": 0, "n": 1}[name]: stride for name, stride in strides.items()})


@targets
def test_bias_and_relu(target):
    bias = Param("bias", F32, N, "in")
    body = (
        acc_instr(),
        Instr(1, "load", F32, (), at(3, n=1)),
        Instr(2, "add", F32, (0, 1)),
        Instr(3, "const", F32, (), 0.0),
        Instr(4, "max", F32, (2, 3)),
    )
    kernel = with_epilogue(base(), (bias,), body, (Store(at(2, m=N, n=1), 4),))

    def check(before, after, sums, tolerance):
        expected = np.maximum(sums + before[3].astype("f8"), 0)
        eps = np.finfo("f4").eps
        assert (np.abs(after[2].reshape(M, N) - expected) <= tolerance + eps * np.abs(expected)).all()

    run_on_every_schedule(kernel, target, check)


@targets
def test_gelu_and_a_second_output(target):
    """y = gelu(acc) and the derivative's input, acc itself, stored transposed."""
    half, root = Instr(1, "const", F32, (), 0.5), Instr(2, "const", F32, (), 2**-0.5)
    body = (
        acc_instr(), half, root,
        Instr(3, "mul", F32, (0, 2)), Instr(4, "erf", F32, (3,)), Instr(5, "const", F32, (), 1.0),
        Instr(6, "add", F32, (4, 5)), Instr(7, "mul", F32, (0, 6)), Instr(8, "mul", F32, (7, 1)),
    )  # fmt: skip
    second = Param("saved", F32, M * N, "out")
    stores = (Store(at(2, m=N, n=1), 8), Store(at(3, m=1, n=M), 0))
    kernel = with_epilogue(base(), (second,), body, stores)

    def check(before, after, sums, tolerance):
        erf = np.vectorize(__import__("math").erf)
        expected = 0.5 * sums * (1 + erf(sums / np.sqrt(2)))
        # |gelu'| <= 1.13; the arithmetic adds a few roundings of numbers up to |acc|.
        allowed = 1.13 * tolerance + 8 * np.finfo("f4").eps * np.abs(sums)
        assert (np.abs(after[2].reshape(M, N) - expected) <= allowed).all()
        assert (np.abs(after[3].reshape(N, M).T - sums) <= tolerance).all()

    run_on_every_schedule(kernel, target, check)


@targets
def test_sgd_update_in_place_with_a_runtime_rate(target):
    weights, rate = Param("w", F32, M * N, "inout"), Param("lr", dtypes.f64, 1, "in")
    body = (
        acc_instr(),
        Instr(1, "load", F32, (), at(2, m=N, n=1)),
        Instr(2, "load", dtypes.f64, (), at(3)),
        Instr(3, "cast", F32, (2,)),
        Instr(4, "mul", F32, (3, 0)),
        Instr(5, "sub", F32, (1, 4)),
    )
    kernel = with_epilogue(base(), (), body, (Store(at(2, m=N, n=1), 5),))
    kernel = replace(kernel, params=(*kernel.params[:2], weights, rate))

    def check(before, after, sums, tolerance):
        step = before[3].astype("f4").astype("f8")
        old = before[2].reshape(M, N).astype("f8")
        expected = old - step * sums
        allowed = abs(step) * tolerance + 2 * np.finfo("f4").eps * (np.abs(old) + np.abs(step * sums))
        assert (np.abs(after[2].reshape(M, N) - expected) <= allowed).all()

    run_on_every_schedule(kernel, target, check)


@targets
def test_causal_mask_reads_the_indices(target):
    body = (
        acc_instr(),
        Instr(1, "index", dtypes.i64, (), 0),
        Instr(2, "index", dtypes.i64, (), 1),
        Instr(3, "ge", dtypes.bool_, (1, 2)),
        Instr(4, "const", F32, (), float("-inf")),
        Instr(5, "select", F32, (3, 0, 4)),
    )
    kernel = with_epilogue(base(), (), body, (Store(at(2, m=N, n=1), 5),))

    def check(before, after, sums, tolerance):
        found, keep = after[2].reshape(M, N), np.arange(M)[:, None] >= np.arange(N)
        assert (found[~keep] == -np.inf).all()
        assert (np.abs(found - sums)[keep] <= tolerance[keep]).all()

    run_on_every_schedule(kernel, target, check)


@targets
def test_guarded_store_gathered_load_and_added_store(target):
    """out[m, n] += acc + table[ids[n]] where mask[m], and nothing where not."""
    table, ids = Param("table", F32, 5, "in"), Param("ids", dtypes.u8, N, "in")
    mask, out = Param("mask", dtypes.u8, M, "in"), Param("out", F32, M * N, "inout")
    body = (
        acc_instr(),
        Instr(1, "load", dtypes.u8, (), at(4, n=1)),
        Instr(2, "cast", dtypes.i64, (1,)),
        Instr(3, "const", dtypes.i64, (), 5),
        Instr(4, "mod", dtypes.i64, (2, 3)),
        Instr(5, "load", F32, (), Address(3, 0, (), ((4, 1),))),
        Instr(6, "add", F32, (0, 5)),
        Instr(7, "load", dtypes.u8, (), at(5, m=1)),
        Instr(8, "const", dtypes.u8, (), 100),
        Instr(9, "gt", dtypes.bool_, (7, 8)),
    )
    store = Store(replace(at(2, m=N, n=1), guard=9), 6, "add")
    kernel = with_epilogue(base(), (table, ids, mask), body, (store,))
    kernel = replace(kernel, params=(*kernel.params[:2], out, *kernel.params[3:]))

    def check(before, after, sums, tolerance):
        old, chosen = before[2].reshape(M, N), before[5] > 100
        added = before[3].astype("f8")[before[4] % 5]
        expected = np.where(chosen[:, None], old + sums + added, old)
        allowed = tolerance + 3 * np.finfo("f4").eps * (np.abs(old) + np.abs(sums) + np.abs(added))
        assert (np.abs(after[2].reshape(M, N) - expected) <= allowed).all()
        assert (after[2].reshape(M, N)[~chosen] == old[~chosen]).all()

    run_on_every_schedule(kernel, target, check)


@targets
def test_a_residual_in_bf16_rounds_once_at_the_store(target):
    bf16 = dtypes.bf16
    body = (
        acc_instr(),
        Instr(1, "load", bf16, (), at(3, m=N, n=1)),
        Instr(2, "cast", F32, (1,)),
        Instr(3, "add", F32, (0, 2)),
        Instr(4, "cast", bf16, (3,)),
    )
    kernel = with_epilogue(base(), (Param("x", bf16, M * N, "in"),), body, (Store(at(2, m=N, n=1), 4),))
    kernel = replace(kernel, params=(*kernel.params[:2], Param("y", bf16, M * N, "out"), *kernel.params[3:]))

    def check(before, after, sums, tolerance):
        expected = sums + view(before[3], at(3, m=N, n=1), kernel, (0, 1))
        found = view(after[2], at(2, m=N, n=1), kernel, (0, 1))
        assert (np.abs(found - expected) <= 1.01 * tolerance + 2.0**-8 * np.abs(expected)).all()

    run_on_every_schedule(kernel, target, check)


@pytest.mark.parametrize("schedule", [None, ContractionSchedule((4,), 1, pack_rhs=True, split_k=2)])
def test_a_failed_check_ends_the_kernel_with_its_status(schedule):
    """Only lanes that exist are checked: the unused lanes of the last vector hold zeros."""
    body = (
        acc_instr(),
        Instr(1, "load", dtypes.i64, (), at(3, n=1)),
        Instr(2, "const", dtypes.i64, (), 0),
        Instr(3, "ne", dtypes.bool_, (1, 2)),
        Instr(4, "check", dtypes.bool_, (3, 1), 2),
    )
    kernel = with_epilogue(base(), (Param("d", dtypes.i64, N, "in"),), body, (Store(at(2, m=N, n=1), 0),))
    compiled = Compiled(replace(kernel, schedule=schedule))
    assert any(phase.errors for phase in compiled.phases)
    arrays = make_arrays(kernel)
    arrays[3][:] = 5
    assert compiled(*arrays) == 0
    arrays[3][N - 1] = 0
    assert compiled(*arrays) == 2


def test_nan_and_infinity_reach_exactly_their_rows_and_columns():
    for layout in LAYOUTS:
        kernel = gemm(M, N, K, *layout)
        arrays = make_arrays(kernel)
        lhs = arrays[0].reshape(K, M).T if layout[0] else arrays[0].reshape(M, K)
        rhs = arrays[1].reshape(N, K).T if layout[1] else arrays[1].reshape(K, N)
        lhs[3, 5], rhs[7, N - 1] = np.nan, np.inf
        lhs[2, 7] = 0.0
        assert Compiled(kernel)(*arrays) == 0
        with np.errstate(invalid="ignore"):
            expected = lhs.astype("f8") @ rhs.astype("f8")
        found = arrays[2].reshape(M, N)
        assert (np.isnan(found) == np.isnan(expected)).all()
        assert (np.isinf(found) == np.isinf(expected)).all()


def test_a_bf16_sum_is_kept_in_f32():
    """4096 products of 1 * 1: a bf16 accumulator would stop at 256."""
    kernel = gemm(1, 20, 4096, dtype=dtypes.bf16)
    arrays = make_arrays(kernel)
    for array in arrays[:2]:
        array[:] = dtypes.f32_to_bf16(np.ones(1, "f4"))[0]
    assert Compiled(kernel, HOST)(*arrays) == 0
    assert (dtypes.bf16_to_f32(arrays[2]) == 4096).all()


# -- runtime numbers --------------------------------------------------------------------------------------------------


def products(kernel: ContractionKernel, rng: np.random.Generator) -> str:
    """Checks the kernel on small whole numbers; the name of its code."""
    compiled = Compiled(kernel)
    a, b = (rng.integers(-4, 5, p.elements).astype("f4") for p in kernel.params[:2])
    out = kernel.params[2].elements
    arrays, wanted = [a, b, np.full(out, np.nan, "f4")], [a, b, np.zeros(out, "f4")]
    assert compiled(*arrays) == 0
    interpret(kernel, wanted)
    np.testing.assert_array_equal(arrays[2], wanted[2])
    return compiled.phases[-1].symbol


@pytest.mark.parametrize("schedule", [
    ContractionSchedule((4,), 2, m_block=2), ContractionSchedule((4,), 1, pack_rhs=True, m_block=3, n_block=2),
    ContractionSchedule((2,), 1, vectors="k"), ContractionSchedule((4,), 1, pack_lhs=True, pack_rhs=True),
])  # fmt: skip
def test_products_of_any_number_of_rows_share_code(schedule):
    rng = np.random.default_rng(0)
    for left in (0, 3):
        made = [scheduled(gemm(m + left, 24, 40, rhs_transposed=schedule.vectors == "k"), replace(schedule, m_block=block))
                for m, block in ((4, 1), (8, 2), (20, 1), (64, 5))]
        symbols = {products(kernel, rng) for kernel in made}
        assert len(symbols) == 1


def test_products_of_any_number_of_batches_share_code():
    rng = np.random.default_rng(0)
    schedule = ContractionSchedule((4,), 1, pack_rhs=True)
    made = [scheduled(attention_scores(batch, 3, time, 8), schedule) for batch, time in ((2, 9), (5, 9), (7, 9))]
    assert len({products(kernel, rng) for kernel in made}) == 1


@pytest.mark.parametrize("shapes", [
    ((32, 64, 40), (32, 96, 48), (64, 160, 120), (128, 32, 376)),           # whole tiles
    ((35, 48, 40), (35, 80, 56), (67, 137, 64)),                            # a vector left over, and rows
    ((32, 40, 41), (32, 75, 49), (64, 105, 121)),                           # lanes left over, and points of k
    ((32, 56, 41), (32, 28, 49), (64, 121, 121)),
])  # fmt: skip
@pytest.mark.parametrize("transposed", [(False, False), (True, True)])
@pytest.mark.parametrize("packed", [(False, False), (True, True)])
def test_products_of_any_size_share_code(shapes, transposed, packed):
    schedule = ContractionSchedule((4,), 2, *packed, prefetch=8)
    if HOST.lanes(4) != 16:
        pytest.skip("what is left over depends on how long vectors are")
    if not packed[0] and transposed[1]:
        pytest.skip("such a rhs is packed")
    rng = np.random.default_rng(0)
    made = [scheduled(gemm(*shape, *transposed), replace(schedule, n_block=blocks))
            for blocks, shape in enumerate(shapes, 1)]
    assert len({products(kernel, rng) for kernel in made}) == 1


def test_convolutions_of_any_image_and_channels_share_code():
    convolutions = Conv(2, 10, 18, 16, 32), Conv(3, 6, 26, 24, 64), Conv(4, 4, 18, 40, 16)
    forward = ContractionSchedule((1, 2, 4), 1, pack_rhs=True, m_block=2)
    gradient = ContractionSchedule((1, 1, 8), 1, m_block=3)
    for made in ([scheduled(conv.forward(), forward) for conv in convolutions],
                 [scheduled(conv.weight_grad(), gradient) for conv in convolutions]):
        assert len({check_sums(kernel).phases[-1].symbol for kernel in made}) == 1


class OwnCode(CpuBackend):
    """Compiles every kernel with its own numbers."""

    def general(self, kernel: Kernel, target: Target) -> tuple[Kernel, tuple[int, ...]]:
        return kernel, ()


def test_random_contractions_have_the_bits_of_code_for_their_numbers_alone(monkeypatch):
    rng = random.Random(7)
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        made = RandomContraction(rng.randrange(1 << 30))
        found, alone = ([array.copy() for array in made.arrays] for _ in range(2))
        assert Compiled(made.kernel)(*found) == 0
        with monkeypatch.context() as patch:
            patch.setattr("codegen.contraction_kernels.CpuBackend", OwnCode)
            assert Compiled(made.kernel)(*alone) == 0
        for mine, its in zip(found, alone, strict=True):
            np.testing.assert_array_equal(mine.view(np.uint8), its.view(np.uint8), str(made.kernel))
