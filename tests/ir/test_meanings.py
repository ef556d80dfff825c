"""NumPy meanings take short cuts: the same bits in fewer passes, in pieces, without warnings."""
from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import OPS
from flambeau.ir.ops import patches
from flambeau.ir.ops.families import Elementwise
from flambeau.ir.quiet import quietly

EXACT = sorted(name for name, op in OPS.items() if isinstance(op, Elementwise) and op.exact and dt.f32 in op.accepts
               and name != "trunc_divide")           # which rounds to the dtype before it cuts


def _floats(dtype: dt.DType, count: int, seed: int) -> np.ndarray:
    """Floats of every magnitude, in the dtype that meanings compute in; bf16 ones have 8 digits."""
    rng = np.random.default_rng(seed)
    bits = rng.integers(0, 2 ** (8 * dtype.itemsize), count, dtype=f"u{dtype.itemsize}")
    return dt.to_compute(bits if dtype is dt.bf16 else bits.view(dtype.storage), dtype)


@pytest.mark.parametrize("dtype", [dt.f16, dt.bf16, dt.f32], ids=str)
@pytest.mark.parametrize("name", EXACT)
def test_exact_meanings_give_the_bits_of_f64_rounded_once(name: str, dtype: dt.DType) -> None:
    op = OPS[name]
    assert isinstance(op, Elementwise)
    operands = [_floats(dtype, 20000, seed) for seed in range(op.arity)]
    if name == "where":
        operands[0] = operands[0] > 0
    result = dt.bool_ if op.is_test else dtype
    with np.errstate(all="ignore"):
        wide = [x if x.dtype == bool else x.astype(np.float64) for x in operands]
        expected = dt.to_storage(np.asarray(op.numpy(*wide)), result)
        found = dt.to_storage(op.evaluate(*operands), result)
        expected, found = dt.to_compute(expected, result), dt.to_compute(found, result)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_laid_out_in_pieces_agree(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    geometry = ((2, 1), ((1, 2), (0, 1)), (1, 2), groups, "NCHW")
    x, w = rng.standard_normal((5, 4, 9, 8)), rng.standard_normal((8, 4 // groups, 3, 2))
    y = ops.Conv2d(*geometry).evaluate(x, w)

    def gradients() -> list[np.ndarray]:
        return [ops.Conv2d(*geometry).evaluate(x, w), ops.Conv2dInputGrad((9, 8), *geometry).evaluate(y, w),
                ops.Conv2dWeightGrad((3, 2), *geometry).evaluate(x, y)]

    whole = gradients()
    monkeypatch.setattr(patches, "_CHUNK_BYTES", 1)
    for most_of_one in (1 << 30, 1):            # images one by one; then their rows too
        monkeypatch.setattr(patches, "_MOST_BYTES_OF_ONE", most_of_one)
        for expected, found in zip(whole, gradients(), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_matmul_takes_operands_that_lie_anyhow() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 3, 8))
    for lhs in (x[:, ::2, 0, ::2], np.broadcast_to(x[:1, :3, :1, :4][:, :, 0], (2, 3, 4)), x[:, :3, 0, 3::-1]):
        for rhs in (x[:, :4, :, 0], x[:, :4, 0, ::3], x[:, 0, :, :4].transpose(0, 2, 1)):
            np.testing.assert_allclose(ops.matmul.evaluate(lhs, rhs), np.einsum("bmk,bkn->bmn", lhs, rhs))


def test_quietly_nests_runs_in_threads_and_leaves_the_setting() -> None:
    before, failures = np.geterr(), []

    def overflow(depth: int) -> np.ndarray:
        return quietly(overflow, depth - 1) if depth else np.float32([3e38]) * np.float32(10)

    def work() -> None:
        for _ in range(200):
            try:
                assert np.isinf(quietly(overflow, 3))[0]
            except BaseException as error:
                failures.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        with pytest.raises(RuntimeWarning):
            np.float32([3e38]) * np.float32(10)
    assert np.geterr() == before


def test_quietly_survives_an_error() -> None:
    def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        quietly(fail)
    assert quietly(np.add, 1, 2) == 3
