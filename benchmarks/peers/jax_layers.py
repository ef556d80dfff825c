"""The layers the workloads need, in JAX, channels last. Parameters live in one flat dict under PyTorch's names."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

Params = dict[str, jax.Array]
relu = jax.nn.relu
sigmoid, tanh = jax.nn.sigmoid, jnp.tanh


def gelu(x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x, approximate=False)


def linear(x: jax.Array, p: Params, name: str) -> jax.Array:
    """x: f32[..., in], weight f32[out, in] -> f32[..., out].

    Flattened to one matrix: XLA's CPU dot of a rank-3 operand made the transformer's step 1.7x slower.
    """
    y = x.reshape(-1, x.shape[-1]) @ p[name + ".weight"].T
    return y.reshape(*x.shape[:-1], y.shape[-1]) + p[name + ".bias"]


def conv(x: jax.Array, p: Params, name: str, padding: int) -> jax.Array:
    """x: f32[N, H, W, C], weight f32[R, S, C, K] -> f32[N, H', W', K]."""
    pads = ((padding, padding), (padding, padding))
    y = lax.conv_general_dilated(
        x, p[name + ".weight"], (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + p[name + ".bias"]


def parts(x: jax.Array, n: int) -> list[jax.Array]:
    """n equal parts of the last axis."""
    return jnp.split(x, n, axis=-1)


def joined(x: jax.Array, y: jax.Array) -> jax.Array:
    """Channels of both, one after the other."""
    return jnp.concatenate([x, y], axis=-1)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2, stride 2, as a maximum over two axes: the derivative of lax.reduce_window is 1.5x slower on CPU."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))


def avg_pool(x: jax.Array) -> jax.Array:
    """2x2, stride 2."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))


def batch_norm(x: jax.Array, p: Params, name: str) -> tuple[jax.Array, Params]:
    """Training mode over all but the last axis. -> (normalised, running statistics with momentum 0.1)."""
    axes, count = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean, var = x.mean(axes), x.var(axes)
    y = (x - mean) * (lax.rsqrt(var + 1e-5) * p[name + ".weight"]) + p[name + ".bias"]
    return y, {
        name + ".running_mean": 0.9 * p[name + ".running_mean"] + 0.1 * mean,
        name + ".running_var": 0.9 * p[name + ".running_var"] + 0.1 * var * (count / (count - 1)),
        name + ".num_batches_tracked": p[name + ".num_batches_tracked"] + 1,
    }


def layer_norm(x: jax.Array, p: Params, name: str) -> jax.Array:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(var + 1e-5) * p[name + ".weight"] + p[name + ".bias"]


def dropout(x: jax.Array, key: jax.Array, rate: float) -> jax.Array:
    if rate == 0.0:
        return x
    return jnp.where(jax.random.bernoulli(key, 1 - rate, x.shape), x / (1 - rate), 0)


def causal_attention(qkv: jax.Array) -> jax.Array:
    """qkv: f32[B, T, 3, H, D] -> f32[B, T, H, D]."""
    q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / math.sqrt(q.shape[-1])
    visible = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(visible, scores, -jnp.inf)), v)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    picked = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=-1) - picked).mean()
