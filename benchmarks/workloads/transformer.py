"""A small decoder-only transformer (pre-norm GPT) and the same at twice the depth. AdamW."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.workloads.base import BATCHES, Arrays, Batch, Train, initial

VOCAB, CONTEXT, WIDTH, HEADS, BATCH = 96, 64, 128, 4, 16
BLOCK: dict[str, tuple[int, ...]] = {
    "norm1.weight": (WIDTH,),
    "norm1.bias": (WIDTH,),
    "qkv.weight": (3 * WIDTH, WIDTH),
    "qkv.bias": (3 * WIDTH,),
    "proj.weight": (WIDTH, WIDTH),
    "proj.bias": (WIDTH,),
    "norm2.weight": (WIDTH,),
    "norm2.bias": (WIDTH,),
    "up.weight": (4 * WIDTH, WIDTH),
    "up.bias": (4 * WIDTH,),
    "down.weight": (WIDTH, 4 * WIDTH),
    "down.bias": (WIDTH,),
}
ENDS: dict[str, tuple[int, ...]] = {
    "token_embedding.weight": (VOCAB, WIDTH),
    "position_embedding.weight": (CONTEXT, WIDTH),
    "norm.weight": (WIDTH,),
    "norm.bias": (WIDTH,),
    "head.weight": (VOCAB, WIDTH),
    "head.bias": (VOCAB,),
}


def data(rng: np.random.Generator) -> list[Batch]:
    """Next-token pairs of a noisy counting sequence. -> (i64[16, 64], i64[16 * 64])."""
    batches: list[Batch] = []
    for _ in range(BATCHES):
        start, noise = rng.integers(0, VOCAB, (BATCH, 1)), rng.integers(0, 3, (BATCH, CONTEXT + 1))
        tokens = (start + np.arange(CONTEXT + 1) + noise) % VOCAB
        batches.append((np.ascontiguousarray(tokens[:, :-1]), tokens[:, 1:].reshape(-1)))
    return batches


def module(nn: Any, F: Any, lib: Any, depth: int) -> Any:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1 = nn.LayerNorm(WIDTH)
            self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
            self.proj = nn.Linear(WIDTH, WIDTH)
            self.norm2 = nn.LayerNorm(WIDTH)
            self.up = nn.Linear(WIDTH, 4 * WIDTH)
            self.down = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x: Any) -> Any:
            qkv = (
                self.qkv(self.norm1(x))
                .reshape(-1, CONTEXT, 3, HEADS, WIDTH // HEADS)
                .permute(2, 0, 3, 1, 4)
            )
            mixed = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], is_causal=True)
            x = x + self.proj(mixed.transpose(1, 2).reshape(-1, CONTEXT, WIDTH))
            return x + self.down(F.gelu(self.up(self.norm2(x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token_embedding = nn.Embedding(VOCAB, WIDTH)
            self.position_embedding = nn.Embedding(CONTEXT, WIDTH)
            self.blocks = nn.ModuleList([Block() for _ in range(depth)])
            self.norm = nn.LayerNorm(WIDTH)
            self.head = nn.Linear(WIDTH, VOCAB)

        def forward(self, tokens: Any) -> Any:
            x = self.token_embedding(tokens) + self.position_embedding.weight
            for block in self.blocks:
                x = block(x)
            return self.head(self.norm(x)).reshape(-1, VOCAB)

    return GPT()


def jax_forward(layers: Any, p: Any, tokens: Any, depth: int) -> Any:
    x = p["token_embedding.weight"][tokens] + p["position_embedding.weight"]
    for i in range(depth):
        b = f"blocks.{i}."
        qkv = layers.linear(layers.layer_norm(x, p, b + "norm1"), p, b + "qkv")
        mixed = layers.causal_attention(qkv.reshape(-1, CONTEXT, 3, HEADS, WIDTH // HEADS))
        x = x + layers.linear(mixed.reshape(-1, CONTEXT, WIDTH), p, b + "proj")
        hidden = layers.gelu(layers.linear(layers.layer_norm(x, p, b + "norm2"), p, b + "up"))
        x = x + layers.linear(hidden, p, b + "down")
    logits = layers.linear(layers.layer_norm(x, p, "norm"), p, "head")
    return logits.reshape(BATCH * CONTEXT, VOCAB), {}


def weights(rng: np.random.Generator, depth: int) -> Arrays:
    return initial(
        rng, ENDS | {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in BLOCK.items()}
    )


def of_depth(depth: int) -> Train:
    return Train(
        name=f"gpt{depth}",
        title=f"transformer, {depth} layers of {WIDTH}, {HEADS} heads, {BATCH}x{CONTEXT} tokens, AdamW",
        data=data,
        rtol=2e-4,
        weights=lambda rng: weights(rng, depth),
        module=lambda nn, F, lib, dropout: module(nn, F, lib, depth),
        jax_forward=lambda layers, p, x, key, dropout: jax_forward(layers, p, x, depth),
        jax_weights=lambda arrays: arrays,
        optimizer="AdamW",
        hyper={"lr": 1e-3, "weight_decay": 0.01},
    )


WORKLOADS = (of_depth(4), of_depth(8))
