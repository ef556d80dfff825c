"""Results lie on the one device of their operands, whichever of them has it; passes and lowering see no devices."""
from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from op_harness import all_samples

from flambeau.compiler import compile_graph
from flambeau.errors import TypeInferenceError
from flambeau.ir import Graph, ops, parse
from flambeau.ir.devices import infer
from flambeau.ir.graph.erasure import erased
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import Sample
from flambeau.ir.types import parse_type

SAMPLES: dict[str, list[Sample]] = defaultdict(list)
for _, _sample in all_samples():
    SAMPLES[_sample.op.name].append(_sample)


@pytest.mark.parametrize("name", SAMPLES)
def test_result_lies_where_any_operand_does_and_two_devices_are_an_error(name: str) -> None:
    for sample in SAMPLES[name]:
        count, here = len(sample.types), sample.op.infer(*sample.types)
        assert {t.device for t in here} == {"cpu"}
        for which in {*range(1, 1 << min(count, 3)), 1 << count - 1 if count else 0, (1 << count) - 1} - {0}:
            types = [t.on("gpu:0") if which >> n & 1 else t for n, t in enumerate(sample.types)]
            assert infer(sample.op, types) == tuple([t.on("gpu:0") for t in here])
        for other in range(1, count):
            types = [sample.types[0].on("gpu:0"), *sample.types[1:]]
            types[other] = types[other].on("gpu:1")
            with pytest.raises(TypeInferenceError, match="operands must lie on one device"):
                infer(sample.op, types)
        if isinstance(sample.op, ops.View):             # which eager mode asks directly
            (there,) = sample.op.infer(sample.types[0].on("gpu:0"))
            assert there.device == "gpu:0"


def test_what_has_no_place_of_its_own_is_placed() -> None:
    place = ops.Place("gpu:0")
    assert infer(place, [parse_type("f32[3]")]) == (parse_type("f32[3]@gpu:0"),)
    assert infer(place, [parse_type("f32[3]@gpu:0")]) == (parse_type("f32[3]@gpu:0"),)
    with pytest.raises(TypeInferenceError, match="operands must lie on one device"):
        infer(place, [parse_type("f32[3]@gpu:1")])


GRAPH = """
graph @main {
  %0 = input arg "x" : f32[3]@gpu:0
  %1 = input arg "p" : bool[]@gpu:0
  %2 = constant(value=f32[] 2.0) : f32[]
  %3 = mul(%0, %2) : f32[3]@gpu:0
  %4 = iota(size=3, dtype=f32) : f32[3]
  %5 = place(%4, device="gpu:0") : f32[3]@gpu:0
  %6 = cond(%1, %3, %5) : f32[3]@gpu:0 {
    graph @then {
      %0 = input arg "x" : f32[3]@gpu:0
      %1 = input arg "y" : f32[3]@gpu:0
      %2 = add(%0, %1) : f32[3]@gpu:0
      return %2
    }
    graph @else {
      %0 = input arg "x" : f32[3]@gpu:0
      %1 = input arg "y" : f32[3]@gpu:0
      %2 = iota(size=3, dtype=f32) : f32[3]
      return %2
    }
  }
  return %6
}
"""


def test_graphs_with_devices_print_parse_verify_and_lose_them() -> None:
    graph = parse(GRAPH)
    verify(graph)
    assert str(parse(str(graph))) == str(graph)
    plain = erased(graph)
    verify(plain)
    assert "@gpu" not in str(plain) and "place" not in str(plain) and "@gpu" in str(graph)
    assert [n.op.name for n in plain.toposort()] == [
        "stop_gradient" if n.op.name == "place" else n.op.name for n in graph.toposort()]


def test_a_region_may_not_give_what_lies_elsewhere() -> None:
    with pytest.raises(TypeInferenceError, match="operands must lie on one device"):
        graph = parse(GRAPH)
        cond = next(n for n in graph.toposort() if n.op.name == "cond")
        for value in (*cond.regions[0].inputs, *cond.regions[0].outputs):
            value.type = value.type.on("gpu:1")
        infer_again(graph, cond)


def infer_again(graph: Graph, node) -> None:            # type: ignore[no-untyped-def]
    graph.append(node.op, node.operands, regions=node.regions)


def test_graph_of_a_device_is_compiled_without_devices_and_keeps_its_own() -> None:
    graph = parse(GRAPH)
    compiled = compile_graph(graph, backend="interpret", rules=True)
    assert "@gpu" in compiled.text("graph") and "@gpu" not in compiled.text("fused")
    x, p, y = np.arange(3, dtype=np.float32), np.array(True), np.empty(3, np.float32)
    compiled.executable.fast_call(x.ctypes.data, p.ctypes.data, y.ctypes.data)
    assert y.tolist() == [0.0, 3.0, 6.0]
    assert all(compiled.provenance.lines_of(n) == [] for n in range(len(compiled.provenance.calls)))
