"""Every op's samples, forward and backward, compiled for the GPU and for the CPU: the same numbers."""
from __future__ import annotations

import pytest

from benchmarks.gpu.op_matrix import NAMES, mistake_of, results, samples_of
from flambeau.errors import FlambeauError

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("name", NAMES)
def test_op_agrees_with_the_cpu(name: str, small: bool) -> None:
    if not (samples := samples_of(name, small)):
        pytest.skip("no samples, or not on the emulated device")
    try:
        wanted = results(samples, "cpu")
    except (FlambeauError, RuntimeError, NotImplementedError) as error:
        pytest.skip(f"not on the CPU either: {str(error)[:80]}")
    assert not mistake_of(samples, wanted)
