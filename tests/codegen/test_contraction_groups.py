"""Contractions whose instructions multiply neighbours along k: pairs of bf16, fours of bytes."""

from __future__ import annotations

import random
import time
from dataclasses import replace

import numpy as np
import pytest
from codegen.contraction_kernels import (
    HOST,
    Compiled,
    attention_scores,
    check_sums,
    expected_sums,
    gemm,
    scheduled,
)
from codegen.random_contractions import RandomContraction

from flambeau.errors import GraphError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import ContractionKernel, ContractionSchedule, Param
from flambeau.ir.kernel.contraction_dims import canonicalize
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.target import Target, avx2, generic_aarch64
from flambeau.passes.cpu.schedule_contraction import schedule_contraction, schedules_in_groups

SECONDS = 1.0
GROUPS = replace(HOST, vector_bytes=64, features="+avx512f,+avx512bf16,+avx512vnni")
LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]
BYTES = (dtypes.u8, dtypes.i8)

needs_groups = pytest.mark.skipif(
    not (HOST.multiplies_groups(2) and HOST.multiplies_groups(4)), reason="the processor multiplies no groups")


def bf16(m: int, n: int, k: int, *transposed: bool) -> ContractionKernel:
    return gemm(m, n, k, *transposed, dtype=dtypes.bf16, acc=dtypes.f32)


def of_bytes(m: int, n: int, k: int, *transposed: bool, operands: tuple[DType, DType] = BYTES) -> ContractionKernel:
    kernel = gemm(m, n, k, *transposed, dtype=dtypes.i8, acc=dtypes.i32)
    params = [Param(param.name, dtype, param.elements, param.role)
              for param, dtype in zip(kernel.params, (*operands, dtypes.i32), strict=True)]
    return replace(kernel, params=tuple(params))


@pytest.mark.parametrize("target", [avx2(), generic_aarch64(), replace(GROUPS, features="+avx512f")],
                         ids=["avx2", "aarch64", "avx512f"])
def test_processors_without_the_instruction_multiply_one_by_one(target: Target):
    for kernel in (bf16(64, 64, 256), of_bytes(64, 64, 256)):
        assert schedule_contraction(kernel, target).schedule.group == 1


def test_large_products_are_multiplied_in_groups():
    for transposed in LAYOUTS:
        assert schedule_contraction(bf16(128, 512, 784, *transposed), GROUPS).schedule.group == 2
        assert schedule_contraction(of_bytes(128, 512, 784, *transposed), GROUPS).schedule.group == 4
    assert schedule_contraction(gemm(128, 512, 784), GROUPS).schedule.group == 1


@pytest.mark.parametrize(("kernel", "schedule", "words"), [
    (gemm(8, 8, 8), ContractionSchedule((4,), 1, pack_rhs=True, group=2), "multiplied in groups of 1"),
    (bf16(8, 8, 8), ContractionSchedule((4,), 1, pack_rhs=True, group=4), "multiplied in groups of 2"),
    (of_bytes(8, 8, 8, operands=(dtypes.i8, dtypes.i8)), ContractionSchedule((4,), 1, pack_rhs=True, group=4),
     "multiplied in groups of 1"),
    (bf16(8, 8, 8), ContractionSchedule((4,), 1, group=2), "panels of rhs"),
    (bf16(8, 8, 8), ContractionSchedule((4,), 1, pack_rhs=True, vectors="k", group=2), "panels of rhs"),
    (bf16(8, 8, 7), ContractionSchedule((4,), 1, pack_rhs=True, group=2), "no whole groups"),
    (bf16(8, 8, 8, True), ContractionSchedule((4,), 1, pack_rhs=True, group=2), "no whole groups"),
])  # fmt: skip
def test_schedules_that_make_no_sense_are_refused(kernel, schedule, words):
    with pytest.raises(GraphError, match=words):
        verify_kernel(scheduled(kernel, schedule))


SCHEDULES = [
    ContractionSchedule((5,), 2, pack_rhs=True, pack_lhs=True),
    ContractionSchedule((29,), 1, pack_rhs=True, pack_lhs=True, m_block=2, prefetch=8),
    ContractionSchedule((4,), 1, pack_rhs=True, pack_lhs=True, k_block=3, m_block=3),
    ContractionSchedule((4,), 2, pack_rhs=True, pack_lhs=True, split_k=3, k_block=2, m_block=3, n_block=2),
]


@needs_groups
@pytest.mark.parametrize("schedule", SCHEDULES, ids=repr)
@pytest.mark.parametrize("made", [bf16, of_bytes])
def test_every_kind_of_schedule_and_layout_sums_alike(schedule, made):
    for shape in [(29, 33, 7), (13, 100, 65)]:
        for layout in LAYOUTS[:: 1 if shape[2] == 7 else 3]:
            kernel = made(*shape, *layout)
            check_sums(scheduled(kernel, replace(schedule, group=kernel.group_size)), chunk=1)


@needs_groups
def test_bytes_may_come_in_either_order():
    for operands in (BYTES, BYTES[::-1]):
        kernel = of_bytes(20, 40, 30, operands=operands)
        check_sums(scheduled(kernel, ContractionSchedule((4,), 2, pack_rhs=True, pack_lhs=True, group=4)))


@needs_groups
def test_largest_bytes_do_not_saturate():
    kernel = scheduled(of_bytes(4, 16, 64), ContractionSchedule((4,), 1, pack_rhs=True, group=4))
    for signed in (127, -128):
        arrays = [np.full(4 * 64, 255, "u1"), np.full(64 * 16, signed, "i1"), np.zeros(4 * 16, "i4")]
        assert Compiled(kernel)(*arrays) == 0
        assert (arrays[2] == 64 * 255 * signed).all()


@needs_groups
def test_a_long_sum_of_pairs_is_kept_in_f32_and_flushed():
    check_sums(bf16(16, 32, 20_000))
    check_sums(bf16(3, 20, 4097, False, True))


@needs_groups
def test_batches_of_permuted_operands_are_multiplied_in_pairs():
    kernel = attention_scores(2, 3, 33, 16)
    halves = [replace(p, dtype=dtypes.bf16) if p.role == "in" else p for p in kernel.params]
    check_sums(scheduled(canonicalize(replace(kernel, params=tuple(halves))),
                         ContractionSchedule((5,), 2, pack_rhs=True, group=2)))


@needs_groups
def test_numbers_too_small_for_normal_ones_count_as_zero():
    """What the instruction does, and docs/mixed_precision.md tells: bf16 below 2**-126, and sums below it."""
    kernel = scheduled(bf16(1, 16, 2), ContractionSchedule((1,), 1, pack_rhs=True, group=2))
    small, large = np.float32(2.0**-127), np.float32(2.0**100)
    for row, expected in (([small, 1.0], 1.0), ([small, 0.0], 0.0)):
        arrays = [dtypes.f32_to_bf16(np.array(row, "f4")), dtypes.f32_to_bf16(np.full(32, large)), np.zeros(16, "f4")]
        assert Compiled(kernel)(*arrays) == 0
        assert (arrays[2] == np.float32(expected) * large).all()


@needs_groups
def test_random_contractions_in_groups_give_the_bits_of_single_products():
    """Sums of small whole numbers, infinities and NaN, under any tile that fits, blocks and splits."""
    start, seed, ran = time.process_time(), 0, 0
    while time.process_time() - start < SECONDS or not ran:
        ran += check_random(seed)
        seed += 1


def check_random(seed: int) -> bool:
    """Whether there was anything to multiply in groups."""
    rng = random.Random(seed)
    made = RandomContraction(seed, [(dtypes.bf16, dtypes.f32), (dtypes.u8, dtypes.i32)])
    given, arrays = made.kernel, made.arrays
    if given.acc_dtype is dtypes.i32:
        given = replace(given, params=(given.params[0], replace(given.params[1], dtype=dtypes.i8), *given.params[2:]))
        arrays = [arrays[0], (arrays[1] - np.uint8(2)).view("i1"), *arrays[2:]]
    kernel = canonicalize(given)
    choices = list(schedules_in_groups(kernel, HOST))
    if not choices:
        return False
    schedule = rng.choice(choices)
    if rng.random() < 0.4:
        parts = {"k_block": rng.choice((0, 1, 2, 5, 16)), "split_k": rng.choice((1, 2, 3)), "m_block": 1, "n_block": 1}
        schedule = replace(schedule, **parts)
    kernel = scheduled(kernel, schedule)
    verify_kernel(kernel)
    found, wanted = ([array.copy() for array in arrays] for _ in range(2))
    assert Compiled(kernel)(*found) == 0
    with np.errstate(invalid="ignore"):
        interpret(given, wanted)
    for param, x, y in zip(given.params, found, wanted, strict=True):
        x, y = dtypes.to_compute(x, param.dtype), dtypes.to_compute(y, param.dtype)
        np.testing.assert_array_equal(x, y, err_msg=f"seed {seed}: {kernel.schedule}")
    return True


@needs_groups
def test_infinities_and_nan_spread_as_they_do_one_by_one():
    m, n, k = 5, 37, 9
    kernel = scheduled(bf16(m, n, k), ContractionSchedule((4,), 1, pack_rhs=True, pack_lhs=True, group=2))
    rng = np.random.default_rng(0)
    lhs, rhs = rng.standard_normal((m, k)).astype("f4"), rng.standard_normal((k, n)).astype("f4")
    lhs[3, 8], rhs[7, n - 1], lhs[2, 7] = np.nan, np.inf, 0.0
    arrays = [dtypes.f32_to_bf16(lhs).ravel(), dtypes.f32_to_bf16(rhs).ravel(), np.zeros(m * n, "f4")]
    assert Compiled(kernel)(*arrays) == 0
    with np.errstate(invalid="ignore"):
        expected, _ = expected_sums(kernel, arrays)
    found = arrays[2].reshape(m, n)
    assert (np.isnan(found) == np.isnan(expected)).all()
    assert (np.isinf(found) == np.isinf(expected)).all()
