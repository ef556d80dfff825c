"""Training steps as graphs: what users compile, written with the builder."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Value
from flambeau.ir.types import parse_type
from flambeau.passes.graph.autodiff import vjp

NO_PAD = ((0, 0), (0, 0))


@dataclass
class Program:
    """A graph under construction, and an array for each of its inputs."""

    graph: Graph
    b: Builder
    arrays: list[np.ndarray] = field(default_factory=list)
    parameters: list[Value] = field(default_factory=list)

    def arg(self, type: str, array: np.ndarray | None = None, kind: str = "arg", scale: float = 1.0) -> Value:
        parsed = parse_type(type)
        if array is None:
            rng = np.random.default_rng(len(self.arrays))
            array = np.asarray(scale * rng.standard_normal(parsed.shape))
        self.arrays.append(np.ascontiguousarray(array).astype(parsed.dtype.storage).reshape(parsed.static_shape))
        return self.graph.add_input(parsed, f"x{len(self.arrays)}", kind)          # type: ignore[arg-type]

    def state(self, type: str, array: np.ndarray | None = None, scale: float = 1.0) -> Value:
        return self.arg(type, array, "state", scale)

    def parameter(self, type: str, scale: float = 0.3) -> Value:
        self.parameters.append(self.state(type, scale=scale))
        return self.parameters[-1]

    def gradients(self, loss: Value) -> list[Value]:
        found = vjp(self.graph, [loss], [self.b.scalar(1.0, loss)], self.parameters)
        assert all(g is not None for g in found)
        return [g for g in found if g is not None]

    def sgd(self, loss: Value, rate: float = 0.1) -> None:
        for p, g in zip(self.parameters, self.gradients(loss), strict=True):
            self.graph.writes[p] = self.b.sub(p, self.b.mul(g, self.b.scalar(rate, p)))

    def adam(self, loss: Value) -> None:
        """torch.optim.Adam with a runtime learning rate and a captured step count."""
        lr = self.arg("f64[]", np.array(1e-2), "scalar")
        step = self.state("f64[]", np.array(2.0))
        counted = self.b.add(step, self.b.scalar(1.0, step))
        self.graph.writes[step] = counted
        for p, g in zip(self.parameters, self.gradients(loss), strict=True):
            adam_update(self, p, g, lr, counted)


def program(build: Callable[[Program], Sequence[Value] | Value | None], name: str = "main") -> Program:
    """The program that `build` writes; what it returns are the outputs."""
    graph = Graph(name=name)
    made = Program(graph, Builder(graph))
    outputs = build(made)
    graph.outputs = [outputs] if isinstance(outputs, Value) else list(outputs or ())
    return made


def adam_update(p: Program, parameter: Value, gradient: Value, lr: Value, step: Value) -> None:
    b, shape = p.b, str(parameter.type)
    m, v = p.state(shape, scale=0.1), p.state(shape, array=0.1 + np.random.default_rng(7).random(parameter.shape))
    const = lambda value: b.scalar(value, parameter)
    new_m = b.add(b.mul(m, const(0.9)), b.mul(gradient, const(0.1)))
    new_v = b.add(b.mul(v, const(0.999)), b.mul(b.mul(gradient, gradient), const(0.001)))
    one = b.scalar(1.0, step)
    correction_m = b.sub(one, b.pow(b.scalar(0.9, step), step))
    correction_v = b.sub(one, b.pow(b.scalar(0.999, step), step))
    rate = b.cast(b.div(lr, correction_m), parameter.dtype)
    scale = b.cast(b.sqrt(correction_v), parameter.dtype)
    divisor = b.add(b.div(b.sqrt(new_v), scale), const(1e-8))
    p.graph.writes[parameter] = b.sub(parameter, b.div(b.mul(new_m, rate), divisor))
    p.graph.writes[m], p.graph.writes[v] = new_m, new_v


# -- layers -----------------------------------------------------------------------------------------------------------


def linear(p: Program, x: Value, width: int) -> Value:
    """x @ w.T + c with w[width, features], as torch stores it."""
    w, c = p.parameter(f"f32[{width},{x.shape[-1]}]"), p.parameter(f"f32[{width}]")
    y = p.b.matmul(x, p.b.transpose(w))
    return p.b.add(y, p.b.broadcast(c, y.shape, (1,)))


def conv(p: Program, x: Value, channels: int, size: int, padding: int = 0, stride: int = 1) -> Value:
    w = p.parameter(f"f32[{channels},{x.shape[1]},{size},{size}]", 0.2)
    c = p.parameter(f"f32[{channels}]")
    pad = ((padding, padding), (padding, padding))
    y = p.b.emit(ops.Conv2d((stride, stride), pad, (1, 1), 1, "NCHW"), x, w)
    return p.b.add(y, p.b.broadcast(c, y.shape, (1,)))


def max_pool(p: Program, x: Value) -> Value:
    return p.b.emit(ops.MaxPool2d((2, 2), (2, 2), NO_PAD, (1, 1), "NCHW", False), x)[0]


def cross_entropy(p: Program, logits: Value, labels: Value) -> Value:
    """Mean over rows of -log_softmax(logits)[label]."""
    b, (rows, _) = p.b, logits.shape
    scores = b.emit(ops.LogSoftmax(1), logits)
    picked = b.emit(ops.TakeAlong(1), scores, b.reshape(labels, (rows, 1)))
    return b.mul(b.sum(picked, (0, 1)), b.scalar(-1.0 / rows, picked))


def batch_norm(p: Program, x: Value) -> Value:
    """Training mode: batch statistics normalise, running ones are written."""
    b, channels = p.b, x.shape[1]
    y, mean, var = b.emit(ops.Normalize((0, 2, 3), 1e-5), x)
    count = x.type.numel // channels
    for current, scale in ((mean, 1.0), (var, count / (count - 1))):
        running = p.state(f"f32[{channels}]", scale=0.1)
        fresh = b.mul(current, b.scalar(0.1 * scale, current))
        p.graph.writes[running] = b.add(b.mul(running, b.scalar(0.9, running)), fresh)
    gain, shift = p.parameter(f"f32[{channels}]", 1.0), p.parameter(f"f32[{channels}]")
    return b.add(b.mul(y, b.broadcast(gain, x.shape, (1,))), b.broadcast(shift, x.shape, (1,)))


def layer_norm(p: Program, x: Value) -> Value:
    b, last = p.b, len(x.shape) - 1
    y = b.emit(ops.Normalize((last,), 1e-5), x)[0]
    gain, shift = p.parameter(f"f32[{x.shape[-1]}]", 1.0), p.parameter(f"f32[{x.shape[-1]}]")
    return b.add(b.mul(y, b.broadcast(gain, x.shape, (last,))), b.broadcast(shift, x.shape, (last,)))


def attention(p: Program, x: Value, batch: int, length: int, heads: int) -> Value:
    """Causal self-attention over x[batch * length, width]."""
    b, width = p.b, x.shape[1]
    per_head = width // heads

    def split(name: Value) -> Value:
        return b.permute(b.reshape(name, (batch, length, heads, per_head)), (0, 2, 1, 3))

    q, k, v = (split(linear(p, x, width)) for _ in range(3))
    scores = b.mul(b.matmul(q, b.transpose(k)), b.scalar(per_head**-0.5, x))
    rows, columns = (b.broadcast(b.iota(length, dt.i64), (length, length), (d,)) for d in (0, 1))
    mask = b.broadcast(b.ge(rows, columns), scores.shape, (2, 3))
    weights = b.emit(ops.Softmax(3), b.where(mask, scores, b.scalar(-np.inf, x)))
    mixed = b.permute(b.matmul(weights, v), (0, 2, 1, 3))
    return linear(p, b.reshape(mixed, x.shape), width)


def dropout(p: Program, x: Value, rate: float, key: Value) -> Value:
    """Keeps an element where 32 random bits are at least rate * 2**32."""
    b = p.b
    bits = b.emit(ops.RandomBits(x.shape, dt.u32), key)
    kept = b.ge(bits, b.scalar(int(rate * 2**32), dt.u32))
    return b.where(kept, b.mul(x, b.scalar(1 / (1 - rate), x)), b.scalar(0.0, x))


# -- models -----------------------------------------------------------------------------------------------------------


def mlp(p: Program) -> Value:
    x, labels = p.arg("f32[9,13]"), p.arg("i64[9]", np.arange(9) % 7)
    loss = cross_entropy(p, linear(p, p.b.relu(linear(p, x, 21)), 7), labels)
    p.sgd(loss)
    return loss


def lenet(p: Program) -> Value:
    x, labels = p.arg("f32[3,1,14,14]"), p.arg("i64[3]", np.arange(3))
    h = max_pool(p, p.b.relu(conv(p, x, 4, 5, padding=2)))
    h = max_pool(p, p.b.relu(conv(p, h, 6, 4)))
    loss = cross_entropy(p, linear(p, p.b.reshape(h, (3, 6 * 2 * 2)), 10), labels)
    p.adam(loss)
    return loss


def residual_net(p: Program) -> Value:
    """Convolutions, BatchNorm with running statistics, a skip connection, global average pooling."""
    x, labels = p.arg("f32[2,3,6,6]"), p.arg("i64[2]", np.arange(2))
    h = p.b.relu(batch_norm(p, conv(p, x, 4, 3, padding=1)))
    h = p.b.relu(p.b.add(h, batch_norm(p, conv(p, h, 4, 3, padding=1))))
    h = p.b.relu(batch_norm(p, conv(p, h, 5, 3, padding=1, stride=2)))
    pooled = p.b.mul(p.b.sum(h, (2, 3)), p.b.scalar(1 / 9, h))
    loss = cross_entropy(p, linear(p, pooled, 3), labels)
    p.sgd(loss)
    return loss


def transformer(p: Program, layers: int = 1, batch: int = 2, length: int = 5, width: int = 8,
                heads: int = 2) -> Value:
    """Embedding with repeated tokens, pre-norm blocks, dropout, Adam."""
    b, vocabulary = p.b, 11
    rng = np.random.default_rng(5)
    tokens = p.arg(f"i64[{batch * length}]", rng.integers(0, vocabulary, batch * length))
    labels = p.arg(f"i64[{batch * length}]", rng.integers(0, vocabulary, batch * length))
    key = p.state("i64[2]", np.array([3, 4]))
    p.graph.writes[key] = b.add(key, b.constant(np.array([0, 1]), dt.i64))
    table = p.parameter(f"f32[{vocabulary},{width}]")
    x = dropout(p, b.emit(ops.Take(0), table, tokens), 0.25, key)
    for _ in range(layers):
        x = b.add(x, attention(p, layer_norm(p, x), batch, length, heads))
        x = b.add(x, linear(p, b.gelu(linear(p, layer_norm(p, x), 4 * width)), width))
    loss = cross_entropy(p, linear(p, layer_norm(p, x), vocabulary), labels)
    p.adam(loss)
    return loss
