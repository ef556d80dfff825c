"""PyTorch's own samples of its operators: a few of each run here, `python tests/frontend/torch_samples.py` runs more.

What differs is listed below with its reason; an operator that no longer differs has to come off the list."""

from __future__ import annotations

import warnings

import pytest

torch = pytest.importorskip("torch")
torch_samples = pytest.importorskip("frontend.torch_samples")
pytestmark = pytest.mark.torch

DTYPES = ("f32", "f64", "i64", "bool")
OUT = "out= may overlap the arguments: the result is computed first"
KNOWN = {
    "aminmax": "out= is cast to, where PyTorch wants its very dtype",
    "as_strided_scatter": "its gradient is that of the elements that are replaced",
    "bernoulli": OUT, "cat": OUT, "gather": OUT, "index_select": OUT, "kthvalue": OUT, "masked_select": OUT, "take": OUT,
    "chalf": "there is no complex32",
    "hash_tensor": "not implemented",
    **dict.fromkeys(("linalg.ldl_factor", "linalg.ldl_factor_ex", "linalg.ldl_solve"), "not implemented"),
    "masked_fill": "a complex value is refused by its own kind of error",
    "narrow": "a bool tensor is taken as a start",
    "nn.functional.linear_cross_entropy": "targets that are probabilities are taken with ignore_index",
    "sum_to_size": "bools stay bools where nothing is summed",
    "resize_": "shapes don't change in compiled functions", "resize_as_": "shapes don't change in compiled functions",
}


@pytest.mark.parametrize("name", torch_samples.operators())
def test_samples_agree(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")             # of out= that is resized
        report = torch_samples.run(name, DTYPES, limit=1)
    if name in KNOWN:
        assert report.differences, f"{name} differs no longer: {KNOWN[name]!r} can go"
    else:
        assert not report.differences, "\n".join(report.differences)
