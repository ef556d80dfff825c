"""Seeded random graphs, and how to make a failing one small.

Values stay of order one, and only exact values are compared or rounded, so that rounding errors stay small and a
difference means a bug. Extents come from a short list, so that dims of equal size meet where they do not belong.
"""
from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph, Value
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp

UNARY = ("neg", "relu", "tanh", "sigmoid", "abs", "sin", "gelu", "cos", "erf")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
LIMIT = 600                     # elements of one value


class Generator:
    """Writes one random graph. `graph` and `arrays` are ready once it is made."""

    def __init__(self, seed: int, size: int | None = None):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.graph = Graph(name=f"seed{seed}")
        self.b = Builder(self.graph)
        self.arrays: list[np.ndarray] = []
        self.sizes = self.random.choice([(4,), (3,), (3, 4), (1, 3), (2, 5, 1), (17, 2), (4, 16), (0, 3), (8,)])
        self.exact: list[Value] = []            # inputs and what is moved around, never rounded
        self.values: list[Value] = []
        for _ in range(self.random.randint(2, 4)):
            self.values.append(self.input(self.shape(), kind=self.random.choice(["arg", "state"])))
        self.exact += self.values
        for _ in range(size or self.random.randint(3, 22)):
            made = self.random.choices(list(_STEPS), weights=list(_STEPS.values()))[0](self)
            if made is not None and made.type.numel <= LIMIT:
                self.values.append(made)
        if self.random.random() < 0.3:
            self.differentiate()
        self.finish()

    # -- choices ----------------------------------------------------------------------------------------------------

    def shape(self) -> tuple[int, ...]:
        return tuple(self.random.choice(self.sizes) for _ in range(self.random.randint(0, 3)))

    def input(self, shape: tuple[int, ...], dtype: DType = dt.f32, kind: str = "arg") -> Value:
        type = TensorType(shape, dtype)
        value = self.graph.add_input(type, f"x{len(self.arrays)}", kind)       # type: ignore[arg-type]
        array = self.numpy.standard_normal(shape) if dtype.is_floating_point else self.numpy.integers(0, 2, shape)
        self.arrays.append(np.asarray(array).astype(dtype.storage))
        return value

    def indices(self, shape: tuple[int, ...], below: int) -> Value:
        value = self.input(shape, dt.i64)
        self.arrays[-1] = np.asarray(self.numpy.integers(0, below, shape))
        return value

    def pick(self) -> Value:
        """A value, recent ones more often."""
        if self.random.random() < 0.5:
            return self.random.choice(self.values[-3:])
        return self.random.choice(self.values)

    def like(self, shape: tuple[int, ...]) -> Value:
        """A value of this shape: one that has it, one spread or cut to it, or a new input."""
        same = [v for v in self.values if v.shape == shape]
        if same and self.random.random() < 0.7:
            return self.random.choice(same)
        for x in self.random.sample(self.values, len(self.values)):
            spread = self.spread(x, shape)
            if spread is not None and self.random.random() < 0.7:
                return spread
        return self.input(shape)

    def spread(self, x: Value, shape: tuple[int, ...]) -> Value | None:
        """x broadcast to `shape` along dims that fit, any of them."""
        dims: list[int] = []
        for size in x.shape:
            fits = [d for d in range((dims[-1] + 1) if dims else 0, len(shape)) if size in (1, shape[d])]
            if not fits:
                return None
            dims.append(self.random.choice(fits))
        return self.b.broadcast(x, shape, dims) if x.shape != shape else None

    def part(self, y: Value, shape: tuple[int, ...]) -> Value | None:
        """A part of y of this shape: whole dims, prefixes, and constants in the dims before and between."""
        wanted, starts, limits = list(shape), [], []
        for d, size in enumerate(y.shape):
            taken = 1
            if wanted and wanted[0] <= size and (len(y.shape) - d == len(wanted) or self.random.random() < 0.6):
                taken = wanted.pop(0)
            if taken > size:
                return None
            starts.append(self.random.choice([0, self.random.randint(0, size - taken)]))
            limits.append(starts[-1] + taken)
        if wanted:
            return None
        return self.b.reshape(self.b.emit(ops.Slice(tuple(starts), tuple(limits), (1,) * len(starts)), y), shape)

    def some_dims(self, x: Value) -> tuple[int, ...]:
        rank = len(x.shape)
        return tuple(sorted(self.random.sample(range(rank), self.random.randint(1, rank)))) if rank else ()

    def differentiate(self) -> None:
        """The cotangents of some inputs and of some value in the middle are values too."""
        outputs = [v for v in self.values[-2:] if v.dtype is dt.f32]
        cotangents = [self.input(v.shape) for v in outputs]
        wrt = [v for v in [*self.exact, *self.random.choices(self.values, k=1)] if v.dtype is dt.f32]
        self.values += [g for g in vjp(self.graph, outputs, cotangents, wrt) if g is not None]

    def finish(self) -> None:
        """Some values become outputs or are written to states of their shape."""
        floats = [v for v in self.values[-6:] if v.dtype is dt.f32]
        self.graph.outputs = [v for v in self.values[-4:] if self.random.random() < 0.6] or [self.values[-1]]
        self.graph.outputs += self.random.choices(self.values, k=self.random.randint(0, 1))
        for state in [v for v in self.graph.inputs if v.node.op.kind == "state"]:      # type: ignore[attr-defined]
            fitting = [v for v in [*floats, *self.values] if v.type == state.type]
            if fitting and self.random.random() < 0.8:
                self.graph.writes[state] = self.random.choice(fitting)


def in_16_bits(made: Generator, dtype: DType) -> tuple[Graph, list[np.ndarray]]:
    """The graph with `dtype` in place of f32, and its arrays."""
    graph, arrays, new_of = Graph(name=made.graph.name), [], dict[Value, Value]()
    for value, array in zip(made.graph.inputs, made.arrays, strict=True):
        is_narrowed = value.dtype is dt.f32
        type = TensorType(value.shape, dtype) if is_narrowed else value.type
        new_of[value] = graph.add_input(type, value.node.op.label, value.node.op.kind)      # type: ignore[attr-defined]
        arrays.append(dt.to_storage(array, dtype) if is_narrowed else array)
    for node in made.graph.toposort():
        if node.op.name == "input":
            continue
        is_cast = isinstance(node.op, ops.Cast) and node.op.dtype is dt.f32
        op = ops.Cast(dtype) if is_cast else node.op
        for old, new in zip(node.results, graph.append(op, [new_of[v] for v in node.operands], phase=node.phase).results,
                            strict=True):
            is_wide = old.dtype is dt.f32 and new.dtype is dt.f32       # a constant, or what is f32 whatever it is made of
            new_of[old] = graph.append(ops.Cast(dtype), [new]).result if is_wide else new
    graph.outputs = [new_of[v] for v in made.graph.outputs]
    graph.writes = {new_of[state]: new_of[v] for state, v in made.graph.writes.items()}
    return graph, arrays


# -- steps ------------------------------------------------------------------------------------------------------------


def unary(g: Generator) -> Value:
    return getattr(g.b, g.random.choice(UNARY))(g.pick())


def binary(g: Generator) -> Value:
    x = g.pick()
    y = g.like(x.shape) if g.random.random() < 0.8 else g.b.scalar(g.random.uniform(-1, 1), x)
    made = getattr(g.b, g.random.choice(BINARY))(*g.random.sample([x, y], 2))
    return g.b.tanh(made) if g.random.random() < 0.3 else made


def with_itself(g: Generator) -> Value:
    """A value beside its own elements at other places: transposed, reversed, or those of a reduction spread anew."""
    x = g.pick()
    rank = len(x.shape)
    orders = [o for o in itertools.permutations(range(rank)) if tuple(x.shape[d] for d in o) == x.shape]
    match g.random.randrange(3):
        case 0:
            other = g.b.permute(x, g.random.choice(orders))
        case 1:
            other = g.b.emit(ops.Flip(g.some_dims(x)), x)
        case _:
            dims = g.some_dims(x)
            if not dims or 0 in x.shape:
                return g.b.sin(x)
            other = g.spread(g.b.emit(g.random.choice([ops.AMax, ops.AMin])(dims), x), x.shape) or x
    return g.b.sub(x, other)


def choice(g: Generator) -> Value:
    x = g.pick()
    if g.random.random() < 0.5 or not x.shape:
        condition = g.input(x.shape, dt.bool_)
    else:
        d = g.random.randrange(len(x.shape))
        count = g.b.broadcast(g.b.iota(x.shape[d], dt.i64), x.shape, (d,))
        condition = g.b.lt(count, g.b.scalar(2, dt.i64))
    return g.b.where(condition, x, g.like(x.shape))


def permute(g: Generator) -> Value:
    x = g.pick()
    return g.b.permute(x, g.random.sample(range(len(x.shape)), len(x.shape)))


def reshape(g: Generator) -> Value:
    x = g.pick()
    sizes: list[int] = []
    for size in x.shape:
        factor = g.random.choice([f for f in range(1, size + 1) if size % f == 0]) if size else 0
        sizes += g.random.choice([[size], [factor, size // factor if factor else 3]])
    while len(sizes) > 1 and g.random.random() < 0.6:
        at = g.random.randrange(len(sizes) - 1)
        sizes[at:at + 2] = [sizes[at] * sizes[at + 1]]
    return g.b.reshape(x, sizes) if np.prod(sizes, dtype=int) == x.type.numel else x


def broadcast(g: Generator) -> Value | None:
    x = g.pick()
    shape = list(x.shape)
    for _ in range(g.random.randint(1, 2)):
        shape.insert(g.random.randint(0, len(shape)), g.random.choice(g.sizes))
    return g.spread(x, tuple(shape)) if np.prod(shape) <= LIMIT and len(shape) < 5 else None


def cut(g: Generator) -> Value:
    x = g.pick()
    starts = tuple(g.random.randint(0, max(0, size - 1)) for size in x.shape)
    limits = tuple(g.random.randint(min(s + 1, size), size) for s, size in zip(starts, x.shape, strict=True))
    return g.b.emit(ops.Slice(starts, limits, tuple(g.random.choice([1, 1, 2]) for _ in x.shape)), x)


def pad(g: Generator) -> Value:
    x = g.pick()
    low, high, interior = (tuple(g.random.choice([0, 0, 1, 2]) for _ in x.shape) for _ in range(3))
    return g.b.emit(ops.Pad(low, high, interior), x)


def flip(g: Generator) -> Value:
    x = g.pick()
    return g.b.emit(ops.Flip(g.some_dims(x)), x)


def concat(g: Generator) -> Value:
    x = g.pick()
    if not x.shape:
        return g.b.neg(x)
    return g.b.emit(ops.Concat(g.random.randrange(len(x.shape))), x, g.like(x.shape), x)


def update(g: Generator) -> Value:
    x = g.pick()
    starts = tuple(g.random.randint(0, max(0, size - 1)) for size in x.shape)
    strides = tuple(g.random.choice([1, 2]) for _ in x.shape)
    part = tuple(g.random.randint(min(1, size), -(-(size - s) // t)) for s, t, size in
                 zip(starts, strides, x.shape, strict=True))
    return g.b.emit(ops.UpdateSlice(starts, strides), x, g.like(part))


def reduce(g: Generator) -> Value:
    x = g.pick()
    dims = g.some_dims(x)
    count = int(np.prod([x.shape[d] for d in dims], dtype=int))
    op = g.random.choice([ops.Sum, ops.Sum, ops.AMax, ops.AMin])
    if not dims:
        return g.b.tanh(x)
    made = g.b.emit((op if count else ops.Sum)(dims), x)
    made = g.b.mul(made, g.b.scalar(1 / max(1, count), made)) if op is ops.Sum else made
    return g.b.expand_reduced(made, x.shape, dims) if g.random.random() < 0.4 else made


def part_beside(g: Generator) -> Value | None:
    """A reduction beside a part of another value, cut at constants, that is as large as what it gives."""
    x = g.pick()
    dims = g.some_dims(x)
    if not dims or 0 in x.shape:
        return None
    total = g.b.emit(g.random.choice([ops.AMax, ops.AMin])(dims), x)
    for y in g.random.sample(g.values, len(g.values)):
        part = g.part(y, total.shape)
        if part is not None and part.dtype is total.dtype:
            return g.b.sub(total, part)
    return total


def shifted(g: Generator) -> Value | None:
    """A value beside its neighbours: rolled, or with one end held."""
    x = g.pick()
    if not x.shape:
        return None
    d = g.random.randrange(len(x.shape))
    size = x.shape[d]
    if size < 2:
        return None

    def along(start: int, limit: int) -> Value:
        starts = tuple(start if k == d else 0 for k in range(len(x.shape)))
        limits = tuple(limit if k == d else n for k, n in enumerate(x.shape))
        return g.b.emit(ops.Slice(starts, limits, (1,) * len(x.shape)), x)

    by = g.random.randrange(1, size)
    moved = g.b.emit(ops.Concat(d), *g.random.choice([(along(by, size), along(0, by)), (along(0, 1), along(0, size - 1))]))
    return g.b.sub(x, moved) if g.random.random() < 0.6 else moved


def normalize(g: Generator) -> Value | None:
    x = g.pick()
    dims = g.some_dims(x)
    if 0 in x.shape or not dims:
        return None
    match g.random.randrange(3):
        case 0:
            return g.b.emit(ops.Softmax(dims[0]), x)
        case 1:
            return g.b.emit(ops.LogSoftmax(dims[0]), x)
        case _:
            return g.b.emit(ops.Normalize(dims, 0.1), x)[g.random.choice([0, 0, 1, 2])]


def matmul(g: Generator) -> Value | None:
    x = g.pick()
    if len(x.shape) < 2:
        return None
    columns = g.random.choice(g.sizes)
    if g.random.random() < 0.4:
        y = g.b.transpose(g.like((*x.shape[:-2], columns, x.shape[-1])))
    else:
        y = g.like((*x.shape[:-1][:-1], x.shape[-1], columns))
    made = g.b.matmul(x, y)
    return g.b.mul(made, g.b.scalar(1 / max(1, x.shape[-1]), made))


def take(g: Generator) -> Value | None:
    x = g.pick()
    if not x.shape or 0 in x.shape:
        return None
    d = g.random.randrange(len(x.shape))
    shape = tuple(g.random.choice(g.sizes) for _ in range(g.random.randint(0, 2)))
    return g.b.emit(ops.Take(d), x, g.indices(shape, x.shape[d]))


def scatter(g: Generator) -> Value | None:
    x = g.pick()
    if not x.shape:
        return None
    d = g.random.randrange(len(x.shape))
    made = g.b.emit(ops.ScatterAdd(5, d), g.indices((x.shape[d],), 5), x)
    return g.b.tanh(made)


def narrow(g: Generator) -> Value:
    x = g.pick()
    return g.b.cast(g.b.neg(g.b.cast(x, g.random.choice([dt.f64, dt.f64, dt.f16, dt.bf16]))), dt.f32)


def position(g: Generator) -> Value | None:
    """argmax of exact values, counted with."""
    x = g.random.choice(g.exact)
    if not x.shape or 0 in x.shape:
        return None
    return g.b.mul(g.b.cast(g.b.emit(ops.ArgMax(g.random.randrange(len(x.shape))), x), dt.f32), g.b.scalar(0.1, x))


def integers(g: Generator) -> Value:
    """Sums, products and quotients of integers, brought back to order one."""
    x, b = g.input(g.shape(), dt.i64), g.b
    g.arrays[-1] = g.numpy.integers(-20, 20, x.shape)
    divisor = g.input(x.shape, dt.i64)
    g.arrays[-1] = np.asarray(g.numpy.integers(1, 4, x.shape))
    y = getattr(b, g.random.choice(["floor_divide", "remainder", "fmod", "add", "maximum"]))(x, divisor)
    if x.shape and g.random.random() < 0.5:
        y = b.emit(g.random.choice([ops.Sum, ops.Prod])(g.some_dims(x)), y)
    return b.mul(b.cast(b.remainder(y, b.scalar(7, dt.i64)), dt.f32), b.scalar(0.1, dt.f32))


def pick_along(g: Generator) -> Value | None:
    x = g.pick()
    if not x.shape or 0 in x.shape:
        return None
    d, count = g.random.randrange(len(x.shape)), g.random.choice([1, 1, 2])
    return g.b.emit(ops.TakeAlong(d), x, g.indices((*x.shape[:d], count, *x.shape[d + 1:]), x.shape[d]))


def spread_along(g: Generator) -> Value | None:
    x = g.pick()
    if not x.shape:
        return None
    return g.b.tanh(g.b.emit(ops.ScatterAlongAdd(3, g.random.randrange(len(x.shape))), g.indices(x.shape, 3), x))


def running_sum(g: Generator) -> Value | None:
    x = g.pick()
    return g.b.tanh(g.b.emit(ops.Cumsum(g.random.randrange(len(x.shape))), x)) if x.shape else None


def image(g: Generator) -> Value | None:
    """A convolution or a pooling of a value brought to four dims."""
    x = g.pick()
    if 0 in x.shape or len(x.shape) < 3:
        return None
    n = int(np.prod(x.shape[:-3], dtype=int))
    batch = g.b.reshape(x, (n, *x.shape[-3:]))
    layout = g.random.choice(["NCHW", "NHWC"])
    channels, sizes = (x.shape[-3], x.shape[-2:]) if layout == "NCHW" else (x.shape[-1], x.shape[-3:-1])
    kernel = tuple(g.random.randint(1, min(3, size)) for size in sizes)
    stride = (g.random.choice([1, 1, 2]), g.random.choice([1, 1, 2]))
    if g.random.random() < 0.4:
        pooled = ops.MaxPool2d(kernel, stride, ((0, 0), (0, 0)), (1, 1), layout, False)
        return g.b.emit(pooled, batch)[0]
    if g.random.random() < 0.3:
        return g.b.emit(ops.AvgPool2d(kernel, stride, ((0, 0), (0, 0)), False, True, None, layout), batch)
    groups = g.random.choice([f for f in (1, 2, channels) if channels % f == 0])
    inner, outer = channels // groups, groups * g.random.randint(1, 2)
    shape = (outer, inner, *kernel) if layout == "NCHW" else (*kernel, inner, outer)
    padding = tuple((g.random.randint(0, 1), g.random.randint(0, 2)) for _ in range(2))
    return g.b.tanh(g.b.emit(ops.Conv2d(stride, padding, (1, 1), groups, layout), batch, g.like(shape)))


def noise(g: Generator) -> Value:
    key = g.input((2,), dt.i64)
    bits = g.b.emit(ops.RandomBits(g.shape(), dt.u32), key)
    return g.b.mul(g.b.cast(bits, dt.f32), g.b.scalar(2.0**-32, dt.f32))


_STEPS: dict[Callable[[Generator], Value | None], float] = {
    unary: 4, binary: 6, with_itself: 3, choice: 1.5, permute: 2, reshape: 2, broadcast: 2.5, cut: 1.5, pad: 1, flip: 1,
    concat: 0.7,
    update: 0.7, reduce: 4, normalize: 1.5, matmul: 2, take: 1, scatter: 0.6, narrow: 0.5, position: 0.4, noise: 0.3,
    integers: 0.5, pick_along: 0.6, spread_along: 0.5, running_sum: 0.3, image: 1, part_beside: 2, shifted: 1.5,
}
