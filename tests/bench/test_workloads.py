"""The workloads' own data, without any framework."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.workloads import BY_NAME, STEPS, Train
from benchmarks.workloads.base import channels_last

TRAINS = [workload for workload in STEPS if isinstance(workload, Train)]


@pytest.mark.parametrize("workload", BY_NAME.values(), ids=lambda workload: workload.name)
def test_data_is_the_same_for_every_peer(workload: Train) -> None:
    first, second = (workload.data(np.random.default_rng(2)) for _ in range(2))
    assert all(
        np.array_equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("workload", TRAINS, ids=lambda workload: workload.name)
def test_weights_are_finite_and_not_all_equal(workload: Train) -> None:
    weights = workload.weights(np.random.default_rng(1))
    assert all(np.isfinite(array).all() for array in weights.values())
    assert all(array.std() > 0 for array in weights.values() if array.ndim > 1)


def test_channels_last_moves_the_linear_layer_with_its_image() -> None:
    """A linear layer read over (C, H, W) gives the same sum when image and weight both move to (H, W, C)."""
    image = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    weight = np.random.default_rng(0).normal(0, 1, (5, 24))
    moved = channels_last({"fc.weight": weight}, "fc.weight", (2, 3, 4))["fc.weight"]
    assert moved @ image.transpose(1, 2, 0).ravel() == pytest.approx(weight @ image.ravel())
