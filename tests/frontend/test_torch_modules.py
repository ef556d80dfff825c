"""Modules that are activations, softmaxes, tables, losses and distances, against PyTorch: repr, state_dict keys, results
and gradients, eager and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn

pytestmark = pytest.mark.torch
RTOL, ATOL = 1e-7, 1e-8              # hardsigmoid and celu have 1/6 and 1/alpha as float32 in PyTorch

# (the module, types of its arguments); "p" are probabilities, "1" are 1 and -1, "i" integers below 4, "+" positive
MODULES: list[tuple[str, str]] = [
    ("CELU(0.7)", "3,4"), ("GLU()", "3,4"), ("GLU(0)", "4,3"), ("Hardshrink(0.3)", "3,4"), ("Hardsigmoid()", "3,4"),
    ("Hardswish()", "3,4"), ("LogSigmoid()", "3,4"), ("Mish()", "3,4"), ("PReLU()", "3,4"), ("PReLU(4, 0.1)", "3,4"),
    ("PReLU(4)", "3,4,2"), ("RReLU()", "3,4"), ("RReLU(0.1, 0.3)", "3,4"), ("SELU()", "3,4"), ("Softmax2d()", "2,3,2,2"),
    ("Softmax2d()", "3,2,2"), ("Softmin(1)", "3,4"), ("Softmin()", "2,3,4"), ("Softmax()", "3,4"),
    ("LogSoftmax()", "2,2,3,2"), ("Softshrink(0.3)", "3,4"), ("Softsign()", "3,4"), ("Tanhshrink()", "3,4"),
    ("Threshold(0.1, 20)", "3,4"), ("Hardtanh(min_value=-0.5, max_value=2)", "3,4"), ("ReLU6(True)", "3,4"),
    ("Dropout1d(0.0)", "2,3,4"), ("Dropout2d(0.0)", "2,3,4,2"), ("Dropout3d(0.0)", "2,3,4,2,1"),
    ("AlphaDropout(0.0)", "2,3"), ("FeatureAlphaDropout(0.0)", "2,3,4"),
    ("Embedding(4, 3, 1)", "i3,2"), ("Embedding(4, 3, -1, 0.5, 1.0)", "i3,2"),
    ("Embedding(4, 3, scale_grad_by_freq=True, padding_idx=2)", "i3,5"), ("Embedding(4, 3, max_norm=0.2)", "i"),
    ("EmbeddingBag(4, 3)", "i3,5"), ("EmbeddingBag(4, 3, mode='sum', padding_idx=1)", "i3,5"),
    ("EmbeddingBag(4, 3, mode='max', padding_idx=-3)", "i3,5"), ("EmbeddingBag(4, 3, 0.4, mode='sum')", "i5,4"),
    ("HuberLoss()", "3,4 3,4"), ("HuberLoss('sum', 0.4)", "3,4 3,4"), ("MSELoss(False)", "3,4 3,4"),
    ("L1Loss(reduce=False)", "3,4 3,4"), ("SmoothL1Loss(True, True, beta=0.5)", "3,4 3,4"),
    ("PoissonNLLLoss()", "3,4 +3,4"), ("PoissonNLLLoss(False, True, reduction='none')", "+3,4 +3,4"),
    ("GaussianNLLLoss()", "3,4 3,4 +3,4"), ("GaussianNLLLoss(full=True, eps=0.7, reduction='sum')", "3,4 3,4 +3"),
    ("NLLLoss2d()", "3,4,2,2 i3,2,2"), ("CrossEntropyLoss(None, False, 1)", "3,4 i3"),
    ("LinearCrossEntropyLoss(3, 4)", "5,3 i5"), ("LinearCrossEntropyLoss(3, 4, bias=True, label_smoothing=0.1)", "3 i"),
    ("LinearCrossEntropyLoss(3, 4, out_features=(2,), bias=True)", "5,3 i5,2"),
    ("KLDivLoss(reduction='batchmean')", "3,4 p3,4"), ("BCELoss(None, False)", "p3,4 p3,4"),
    ("BCEWithLogitsLoss(reduce=False)", "3,4 p3,4"),
    ("HingeEmbeddingLoss()", "3,4 13,4"), ("HingeEmbeddingLoss(0.3, reduction='none')", "3,4 13,4"),
    ("CosineEmbeddingLoss(0.2)", "3,4 3,4 13"), ("CosineEmbeddingLoss(reduction='sum')", "4 4 1"),
    ("MarginRankingLoss(0.1)", "3,4 3,4 13,4"), ("SoftMarginLoss()", "3,4 13,4"), ("MultiMarginLoss()", "3,4 i3"),
    ("MultiMarginLoss(2, 0.5, reduction='none')", "3,4 i3"), ("MultiMarginLoss()", "4 i"),
    ("MultiLabelMarginLoss()", "3,4 i3,4"), ("MultiLabelMarginLoss(reduction='none')", "4 i4"),
    ("MultiLabelSoftMarginLoss()", "3,4 p3,4"), ("TripletMarginLoss()", "3,4 3,4 3,4"),
    ("TripletMarginLoss(0.5, 3.0, swap=True, reduction='none')", "3,4 3,4 3,4"),
    ("TripletMarginWithDistanceLoss(swap=True)", "3,4 3,4 3,4"), ("CosineSimilarity()", "3,4 3,4"),
    ("CosineSimilarity(0, 2.0)", "3,4 3,4"), ("PairwiseDistance(3.0, 0.1, True)", "3,4 3,4"),
    ("PairwiseDistance(1)", "2,3,4 3,4"), ("PairwiseDistance()", "4 4"),
]


def drawn(spec: str, seed: int) -> np.ndarray:
    """An array of that shape; the first character may say what of."""
    rng = np.random.default_rng(seed)
    kind = spec[:1] if spec[:1] in ("p", "i", "+") or (spec[:1] == "1" and spec != "1,") else ""
    shape = tuple(int(n) for n in spec.removeprefix(kind).split(",") if n)
    match kind:
        case "p":
            return rng.uniform(0.05, 0.95, shape)
        case "i":
            return rng.integers(0, 4, shape)
        case "+":
            return rng.uniform(0.1, 3.0, shape)
        case "1":
            return np.where(rng.random(shape) < 0.5, 1, -1)
    return rng.normal(size=shape)


def pair(text: str) -> tuple[Any, Any]:
    """The module in both frameworks, in f64, with the same values."""
    import torch

    ours, theirs = eval(f"nn.{text}", {"nn": nn}).double(), eval(f"nn.{text}", {"nn": torch.nn}).double()
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape) * 0.3))
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def given(library: Any, arrays: list[np.ndarray]) -> list[Any]:
    tensors = [library.from_numpy(np.array(a)) for a in arrays]
    return [t.requires_grad_() if t.is_floating_point() else t for t in tensors]


@pytest.mark.parametrize(("text", "specs"), MODULES, ids=[f"{text}-{specs}" for text, specs in MODULES])
def test_modules_agree(text: str, specs: str) -> None:
    import torch

    arrays = [drawn(spec, i) for i, spec in enumerate(specs.split(" "))]
    is_written = text.startswith("ReLU6(True")         # which a compiled function can't do to what requires grad
    for compiled in (False,) if is_written else (False, True):
        ours, theirs = pair(text)
        assert repr(ours) == repr(theirs)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        if "RReLU" in text:
            ours.eval(), theirs.eval()
        mine, other = given(fb, arrays), given(torch, arrays)
        y = (fb.compile(ours) if compiled else ours)(*([mine[0] * 1] if is_written else mine))
        z = theirs(*([other[0] * 1] if is_written else other))
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=RTOL, atol=ATOL)
        cotangent = np.random.default_rng(2).normal(size=tuple(z.shape))
        y.backward(fb.from_numpy(np.array(cotangent))), z.backward(torch.from_numpy(np.array(cotangent)))
        for a, b in zip([*mine, *ours.parameters()], [*other, *theirs.parameters()], strict=True):
            if b.grad is not None:
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=RTOL, atol=ATOL)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):      # max_norm writes to them
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=RTOL, atol=ATOL)
