"""One of PyTorch's samples of each operator, traced with names for its sizes: held against eager code at the traced sizes
and at others (`python tests/frontend/size_samples.py` runs more, and gradients)."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")
size_samples = pytest.importorskip("frontend.size_samples")
pytestmark = pytest.mark.torch

# What is for one number of every size of its sample. This list only shrinks.
FIXED = {
    "broadcast_to": "to sizes that are numbers", "expand": "to sizes that are numbers",
    "expand_copy": "to sizes that are numbers", "combinations": "their number is that of a list",
    "unbind": "their number is that of a tuple", "unbind_copy": "as unbind", "unflatten": "to sizes that are numbers",
    "nn.functional.layer_norm": "over dims whose sizes are numbers", "nn.functional.rms_norm": "as layer_norm",
}
SLOW = frozenset(["linalg.tensorinv", "nn.functional.ctc_loss", *[f"nn.functional.max_unpool{d}d" for d in (1, 2, 3)]])
KNOWN = {"resize_": "shapes don't change in compiled functions", "resize_as_": "shapes don't change in compiled functions"}


@pytest.mark.parametrize("name", [n for n in size_samples.torch_samples.operators() if n not in SLOW])
def test_samples_agree_at_other_sizes(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outcome = size_samples.run(name, limit=1, others=1)
    if name in KNOWN:
        assert outcome.wrong, f"{name} works: {KNOWN[name]!r} can go"
        return
    assert not outcome.wrong, "\n".join(outcome.wrong)
    if name in FIXED:
        assert not outcome.free, f"{name} is for several sizes: {FIXED[name]!r} can go"
    elif outcome.traced:
        assert outcome.free, f"{name} is for one number of every size"
