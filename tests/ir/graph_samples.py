"""Graphs that between them use every feature of the graph level, for tests of its text, hash and verifier."""
from __future__ import annotations

import math
import struct
from collections.abc import Iterator

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dims import Dim
from flambeau.ir.graph import Graph, Location
from flambeau.ir.graph.parser import parse
from flambeau.ir.op import OPS, Sample
from flambeau.ir.types import TensorType, parse_type
from flambeau.passes.graph.autodiff import vjp

ODD_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_0123))[0]


def typed(text: str) -> TensorType:
    return parse_type(text)


def training_step() -> Graph:
    """Args, state, a scalar, locations, both phases, writes."""
    graph = Graph(name="step")
    x, w = graph.add_input(typed("f32[8,4]"), "x"), graph.add_input(typed("f32[4,3]"), "fc.weight", "state")
    lr = graph.add_input(typed("f64[]"), "lr", "scalar")
    b = Builder(graph, Location("train.py", 12, "forward"))
    loss = b.sum(b.relu(b.matmul(x, w)), (0, 1))
    (ct,) = vjp(graph, [loss], [b.scalar(1.0, loss)], [w])
    with b.at(Location("pkg/optim \"odd\".py", 7), "backward"):
        graph.writes[w] = b.sub(w, b.mul(ct, b.cast(lr, dt.f32)))
    graph.outputs = [loss]
    return graph


def symbolic() -> Graph:
    """Symbolic sizes in types and attributes; one has the name of a dtype."""
    batch, odd = Dim("B"), Dim("f32")
    graph = Graph(name="symbolic")
    x = graph.add_input(TensorType((batch, 4), dt.f32), "x")
    b = Builder(graph)
    spread = b.broadcast(x, (2 * batch * Dim("T") + 1, batch, 4), (1, 2))
    counted = b.iota(odd, dt.i64)
    graph.outputs = [spread, counted, b.broadcast(b.scalar(1.0, dt.f32), (odd, 2 - batch), ())]
    return graph


def literals() -> Graph:
    """Constants of every dtype: special numbers, odd NaNs, empty, long."""
    graph = Graph(name="literals")
    b = Builder(graph)
    made = [b.constant(v, d) for d in (dt.f16, dt.bf16, dt.f32, dt.f64)
            for v in (0.0, -0.0, math.inf, -math.inf, math.nan, 0.1, -2.5, 1e-7, 65504.0)]
    made += [b.constant(ODD_NAN, dt.f64), b.constant(np.array([[1, 2], [3, 4]], np.float32), dt.f32)]
    made += [b.constant(v, d) for d in (dt.i8, dt.i16, dt.i32, dt.i64) for v in (-1, 0, 100)]
    made += [b.constant(2**64 - 1, dt.u64), b.constant(-2**63, dt.i64), b.constant(True, dt.bool_)]
    made += [b.constant(np.zeros((2, 0, 3), np.float32), dt.f32), b.constant(np.array([True, False]), dt.bool_)]
    made += [b.constant(np.linspace(0, 1, 100).reshape(4, 25), dt.f64), b.constant(np.arange(17), dt.i64)]
    graph.outputs = made
    return graph


def region(type: TensorType, name: str, inputs: int, op: str) -> Graph:
    """One op on `inputs` inputs of one type; its result is given once for each output asked for by the caller."""
    graph = Graph(name=name)
    values = [graph.add_input(type, f"in{i}") for i in range(inputs)]
    b = Builder(graph, Location("layers.py", 3))
    graph.outputs = [b.emit(OPS[op], *values)]  # type: ignore[arg-type]
    return graph


def custom_square(type: TensorType) -> tuple[ops.Custom, tuple[Graph, Graph]]:
    """x*x with the derivative written by hand: 2*x*g."""
    forward = Graph(name="forward")
    x = forward.add_input(type, "x")
    forward.outputs = [Builder(forward).mul(x, x)]
    backward = Graph(name="backward")
    x, _, g = (backward.add_input(type, label) for label in ("x", "y", "g"))
    b = Builder(backward)
    backward.outputs = [b.mul(g, b.mul(x, b.scalar(2.0, x)))]
    return ops.Custom("square"), (forward, backward)


def regions() -> Graph:
    """A region in a region, several regions, several results."""
    graph = Graph(name="odd name!")
    type = typed("f32[3]")
    x = graph.add_input(type, 'quoted "label" \n é')
    b = Builder(graph)
    custom, parts = custom_square(type)
    y = b.emit(custom, x, regions=parts)
    outer = Graph(name="outer")
    values = [outer.add_input(type) for _ in range(2)]
    inside = Builder(outer)
    inner = inside.emit(ops.Fusion("loop"), *values, regions=(region(type, "inner", 2, "add"),))
    outer.outputs = [inner, inside.exp(values[0])]
    first, second = b.emit(ops.Fusion("loop"), x, y, regions=(outer,))
    graph.outputs = [second, first, x, x]
    return graph


CONTROL = """graph @control {
  %0 = input arg "n" : i64[]
  %1 = input arg "x" : f32[2]
  %2 = input scalar "lr" : f64[]
  %3 = constant(value=i64[] 0) : i64[]
  %4, %5 = while_loop(%3, %1, %0, %2) : i64[], f32[2]  loc(#0) {
    graph @condition {
      %0 = input arg "i" : i64[]
      %1 = input arg "x" : f32[2]
      %2 = input arg "n" : i64[]
      %3 = input arg "lr" : f64[]
      %4 = lt(%0, %2) : bool[]  loc(#1)
      return %4
    }
    graph @body {
      %0 = input arg "i" : i64[]
      %1 = input arg "x" : f32[2]
      %2 = input arg "n" : i64[]
      %3 = input arg "lr" : f64[]
      %4 = constant(value=i64[] 1) : i64[]
      %5 = add(%0, %4) : i64[]
      %6 = constant(value=f32[] 4.0) : f32[]
      %7 = sum(%1, dims=(0,)) : f32[]
      %8 = gt(%7, %6) : bool[]
      %9 = cond(%8, %1, %3) : f32[2]  loc(#1) {
        graph @true {
          %0 = input arg "x" : f32[2]
          %1 = input arg "lr" : f64[]
          %2 = cast(%1, dtype=f32) : f32[]
          %3 = mul(%0, %2) : f32[2]
          return %3
        }
        graph @false {
          %0 = input arg "x" : f32[2]
          %1 = input arg "lr" : f64[]
          %2 = add(%0, %0) : f32[2]
          return %2
        }
      }
      return %5, %9
    }
  }
  return %5, %4
}
#0 = loc "train.py":12 "step"
#1 = loc "train.py":14 "more"
"""


def control() -> Graph:
    """A choice in the body of a loop."""
    return parse(CONTROL)


def reordered() -> Graph:
    """Inputs in another order than their nodes, and nodes in another order than they were made in."""
    graph = Graph(name="reordered")
    b = Builder(graph)
    x, y = (graph.add_input(typed("f32[2]"), label) for label in "xy")
    total = b.add(x, y)
    late = b.exp(y)
    graph.set_operand(total.node, 0, late)
    graph.inputs = [y, x]
    graph.outputs = [total]
    return graph


def of_sample(sample: Sample) -> Graph:
    """One op on inputs."""
    graph = Graph()
    values = [graph.add_input(type, f"x{i}") for i, type in enumerate(sample.types)]
    graph.outputs = list(graph.append(sample.op, values).results)
    return graph


def of_registry() -> Iterator[tuple[str, Graph]]:
    """Every sample of every op as a graph."""
    for name, op in OPS.items():
        for number, sample in enumerate(op.samples()):
            yield f"{name}-{number}", of_sample(sample)


BY_HAND = (training_step, symbolic, literals, regions, control, reordered, lambda: Graph(name="empty"))
