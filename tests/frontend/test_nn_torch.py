"""Modules against PyTorch: the same state_dict keys, repr, results, gradients, and losses over a whole training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn, optim

pytestmark = pytest.mark.torch
RTOL, ATOL = 1e-10, 1e-12

MODULES: list[tuple[str, tuple[int, ...]]] = [
    ("Linear(4, 3)", (2, 5, 4)), ("Linear(4, 3, bias=False)", (4,)),
    ("Conv1d(4, 6, 3, stride=2, padding=1, groups=2)", (2, 4, 9)), ("Conv1d(2, 3, 3, padding='same')", (2, 8)),
    ("Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2))", (2, 3, 8, 7)),
    ("Conv2d(2, 2, 3, padding='same', bias=False)", (2, 5, 5)), ("Conv2d(2, 4, 4, padding='valid')", (1, 2, 5, 5)),
    ("Conv2d(2, 4, 4, padding='same')", (1, 2, 5, 5)),
    ("Conv2d(2, 4, 3, padding=(1, 2), padding_mode='circular')", (1, 2, 5, 5)),
    ("Conv1d(2, 4, 4, padding='same', padding_mode='reflect')", (1, 2, 7)),
    ("BatchNorm1d(3)", (5, 3)), ("BatchNorm1d(3, affine=False)", (5, 3, 4)), ("BatchNorm2d(3, eps=0.1)", (5, 3, 2, 2)),
    ("BatchNorm2d(3, momentum=None, bias=False)", (5, 3, 2, 2)), ("BatchNorm1d(3, track_running_stats=False)", (4, 3)),
    ("LayerNorm(4)", (2, 3, 4)), ("LayerNorm((3, 4), bias=False)", (2, 3, 4)), ("RMSNorm(4)", (2, 3, 4)),
    ("LayerNorm(4, elementwise_affine=False)", (2, 4)), ("GroupNorm(2, 4)", (2, 4, 3)),
    ("GroupNorm(4, 4, affine=False)", (2, 4, 3, 3)),
    ("ReLU()", (3, 4)), ("GELU()", (3, 4)), ("GELU(approximate='tanh')", (3, 4)), ("SiLU()", (3, 4)),
    ("Sigmoid()", (3, 4)), ("Tanh()", (3, 4)), ("Softmax(dim=1)", (3, 4)), ("LogSoftmax(dim=-1)", (3, 4)),
    ("LeakyReLU(0.2)", (3, 4)), ("ELU(0.5)", (3, 4)), ("Softplus()", (3, 4)), ("Softplus(2.0, 1.0)", (3, 4)),
    ("Hardtanh(-0.5, 0.7)", (3, 4)), ("ReLU6()", (3, 4)), ("Flatten()", (2, 3, 4)), ("Unflatten(1, (2, 3))", (2, 6)),
    ("MaxPool2d(2)", (2, 3, 6, 6)), ("MaxPool2d(3, stride=2, padding=1, ceil_mode=True)", (2, 7, 8)),
    ("AvgPool2d(2)", (2, 3, 6, 6)), ("AvgPool2d(3, 2, padding=1, count_include_pad=False)", (2, 3, 7, 7)),
    ("AdaptiveAvgPool2d(1)", (2, 3, 6, 6)), ("AdaptiveAvgPool2d((2, None))", (2, 3, 6, 5)), ("Identity()", (2,)),
    ("Dropout(0.0)", (2,)),
    ("Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))", (3, 4)),
]


def pair(text: str) -> tuple[Any, Any]:
    """The module in both frameworks, f64, with the same values."""
    import torch

    ours = eval(text if text.startswith("nn.") else f"nn.{text}", {"nn": nn})
    theirs = eval(f"nn.{text}", {"nn": torch.nn})
    ours.double(), theirs.double()
    share(theirs, ours)
    return ours, theirs


def share(theirs: Any, ours: Any) -> None:
    """Give ours the values of theirs, drawn so that nothing is 0 or 1 by default."""
    import torch

    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=p.shape) * 0.3))
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})


@pytest.mark.parametrize(("text", "shape"), MODULES, ids=[text for text, _ in MODULES])
def test_modules_agree(text: str, shape: tuple[int, ...]) -> None:
    import torch

    ours, theirs = pair(text)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    x = np.random.default_rng(1).normal(size=shape)
    for training in (True, False):
        ours.train(training), theirs.train(training)
        a, b = fb.from_numpy(x.copy()).requires_grad_(), torch.from_numpy(x.copy()).requires_grad_()
        y, z = ours(a), theirs(b)
        np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=RTOL, atol=ATOL)
        cotangent = np.random.default_rng(2).normal(size=tuple(z.shape))
        y.backward(fb.from_numpy(cotangent)), z.backward(torch.from_numpy(cotangent))
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=RTOL, atol=ATOL)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=RTOL, atol=ATOL, err_msg=name)
    for (name, p), q in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        np.testing.assert_allclose(p.numpy(), q.numpy(), rtol=RTOL, err_msg=name)


def logits() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(6, 4))


def classes() -> np.ndarray:
    return np.array([0, 3, 1, 1, 2, 0])


def shares() -> np.ndarray:
    return np.random.default_rng(4).uniform(0.05, 0.95, (6, 4))


LOSSES: list[tuple[str, Callable[[], np.ndarray], Callable[[], np.ndarray]]] = [
    ("CrossEntropyLoss()", logits, classes), ("CrossEntropyLoss(ignore_index=1, reduction='sum')", logits, classes),
    ("CrossEntropyLoss(label_smoothing=0.1)", logits, classes), ("CrossEntropyLoss(reduction='none')", logits, classes),
    ("NLLLoss()", logits, classes), ("NLLLoss(reduction='none')", logits, classes),
    ("MSELoss()", logits, shares), ("MSELoss(reduction='sum')", logits, shares), ("L1Loss()", logits, shares),
    ("SmoothL1Loss()", logits, shares), ("SmoothL1Loss(beta=0.3, reduction='none')", logits, shares),
    ("BCELoss()", shares, shares), ("BCEWithLogitsLoss()", logits, shares),
    ("KLDivLoss(reduction='batchmean')", logits, shares),
    ("KLDivLoss(reduction='sum', log_target=True)", logits, logits),
]


@pytest.mark.parametrize(("text", "inputs", "targets"), LOSSES, ids=[case[0] for case in LOSSES])
def test_losses_agree(text: str, inputs: Callable[[], np.ndarray], targets: Callable[[], np.ndarray]) -> None:
    import torch

    ours, theirs = eval(f"nn.{text}", {"nn": nn}), eval(f"nn.{text}", {"nn": torch.nn})
    assert repr(ours) == repr(theirs)
    a, b = fb.from_numpy(inputs()).requires_grad_(), torch.from_numpy(inputs()).requires_grad_()
    y, z = ours(a, fb.from_numpy(targets())), theirs(b, torch.from_numpy(targets()))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=RTOL, atol=ATOL)
    y.sum().backward(), z.sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=RTOL, atol=ATOL)


def test_weighted_losses_agree() -> None:
    import torch

    weight = np.array([1.0, 0.5, 2.0, 3.0])
    for name, x, target in (("CrossEntropyLoss", logits(), classes()), ("NLLLoss", logits(), classes()),
                            ("BCELoss", shares(), shares()), ("BCEWithLogitsLoss", logits(), shares())):
        ours = getattr(nn, name)(weight=fb.from_numpy(weight))
        theirs = getattr(torch.nn, name)(weight=torch.from_numpy(weight))
        found = ours(fb.from_numpy(x), fb.from_numpy(target)).item()
        assert found == pytest.approx(theirs(torch.from_numpy(x), torch.from_numpy(target)).item(), rel=RTOL)
    ours = nn.BCEWithLogitsLoss(pos_weight=fb.from_numpy(weight))
    theirs = torch.nn.BCEWithLogitsLoss(pos_weight=torch.from_numpy(weight))
    expected = theirs(torch.from_numpy(logits()), torch.from_numpy(shares())).item()
    assert ours(fb.from_numpy(logits()), fb.from_numpy(shares())).item() == pytest.approx(expected, rel=RTOL)


@pytest.mark.parametrize("settings", [{}, {"batch_first": True}, {"bias": False}, {"kdim": 3, "vdim": 5}])
def test_attention_agrees(settings: dict[str, Any]) -> None:
    import torch

    ours = nn.MultiheadAttention(4, 2, **settings).double()
    theirs = torch.nn.MultiheadAttention(4, 2, **settings).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    share(theirs, ours)
    rng = np.random.default_rng(1)
    arrays = [rng.normal(size=(3, 3, width)) for width in (4, settings.get("kdim", 4), settings.get("vdim", 4))]
    mask, padding = np.triu(np.ones((3, 3), bool), 1), np.array([[0, 0, 1], [0, 0, 0], [0, 1, 0]], bool)
    for keywords in ({}, {"attn_mask": mask}, {"attn_mask": mask, "key_padding_mask": padding},
                     {"average_attn_weights": False}):
        found = ours(*map(fb.from_numpy, arrays), **{k: fb.from_numpy(v) if isinstance(v, np.ndarray) else v
                                                     for k, v in keywords.items()})
        expected = theirs(*map(torch.from_numpy, arrays), **{k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v
                                                             for k, v in keywords.items()})
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=RTOL, atol=ATOL)


# -- whole trainings ----------------------------------------------------------------------------------------------

MLP = "nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 4))"
LENET = ("nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d(2), "
         "nn.Conv2d(6, 8, 3), nn.Tanh(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32, 20), nn.ReLU(), "
         "nn.Linear(20, 4))")
TRAININGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}), ("Adam", {"lr": 1e-2}),
    ("AdamW", {"lr": 1e-2}), ("RMSprop", {"lr": 1e-3}), ("Adagrad", {"lr": 1e-2})]


@pytest.mark.parametrize(("name", "settings"), TRAININGS, ids=[case[0] for case in TRAININGS])
@pytest.mark.parametrize(("model", "shape"), [(MLP, (8,)), (LENET, (1, 12, 12))], ids=["mlp", "lenet"])
def test_loss_curves_agree(model: str, shape: tuple[int, ...], name: str, settings: dict[str, Any]) -> None:
    import torch

    ours, theirs = pair(model.removeprefix("nn."))
    a = getattr(optim, name)(ours.parameters(), **settings)
    b = getattr(torch.optim, name)(theirs.parameters(), foreach=False, **settings)
    rates = optim.lr_scheduler.CosineAnnealingLR(a, 10), torch.optim.lr_scheduler.CosineAnnealingLR(b, 10)
    rng = np.random.default_rng(5)
    for step in range(10):
        x, labels = rng.normal(size=(16, *shape)), rng.integers(0, 4, 16)
        a.zero_grad(), b.zero_grad()
        found = nn.functional.cross_entropy(ours(fb.from_numpy(x)), fb.from_numpy(labels))
        expected = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(labels))
        assert found.item() == pytest.approx(expected.item(), rel=RTOL), step
        found.backward(), expected.backward()
        nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        a.step(), b.step()
        for rate in rates:
            rate.step()
