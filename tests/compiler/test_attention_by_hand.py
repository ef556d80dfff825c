"""Attention written by hand is seen, its derivative too, where nothing else reads what it is made of."""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

ROWS, SIZE = 400, 16
LOWER = fb.tril(fb.ones(ROWS, ROWS)).view(1, 1, ROWS, ROWS)


def minus_infinity(hidden: fb.Tensor) -> fb.Tensor:
    return fb.where(hidden, float("-inf"), 0.0)


def future() -> fb.Tensor:
    return fb.triu(fb.ones(ROWS, ROWS), 1).bool()


FORMS: dict[str, tuple[Callable[[fb.Tensor, fb.Tensor, fb.Tensor], fb.Tensor], bool]] = {
    "plain": (lambda q, k, v: F.softmax(q @ k.transpose(-2, -1), -1) @ v, False),
    "scaled": (lambda q, k, v: fb.softmax(q @ k.mT * (1.0 / math.sqrt(SIZE)), dim=-1) @ v, False),
    "divided": (lambda q, k, v: (fb.matmul(q, k.permute(0, 1, 3, 2)) / math.sqrt(SIZE)).softmax(-1).matmul(v), False),
    "scaled before": (lambda q, k, v: ((q * SIZE**-0.5) @ k.mT).softmax(-1) @ v, False),
    "both scaled": (lambda q, k, v: ((q * 0.5) @ (k * 0.5).mT).softmax(-1) @ v, False),
    "einsum": (lambda q, k, v: fb.einsum("bhqk,bhkd->bhqd", fb.einsum("bhqd,bhkd->bhqk", q, k).mul(0.25).softmax(-1), v),
               False),
    "a buffer": (lambda q, k, v: (q @ k.mT * 0.25).masked_fill(LOWER == 0, float("-inf")).softmax(-1) @ v, False),
    "filled, then scaled": (lambda q, k, v: ((q @ k.mT).masked_fill(future(), float("-inf")) / 4.0).softmax(-1) @ v, True),
    "triu": (lambda q, k, v: (q @ k.mT * 0.25).masked_fill(future(), float("-inf")).softmax(-1) @ v, True),
    "tril": (lambda q, k, v: fb.where(fb.tril(fb.ones(ROWS, ROWS)) > 0, q @ k.mT * 0.25, float("-inf")).softmax(-1) @ v,
             True),
    "added": (lambda q, k, v: (q @ k.mT * 0.25 + minus_infinity(future())).softmax(-1) @ v, True),
    "added before": (lambda q, k, v: (LOWER * 0.1 + q @ k.mT * 0.25).softmax(-1) @ v, False),
    "baddbmm": (lambda q, k, v: fb.baddbmm(LOWER[0].expand(4, ROWS, ROWS), q.flatten(0, 1), k.flatten(0, 1).mT, alpha=0.25)
                .softmax(-1) @ v.flatten(0, 1), False),
}
SEEN = [name for name in FORMS if name not in ("filled, then scaled",)]


def given(dtype: Any = fb.float32) -> list[fb.Tensor]:
    fb.manual_seed(0)
    return [fb.randn(2, 2, ROWS, SIZE, dtype=dtype, requires_grad=True) for _ in range(3)]


def with_gradients(form: Callable[..., fb.Tensor]) -> Callable[..., tuple[fb.Tensor, ...]]:
    def function(*operands: fb.Tensor) -> tuple[fb.Tensor, ...]:
        out = form(*operands)
        return (out, *fb.autograd.grad((out * out.sin()).sum(), operands))
    return function


@np.errstate(all="ignore")
def check(function: Callable[..., tuple[fb.Tensor, ...]], operands: list[fb.Tensor], tolerance: float = 2e-5) -> str:
    """That both ways give the same; the graph after attention was looked for."""
    compiled = fb.compile(function)
    for x, y in zip(compiled(*operands), function(*operands), strict=True):
        left, right = x.detach().numpy(), y.detach().numpy()
        assert np.array_equal(np.isnan(left), np.isnan(right))
        scale = np.abs(np.nan_to_num(right)).max(initial=1e-6)
        assert np.abs(np.nan_to_num(left - right)).max(initial=0) <= tolerance * scale
    text: str = compiled.ir("attention")
    return text


@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("name", SEEN)
def test_forms_that_are_seen(name: str, differentiated: bool) -> None:
    form, causal = FORMS[name]
    operands = given() if differentiated else [x.detach() for x in given()]
    text = check(with_gradients(form) if differentiated else lambda q, k, v: (form(q, k, v),), operands)
    if differentiated and name in ("added before", "baddbmm"):              # see passes.graph.attention.is_exact
        assert " attention(" not in text and " attention_backward(" not in text
        return
    assert "softmax(" not in text and text.count(" attention(") == 1
    assert text.count(" attention_backward(") == differentiated and ("causal=true" in text) == causal


@pytest.mark.parametrize("value", [-1e9, float(np.finfo(np.float32).min)])
def test_rows_hidden_by_large_negative_numbers_have_gradients(value: float) -> None:
    """f32 has no digits left in lse for the logarithm of the sum of such a row's weights."""
    pad = fb.zeros(ROWS, ROWS)
    pad[:8] = value
    for form in (lambda q, k, v: (q @ k.mT + pad).softmax(-1) @ v,
                 lambda q, k, v: (q @ k.mT).masked_fill(pad < 0, value).softmax(-1) @ v,
                 lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=pad)):
        check(with_gradients(form), given())


def test_only_some_gradients() -> None:
    for n in range(3):
        def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor, n: int = n) -> tuple[fb.Tensor, ...]:
            out = FORMS["scaled"][0](q, k, v)
            return out, *fb.autograd.grad(out.exp().sum(), ((q, k, v)[n],))

        operands = [x.requires_grad_(m == n) for m, x in enumerate([x.detach() for x in given()])]
        assert "attention_backward" in check(function, operands)


def test_a_row_that_sees_nothing_stays_nan() -> None:
    hidden = fb.rand(ROWS, ROWS) > 0.5
    hidden[5] = True
    text = check(with_gradients(lambda q, k, v: (q @ k.mT).masked_fill(hidden, float("-inf")).softmax(-1) @ v), given())
    assert "attention_backward" in text and "safe=false" in text
    check(with_gradients(lambda q, k, v: (q @ k.mT + minus_infinity(hidden)).softmax(-1) @ v), given())


@pytest.mark.parametrize("number", range(6))
def test_what_is_read_elsewhere_stays(number: int) -> None:
    def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor, m: fb.Tensor) -> tuple[fb.Tensor, ...]:
        scores = q @ k.mT
        scaled = scores * 0.25 + m
        weights = scaled.softmax(-1)
        out = weights @ v
        loss = (out * out).sum()
        if number < 3:
            return out, (scores, scaled, weights)[number].sum(-1)
        if number == 3:
            return out, *fb.autograd.grad(loss, (m,))
        if number == 4:
            return out, weights @ (v * 2)
        return out, *fb.autograd.grad(loss + weights.square().sum(), (q, k, v))

    fb.manual_seed(1)
    mask = fb.randn(ROWS, ROWS, requires_grad=True)
    assert "attention" not in check(function, [*given(), mask]).replace("test_attention", "")


WEIGHTS_READ_TWICE: dict[str, Callable[[fb.Tensor, fb.Tensor, fb.Tensor], tuple[fb.Tensor, ...]]] = {
    "another product, as in dv": lambda w, x, y: (w @ x, w.mT @ y),
    "of its own result": lambda w, x, y: (w @ x, w.mT @ (w @ x)),
    "whose result is v": lambda w, x, y: (w @ (w.mT @ x),),
    "of fewer columns": lambda w, x, y: (w @ x, w.mT @ y[..., :3]),
    "of more columns": lambda w, x, y: (w @ x, w.mT @ fb.cat([x, y], -1)),
    "two of them": lambda w, x, y: (lambda turned: (w @ x, turned @ x, turned @ y))(w.mT),
    "one and a sum": lambda w, x, y: (lambda turned: (w @ x, turned @ y, turned.cumsum(-1)))(w.mT),
}


@pytest.mark.parametrize("name", WEIGHTS_READ_TWICE)
def test_products_with_transposed_weights_that_are_no_derivative(name: str) -> None:
    def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        return WEIGHTS_READ_TWICE[name]((q @ k.mT * 0.25).softmax(-1), v, v.sin())

    check(function, [x.detach() for x in given()])


@pytest.mark.parametrize("scale", [1e-42, 1e-39, 3e-39])
def test_scales_whose_inverse_overflows(scale: float) -> None:
    check(lambda q, k, v: (((q * 1e-19) @ (k * 1e-20).mT / scale).softmax(-1) @ v,), [x.detach() for x in given()])


def test_a_gradient_of_weights_is_theirs() -> None:
    def function(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        weights = (q @ k.mT).softmax(-1)
        out = weights @ v
        return out, fb.autograd.grad(out.sin().sum(), weights)[0]

    check(function, given())


def test_a_layer_of_ones_own_in_a_whole_step() -> None:
    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.into, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
            self.register_buffer("bias", fb.tril(fb.ones(ROWS, ROWS)).view(1, 1, ROWS, ROWS))

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            q, k, v = (t.view(2, ROWS, 4, 8).transpose(1, 2) for t in self.into(x).split(32, dim=2))
            scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
            scores = scores.masked_fill(self.bias[:, :, :ROWS, :ROWS] == 0, float("-inf"))
            mixed = F.softmax(scores, dim=-1) @ v
            return self.out(mixed.transpose(1, 2).contiguous().view(2, ROWS, 32))

    def losses(compiled: bool) -> tuple[list[float], Any]:
        fb.manual_seed(2)
        layer = Layer()
        opt = fb.optim.SGD(layer.parameters(), lr=0.5)
        x = fb.randn(2, ROWS, 32)

        def step(x: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()
            loss = (layer(x) - x).square().mean()
            loss.backward()
            opt.step()
            return loss

        run = fb.compile(step) if compiled else step
        return [float(run(x)) for _ in range(4)], run

    found, compiled = losses(True)
    np.testing.assert_allclose(found, losses(False)[0], rtol=1e-5)
    assert "attention_backward" in compiled.ir("attention")


def random_form(seed: int) -> tuple[Callable[..., tuple[fb.Tensor, ...]], list[fb.Tensor]]:
    """Attention in some way of writing it, with or without gradients, and sometimes with a further reader."""
    rng = np.random.default_rng(seed)
    fb.manual_seed(seed)
    rows, columns = (int(n) for n in rng.choice([64, 96, 100, 130], 2))
    if rng.random() < 0.5:
        columns = rows
    batch = tuple(int(n) for n in rng.integers(1, 3, rng.integers(0, 3)))
    size, value = (int(n) for n in rng.integers(1, 20, 2))
    before, after, masked, how, reads, wants = (rng.random() for _ in range(6))
    hidden = fb.rand(rows, columns) > rng.random() if rng.random() < 0.7 else fb.triu(fb.ones(rows, columns), 1).bool()
    added = fb.randn(*batch, rows, columns)

    def form(q: fb.Tensor, k: fb.Tensor, v: fb.Tensor) -> tuple[fb.Tensor, ...]:
        q = q * 0.3 if before < 0.3 else q
        scores = q @ k.mT if how < 0.5 else fb.einsum("...qd,...kd->...qk", q, k)
        if after < 0.7:
            scores = scores * 0.3 if after < 0.4 else scores / 3.0
        if masked < 0.4:
            scores = scores.masked_fill(hidden, float("-inf")) if masked < 0.2 else fb.where(hidden, float("-inf"), scores)
        elif masked < 0.6:
            scores = scores + added if masked < 0.5 else added + scores
        elif masked < 0.7:
            scores = scores + minus_infinity(fb.triu(fb.ones(rows, columns), 1).bool())
        weights = fb.softmax(scores, -1) if masked < 0.9 else fb.exp(fb.log_softmax(scores, -1))
        out = weights @ v
        if wants < 0.6:
            loss = (out * out.sin()).sum() + (weights.sum() if reads < 0.1 else 0.0)
            grads = fb.autograd.grad(loss, (q, k, v) if wants < 0.4 else (k, q) if wants < 0.5 else (v,))
            return (out, *grads, *((weights,) if 0.1 < reads < 0.2 else ()))
        return (out, scores) if reads < 0.1 else (out,)

    shapes = ((*batch, rows, size), (*batch, columns, size), (*batch, columns, value))
    return form, [fb.randn(*shape, requires_grad=bool(wants < 0.6)) for shape in shapes]


def test_random_forms_give_what_they_give_eagerly() -> None:
    """As many as 10 seconds allow."""
    start, seed, tiled = time.perf_counter(), 0, 0
    with fb.config.set(poison=True):
        while time.perf_counter() - start < 4 or seed < 6:
            form, operands = random_form(seed)
            tiled += "tiled=true" in check(form, operands, tolerance=1e-4)
            seed += 1
    assert tiled
