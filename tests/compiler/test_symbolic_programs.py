"""What well-known programs come to depend on, where their sizes have names: as little as they can."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from test_symbolic_graphs import agrees

from flambeau.compiler import fuse_graph
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import assuming
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.graph import Graph, Value
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.graph.text import print_graph
from flambeau.ir.ops.views import product
from flambeau.ir.types import parse_type
from flambeau.passes.graph.autodiff import vjp

CALL = {"B": 4, "T": 10, "H": 12}


class Program:
    """A graph being written."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.b = Builder(self.graph)

    def arg(self, type: str) -> Value:
        return self.graph.add_input(parse_type(type), f"x{len(self.graph.inputs)}")

    def parameters(self, *types: str) -> list[Value]:
        return [self.graph.add_input(parse_type(t), f"w{len(self.graph.inputs)}", "state") for t in types]

    def linear(self, x: Value, weight: Value, bias: Value) -> Value:
        """Over the last dim of x."""
        rows = self.b.reshape(x, (product(x.shape[:-1]), x.shape[-1]))
        y = self.b.matmul(rows, self.b.transpose(weight))
        return self.b.reshape(self.b.add(y, self.b.broadcast(bias, y.shape, (1,))), (*x.shape[:-1], weight.shape[0]))

    def mean(self, x: Value, dims: Sequence[int]) -> Value:
        total = self.b.sum(x, dims)
        return self.b.div(total, self.b.number(product([x.shape[d] for d in dims]), dt.f32))

    def cross_entropy(self, logits: Value, rank: int) -> Value:
        """Against classes that are counted, so that they need no input."""
        rows = logits.shape[0]
        classes = self.b.remainder(self.b.iota(rows, dt.i64), self.b.scalar(rank, dt.i64))
        scores = self.b.emit(ops.TakeAlong(1), self.b.emit(ops.LogSoftmax(1), logits), self.b.reshape(classes, (rows, 1)))
        return self.b.neg(self.mean(self.b.reshape(scores, (rows,)), (0,)))

    def step(self, loss: Value, parameters: Sequence[Value]) -> Graph:
        """Adam's, without its corrections of bias."""
        b = self.b
        gradients = vjp(self.graph, [loss], [b.scalar(1.0, loss)], parameters)
        for p, g in zip(parameters, gradients, strict=True):
            assert g is not None
            m, v = self.parameters(str(p.type), str(p.type))
            self.graph.writes[m] = b.add(b.mul(m, b.scalar(0.9, m)), b.mul(g, b.scalar(0.1, g)))
            self.graph.writes[v] = b.add(b.mul(b.abs(v), b.scalar(0.9, v)), b.mul(b.mul(g, g), b.scalar(0.1, g)))
            scale = b.add(b.sqrt(self.graph.writes[v]), b.scalar(0.1, v))
            self.graph.writes[p] = b.sub(p, b.mul(b.div(self.graph.writes[m], scale), b.scalar(0.01, p)))
        self.graph.outputs = [loss]
        return self.graph


def product_of_matrices() -> Graph:
    p = Program()
    p.graph.outputs = [p.b.matmul(p.arg("f32[B,T]"), p.arg("f32[T,H]"))]
    return p.graph


def softmax() -> Graph:
    p = Program()
    p.graph.outputs = [p.b.emit(ops.Softmax(1), p.arg("f32[B,T]"))]
    return p.graph


def layer_norm() -> Graph:
    p = Program()
    p.graph.outputs = list(p.b.emit(ops.Normalize((2,), 1e-5), p.arg("f32[B,T,H]")))
    return p.graph


def perceptron() -> Graph:
    p = Program()
    x, weights = p.arg("f32[B,8]"), p.parameters("f32[16,8]", "f32[16]", "f32[10,16]", "f32[10]")
    hidden = p.b.relu(p.linear(x, *weights[:2]))
    return p.step(p.cross_entropy(p.linear(hidden, *weights[2:]), 10), weights)


def convolutional() -> Graph:
    p = Program()
    b, x = p.b, p.arg("f32[B,3,H,H]")
    weights = p.parameters("f32[8,3,3,3]", "f32[8,8,3,3]", "f32[10,8]", "f32[10]")

    def layer(x: Value, w: Value) -> Value:
        return b.relu(b.emit(ops.Conv2d((1, 1), ((1, 1), (1, 1)), (1, 1), 1, "NCHW"), x, w))

    h, _ = b.emit(ops.MaxPool2d((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1), "NCHW", False), layer(x, weights[0]))
    h, _, _ = b.emit(ops.Normalize((0, 2, 3), 1e-2), layer(h, weights[1]))
    h = b.add(p.mean(b.tanh(h), (2, 3)), b.scalar(0.0, h))
    return p.step(p.cross_entropy(p.linear(h, *weights[2:]), 10), weights)


def transformer() -> Graph:
    """Two blocks, causal, of 4 heads."""
    p = Program()
    b, x = p.b, p.arg("f32[B,T,16]")
    (places,) = p.parameters("f32[64,16]")
    used = [places]
    h = b.add(x, b.broadcast(b.emit(ops.Slice((0, 0), (x.shape[1], 16), (1, 1)), places), x.shape, (1, 2)))
    for _ in range(2):
        weights = p.parameters(*["f32[16,16]", "f32[16]"] * 4, "f32[64,16]", "f32[64]", "f32[16,64]", "f32[16]")
        used += weights
        normal, _, _ = b.emit(ops.Normalize((2,), 1e-2), h)
        heads = [b.permute(b.reshape(p.linear(normal, *weights[2 * i:2 * i + 2]), (*x.shape[:2], 4, 4)), (0, 2, 1, 3))
                 for i in range(3)]
        out, _ = b.emit(ops.Attention(0.5, True), *heads)
        out = b.reshape(b.permute(out, (0, 2, 1, 3)), x.shape)
        h = b.add(h, p.linear(out, *weights[6:8]))
        normal, _, _ = b.emit(ops.Normalize((2,), 1e-2), h)
        h = b.add(h, p.linear(b.gelu(p.linear(normal, *weights[8:10])), *weights[10:]))
    last = p.parameters("f32[20,16]", "f32[20]")
    logits = p.linear(h, *last)
    return p.step(p.cross_entropy(b.reshape(logits, (product(x.shape[:2]), 20)), 20), used + last)


@pytest.mark.parametrize(("program", "conditions"), [
    (product_of_matrices, []), (softmax, []), (layer_norm, []), (perceptron, []),
    (convolutional, ["(H/2)+-1 >= 0"]),             # pooling finds a window
    (transformer, ["T <= 64"]),                     # there are as many places
], ids=lambda case: getattr(case, "__name__", ""))
def test_programs_depend_on_no_more_than_they_must(program: Callable[[], Graph], conditions: list[str]) -> None:
    facts = Facts(CALL, dict.fromkeys(CALL, (1, LARGEST)))
    with assuming(facts):
        graph = program()
        graph.facts = facts
        fused, _ = fuse_graph(graph)
    assert [str(condition) for condition in facts.conditions] == conditions
    assert fused.facts is facts and f"given {facts.conditions[0].size} >= 0" in print_graph(fused) if conditions else True
    for sizes in (CALL, {"B": 1, "T": 1, "H": 2}, {"B": 3, "T": 33, "H": 9}):
        assert facts.broken(sizes) is None
        agrees(with_sizes(graph, sizes), with_sizes(fused, sizes), 0)


def test_names_that_need_not_be_equal_are_not_made_so() -> None:
    """Sizes that happen to be equal in the traced call."""
    facts = Facts({"B": 10, "T": 10, "H": 10}, dict.fromkeys(CALL, (1, LARGEST)))
    with assuming(facts):
        fuse_graph(transformer())
        fuse_graph(layer_norm())
    assert facts.values == {} and [str(c) for c in facts.conditions] == ["T <= 64"]
    assert Dim("B") != Dim("T")
