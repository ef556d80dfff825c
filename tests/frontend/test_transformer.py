"""Attention and transformers against PyTorch: values, gradients, compiled steps, errors, reprs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim

RTOL, ATOL = 1e-9, 1e-11
torched = pytest.mark.torch


def pair(kind: str, *sizes: Any, **settings: Any) -> tuple[Any, Any]:
    """The module in both frameworks, f64, with the same values, none of which is 0 or 1 by default."""
    import torch

    ours, theirs = getattr(nn, kind)(*sizes, **settings).double(), getattr(torch.nn, kind)(*sizes, **settings).double()
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.from_numpy(rng.normal(size=tuple(p.shape)) * 0.4))
    ours.load_state_dict({key: value.numpy().copy() for key, value in theirs.state_dict().items()})
    return ours, theirs


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=RTOL, atol=ATOL)


def agree(ours: Any, theirs: Any, arrays: list[np.ndarray], keywords: dict[str, Any]) -> None:
    """Outputs and all gradients, eager and compiled."""
    import torch

    def given(lib: Any) -> tuple[list[Any], dict[str, Any]]:
        made = {id(a): lib.from_numpy(a.copy()).requires_grad_() for a in arrays}
        return [made[id(a)] for a in arrays], {
            k: lib.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}

    def listed(value: Any) -> list[Any]:
        return [v for v in (value if isinstance(value, tuple) else (value,)) if v is not None]

    def loss(lib: Any, found: list[Any]) -> Any:
        return sum((o * lib.arange(o.numel()).reshape(o.shape) / 7).sum() for o in found)

    ours.zero_grad(), theirs.zero_grad()
    (xs, kws), (ys, kvs) = given(fb), given(torch)
    found, expected = listed(ours(*xs, **kws)), listed(theirs(*ys, **kvs))
    loss(fb, found).backward(), loss(torch, expected).backward()
    pairs = [*zip(found, expected, strict=True), *[(x.grad, y.grad) for x, y in zip(xs, ys, strict=True)],
             *[(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]]
    for p, q in pairs:
        if q is not None:
            same(p, q)

    @fb.compile
    def step(*xs: Any, **kws: Any) -> Any:
        ours.zero_grad()
        found = listed(ours(*xs, **kws))
        loss(fb, found).backward()
        return found

    for p, q in zip(step(*[x.detach() for x in xs], **kws), expected, strict=True):
        same(p, q)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        if q.grad is not None:
            same(p.grad, q.grad)


def attention_case(number: int) -> tuple[dict[str, Any], list[np.ndarray], dict[str, Any]]:
    """Settings of MultiheadAttention, inputs and masks, drawn; no row is masked whole."""
    rng, draw = np.random.default_rng(number), random.Random(number)
    settings = {"bias": draw.random() < 0.7, "add_bias_kv": draw.random() < 0.3, "add_zero_attn": draw.random() < 0.3,
                "batch_first": draw.random() < 0.5}
    if draw.random() < 0.3:
        settings |= {"kdim": 3, "vdim": 5}
    length, keys, batch = draw.randint(1, 4), draw.randint(1, 4), draw.randint(1, 3)
    kind = draw.choice(["self", "cross", "unbatched"]) if "kdim" not in settings else draw.choice(["cross", "unbatched"])
    keys = length if kind == "self" else keys

    def made(count: int, width: int) -> np.ndarray:
        shape = (count, width) if kind == "unbatched" else (batch, count, width) if settings["batch_first"] else (
            count, batch, width)
        return rng.normal(size=shape)

    query = made(length, 4)
    widths = [settings.get("kdim", 4), settings.get("vdim", 4)]
    inputs = [query] * 3 if kind == "self" else [query, *[made(keys, width) for width in widths]]
    keywords: dict[str, Any] = {"need_weights": draw.random() < 0.6, "average_attn_weights": draw.random() < 0.5}
    rows = 2 * (1 if kind == "unbatched" else batch)
    shape = draw.choice([None, (length, keys), (rows, length, keys)])
    if shape is not None:
        mask = rng.random(shape) < 0.4
        mask[..., 0] = False
        keywords["attn_mask"] = mask if draw.random() < 0.5 else rng.normal(size=shape)
    if draw.random() < 0.4:
        padding = rng.random((keys,) if kind == "unbatched" else (batch, keys)) < 0.4
        padding[..., 0] = False
        keywords["key_padding_mask"] = padding if draw.random() < 0.6 else np.where(padding, -np.inf, 0.0)
    return settings, inputs, keywords


@torched
@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize("number", range(10))
def test_attention_agrees(number: int) -> None:
    settings, inputs, keywords = attention_case(number)
    agree(*pair("MultiheadAttention", 4, 2, **settings), inputs, keywords)


@torched
def test_a_row_that_is_masked_whole() -> None:
    import torch

    ours, theirs = pair("MultiheadAttention", 4, 2, batch_first=True)
    x, padding = np.random.default_rng(0).normal(size=(2, 3, 4)), np.array([[True] * 3, [False] * 3])
    for need in (True, False):
        found = ours(*[fb.from_numpy(x)] * 3, fb.from_numpy(padding), need)[0]
        same(found, theirs(*[torch.from_numpy(x)] * 3, torch.from_numpy(padding), need)[0])


@torched
@pytest.mark.parametrize("form", ["plain", "static", "separate"])
def test_multi_head_attention_forward_agrees(form: str) -> None:
    import torch

    rng = np.random.default_rng(0)
    x, big, square, row = [rng.normal(size=s) for s in ((3, 2, 4), (12, 4), (4, 4), (12,))]
    extra, fixed = rng.normal(size=(1, 1, 4)), rng.normal(size=(4, 3, 2))

    def run(lib: Any) -> Any:
        t = lib.from_numpy
        keywords: dict[str, Any] = {"attn_mask": lib.ones(3, 3).triu(1) > 0}
        if form == "static":
            keywords |= {"static_k": t(fixed), "static_v": t(fixed)}
        if form == "separate":
            keywords |= {"use_separate_proj_weight": True, "q_proj_weight": t(square), "k_proj_weight": t(square * 2),
                         "v_proj_weight": t(square + 1)}
        more = (None, None) if form == "static" else (t(extra), t(extra * 2))
        return lib.nn.functional.multi_head_attention_forward(
            t(x), t(x), t(x), 4, 2, None if form == "separate" else t(big), t(row), *more, form == "plain", 0.0, t(square),
            t(row[:4]), training=False, **keywords)

    for p, q in zip(run(fb), run(torch), strict=True):
        same(p, q)


@torched
@pytest.mark.parametrize(("heads", "causal"), [((4, 2, 2), True), ((4, 4, 1), False), ((6, 2, 3), False)])
def test_grouped_queries_agree(heads: tuple[int, int, int], causal: bool) -> None:
    import torch

    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(2, h, 3, 5)) for h in heads]
    mask = None if causal else rng.random((2, 1, 3, 3)) < 0.6

    def run(lib: Any, compile: Any = lambda f: f) -> list[Any]:
        ts = [lib.from_numpy(a.copy()).requires_grad_() for a in arrays]
        given = None if mask is None else lib.from_numpy(mask)
        attention = compile(lambda q, k, v: lib.nn.functional.scaled_dot_product_attention(
            q, k, v, given, is_causal=causal, enable_gqa=True))
        out = attention(*ts)
        (out * out).sum().backward()
        return [out, *[t.grad for t in ts]]

    for p, c, q in zip(run(fb), run(fb, fb.compile), run(torch), strict=True):
        same(p, q), same(c, q)


LAYERS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("TransformerEncoderLayer", {}, {}),
    ("TransformerEncoderLayer", {"norm_first": True, "activation": "gelu"}, {"src_mask": 5}),
    ("TransformerEncoderLayer", {"bias": False, "batch_first": True}, {"src_key_padding_mask": (2, 5)}),
    ("TransformerDecoderLayer", {"batch_first": True}, {"tgt_mask": 4, "memory_key_padding_mask": (2, 5)}),
    ("TransformerDecoderLayer", {"norm_first": True, "activation": "relu", "layer_norm_eps": 1e-3}, {"tgt_mask": 4}),
    ("Transformer", {"batch_first": True}, {"tgt_mask": 4, "src_key_padding_mask": (2, 5), "tgt_is_causal": True}),
    ("Transformer", {"norm_first": True, "bias": False}, {"tgt_mask": 4, "src_mask": 5})]


@torched
@pytest.mark.filterwarnings("ignore:enable_nested_tensor", "ignore:Support for mismatched")
@pytest.mark.parametrize(("kind", "settings", "masks"), LAYERS, ids=[f"{c[0]}{n}" for n, c in enumerate(LAYERS)])
def test_transformer_layers_agree(kind: str, settings: dict[str, Any], masks: dict[str, Any]) -> None:
    sizes = (4, 2, 1, 2) if kind == "Transformer" else (4, 2)
    ours, theirs = pair(kind, *sizes, dim_feedforward=6, dropout=0.0, **settings)
    rng = np.random.default_rng(1)
    source, target = [rng.normal(size=(2, n, 4) if settings.get("batch_first") else (n, 2, 4)) for n in (5, 4)]
    keywords = {name: size if size is True else np.triu(np.ones((size, size), bool), 1) if isinstance(size, int) else
                np.arange(size[1])[None] >= np.array([[3], [5]]) for name, size in masks.items()}
    inputs = {"TransformerEncoderLayer": [source], "TransformerDecoderLayer": [target, source]}.get(kind, [source, target])
    agree(ours, theirs, inputs, keywords)
    if kind == "TransformerEncoderLayer" and not settings:
        agree(ours, theirs, [source[:, 0]], {})


def test_stacks_copy_their_layer_and_take_what_they_need_not() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 6, activation=F.silu, batch_first=True)
    stack = nn.TransformerEncoder(layer, 2, nn.LayerNorm(4), enable_nested_tensor=False, mask_check=False).eval()
    assert stack.layers[0].linear1.weight is not stack.layers[1].linear1.weight and stack.layers[0].activation is F.silu
    x = fb.randn(2, 3, 4)
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    assert causal.tolist() == [[0, -np.inf, -np.inf], [0, 0, -np.inf], [0, 0, 0]]
    first = stack(x, mask=causal, is_causal=True)
    second = stack(fb.cat([x[:, :2], fb.zeros(2, 1, 4)], 1), causal)
    np.testing.assert_allclose(first[:, :2].detach().numpy(), second[:, :2].detach().numpy(), rtol=1e-5, atol=1e-6)
    with nn.attention.sdpa_kernel([nn.attention.SDPBackend.MATH, nn.attention.SDPBackend.FLASH_ATTENTION]):
        F.scaled_dot_product_attention(x, x, x)
    with pytest.raises(AssertionError, match="SDPBackend"), nn.attention.sdpa_kernel("math"):  # type: ignore[arg-type]
        pass


def _attended(lib: Any, *shapes: tuple[int, ...], **keywords: Any) -> Any:
    return lib.nn.functional.scaled_dot_product_attention(*[lib.zeros(s) for s in shapes], **keywords)


def _heads(lib: Any, *shapes: tuple[int, ...], **keywords: Any) -> Any:
    return lib.nn.MultiheadAttention(4, 2)(*[lib.zeros(s) for s in shapes], **keywords)


X = (3, 2, 4)
BAD: list[Callable[[Any], Any]] = [
    lambda lib: _attended(lib, X, X, X, attn_mask=lib.zeros(3, 2).double()),
    lambda lib: _attended(lib, X, X, X, attn_mask=lib.zeros(3, 2).long()), lambda lib: _attended(lib, (4,), (4,), (4,)),
    lambda lib: _attended(lib, X, X, X, attn_mask=lib.zeros(2, 2), is_causal=True),
    lambda lib: _attended(lib, (2, 4, 3, 5), (2, 3, 3, 5), (2, 3, 3, 5), enable_gqa=True),
    lambda lib: lib.nn.functional.scaled_dot_product_attention(lib.zeros(X), lib.zeros(X).double(), lib.zeros(X)),
    lambda lib: _attended(lib, (2, 4, 3, 5), (2, 2, 3, 5), (2, 2, 3, 5)),
    lambda lib: _heads(lib, X, X, X, is_causal=True), lambda lib: _heads(lib, X, X, X, attn_mask=lib.zeros(2, 3)),
    lambda lib: _heads(lib, X, X, X, attn_mask=lib.zeros(3, 3, 3)),
    lambda lib: _heads(lib, X, X, X, attn_mask=lib.zeros(3)),
    lambda lib: _heads(lib, X, X, X, key_padding_mask=lib.zeros(3, 3)), lambda lib: _heads(lib, (2, 4), X, X),
    lambda lib: _heads(lib, X, X, X, attn_mask=lib.zeros(3, 3).long()), lambda lib: _heads(lib, (3, 2, 3), X, X),
    lambda lib: _heads(lib, X, (2, 2, 4), X), lambda lib: lib.nn.MultiheadAttention(5, 2),
    lambda lib: lib.nn.MultiheadAttention(0, 2), lambda lib: lib.nn.TransformerEncoderLayer(4, 2, activation="tanh"),
    lambda lib: lib.nn.Transformer(4, 2, 1, 1, 8)(lib.zeros(X), lib.zeros(3, 3, 4)),
    lambda lib: lib.nn.Transformer(4, 2, 1, 1, 8)(lib.zeros(3, 2, 3), lib.zeros(3, 2, 3))]


@torched
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("number", range(len(BAD)))
def test_mistakes_raise_what_they_raise_in_pytorch(number: int) -> None:
    import torch

    with pytest.raises(Exception) as theirs:
        BAD[number](torch)
    with pytest.raises(theirs.type):
        BAD[number](fb)


class Translator:
    """Embeddings, positions, nn.Transformer and a linear head, in either framework."""

    def __init__(self, lib: Any):
        self.lib, n = lib, lib.nn
        self.parts = n.ModuleDict({
            "embed": n.Embedding(13, 8, padding_idx=0), "head": n.Linear(8, 13), "positions": n.Embedding(8, 8),
            "transformer": n.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True)}).double()

    def loss(self, source: Any, target: Any) -> Any:
        lib, m = self.lib, self.parts

        def embedded(words: Any) -> Any:
            return m["embed"](words) * 8**0.5 + m["positions"](lib.arange(words.shape[1]))

        given = target[:, :-1]
        mask = m["transformer"].generate_square_subsequent_mask(given.shape[1], dtype=lib.float64)
        hidden = m["transformer"](embedded(source), embedded(given), tgt_mask=mask, src_key_padding_mask=source == 0,
                                  memory_key_padding_mask=source == 0)
        return lib.nn.functional.cross_entropy(m["head"](hidden).flatten(0, 1), target[:, 1:].flatten(), ignore_index=0)


@torched
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_compiled_training_is_pytorchs() -> None:
    import torch

    ours, theirs = Translator(fb), Translator(torch)
    ours.parts.load_state_dict({key: value.numpy().copy() for key, value in theirs.parts.state_dict().items()})
    mine = optim.Adam(ours.parts.parameters(), lr=0.01)
    other = torch.optim.Adam(theirs.parts.parameters(), lr=0.01, foreach=False)
    rng = np.random.default_rng(0)

    @fb.compile
    def step(source: fb.Tensor, target: fb.Tensor) -> fb.Tensor:
        mine.zero_grad()
        loss = ours.loss(source, target)
        loss.backward()
        mine.step()
        return loss

    for _ in range(4):
        source, target = rng.integers(1, 13, (3, 6)), rng.integers(1, 13, (3, 5))
        source[0, 4:] = target[1, 3:] = 0
        other.zero_grad()
        loss = theirs.loss(torch.from_numpy(source), torch.from_numpy(target))
        loss.backward()
        other.step()
        assert step(fb.from_numpy(source), fb.from_numpy(target)).item() == pytest.approx(loss.item(), rel=1e-9)
    assert len(step.signatures) == 1
