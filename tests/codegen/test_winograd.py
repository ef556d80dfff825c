"""Windows of 3 x 3 by Winograd's products: their values, what they leave finite, and where they are chosen."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from contraction_kernels import HOST, RUNNABLE, Compiled, Conv, address, input_grad

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import FlambeauError
from flambeau.ir import dtypes
from flambeau.ir.kernel import ContractionKernel, Instr, Param, Stage, Store, WinogradSchedule
from flambeau.ir.kernel.contraction_dims import as_windows
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.target import Target
from flambeau.passes.cpu.schedule_contraction import schedule_contraction

FACTORS = {2: 81, 4: 3100}             # K: of the transforms' largest rows, squared
EPS = float(np.finfo(np.float32).eps)
# (images, height and width with the padding, channels, results; tile, rows, vectors)
CASES = [
    (1, 6, 6, 16, 16, 4, 1, 1),
    (2, 9, 7, 17, 33, 4, 3, 2),
    (1, 5, 12, 5, 3, 4, 2, 1),
    (3, 4, 4, 20, 40, 2, 5, 3),
    (2, 8, 5, 33, 18, 2, 4, 1),
    (1, 11, 10, 130, 16, 4, 9, 1),
]


def windows(conv: Conv, tile: int, rows: int, vectors: int, **options: object) -> ContractionKernel:
    kernel = as_windows(conv.forward())
    assert kernel is not None
    walked = {*kernel.m, *kernel.n, *kernel.k}
    kernel = kernel.map(dim=lambda dim: dim if dim in walked else None)
    return replace(kernel, schedule=WinogradSchedule(tile, rows, vectors, **options))  # type: ignore[arg-type]


def operands(conv: Conv, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((conv.n, conv.h, conv.w, conv.c)).astype(np.float32)
    return x, rng.standard_normal((3, 3, conv.c, conv.o)).astype(np.float32)


def expected(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """In f64, tap by tap."""
    height, width = x.shape[1] - 2, x.shape[2] - 2
    taps = [x[:, r : r + height, s : s + width].astype(np.float64) @ w[r, s].astype(np.float64)
            for r in range(3) for s in range(3)]
    return np.sum(taps, axis=0)


def run(kernel: ContractionKernel, *arrays: np.ndarray, size: int, target: Target = HOST) -> np.ndarray:
    out = np.full(size, np.nan, np.float32)
    assert Compiled(kernel, target)(*[np.ascontiguousarray(a) for a in arrays], out) == 0
    return out


def bound(channels: int, found: np.ndarray) -> float:
    """The error that docs/decisions/062 states, of numbers that are alike in size: 2 to 5 times what is seen."""
    return 8 * EPS * np.sqrt(channels) * np.abs(found).max()


@pytest.mark.parametrize(("case", "target"), [(case, HOST) for case in CASES] + [(case, t) for case in CASES[1:5:3]
                                                                                 for t in RUNNABLE[1:]])
def test_results_are_those_of_plain_sums(case: tuple[int, ...], target: Target) -> None:
    conv = Conv(*case[:5])
    x, w = operands(conv)
    y = expected(x, w)
    found = run(windows(conv, *case[5:]), x, w, target=target, size=y.size)
    assert np.abs(found.reshape(y.shape) - y).max() <= bound(conv.c, y)


@pytest.mark.parametrize("tile", [2, 4])
def test_tasks_in_any_order_give_the_same_bits(tile: int) -> None:
    conv = Conv(2, 13, 9, 24, 40)
    x, w = operands(conv)
    found = []
    ways = ((False, False, ((0, 3), (1, 1))), (True, False, ((2, 7),)), (False, True, ((3, 2), (4, 1))))
    for first, own, orders in ways:
        compiled = Compiled(windows(conv, tile, 4, 2, columns_first=first, own_images=own))
        for seed, chunk in orders:
            found.append(np.full((2, 11, 7, 40), np.nan, np.float32))
            assert compiled(x, w, found[-1], seed=seed, chunk=chunk) == 0
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("tile", [2, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_what_is_not_finite_stays_where_plain_sums_have_it(tile: int, bad: float) -> None:
    conv = Conv(1, 12, 11, 20, 24)
    x, w = operands(conv)
    x[0, 5, 4, 3] = bad
    w[:, :, 3] = np.abs(w[:, :, 3])
    with np.errstate(over="ignore", invalid="ignore"):
        y = expected(x, w).astype(np.float32)
    found = run(windows(conv, tile, 3, 2), x, w, size=y.size).reshape(y.shape)
    touched = np.zeros(y.shape, bool)
    touched[0, 3:6, 2:5] = True
    assert np.array_equal(np.isfinite(found), np.isfinite(y))
    assert np.array_equal(found[~np.isfinite(y)], y[~np.isfinite(y)], equal_nan=True)
    if not np.isfinite(bad):            # beside a number that is only large, sums of its tile round as its size has it
        assert np.abs(found[~touched] - y[~touched]).max() <= bound(conv.c, y[~touched])


def test_weights_that_are_not_finite_touch_their_results_alone() -> None:
    conv = Conv(1, 8, 8, 16, 20)
    x, w = operands(conv)
    w[1, 2, 4, 17] = np.inf
    y = expected(x, w)
    found = run(windows(conv, 4, 2, 2), x, w, size=y.size).reshape(y.shape)
    assert np.array_equal(np.isfinite(found), np.isfinite(y))
    assert np.abs(found[..., :17] - y[..., :17]).max() <= bound(conv.c, y[..., :17])


@pytest.mark.parametrize("tile", [2, 4])
def test_numbers_of_unlike_size_keep_the_proven_bound(tile: int) -> None:
    """|error| <= K (channels + 24) eps max|x| max|w|."""
    conv = Conv(1, 10, 10, 32, 16)
    x, w = operands(conv)
    x *= np.float32(10.0) ** np.random.default_rng(5).integers(-6, 6, x.shape).astype(np.float32)
    y = expected(x, w)
    found = run(windows(conv, tile, 4, 1), x, w, size=y.size).reshape(y.shape)
    assert np.abs(found - y).max() <= FACTORS[tile] * (conv.c + 24) * EPS * np.abs(x).max() * np.abs(w).max()


def test_random_windows_keep_the_proven_bound(seeds: Iterator[int]) -> None:
    """Any sizes, tiles and tasks, with numbers that are not finite here and there, whose places are plain sums'."""
    for seed in seeds:
        rng = random.Random(seed)
        conv = Conv(rng.randint(1, 3), rng.randint(4, 15), rng.randint(4, 15), rng.choice((2, 3, 5, 16, 20, 33, 130)),
                    rng.choice((2, 3, 16, 17, 24, 40, 65)))
        tile, first = rng.choice((2, 4)), rng.random() < 0.5
        x, w = operands(conv, seed)
        x *= np.float32(10.0 ** rng.randint(-12, 12))
        size = np.abs(x).max() * np.abs(w).max()
        if rng.random() < 0.3:
            bad = rng.choice((x, w)).reshape(-1)
            bad[rng.randrange(bad.size)] = rng.choice((np.nan, np.inf, -np.inf))
        with np.errstate(invalid="ignore"):
            y = expected(x, w)
        kernel = windows(conv, tile, rng.randint(1, 9), rng.randint(1, 3), columns_first=first,
                         own_images=rng.random() < 0.5)
        compiled, out = Compiled(kernel), np.full(y.shape, np.nan, np.float32)
        assert compiled(x, w, out, seed=seed, chunk=rng.randint(1, 8)) == 0
        finite = np.isfinite(y)
        assert np.array_equal(out[~finite], y[~finite].astype(np.float32), equal_nan=True), f"seed {seed}"
        limit = FACTORS[tile] * (conv.c + 24) * EPS * size
        assert (np.abs(out[finite] - y[finite]) <= limit).all(), f"seed {seed}"


def test_taps_read_backwards_and_weights_of_any_strides() -> None:
    """The gradient of an input, and weights [o, i, r, s]."""
    kernel = as_windows(input_grad(2, 7, 6, 17, 20))
    assert kernel is not None
    rng = np.random.default_rng(0)
    dy, w = rng.standard_normal((2, 9, 8, 20)).astype(np.float32), rng.standard_normal((3, 3, 17, 20)).astype(np.float32)
    y = expected(dy, w[::-1, ::-1].swapaxes(2, 3))
    found = run(replace(kernel, schedule=WinogradSchedule(4, 3, 2)), dy, w, size=y.size).reshape(y.shape)
    assert np.abs(found - y).max() <= bound(20, y)

    conv = Conv(1, 8, 7, 18, 19)
    x, w = operands(conv)
    y, kernel = expected(x, w), windows(conv, 4, 2, 1)
    strides = dict(zip((kernel.k[0], kernel.k[1], kernel.k[2], kernel.n[0]), (3, 1, 9, 9 * 18), strict=True))
    found = run(replace(kernel, rhs=address(1, strides)), x, w.transpose(3, 2, 0, 1), size=y.size).reshape(y.shape)
    assert np.abs(found - y).max() <= bound(18, y)


def test_an_epilogue_sees_each_result_once_at_its_place() -> None:
    """max(acc + bias[o], 0) + residual[...] + image row."""
    conv = Conv(2, 7, 9, 16, 21)
    kernel = windows(conv, 4, 3, 2)
    row, (o,) = kernel.m[-2], kernel.n
    out = kernel.epilogue.stores[0].address
    f32 = dtypes.f32
    params = (*kernel.params, Param("bias", f32, 21, "in"), Param("residual", f32, 2 * 5 * 7 * 21, "in"))
    body = (
        Instr(0, "acc", f32), Instr(1, "load", f32, (), address(3, {o: 1})), Instr(2, "add", f32, (0, 1)),
        Instr(3, "const", f32, (), 0.0), Instr(4, "max", f32, (2, 3)),
        Instr(5, "load", f32, (), replace(out, buffer=4)), Instr(6, "add", f32, (4, 5)),
        Instr(7, "index", dtypes.i64, (), row), Instr(8, "cast", f32, (7,)), Instr(9, "add", f32, (6, 8)),
    )
    kernel = replace(kernel, params=params, epilogue=Stage((), body, (), (Store(out, 9),)))
    verify_kernel(kernel)
    x, w = operands(conv)
    y = expected(x, w)
    rng = np.random.default_rng(1)
    bias, residual = rng.standard_normal(21).astype(np.float32), rng.standard_normal(y.shape).astype(np.float32)
    wanted = np.maximum(y + bias, 0) + residual + np.arange(5)[:, None, None]
    for schedule in (WinogradSchedule(4, 3, 2), WinogradSchedule(4, 3, 1, own_images=True)):
        found = np.full(y.shape, np.nan, np.float32)
        assert Compiled(replace(kernel, schedule=schedule))(x, w, found, bias, residual) == 0
        assert np.abs(found - wanted).max() <= bound(conv.c, y) + EPS * np.abs(wanted).max() * 4


def test_the_text_reads_back() -> None:
    kernel = windows(Conv(1, 6, 6, 16, 16), 2, 4, 1, columns_first=True)
    text = print_kernel(kernel)
    assert "winograd tile=2, rows=4, n_vectors=1, columns_first=true, own_images=false, parallel=true" in text
    assert parse_kernel(text) == kernel


@pytest.mark.parametrize("conv", [
    Conv(1, 9, 9, 16, 16, stride=2), Conv(1, 9, 9, 16, 16, dilation=2), Conv(1, 9, 9, 16, 16, s=2), Conv(1, 3, 9, 16, 16),
    Conv(1, 9, 9, 32, 32, groups=2), Conv(1, 9, 9, 16, 16, r=5)])
def test_other_windows_are_none(conv: Conv) -> None:
    assert as_windows(conv.forward()) is None


def test_a_schedule_needs_such_windows() -> None:
    kernel = windows(Conv(1, 9, 9, 16, 16), 4, 2, 1)
    kernel = replace(kernel, k=kernel.k[::-1])
    with pytest.raises(FlambeauError, match="windows of 3 x 3"):
        verify_kernel(kernel)
    with pytest.raises(FlambeauError, match="neither 2 nor 4"):
        verify_kernel(windows(Conv(1, 9, 9, 16, 16), 3, 2, 1))


def test_it_is_chosen_where_it_spares_enough_unless_it_is_not_wanted() -> None:
    def schedule(conv: Conv, kept: bool = True, target: Target = HOST) -> object:
        return schedule_contraction(replace(conv.forward(), keeps_rhs=kept), target).schedule

    large = Conv(4, 58, 58, 64, 64)
    assert isinstance(schedule(large), WinogradSchedule) and isinstance(schedule(large, kept=False), WinogradSchedule)
    weights_are_most_of_it = Conv(1, 9, 9, 512, 512)
    assert isinstance(schedule(weights_are_most_of_it), WinogradSchedule)
    for other in (schedule(weights_are_most_of_it, kept=False), schedule(large, target=replace(HOST, winograd=False)),
                  schedule(Conv(1, 58, 58, 8, 64)), schedule(Conv(1, 58, 58, 64, 8)), schedule(Conv(1, 10, 10, 24, 24))):
        assert not isinstance(other, WinogradSchedule)


def test_a_program_that_checks_itself_is_of_plain_sums() -> None:
    x, w = fb.randn(2, 32, 30, 30), fb.randn(32, 32, 3, 3)
    calls = [fb.compile(lambda x, w: F.conv2d(x, w, padding=1), verify=verify) for verify in (False, True)]
    found = [call(x, w).numpy() for call in calls]
    assert ["winograd tile" in call.ir("kernels") for call in calls] == [True, False]
    assert np.abs(found[0] - found[1]).max() <= bound(32, found[1])
