"""Every function means the same in a compiled function: values, gradients, views and in-place writes, draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import TraceError

EPS = {fb.float32: 2.0**-23, fb.float64: 2.0**-52, fb.float16: 2.0**-10, fb.bfloat16: 2.0**-7}


def flat(value: Any) -> list[fb.Tensor]:
    return [value] if isinstance(value, fb.Tensor) else [t for each in value for t in flat(each)]


def with_gradients(function: Callable[..., Any]) -> Callable[..., list[fb.Tensor]]:
    """The function's results, and the gradients of a weighted sum of them."""

    def run(*inputs: fb.Tensor) -> list[fb.Tensor]:
        results = flat(function(*inputs))
        smooth = [r for r in results if r.requires_grad]
        wanted = [x for x in inputs if x.requires_grad]
        if not smooth or not wanted:
            return results
        weights = [fb.tensor(np.cos(np.arange(r.numel())).reshape(tuple(r.shape))) for r in smooth]
        loss = sum([(r.double() * w).sum() for r, w in zip(smooth, weights, strict=True)], start=fb.zeros(()))
        return results + [g for g in fb.autograd.grad(loss, wanted, allow_unused=True) if g is not None]

    return run


def drawn(shape: tuple[int, ...], seed: int) -> fb.Tensor:
    array = np.random.default_rng(seed).uniform(0.3, 1.7, shape).astype(np.float32)
    return fb.tensor(array, requires_grad=True)


def agree(function: Callable[..., Any], *shapes: tuple[int, ...], tolerance: float = 64) -> None:
    """tolerance: in units of the dtype's epsilon, relative to the largest value."""
    run = with_gradients(function)
    inputs = [drawn(shape, seed) for seed, shape in enumerate(shapes)]
    fb.manual_seed(7)
    expected = run(*inputs)
    fb.manual_seed(7)
    found = fb.compile(run)(*inputs)
    assert len(found) == len(expected)
    for x, y in zip(found, expected, strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)
        a, b = x.detach().double().numpy(), y.detach().double().numpy()
        scale = max(float(np.abs(b[np.isfinite(b)]).max(initial=0.0)), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * EPS.get(x.dtype, 0.0) * scale)


UNARY = [
    "exp",
    "log",
    "sqrt",
    "rsqrt",
    "sin",
    "tanh",
    "erf",
    "sigmoid",
    "reciprocal",
    "floor",
    "round",
    "abs",
    "sign",
    "neg",
    "square",
    "log1p",
    "frac",
    "atan",
]


def test_unary_functions() -> None:
    agree(lambda x: [getattr(fb, name)(x) for name in UNARY], (3, 5))


def test_binary_functions() -> None:
    agree(
        lambda x, y: [x + y, x - y, x * y, x / y, x**y, x // y, x % y, x > y, (x > y) & (x > 1)], (3, 5), (5,)
    )
    agree(
        lambda x, y: [
            fb.maximum(x, y),
            fb.atan2(x, y),
            fb.fmin(x, y),
            fb.hypot(x, y),
            fb.logaddexp(x, y),
            x**3,
            2.0**x,
        ],
        (3, 5),
        (3, 1),
    )


def test_functions_of_three() -> None:
    agree(
        lambda x, y: [
            fb.clamp(x, 0.5, 1.5),
            fb.where(x > y, x, y),
            fb.lerp(x, y, 0.3),
            fb.addcmul(x, x, y, value=2),
            fb.isclose(x, x),
            fb.nan_to_num(x / 0),
        ],
        (4,),
        (4,),
    )


def test_promotion() -> None:
    agree(
        lambda x: [
            x.half() * 3,
            x.bfloat16() + 1,
            x.double() / 3,
            x.long() + 2.5,
            (x > 1) * 2,
            (x * 9).to(fb.uint8),
        ],
        (6,),
    )


def test_sums() -> None:
    agree(
        lambda x: [x.sum(), x.mean(1), x.var(0), x.std(), x.prod(1), x.norm(), x.norm(3, 1), x.logsumexp(2)],
        (2, 3, 4),
    )


def test_extremes_and_counts() -> None:
    agree(
        lambda x: [
            x.amax(2),
            x.amin((0, 1)),
            x.argmax(1),
            x.argmin(),
            *x.max(1),
            (x > 1).any(0),
            (x > 0).all(),
            x.count_nonzero(),
            x.cumsum(1),
            x.cumprod(2),
        ],
        (2, 3, 4),
    )


def test_views() -> None:
    agree(
        lambda x: [
            x.reshape(6, 4),
            x.permute(2, 0, 1),
            x[1:, None, ::2],
            x.transpose(0, 2).reshape(-1),
            x.flip(1),
            x.expand(2, 2, 3, 4),
            x.diagonal(0, 0, 1),
            x.unbind(1),
            x.chunk(2, 2),
        ],
        (2, 3, 4),
    )


def test_rearrangements() -> None:
    agree(
        lambda x, y: [
            x.roll(1, 2),
            x.tril(),
            x.repeat(1, 2, 1),
            fb.cat([x, y], 1),
            fb.stack([x, y], 2),
            F.pad(x, (1, 2)),
            F.pad(x, (1, 1), "reflect"),
            F.pad(x, (1, -1), value=2.0),
            x.repeat_interleave(2, 0),
        ],
        (2, 3, 4),
        (2, 3, 4),
    )


def test_indexing() -> None:
    index = fb.tensor([[0, 2], [1, -1]])
    agree(
        lambda x: [
            x[index],
            x[:, index],
            x[index[0], index[1]],
            x[index[0], :, index[1]],
            x[1, index],
            x[0, ..., 1],
        ],
        (3, 4, 5),
    )


def test_gathers_and_scatters() -> None:
    index = fb.tensor([[0, 2], [1, 0]])
    agree(
        lambda x: [
            x.gather(1, index),
            x.scatter_add(1, index, x[:, :2]),
            x.scatter(1, index, 5.0),
            x.index_add(0, index[0] // 2, x),
            x.index_select(1, index[0]),
            F.one_hot(index, 3),
        ],
        (2, 3),
    )


def test_masks_choose_without_positions() -> None:
    def run(x: fb.Tensor) -> fb.Tensor:
        y = x * 1
        y[y > 1] = 0.0
        return y.masked_fill(y < 0.5, -1.0)

    agree(run, (3, 4))


def test_products() -> None:
    agree(
        lambda x, y: [
            x @ y,
            x[0] @ y,
            x @ y[:, 0],
            F.linear(x, y.T),
            fb.einsum("ij,jk->ki", x, y),
            fb.tensordot(x, y, 1),
            fb.outer(x[0], y[0]),
        ],
        (3, 4),
        (4, 5),
    )
    agree(lambda x, y: [x @ y, fb.bmm(x, y), fb.einsum("bij,bjk->bik", x, y)], (2, 3, 4), (2, 4, 5))


def test_activations() -> None:
    agree(
        lambda x: [
            F.relu(x - 1),
            F.gelu(x),
            F.gelu(x, "tanh"),
            F.silu(x),
            F.softmax(x, 1),
            F.log_softmax(x, 0),
            F.elu(x - 1),
            F.softplus(x),
            F.hardtanh(x),
            F.mish(x),
            F.leaky_relu(x - 1),
            F.glu(x),
        ],
        (3, 4),
    )


def test_losses() -> None:
    target = fb.tensor([0, 3, -100])
    agree(
        lambda x: [
            F.cross_entropy(x, target),
            F.cross_entropy(x, target, label_smoothing=0.1, reduction="sum"),
            F.cross_entropy(x, F.softmax(x * 2, 1)),
            F.nll_loss(F.log_softmax(x, 1), target, reduction="none"),
        ],
        (3, 4),
    )
    agree(
        lambda x, y: [
            F.mse_loss(x, y),
            F.l1_loss(x, y),
            F.smooth_l1_loss(x, y),
            F.binary_cross_entropy_with_logits(x, y / 2),
            F.kl_div(x, y),
            F.cosine_similarity(x, y),
        ],
        (3, 4),
        (3, 4),
    )


def test_convolutions_and_pooling() -> None:
    agree(
        lambda x, w: [
            F.conv2d(x, w, padding="same"),
            F.conv2d(x, w, stride=2),
            F.conv_transpose2d(x[:, :2], w, stride=2),
        ],
        (2, 3, 6, 5),
        (2, 3, 3, 3),
    )
    agree(
        lambda x: [
            F.max_pool2d(x, 2),
            F.avg_pool2d(x, 3, 1, 1),
            F.adaptive_avg_pool2d(x, (2, 1)),
            F.adaptive_avg_pool2d(x, 4),
            F.interpolate(x, scale_factor=2),
        ],
        (2, 3, 6, 6),
    )


def test_normalizations() -> None:
    agree(
        lambda x, w: [
            F.layer_norm(x, (4,), w, w),
            F.rms_norm(x, (4,), w),
            F.group_norm(x, 3),
            F.normalize(x),
            F.batch_norm(x, None, None, training=True),
        ],
        (2, 6, 4),
        (4,),
        tolerance=256,
    )


def test_attention_and_embedding() -> None:
    tokens = fb.tensor([[0, 2, 1], [1, 1, 0]])
    agree(
        lambda q, k: [F.scaled_dot_product_attention(q, k, k, is_causal=True), F.embedding(tokens, q[0])],
        (2, 3, 4),
        (2, 3, 4),
    )


def test_draws_are_the_same_bits() -> None:
    def draw() -> list[fb.Tensor]:
        x = fb.ones(5, 7)
        return [
            fb.rand(5, 7),
            fb.randn(3),
            F.dropout(x, 0.3),
            fb.randint(0, 100, (6,)),
            fb.randperm(9),
            fb.bernoulli(x * 0.5),
            fb.multinomial(x[0], 4, True),
            fb.rand(3, dtype=fb.bfloat16),
            fb.empty(4).uniform_(-1, 1),
        ]

    compiled = fb.compile(draw)
    fb.manual_seed(3)
    expected = [[t.tolist() for t in draw()] for _ in range(3)]
    fb.manual_seed(3)
    assert [[t.tolist() for t in compiled()] for _ in range(3)] == expected


def test_batch_norm_updates_its_statistics() -> None:
    mean, var = fb.zeros(3), fb.ones(3)
    x = drawn((4, 3), 0).detach()
    step = fb.compile(lambda x: F.batch_norm(x, mean, var, training=True))
    expected = [fb.zeros(3), fb.ones(3)]
    for _ in range(3):
        step(x)
        F.batch_norm(x, *expected, training=True)
    assert fb.allclose(mean, expected[0]) and fb.allclose(var, expected[1])


# -- in place and views -----------------------------------------------------------------------------------------------


def test_writes_through_views() -> None:
    def run(x: fb.Tensor) -> list[fb.Tensor]:
        y = x * 1
        y[0].mul_(2)
        y[:, 1] += 1
        y.t()[2, 1:] = 7.0
        y.view(-1)[::3].neg_()
        y[fb.tensor([2, 0, 2])] = y[:3] * 2
        return [y, y.sum(0)]

    agree(run, (3, 4))


@pytest.mark.parametrize(
    "reshape",
    [
        lambda x: x.t().reshape(-1),
        lambda x: x[:, :2].reshape(-1),
        lambda x: x.t().contiguous(),
        lambda x: x.reshape(-1),
        lambda x: x[1:].reshape(-1),
        lambda x: x.contiguous(),
    ],
)
def test_reshape_shares_memory_exactly_where_eager_does(reshape: Callable[[fb.Tensor], fb.Tensor]) -> None:
    def run(x: fb.Tensor) -> fb.Tensor:
        y = x * 1
        reshape(y).add_(1)
        return y

    agree(run, (3, 4))


# -- what a compiled function can't know ------------------------------------------------------------------------------


def test_target_out_of_range_is_nan_not_a_smaller_loss() -> None:
    loss = fb.compile(lambda x, t: F.cross_entropy(x, t))
    assert np.isnan(loss(fb.zeros(2, 3), fb.tensor([0, 7])).item())
    assert not np.isnan(loss(fb.zeros(2, 3), fb.tensor([0, -100])).item())


@pytest.mark.parametrize("index", [[0, 9], [0, -4], [3, 0]])
def test_index_out_of_range_raises_although_its_neighbour_exists(index: list[int]) -> None:
    take = fb.compile(lambda x, i, j: x[i, j])
    with pytest.raises(IndexError):
        take(fb.zeros(3, 3), fb.tensor([0, 1]), fb.tensor(index))


@pytest.mark.parametrize("wrap", [lambda f: f, fb.compile])
def test_no_class_is_in_range_of_none(wrap: Callable[..., Any]) -> None:
    one_hot = wrap(lambda x: F.one_hot(x, 0))
    assert one_hot(fb.zeros(0, dtype=fb.int64)).shape == (0, 0)
    with pytest.raises(RuntimeError, match="class values"):
        one_hot(fb.tensor([0, 1]))


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: x.unique(),
        lambda x: F.one_hot(x.long()),
        lambda x: bool(x.sum()),
        lambda x: x.tolist(),
        lambda x: fb.equal(x, x),
    ],
)
def test_what_depends_on_data_says_so(ask: Callable[[fb.Tensor], Any]) -> None:
    with pytest.raises((TraceError, NotImplementedError)):
        fb.compile(ask)(fb.ones(3))
