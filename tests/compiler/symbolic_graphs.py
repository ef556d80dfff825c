"""Seeded random graphs whose sizes have names."""
from __future__ import annotations

import random
from collections.abc import Mapping

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim, Size, evaluated, same, same_shape
from flambeau.ir.graph import Graph, Value
from flambeau.ir.ops.views import product
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp

UNARY = ("neg", "relu", "tanh", "sigmoid", "abs", "sin", "cos")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
LIMIT = 400                     # elements of one value in the traced call


class Generator:
    """Writes one random graph, under what is known of B and T. No step asks for what has no answer for all sizes, but
    some cut sizes in two, or off at a number."""

    def __init__(self, seed: int, sizes: Mapping[str, int]):
        self.random, self.sizes = random.Random(seed), sizes
        self.graph = Graph(name=f"seed{seed}")
        self.b = Builder(self.graph)
        b, t = Dim("B"), Dim("T")
        self.pool: list[Size] = self.random.choice([[b, 3], [b, t], [b, t, 2], [b + 1, b], [b, 2 * t, 1], [b, 4, t]])
        self.values = [self.input(self.shape(), self.random.choice(["arg", "state"])) for _ in range(3)]
        # what the names are, the inputs tell
        self.values += [self.input((Dim(name),)) for name in sizes]
        steps = [name for name in vars(Generator) if name.startswith("step_")]
        for _ in range(self.random.randint(3, 16)):
            made = getattr(self, self.random.choice(steps))()
            if made is not None and evaluated(product(made.shape), sizes) <= LIMIT:
                self.values.append(made)
        if self.random.random() < 0.4:
            outputs = self.values[-2:]
            found = vjp(self.graph, outputs, [self.input(v.shape) for v in outputs], self.values[:4])
            self.values += [v for v in found if v is not None]
        self.graph.outputs = [v for v in self.values[-4:] if self.random.random() < 0.7] or [self.values[-1]]
        for state in [v for v in self.graph.inputs if v.node.op.kind == "state"]:      # type: ignore[attr-defined]
            fitting = [v for v in self.values if same_shape(v.shape, state.shape)]
            self.graph.writes[state] = self.random.choice(fitting)

    def shape(self) -> tuple[Size, ...]:
        return tuple(self.random.choice(self.pool) for _ in range(self.random.randint(0, 3)))

    def input(self, shape: tuple[Size, ...], kind: str = "arg") -> Value:
        return self.graph.add_input(TensorType(shape, dt.f32), f"x{len(self.graph.inputs)}", kind)  # type: ignore[arg-type]

    def pick(self, rank: int = 0) -> Value:
        fitting = [v for v in self.values if len(v.shape) >= rank]
        return self.random.choice(fitting[-4:] if self.random.random() < 0.5 and fitting else fitting or self.values)

    def like(self, shape: tuple[Size, ...]) -> Value:
        found = [v for v in self.values if same_shape(v.shape, shape)]
        return self.random.choice(found) if found and self.random.random() < 0.8 else self.input(shape)

    def dims(self, x: Value) -> tuple[int, ...]:
        rank = len(x.shape)
        return tuple(sorted(self.random.sample(range(rank), self.random.randint(1, rank)))) if rank else ()

    def step_unary(self) -> Value:
        return getattr(self.b, self.random.choice(UNARY))(self.pick())

    def step_binary(self) -> Value:
        x = self.pick()
        return self.b.tanh(getattr(self.b, self.random.choice(BINARY))(x, self.like(x.shape)))

    def step_choose(self) -> Value | None:
        x = self.pick()
        if not x.shape:
            return None
        d = self.random.randrange(len(x.shape))
        places = self.b.broadcast(self.b.iota(x.shape[d], dt.i64), x.shape, (d,))
        return self.b.where(self.b.lt(places, self.b.scalar(2, places)), x, self.like(x.shape))

    def step_permute(self) -> Value:
        x = self.pick()
        return self.b.permute(x, self.random.sample(range(len(x.shape)), len(x.shape)))

    def step_reshape(self) -> Value:
        """Two dims in one, one in two, or a dim of size 1."""
        x = self.pick()
        shape: list[Size] = list(x.shape)
        at = self.random.randint(0, len(shape))
        if at + 1 < len(shape):
            shape[at:at + 2] = [shape[at] * shape[at + 1]]
        elif shape and self.random.random() < 0.5 and same(shape[-1] % 2, 0):
            shape[-1:] = self.random.choice([[2, shape[-1] // 2], [shape[-1] // 2, 2]])
        else:
            shape.insert(at, 1)
        return self.b.reshape(x, shape)

    def step_broadcast(self) -> Value:
        x = self.pick()
        shape, at = list(x.shape), self.random.randint(0, len(x.shape))
        shape.insert(at, self.random.choice(self.pool))
        return self.b.broadcast(x, shape, [d + (d >= at) for d in range(len(x.shape))])

    def step_flip(self) -> Value:
        x = self.pick()
        return self.b.emit(ops.Flip(self.dims(x)), x)

    def step_cut(self) -> Value | None:
        """All but one end, every second element, a half, or what comes before a number."""
        x = self.pick(1)
        if not x.shape:
            return None
        d = self.random.randrange(len(x.shape))
        size: Size = x.shape[d]
        starts: list[Size] = [0] * len(x.shape)
        limits, strides = list(x.shape), [1] * len(x.shape)
        match self.random.randrange(5):
            case 0:
                starts[d] = size // 2
            case 1:
                limits[d] = size - size // 2
            case 2:
                strides[d] = 2
            case 3 if self.random.random() < 0.2 and size >= 2:
                starts[d] = 1
            case _:
                limits[d] = size - 1 if same(size, 1) or self.random.random() < 0.8 else 1
        return self.b.emit(ops.Slice(tuple(starts), tuple(limits), tuple(strides)), x)

    def step_pad(self) -> Value:
        x = self.pick()
        low, high = (tuple(self.random.choice([0, 0, 1, 2]) for _ in x.shape) for _ in range(2))
        return self.b.emit(ops.Pad(low, high, tuple(self.random.choice([0, 0, 0, 1]) for _ in x.shape)), x)

    def step_join(self) -> Value | None:
        x = self.pick(1)
        return self.b.emit(ops.Concat(self.random.randrange(len(x.shape))), x, self.like(x.shape)) if x.shape else None

    def step_reduce(self) -> Value:
        x = self.pick()
        dims = self.dims(x)
        if not dims:
            return self.b.sin(x)
        made = self.b.tanh(self.b.emit(self.random.choice([ops.Sum, ops.Sum, ops.AMax])(dims), x))
        return self.b.expand_reduced(made, x.shape, dims) if self.random.random() < 0.5 else made

    def step_mean(self) -> Value:
        x = self.pick()
        count = self.b.number(product(x.shape), dt.f32)
        return self.b.div(self.b.sum(x, range(len(x.shape))), count)

    def step_normalize(self) -> Value | None:
        x = self.pick(1)
        if not x.shape:
            return None
        dims = self.dims(x)
        op = self.random.choice([ops.Softmax(dims[0]), ops.LogSoftmax(dims[0]), ops.Normalize(dims, 0.1)])
        return self.b.emit(op, x)[self.random.choice([0, 1])] if isinstance(op, ops.Normalize) else self.b.emit(op, x)

    def step_matmul(self) -> Value | None:
        x = self.pick(2)
        if len(x.shape) < 2:
            return None
        return self.b.tanh(self.b.matmul(x, self.like((*x.shape[:-2], x.shape[-1], self.random.choice(self.pool)))))

    def step_take(self) -> Value | None:
        x = self.pick(1)
        if not x.shape:
            return None
        d = self.random.randrange(len(x.shape))
        places = self.b.floor_divide(self.b.iota(x.shape[d], dt.i64), self.b.scalar(2, dt.i64))
        return self.b.emit(ops.Take(d), x, places)


def arrays_for(graph: Graph, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(v.shape).astype(v.dtype.storage) for v in graph.inputs]
