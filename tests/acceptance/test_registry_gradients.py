"""Every op of the registry through the frontend: its eager value is its meaning, and its gradient is one and the same
eagerly, compiled and by finite differences."""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

import flambeau as fb
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.ir.dtypes import to_compute, to_storage
from flambeau.ir.op import Sample
from flambeau.ir.types import TensorType
from tests.ir.op_harness import all_samples, computed, differentiable, directional, is_smooth, widened

SAMPLES = dict(all_samples())

SMOOTH = {name: sample for name, sample in SAMPLES.items() if is_smooth(sample)}
BATCH = 40          # samples differentiated in one compiled function: LLVM is entered once for all their kernels
EPS = 2.0**-52


def tensor(array: np.ndarray, type: TensorType, requires_grad: bool = False) -> fb.Tensor:
    made = fb.Tensor._from_array(np.array(array), type.dtype)
    return made.requires_grad_() if requires_grad else made


def dispatched(sample: Sample, operands: Sequence[fb.Tensor]) -> tuple[fb.Tensor, ...]:
    results = dispatch(sample.op, *operands)
    return results if isinstance(results, tuple) else (results,)


@pytest.mark.parametrize("sample", SAMPLES.values(), ids=SAMPLES.keys())
def test_eager_value_is_the_meaning(sample: Sample) -> None:
    found = dispatched(sample, [tensor(a, t) for a, t in zip(sample.operands, sample.types, strict=True)])
    for result, expected in zip(found, computed(sample), strict=True):
        rounded = to_storage(np.asarray(expected), result.dtype)
        assert result._data().dtype == rounded.dtype and result.shape == rounded.shape
        np.testing.assert_array_equal(to_compute(result._data(), result.dtype), to_compute(rounded, result.dtype))


# -- gradients --------------------------------------------------------------------------------------------------------


def leaves_of(sample: Sample) -> list[fb.Tensor]:
    types, arrays = widened(sample)
    wanted = differentiable(sample)
    return [tensor(a, t, i in wanted) for i, (a, t) in enumerate(zip(arrays, types, strict=True))]


def weights_of(sample: Sample) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [np.asarray(rng.standard_normal(t.static_shape)) for t in sample.op.infer(*widened(sample)[0])]


def gradients(sample: Sample, operands: Sequence[fb.Tensor], weights: Sequence[fb.Tensor]) -> tuple[fb.Tensor, ...]:
    """Of the weighted sum of the results, by the operands that a derivative may be taken by."""
    results = dispatched(sample, operands)
    total = sum([(w * y).sum() for w, y in zip(weights, results, strict=True) if y.is_floating_point()], start=0.0)
    return fb.autograd.grad(total, [operands[i] for i in differentiable(sample)], materialize_grads=True)


def assert_finite_differences_agree(name: str, sample: Sample, found: Sequence[np.ndarray]) -> None:
    rng = np.random.default_rng(2)
    arrays, weights, wrt = widened(sample)[1], weights_of(sample), differentiable(sample)
    for _ in range(2):
        directions = [np.asarray(rng.standard_normal(a.shape)) if i in wrt else np.zeros(0)
                      for i, a in enumerate(arrays)]
        terms = [g * directions[i] for g, i in zip(found, wrt, strict=True)]
        expected = directional(sample.op, arrays, directions, weights)
        # step**2 * third derivative + eps / step, with room for derivatives of some size
        bound = 1e-7 * (1 + sum(float(np.abs(t).sum()) for t in terms))
        assert abs(sum(float(t.sum()) for t in terms) - expected) <= bound, f"{name}: not the derivative"


def assert_equal_up_to_rounding(name: str, sample: Sample, found: np.ndarray, expected: np.ndarray) -> None:
    """An op's derivative is a few ops, each good to 8 roundings; of a k-term sum's k roundings about sqrt(k) show."""
    longest = max((t.numel for t in sample.types), default=1)
    bound = 32 * sample.tolerance * math.sqrt(max(1, longest)) * EPS * max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound, err_msg=f"{name}: compiled is not eager")


BATCHES = [list(SMOOTH.items())[first:first + BATCH] for first in range(0, len(SMOOTH), BATCH)]


@pytest.mark.parametrize("batch", BATCHES, ids=[f"{batch[0][0]}..{batch[-1][0]}" for batch in BATCHES])
def test_gradients_agree_eagerly_compiled_and_by_finite_differences(batch: Sequence[tuple[str, Sample]]) -> None:
    operands = [leaves_of(sample) for _, sample in batch]
    weights = [[fb.from_numpy(w) for w in weights_of(sample)] for _, sample in batch]

    def all_gradients(operands, weights):
        return [gradients(sample, x, w) for (_, sample), x, w in zip(batch, operands, weights, strict=True)]

    eager, compiled = all_gradients(operands, weights), fb.compile(all_gradients)(operands, weights)
    for (name, sample), ours, theirs in zip(batch, eager, compiled, strict=True):
        assert_finite_differences_agree(name, sample, [g.numpy() for g in ours])
        for g, h in zip(ours, theirs, strict=True):
            assert_equal_up_to_rounding(name, sample, h.numpy(), g.numpy())
