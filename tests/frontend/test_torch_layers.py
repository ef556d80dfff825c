"""Bags of rows, distances, layers that draw numbers, the adaptive softmax, initial values, and the functions that have
other arguments as `fb.f` than as `F.f`, against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, theirs

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

pytestmark = pytest.mark.torch
Case = Callable[..., Any]


def index(lib: Any, *values: Any) -> Any:
    return lib.tensor(list(values), dtype=lib.int64)


BAGS: list[dict[str, Any]] = [
    {"mode": mode, "padding_idx": padding, "include_last_offset": last}
    for mode in ("sum", "mean", "max") for padding in (None, 1) for last in (False, True)] + [{"max_norm": 1.0}]


@pytest.mark.parametrize("settings", BAGS, ids=str)
def test_bags_agree(settings: dict[str, Any]) -> None:
    ends = (5,) if settings.get("include_last_offset") else ()

    def run(lib: Any, w: Any) -> Any:
        w = w * 1
        return [lib.F.embedding_bag(index(lib, 1, 2, 3, 1, 1), w, index(lib, 0, 2, 2, *ends), **settings),
                lib.F.embedding_bag(index(lib), w, index(lib, 0, 0, *(0 for _ in ends)), **settings)]

    check(run, "f32[4,3]")


def test_bags_with_weights_agree() -> None:
    check(lambda lib, w, s: [lib.F.embedding_bag(index(lib, 1, 2, 1, 0), w, index(lib, 0, 3), mode="sum",
                                                 per_sample_weights=s[0], padding_idx=2),
                             lib.F.embedding_bag(index(lib, [1, 2, 1, 0], [3, 3, 3, 1]), w, mode="sum",
                                                 per_sample_weights=s)], "f32[4,3]", "f32[2,4]")


def test_gradients_by_frequency() -> None:
    rows = [[1, 1, 2], [1, 0, 2]]
    check(lambda lib, w: lib.F.embedding(index(lib, *rows), w, padding_idx=0, scale_grad_by_freq=True), "f32[4,3]")
    w = fb.ones(4, 3, requires_grad=True)        # PyTorch's bags count wrong where indices repeat
    F.embedding_bag(index(fb, *rows), w, mode="sum", scale_grad_by_freq=True).sum().backward()
    assert w.grad.tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 1], [0, 0, 0]]


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, 3.0, float("inf")])
def test_distances_agree(p: float) -> None:
    check(lambda lib, x, y: [lib.cdist(x, y, p), lib.cdist(x[0], y, p), lib.F.pdist(y, p), lib.cdist(x[:, :0], y, p),
                             lib.pairwise_distance(x[0, 0], y[0], p + 1)], "f64[2,3,4]", "f64[5,4]", tolerance=64)


def test_distances_of_many_rows_agree() -> None:
    check(lambda lib, x, y: [lib.cdist(x, y), lib.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")],
          "f64[2,3,4]", "f64[30,4]", tolerance=1e4)
    x = fb.ones(30, 2, requires_grad=True)
    fb.cdist(x, x).sum().backward()
    assert not x.grad.any()                      # a distance of 0 has no gradient


NATIVE: list[Case] = [
    lambda lib, x, y: lib.dropout(x, 0.3, False), lambda lib, x, y: lib.feature_alpha_dropout(x, 0.5, False),
    lambda lib, x, y: lib.rrelu(x, 0.1, 0.3, False), lambda lib, x, y: lib.hardshrink(x, 0.7),
    lambda lib, x, y: lib.embedding(x, index(lib, 1, 0), -1, True), lambda lib, x, y: x.hardshrink(),
    lambda lib, x, y: lib.embedding_bag(x, index(lib, 0, 1, 1), index(lib, 0, 2), False, 2),
    lambda lib, x, y: lib.embedding_bag(x, index(lib, 0, 1, 1), index(lib, 0, 2), False, 1),
    lambda lib, x, y: lib.binary_cross_entropy_with_logits(x, y.sigmoid(), None, y[0].detach().exp(), 2),
    lambda lib, x, y: lib.kl_div(x, y, 2, log_target=True),
    lambda lib, x, y: lib.poisson_nll_loss(x, y, True, False, 1e-8, 0),
    lambda lib, x, y: lib.cosine_embedding_loss(x, y, index(lib, 1, -1, 1), 0.1, 0),
    lambda lib, x, y: lib.hinge_embedding_loss(x, y.sign(), 0.5),
    lambda lib, x, y: lib.margin_ranking_loss(x, y, y.sign(), 0.2, 2),
    lambda lib, x, y: lib.triplet_margin_loss(x, y, x * y, 1.0, 2, 1e-6, True, 0),
    lambda lib, x, y: lib.softmax(x, 1, lib.float64), lambda lib, x, y: lib.F.softmax(x, -1, 3, lib.float64),
    lambda lib, x, y: lib.F.log_softmax(x), lambda lib, x, y: lib.relu_(x * 1), lambda lib, x, y: lib.F.elu_(x * 1, 0.5),
    lambda lib, x, y: lib.F.hardtanh_(x * 1, -0.5, 1.0), lambda lib, x, y: lib.F.leaky_relu_(x * 1, 0.3),
    lambda lib, x, y: lib.F.rrelu_(x * 1), lambda lib, x, y: lib.selu_(x * 1), lambda lib, x, y: lib.celu_(x * 1, 0.5),
    lambda lib, x, y: lib.threshold_(x * 1, 0.1, 2.0), lambda lib, x, y: lib.F.l1_loss(x, y, weight=x * x),
    lambda lib, x, y: lib.F.mse_loss(x, y, reduction="none", weight=y),
    lambda lib, x, y: lib.F.huber_loss(x, y, delta=0.5, weight=y * y), lambda lib, x, y: lib.F.mse_loss(x, y, False),
    lambda lib, x, y: lib.F.kl_div(x, y, None, False),
]


@pytest.mark.parametrize("case", NATIVE)
def test_other_arguments_agree(case: Case) -> None:
    check(case, "f64[3,4]", "f64[3,4]", tolerance=64)


def test_the_adaptive_softmax_agrees() -> None:
    torch = theirs()
    settings: Any = ((8, 20, [5, 10]), {"div_value": 2.0, "head_bias": True})
    other = torch.nn.AdaptiveLogSoftmaxWithLoss(*settings[0], **settings[1]).double()
    mine = nn.AdaptiveLogSoftmaxWithLoss(*settings[0], **settings[1]).double()
    mine.load_state_dict({key: value.numpy() for key, value in other.state_dict().items()})
    x, y = np.random.default_rng(0).normal(size=(7, 8)), np.array([0, 4, 5, 9, 10, 19, 12])
    for module in (mine, fb.compile(mine)):
        mine.zero_grad(), other.zero_grad()
        found, expected = module(fb.tensor(x), fb.tensor(y)), other(torch.tensor(x), torch.tensor(y))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
        found.loss.backward(), expected.loss.backward()
        for p, q in zip(mine.parameters(), other.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(mine.log_prob(fb.tensor(x)).exp().sum(1).detach().numpy(), 1)
    assert mine.predict(fb.tensor(x)).tolist() == other.predict(torch.tensor(x)).tolist()
    with pytest.raises(RuntimeError, match="in \\[0, 19\\]"):
        mine(fb.tensor(x[0]), fb.tensor(20))


# -- draws ------------------------------------------------------------------------------------------------------------

DRAWING: list[Case] = [
    lambda x: nn.Dropout1d(0.4)(x), lambda x: nn.Dropout2d(0.4)(x), lambda x: nn.Dropout3d(0.4)(x),
    lambda x: nn.AlphaDropout(0.4)(x), lambda x: nn.FeatureAlphaDropout(0.4)(x), lambda x: nn.RReLU()(x),
    lambda x: F.gumbel_softmax(x, 0.7, hard=True), lambda x: fb.feature_dropout(x, 0.4, True),
    lambda x: fb.dropout_(x * 1, 0.4, True),
]


@pytest.mark.parametrize("layer", DRAWING)
def test_compiled_layers_draw_as_eager_ones_do(layer: Case) -> None:
    found = []
    for function in (layer, fb.compile(layer)):
        fb.manual_seed(3)
        x = fb.linspace(-2, 2, 60).reshape(5, 3, 4).requires_grad_()
        y = function(x)
        (y * y).sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    assert not np.array_equal(found[0][0], np.linspace(-2, 2, 60).reshape(5, 3, 4))


@pytest.mark.parametrize(("layer", "shape", "dims"), [
    (nn.Dropout1d(), (50, 20, 6), (2,)), (nn.Dropout1d(), (900, 6), (1,)), (nn.Dropout2d(), (40, 20, 3, 2), (2, 3)),
    (nn.Dropout2d(), (50, 20, 6), (2,)), (nn.Dropout3d(), (40, 20, 3, 2, 2), (2, 3, 4)),
    (nn.Dropout3d(), (900, 3, 2, 2), (1, 2, 3)), (nn.FeatureAlphaDropout(), (40, 20, 3, 2), (2, 3))])
def test_channels_are_dropped_whole(layer: Any, shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    y = layer(fb.ones(*shape)).numpy()
    assert (y.min(dims) == y.max(dims)).all()
    assert 0.4 < (y == y.max()).mean() < 0.6
    assert layer.eval()(fb.ones(*shape)).numpy().min() == 1


def test_random_slopes_lie_between_their_bounds() -> None:
    y = nn.RReLU(0.2, 0.5)(-fb.ones(10_000)).numpy()
    assert -0.5 <= y.min() < -0.49 and -0.21 < y.max() <= -0.2 and abs(y.mean() + 0.35) < 0.01


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    y = nn.AlphaDropout(0.3)(fb.randn(200_000)).numpy()
    assert abs(y.mean()) < 0.02 and abs(y.var() - 1) < 0.02


# -- initial values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "groups"), [((4, 2, 3), 1), ((4, 2, 2, 2), 2), ((6, 5, 3, 3, 3), 3), ((4, 8, 1), 2)])
def test_dirac_agrees(shape: tuple[int, ...], groups: int) -> None:
    torch = theirs()
    expected = torch.nn.init.dirac_(torch.ones(shape), groups).numpy()
    np.testing.assert_array_equal(nn.init.dirac_(fb.ones(*shape), groups).numpy(), expected)


def test_sparse_columns_and_generators() -> None:
    found = [nn.init.sparse_(fb.ones(50, 7), 0.31, generator=fb.Generator().manual_seed(1)).numpy() for _ in range(2)]
    assert (found[0] == found[1]).all() and ((found[0] == 0).sum(0) == 16).all() and 0.005 < found[0].std() < 0.01
    with pytest.warns(FutureWarning, match="deprecated"):
        assert nn.init.constant(fb.ones(2), 3.0).tolist() == [3, 3]
    for bad in (lambda: nn.init.dirac_(fb.ones(2, 2)), lambda: nn.init.dirac_(fb.ones(3, 2, 2), 2),
                lambda: nn.init.sparse_(fb.ones(2), 0.5)):
        with pytest.raises(ValueError, match=r"dim"):
            bad()
