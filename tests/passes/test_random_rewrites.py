"""Random graphs made of what the rules look for, through all in-place passes: the numbers stay.

Inputs hold small whole numbers, so every sum and product is exact and any difference is a bug. A failure prints the
seed and the smallest graph that still fails, as text that can be pasted into tests/golden.
"""
from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Value, clone
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.passes.graph.simplify import apply_rules, simplify
from flambeau.passes.pipeline import GRAPH_PASSES, run
from tests.ir.graph_samples import typed

IN_PLACE = [p for p in GRAPH_PASSES if p.name not in ("layout", "fuse")]
LIMIT = 400                                 # elements of one value


class Generator:
    """Values of dtype `dtype` and bools, each step made from some of those before it."""

    def __init__(self, seed: int, steps: int):
        self.random = random.Random(seed)
        self.dtype = self.random.choice([dt.f64, dt.f32, dt.i32, dt.i8])
        self.graph = Graph(name=f"seed{seed}")
        self.b = Builder(self.graph)
        self.values = [self.graph.add_input(typed(f"{self.dtype}[{shape}]"), f"x{i}")
                       for i, shape in enumerate(("", "3", "1,3", "2,3", "2,1,3"))]
        self.tests = [self.graph.add_input(typed("bool[2,3]"), "p")]
        makers = [self.unary, self.binary, self.constant, self.with_constant, self.with_constant, self.view, self.view,
                  self.view, self.spread, self.spread, self.fold, self.test, self.where, self.cast]
        for _ in range(steps):
            self.random.choice(makers)()
        made = [*self.values, *self.tests]
        self.graph.outputs = self.random.sample(made, len(made) // 2)

    def any(self, wanted: Callable[[Value], bool] = lambda v: True) -> Value:
        """One of the values, more often a late one, so that ops of one sort meet."""
        fit = [v for v in self.values if wanted(v)]
        return self.random.choice(fit[-3:] if self.random.random() < 0.6 else fit)

    def keep(self, value: Value) -> None:
        if value.type.numel <= LIMIT:
            self.values.append(value)

    def like(self, x: Value) -> Value:
        """An operand beside x: of its shape or of rank 0, often a constant or spread out."""
        other = self.any(lambda v: v.shape in (x.shape, ()))
        return self.b.broadcast(other, x.shape, ()) if not other.shape and self.random.random() < 0.4 else other

    def constant(self) -> None:
        self.keep(self.b.constant(self.random.choice([0, 1, -1, 2, 3]), self.dtype))

    def unary(self) -> None:
        names = ["neg", "abs", "sign"] + (["floor", "round", "relu", "stop_gradient"] if self.is_float else [])
        self.keep(getattr(self.b, self.random.choice(names))(self.any()))

    def binary(self) -> None:
        x = self.any()
        pair = [x, self.like(x)]
        self.random.shuffle(pair)
        self.keep(getattr(self.b, self.random.choice(["add", "sub", "maximum", "minimum", "mul"]))(*pair))

    def with_constant(self) -> None:
        x = self.any()
        c = self.b.constant(self.random.choice([0, 1, -1, 2]), self.dtype)
        name = self.random.choice(["add", "sub", "mul", "mul", "pow" if self.is_float else "shift_left"])
        if name in ("pow", "shift_left"):
            c = self.b.constant(self.random.choice([0, 1, 2] if name == "pow" else [0, 1]), self.dtype)
        elif self.is_float and self.random.random() < 0.2:
            name, c = "div", self.b.constant(self.random.choice([1, -1, 0.5]), self.dtype)
        pair = (c, x) if name in ("add", "sub", "mul") and self.random.random() < 0.3 else (x, c)
        self.keep(getattr(self.b, name)(*pair))

    def test(self) -> None:
        x = self.any(lambda v: v.shape == (2, 3))
        name = self.random.choice(["eq", "ne", "lt", "le", "logical_not", "logical_and", "logical_or", "logical_xor"])
        p, q = self.random.choice(self.tests), self.random.choice(self.tests)
        if name == "logical_not":
            self.tests.append(self.b.logical_not(p))
        elif name.startswith("logical"):
            known = self.b.constant(self.random.random() < 0.5, dt.bool_)
            self.tests.append(getattr(self.b, name)(p, q if self.random.random() < 0.5 else known))
        else:
            self.tests.append(getattr(self.b, name)(x, self.like(x)))

    def where(self) -> None:
        x = self.any(lambda v: v.shape == (2, 3))
        self.keep(self.b.where(self.random.choice(self.tests), x, self.like(x)))

    def cast(self) -> None:
        middle = self.random.choice([dt.f64, dt.i64] + ([] if self.is_float else [dt.i32]))
        self.keep(self.b.cast(self.b.cast(self.any(), middle), self.dtype))

    def spread(self) -> None:
        x = self.any(lambda v: len(v.shape) < 4)
        shape = [size if size != 1 or self.random.random() < 0.5 else 2 for size in x.shape]
        dims = list(range(len(shape)))
        if self.random.random() < 0.7:
            place = self.random.randint(0, len(shape))
            shape.insert(place, self.random.choice([1, 2, 3, 4]))
            dims = [d + (d >= place) for d in dims]
        self.keep(self.b.broadcast(x, shape, dims))

    def fold(self) -> None:
        """One fold, or the same fold twice."""
        x, kind = self.any(), self.random.choice([ops.Sum, ops.AMax, ops.AMin])
        for _ in range(self.random.randint(1, 2)):
            x = self.b.emit(kind(tuple(d for d in range(len(x.shape)) if self.random.random() < 0.5)), x)
        self.keep(x)

    def view(self) -> None:
        """One view, or two of one kind, or a fold of one."""
        x = self.any()
        maker = self.random.choice([self.permuted, self.reshaped, self.sliced, self.padded, self.flipped,
                                    self.concatenated])
        x = maker(x)
        if x.type.numel <= LIMIT:
            self.values.append(x)
            second = self.random.choice([maker, self.sliced, self.summed, lambda x: x])
            self.keep(second(x))

    def permuted(self, x: Value) -> Value:
        return self.b.permute(x, self.random.sample(range(len(x.shape)), len(x.shape)))

    def reshaped(self, x: Value) -> Value:
        return self.b.reshape(x, self.random.choice([(*x.shape, 1), (1, *x.shape), (x.type.numel,),
                                                     tuple(s for s in x.shape if s != 1)]))

    def sliced(self, x: Value) -> Value:
        starts = tuple(self.random.randrange(s) for s in x.shape)
        limits = tuple(self.random.randint(a + 1, s) for a, s in zip(starts, x.shape, strict=True))
        return self.b.emit(ops.Slice(starts, limits, tuple(self.random.choice([1, 1, 2]) for _ in x.shape)), x)

    def padded(self, x: Value) -> Value:
        return self.b.emit(ops.Pad(*(tuple(self.random.choice([0, 0, 1]) for _ in x.shape) for _ in range(3))), x)

    def flipped(self, x: Value) -> Value:
        return self.b.emit(ops.Flip(tuple(d for d in range(len(x.shape)) if self.random.random() < 0.5)), x)

    def concatenated(self, x: Value) -> Value:
        if not x.shape:
            return x
        other = self.b.neg(x) if self.random.random() < 0.5 else self.any(lambda v: v.shape == x.shape)
        return self.b.emit(ops.Concat(self.random.randrange(len(x.shape))), x, other)

    def summed(self, x: Value) -> Value:
        return self.b.sum(x, [d for d in range(len(x.shape)) if self.random.random() < 0.7])

    @property
    def is_float(self) -> bool:
        return self.dtype.is_floating_point


def whole_numbers(graph: Graph, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(rng.integers(0, 2, v.shape) if v.dtype is dt.bool_ else rng.integers(-2, 3, v.shape))
            .astype(v.dtype.storage) for v in graph.inputs]


def fails(seed: int, steps: int) -> str | None:
    """What is wrong after the passes, if anything."""
    graph = Generator(seed, steps).graph
    inputs = whole_numbers(graph, seed)
    wanted = interpret(graph, inputs)[0]
    if any(a.dtype.kind == "f" and np.abs(a).max(initial=0) > 2**20 for a in wanted):
        return None                         # sums may not be exact any more
    changed, _ = run(clone(graph)[0], IN_PLACE)
    verify(changed)
    for a, b in zip(interpret(changed, inputs)[0], wanted, strict=True):
        if not np.array_equal(a, b):
            return f"gives {a.tolist()}, not {b.tolist()}\n{print_graph(graph)}\n{print_graph(changed)}"
    return None


@pytest.mark.parametrize("block", range(8))
def test_random_graphs_keep_their_numbers(block: int) -> None:
    for seed in range(80 * block, 80 * (block + 1)):
        if fails(seed, 24):
            steps = next(n for n in range(1, 25) if fails(seed, n))
            raise AssertionError(f"seed {seed}, {steps} steps: {fails(seed, steps)}")


def test_simplify_reaches_a_fixed_point_on_random_graphs() -> None:
    for seed in range(100):
        graph = simplify(Generator(seed, 24).graph)
        text = print_graph(graph)
        assert apply_rules(graph) == {}, f"seed {seed}"
        assert print_graph(graph) == text
