"""JAX: the whole train step under one `jax.jit`, its state donated. Optimizers have PyTorch's formulas and defaults."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import jax_layers as layers
from benchmarks.workloads.base import Arrays, Batch, Call, Train, Workload

VERSION = jax.__version__
Tree = dict[str, jax.Array]
State = dict[str, Any]
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
NOT_WORK = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast"}


class Peer:
    def __init__(self, threads: int, mode: str) -> None:
        self._lowered: Callable[[], Any] | None = None  # thread count: the worker's CPU affinity and NPROC

    def batch(self, arrays: Batch) -> tuple[jax.Array, ...]:
        """Images NCHW -> NHWC; 64-bit labels become JAX's default int32."""
        return tuple(jnp.asarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a) for a in arrays)

    def build(self, workload: Workload, weights: Arrays, dropout: bool) -> Callable[..., jax.Array]:
        if isinstance(workload, Call):
            assert workload.jax_call, "the driver leaves out calls that have no JAX side"
            return jax.jit(functools.partial(workload.jax_call, jnp))
        assert isinstance(workload, Train), workload
        return self._train_step(workload, weights, workload.dropout if dropout else 0.0)

    def _train_step(self, workload: Train, weights: Arrays, dropout: float) -> Callable[..., jax.Array]:
        state = initial_state(workload, weights)

        def loss_of(
            params: Tree, buffers: Tree, key: jax.Array, x: jax.Array, y: jax.Array
        ) -> tuple[jax.Array, Tree]:
            logits, changed = workload.jax_forward(layers, params | buffers, x, key, dropout)
            return layers.cross_entropy(logits, y), changed

        def step(state: State, x: jax.Array, y: jax.Array) -> tuple[State, jax.Array]:
            key, draw = jax.random.split(state["key"]) if dropout else (state["key"], state["key"])
            (loss, buffers), grads = jax.value_and_grad(loss_of, has_aux=True)(
                state["params"], state["buffers"], draw, x, y
            )
            params, optimizer = OPTIMIZERS[workload.optimizer](
                state["params"], grads, state["opt"], **workload.hyper
            )
            return {"params": params, "buffers": buffers, "opt": optimizer, "key": key}, loss

        jitted = jax.jit(step, donate_argnums=0)

        def train_step(x: jax.Array, y: jax.Array) -> jax.Array:
            nonlocal state
            state, loss = jitted(state, x, y)
            return loss

        batch = self.batch(workload.data(np.random.default_rng(0))[0])
        self._lowered = lambda: jitted.lower(state, *batch)
        return train_step

    def wait(self, result: jax.Array) -> None:
        result.block_until_ready()

    def numpy(self, result: jax.Array) -> np.ndarray:
        return np.asarray(result)

    def stats(self) -> dict[str, Any]:
        """Instructions of XLA's entry computation that do work: fusions, dots, convolutions, copies."""
        if self._lowered is None:
            return {}
        entry = self._lowered().compile().as_text().split("\nENTRY ")[1]
        opcodes = re.findall(r"^ +(?:ROOT )?%?\S+ = .*? ([a-z][a-z\-]*)\(", entry, re.MULTILINE)
        return {"kernels": sum(opcode not in NOT_WORK for opcode in opcodes)}


def initial_state(workload: Train, weights: Arrays) -> State:
    arrays = {name: jnp.asarray(array) for name, array in workload.jax_weights(weights).items()}
    params = {name: array for name, array in arrays.items() if not name.endswith(BUFFERS)}
    slots = ("momentum",) if workload.optimizer == "SGD" else ("m", "v")
    opt: State = {slot: jax.tree.map(jnp.zeros_like, params) for slot in slots}
    buffers = {name: array for name, array in arrays.items() if name not in params}
    opt["t"] = jnp.zeros((), jnp.int32)
    return {"params": params, "buffers": buffers, "opt": opt, "key": jax.random.key(0)}


def adam(params: Tree, grads: Tree, opt: State, lr: float, weight_decay: float = 0.0) -> tuple[Tree, State]:
    """AdamW (Loshchilov & Hutter, ICLR 2019); with weight_decay 0 it is Adam (Kingma & Ba, ICLR 2015)."""
    t = opt["t"] + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, opt["m"], grads)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, opt["v"], grads)
    rate, root = lr / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)

    def stepped(p: jax.Array, m: jax.Array, v: jax.Array) -> jax.Array:
        return p * (1 - lr * weight_decay) - rate * m / (jnp.sqrt(v) / root + 1e-8)

    return jax.tree.map(stepped, params, m, v), {"m": m, "v": v, "t": t}


def sgd(params: Tree, grads: Tree, opt: State, lr: float, momentum: float) -> tuple[Tree, State]:
    velocity = jax.tree.map(lambda u, g: momentum * u + g, opt["momentum"], grads)
    new = jax.tree.map(lambda p, u: p - lr * u, params, velocity)
    return new, {"momentum": velocity, "t": opt["t"] + 1}


OPTIMIZERS: dict[str, Callable[..., tuple[Tree, State]]] = {"Adam": adam, "AdamW": adam, "SGD": sgd}
