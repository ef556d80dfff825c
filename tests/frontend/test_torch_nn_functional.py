"""Activations, losses, convolution, pooling, normalization, attention, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, ours, theirs

import flambeau as fb

pytestmark = pytest.mark.torch
Case = Callable[..., Any]

ACTIVATIONS: list[tuple[str, dict[str, Any]]] = [
    ("relu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("silu", {}),
    ("sigmoid", {}),
    ("tanh", {}),
    ("softplus", {}),
    ("softplus", {"beta": 2, "threshold": 1}),
    ("elu", {}),
    ("elu", {"alpha": 0.5}),
    ("celu", {"alpha": 0.7}),
    ("selu", {}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.3}),
    ("hardtanh", {}),
    ("hardtanh", {"min_val": -0.5, "max_val": 1.5}),
    ("relu6", {}),
    ("hardsigmoid", {}),
    ("hardswish", {}),
    ("hardshrink", {}),
    ("softshrink", {}),
    ("tanhshrink", {}),
    ("softsign", {}),
    ("mish", {}),
    ("logsigmoid", {}),
    ("softmax", {"dim": -1}),
    ("log_softmax", {"dim": 0}),
    ("glu", {}),
    ("threshold", {"threshold": 0.1, "value": 9}),
]


@pytest.mark.parametrize(("name", "kwargs"), ACTIVATIONS, ids=str)
def test_activations_agree(name: str, kwargs: dict[str, Any]) -> None:
    check(lambda lib, x: getattr(lib.F, name)(x, **kwargs), "f32[3,4]", tolerance=32)
    check(lambda lib, x: getattr(lib.F, name)(x, **kwargs), "bf16[3,4]", tolerance=8, gradients=False)
    extreme = np.array([[0.0, -0.0, 1e4, -1e4]])
    if name not in (
        "softmax",
        "log_softmax",
        "glu",
        "hardsigmoid",
        "hardswish",
        "softshrink",
        "leaky_relu",
        "selu",
        "elu",
        "celu",
    ):
        check(lambda lib, x: getattr(lib.F, name)(x, **kwargs), "f32[1,4]", arrays=[extreme], tolerance=32)


@pytest.mark.parametrize("name", ["elu", "celu", "selu", "leaky_relu"])
def test_activations_agree_far_from_zero(name: str) -> None:
    check(
        lambda lib, x: getattr(lib.F, name)(x),
        "f32[4]",
        arrays=[np.array([1e-3, -1e-3, 500.0, -500.0])],
        tolerance=32,
    )


def test_prelu_agrees() -> None:
    check(lambda lib, x, w: lib.F.prelu(x, w), "f32[2,3,4]", "f32[3]")
    check(lambda lib, x, w: lib.F.prelu(x, w), "f32[2,3,4]", "f32[1]")


# -- losses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [("4,3", "4"), ("2,3,5", "2,5"), ("2,3,2,2", "2,2,2"), ("3", "")])
def test_cross_entropy_agrees(
    reduction: str, smoothing: float, weighted: bool, shape: tuple[str, str]
) -> None:
    def run(lib: Any, x: Any, t: Any) -> Any:
        weight = lib.tensor([0.5, 1.0, 2.0]) if weighted else None
        return [
            lib.F.cross_entropy(
                x, t, weight=weight, reduction=reduction, label_smoothing=smoothing, ignore_index=ignored
            )
            for ignored in (-100, 1)
        ]

    check(run, f"f32[{shape[0]}]", f"i64[{shape[1]}]", tolerance=32)


def test_cross_entropy_with_everything_ignored_is_nan_as_in_pytorch() -> None:
    check(lambda lib, x: lib.F.cross_entropy(x, lib.tensor([-100, -100])), "f32[2,3]", gradients=False)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_cross_entropy_of_probabilities_agrees(reduction: str, smoothing: float) -> None:
    def run(lib: Any, x: Any, t: Any) -> Any:
        t = lib.softmax(t, 1)
        weight = lib.tensor([0.5, 1.0, 2.0])
        return [
            lib.F.cross_entropy(x, t, reduction=reduction, label_smoothing=smoothing),
            lib.F.cross_entropy(x, t, weight=weight, reduction=reduction, label_smoothing=smoothing),
        ]

    check(run, "f32[4,3]", "f32[4,3]", tolerance=32)
    check(run, "f32[2,3,4]", "f32[2,3,4]", tolerance=32)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, y, r: lib.F.mse_loss(x, y, reduction=r),
        lambda lib, x, y, r: lib.F.l1_loss(x, y, reduction=r),
        lambda lib, x, y, r: lib.F.smooth_l1_loss(x, y, reduction=r),
        lambda lib, x, y, r: lib.F.smooth_l1_loss(x, y, reduction=r, beta=0.3),
        lambda lib, x, y, r: lib.F.huber_loss(x, y, reduction=r, delta=0.7),
        lambda lib, x, y, r: lib.F.binary_cross_entropy_with_logits(x, lib.sigmoid(y), reduction=r),
        lambda lib, x, y, r: lib.F.binary_cross_entropy_with_logits(
            x, lib.sigmoid(y), lib.ones(4) * 2, reduction=r, pos_weight=lib.tensor([1.0, 2, 3, 4])
        ),
        lambda lib, x, y, r: lib.F.binary_cross_entropy(lib.sigmoid(x), lib.sigmoid(y), reduction=r),
        lambda lib, x, y, r: lib.F.kl_div(lib.log_softmax(x, 1), lib.softmax(y, 1), reduction=r),
        lambda lib, x, y, r: lib.F.kl_div(
            lib.log_softmax(x, 1), lib.log_softmax(y, 1), reduction=r, log_target=True
        ),
        lambda lib, x, y, r: lib.F.nll_loss(lib.log_softmax(x, 1), lib.tensor([0, 2, 1]), reduction=r),
        lambda lib, x, y, r: lib.F.poisson_nll_loss(x, y * y, reduction=r, full=True),
        lambda lib, x, y, r: lib.F.gaussian_nll_loss(x, y, lib.exp(y), reduction=r),
        lambda lib, x, y, r: lib.F.soft_margin_loss(x, lib.sign(y).detach(), reduction=r),
        lambda lib, x, y, r: lib.F.hinge_embedding_loss(x, lib.sign(y), reduction=r),
        lambda lib, x, y, r: lib.F.margin_ranking_loss(x, y, lib.sign(y), 0.3, reduction=r),
        lambda lib, x, y, r: lib.F.triplet_margin_loss(x, y, x * y, reduction=r),
        lambda lib, x, y, r: lib.F.cosine_embedding_loss(x, y, lib.tensor([1, -1, 1]), 0.1, reduction=r),
    ],
)
def test_losses_agree(case: Case, reduction: str) -> None:
    check(lambda lib, x, y: case(lib, x, y, reduction), "f32[3,4]", "f32[3,4]", tolerance=64)


def test_logits_loss_has_the_right_gradient_at_zero() -> None:
    check(
        lambda lib, x, y: lib.F.binary_cross_entropy_with_logits(x, y),
        "f32[3]",
        "f32[3]",
        arrays=[np.zeros(3), np.array([0.0, 1, 0.3])],
    )
    check(lambda lib, x: [lib.F.softplus(x), lib.F.logsigmoid(x)], "f32[3]", arrays=[np.zeros(3)])


def test_similarities_agree() -> None:
    check(
        lambda lib, x, y: [
            lib.F.cosine_similarity(x, y),
            lib.F.cosine_similarity(x, y, 0),
            lib.F.pairwise_distance(x, y),
            lib.F.normalize(x),
            lib.F.normalize(x, 1, 0),
        ],
        "f32[3,4]",
        "f32[3,4]",
        tolerance=32,
    )


# -- convolution and pooling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"stride": 2},
        {"padding": 1},
        {"padding": (1, 2), "stride": (2, 1)},
        {"dilation": 2},
        {"groups": 2},
        {"padding": "same"},
        {"padding": "valid"},
        {"padding": "same", "dilation": (2, 1)},
    ],
)
def test_conv2d_agrees(kwargs: dict[str, Any]) -> None:
    channels = 2 if "groups" in kwargs else 4
    check(
        lambda lib, x, w, b: [lib.F.conv2d(x, w, b, **kwargs), lib.F.conv2d(x[0], w, **kwargs)],
        "f32[2,4,7,6]",
        f"f32[6,{channels},3,2]",
        "f32[6]",
        tolerance=32,
    )


@pytest.mark.parametrize(
    "kwargs", [{}, {"stride": 2, "padding": 1}, {"padding": "same"}, {"dilation": 2, "groups": 2}]
)
def test_conv1d_agrees(kwargs: dict[str, Any]) -> None:
    channels = 2 if "groups" in kwargs else 4
    check(
        lambda lib, x, w, b: lib.F.conv1d(x, w, b, **kwargs),
        "f32[2,4,9]",
        f"f32[6,{channels},3]",
        "f32[6]",
        tolerance=32,
    )


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"stride": 2}, {"stride": 2, "padding": 1, "output_padding": 1}, {"dilation": 2}, {"groups": 2}],
)
def test_transposed_convolution_agrees(kwargs: dict[str, Any]) -> None:
    check(
        lambda lib, x, w: lib.F.conv_transpose2d(x, w, **kwargs), "f32[2,4,5,4]", "f32[4,3,3,2]", tolerance=32
    )
    check(lambda lib, x, w: lib.F.conv_transpose1d(x, w, **kwargs), "f32[2,4,5]", "f32[4,3,3]", tolerance=32)


@pytest.mark.parametrize("args", [(2,), ((2, 3),), (3, 1), (3, 2, 1), (2, 2, 0, 2), (3, 2, 1, 1, True)])
def test_max_pooling_agrees(args: tuple[Any, ...]) -> None:
    check(
        lambda lib, x: [lib.F.max_pool2d(x, *args), *lib.F.max_pool2d(x[0], *args, return_indices=True)],
        "f32[2,3,8,9]",
    )
    one = tuple(a[0] if isinstance(a, tuple) else a for a in args)
    check(lambda lib, x: lib.F.max_pool1d(x, *one), "f32[2,3,9]")


@pytest.mark.parametrize(
    "args", [(2,), ((2, 3),), (3, 1), (3, 2, 1), (3, 2, 1, True), (3, 2, 1, False, False)]
)
def test_average_pooling_agrees(args: tuple[Any, ...]) -> None:
    check(lambda lib, x: [lib.F.avg_pool2d(x, *args), lib.F.avg_pool2d(x[0], *args)], "f32[2,3,8,9]")


@pytest.mark.parametrize("size", [1, 2, (4, 3), (None, 1), 5, (3, 7)])
def test_adaptive_average_pooling_agrees(size: Any) -> None:
    check(lambda lib, x: lib.F.adaptive_avg_pool2d(x, size), "f32[2,3,8,6]")


def test_adaptive_max_pooling_agrees() -> None:
    check(
        lambda lib, x: [lib.F.adaptive_max_pool2d(x, (4, 2)), lib.F.adaptive_max_pool1d(x[0], 3)],
        "f32[2,3,8,6]",
    )


# -- normalization ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["4,3", "4,3,5", "2,3,4,5"])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_and_its_statistics_agree(shape: str, training: bool) -> None:
    def run(lib: Any, x: Any, w: Any, b: Any) -> Any:
        mean, var = lib.tensor([0.1, 0.2, 0.3]), lib.tensor([1.0, 2.0, 0.5])
        return [
            lib.F.batch_norm(x, mean, var, w, b, training, 0.3),
            lib.F.batch_norm(x, mean, var, training=training),
            mean,
            var,
        ]

    check(run, f"f32[{shape}]", "f32[3]", "f32[3]", tolerance=64)


@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, w: lib.F.layer_norm(x, (4,)),
        lambda lib, x, w: lib.F.layer_norm(x, (4,), w, w * 2),
        lambda lib, x, w: lib.F.layer_norm(x, (6, 4), lib.ones(6, 4) * 3),
        lambda lib, x, w: lib.F.rms_norm(x, (4,), w),
        lambda lib, x, w: lib.F.rms_norm(x, (6, 4), eps=0.1),
        lambda lib, x, w: lib.F.group_norm(x, 3),
        lambda lib, x, w: lib.F.group_norm(x, 2, lib.ones(6) * 2, lib.ones(6)),
        lambda lib, x, w: lib.F.instance_norm(x),
    ],
)
def test_normalizations_agree(case: Case) -> None:
    check(case, "f32[2,6,4]", "f32[4]", tolerance=64)


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_embedding_agrees() -> None:
    check(
        lambda lib, w, i: [lib.F.embedding(i, w), lib.F.embedding(i[0], w, padding_idx=1)],
        "f32[3,4]",
        "i64[2,5]",
    )


@pytest.mark.parametrize("mask", [None, "bool", "float", "causal"])
def test_attention_agrees(mask: str | None) -> None:
    def run(lib: Any, q: Any, k: Any, v: Any) -> Any:
        given = {"bool": lib.ones(5, 6).tril(2) > 0, "float": lib.ones(5, 6) * 0.3}.get(mask)
        return lib.F.scaled_dot_product_attention(q, k, v, given, is_causal=mask == "causal")

    check(run, "f32[2,2,5,4]", "f32[2,2,6,4]", "f32[2,2,6,3]", tolerance=32)
    check(
        lambda lib, q, k: lib.F.scaled_dot_product_attention(q, k, k, scale=0.3),
        "f32[2,5,4]",
        "f32[2,6,4]",
        tolerance=32,
    )


@pytest.mark.parametrize(
    "args",
    [
        ((1, 2),),
        ((1, 2, 0, 1),),
        ((-1, 2),),
        ((1, -2, -1, 1), "constant", 3.5),
        ((1, 2), "reflect"),
        ((2, 1), "replicate"),
        ((2, 1), "circular"),
        ((1, 1, 2, 0), "replicate"),
        ((1, 2, 2, 1), "reflect"),
    ],
)
def test_padding_agrees(args: tuple[Any, ...]) -> None:
    check(lambda lib, x: lib.F.pad(x, *args), "f32[2,3,4,5]" if len(args[0]) == 4 else "f32[2,3,5]")


def test_image_resampling_agrees() -> None:
    check(
        lambda lib, x: [
            lib.F.pixel_shuffle(x, 2),
            lib.F.pixel_unshuffle(x, 2),
            lib.F.interpolate(x, scale_factor=2),
            lib.F.interpolate(x, size=(3, 7)),
            lib.F.interpolate(x, size=(7, 9), mode="bilinear"),
            lib.F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
        ],
        "f32[2,4,4,6]",
        tolerance=32,
    )


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib, x: lib.F.cross_entropy(x, lib.tensor([0, 5])), IndexError),
        (lambda lib, x: lib.F.cross_entropy(x, lib.tensor([0])), (RuntimeError, ValueError)),
        (lambda lib, x: lib.F.cross_entropy(x, lib.ones(2, 2)), RuntimeError),
        (lambda lib, x: lib.F.mse_loss(x, x, reduction="avg"), ValueError),
        (lambda lib, x: lib.F.dropout(x, 1.5), ValueError),
        (lambda lib, x: lib.F.embedding(lib.tensor([9]), x), IndexError),
        (lambda lib, x: lib.F.conv2d(x, x), RuntimeError),
        (lambda lib, x: lib.F.conv2d(lib.ones(1, 3, 4, 4), lib.ones(2, 4, 3, 3)), RuntimeError),
        (lambda lib, x: lib.F.conv2d(lib.ones(1, 3, 4, 4), lib.ones(2, 3, 5, 5)), RuntimeError),
        (
            lambda lib, x: lib.F.conv2d(lib.ones(1, 3, 4, 4), lib.ones(2, 3, 3, 3), stride=2, padding="same"),
            (ValueError, RuntimeError),
        ),
        (lambda lib, x: lib.F.batch_norm(lib.ones(1, 3), None, None, training=True), ValueError),
        (lambda lib, x: lib.F.layer_norm(x, (4,)), RuntimeError),
        (lambda lib, x: lib.F.group_norm(lib.ones(2, 4, 3), 3), RuntimeError),
        (lambda lib, x: lib.F.gelu(x, approximate="exact"), RuntimeError),
        (lambda lib, x: lib.F.max_pool2d(lib.ones(1, 1, 4, 4), 2, padding=2), RuntimeError),
        (lambda lib, x: lib.F.glu(lib.ones(2, 3)), RuntimeError),
        (lambda lib, x: lib.F.binary_cross_entropy(x * 2, x), RuntimeError),
        (lambda lib, x: lib.F.binary_cross_entropy(x, lib.ones(2)), (ValueError, RuntimeError)),
    ],
)
def test_errors_have_pytorchs_types(case: Case, error: Any) -> None:
    torch = theirs()
    with pytest.raises(error):
        case(torch, torch.ones(2, 3))
    with pytest.raises(error):
        case(ours, fb.ones(2, 3))
