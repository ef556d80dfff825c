"""Pass lists of devices: without the CPU's layouts convolutions still compile to what they mean, and limits of fusion
decide how many kernels there are."""
from __future__ import annotations

import numpy as np
import pytest
from checked import assert_close, run
from programs import lenet, program, residual_net

from flambeau.compiler import compile_graph
from flambeau.ir import dtypes as dt
from flambeau.ir import ops, parse
from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.op import OPS
from flambeau.ir.types import parse_type
from flambeau.passes.cpu.pipeline import CPU_LIMITS, CPU_PASSES
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.graph.convolutions import plain_convolutions
from flambeau.passes.graph.dce import dce
from flambeau.passes.pipeline import GRAPH_PASSES
from flambeau.passes.pipeline import run as run_passes


@pytest.mark.parametrize("name", [n + end for n in ("conv2d", "conv3d") for end in ("", "_input_grad", "_weight_grad")])
def test_plain_convolutions_mean_the_same_and_are_channels_last_without_padding(name: str) -> None:
    for sample in OPS[name].samples():
        graph = Graph(name="sample")
        graph.outputs = list(graph.append(sample.op, [graph.add_input(t) for t in sample.types]).results)
        plain = dce(plain_convolutions(clone(graph)[0]))
        left = {n.op for n in plain.toposort() if n.op.name.startswith("conv")}
        assert left and all(op.is_plain for op in left)
        assert not any(isinstance(op, ops.Conv2dInputGrad | ops.Conv3dInputGrad) for op in left)
        value = graph.outputs[0]
        (found,), (expected,) = (interpret(g, sample.operands)[0] for g in (plain, graph))
        longest = max(t.numel for t in sample.types)
        assert_close(found, expected, value.dtype, 8.0 * longest, False, 1.0, name)


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_a_convolution_of_single_channels_is_a_sum_of_shifted_images(dtype: str) -> None:
    op = ops.Conv3d((1, 2, 1), ((1, 0), (0, 2), (1, 1)), (1, 2, 1), 9, "NCDHW")
    graph = Graph(name="depthwise")
    x, w = (graph.add_input(parse_type(f"{dtype}{shape}")) for shape in ("[2,9,3,6,4]", "[9,1,2,3,2]"))
    graph.outputs = list(graph.append(op, [x, w]).results)
    plain = dce(plain_convolutions(clone(graph)[0]))
    assert not any(n.op.name.startswith("conv") for n in plain.toposort())
    rng = np.random.default_rng(0)
    arrays = [dt.to_storage(rng.normal(size=v.type.static_shape), v.dtype) for v in (x, w)]
    (found,), (expected,) = (interpret(g, arrays)[0] for g in (plain, graph))
    assert_close(found, expected, x.dtype, 64.0, False, 1.0, "depthwise")


@pytest.mark.parametrize("model", [lenet, residual_net])
def test_passes_without_the_cpus_layouts_compile_the_same_step(model: object) -> None:
    made = program(model, "step")                                       # type: ignore[arg-type]
    usual, plain = (run(compile_graph(made.graph, passes=p), made.arrays) for p in (CPU_PASSES, GRAPH_PASSES))
    for value, found, wanted in zip(made.graph.outputs, plain.outputs, usual.outputs, strict=True):
        assert_close(found, wanted, value.dtype, 256, False, 0.0, "output")
    for value, found in plain.states.items():
        assert_close(found, usual.states[value], value.dtype, 256, False, 0.0, repr(value))


def test_the_order_of_passes_is_one_for_all_devices() -> None:
    assert [p.name for p in CPU_PASSES] == [p.name for p in GRAPH_PASSES]


CHAIN = "".join(f"  %{n + 1} = sin(%{n}) : f32[8]\n" for n in range(12))


@pytest.mark.parametrize(("limits", "kernels"), [(CPU_LIMITS, 1), (Limits(ops=4), 3), (Limits(ops=1), 12)])
def test_limits_decide_how_many_ops_a_kernel_takes(limits: Limits, kernels: int) -> None:
    graph = parse(f'graph @main {{\n  %0 = input arg "x" : f32[8]\n{CHAIN}  return %12\n}}\n')
    fused, _ = run_passes(clone(graph)[0], GRAPH_PASSES[:-1])
    assert sum(isinstance(n.op, ops.Fusion) for n in fuse(fused, limits).toposort()) == kernels


def test_a_costly_producer_is_repeated_as_often_as_limits_say() -> None:
    """exp of 4 numbers, read by 16 points."""
    text = ('graph @main {\n  %0 = input arg "x" : f32[4]\n  %1 = exp(%0) : f32[4]\n'
            "  %2 = broadcast(%1, shape=(4, 4), dims=(1,)) : f32[4,4]\n"
            '  %3 = input arg "y" : f32[4,4]\n  %4 = add(%2, %3) : f32[4,4]\n  return %4\n}\n')
    counts = []
    for limits in (Limits(cheap=0, repeats=4), Limits(cheap=0, repeats=3)):
        fused = fuse(parse(text), limits)
        counts.append(sum(isinstance(n.op, ops.Fusion) for n in fused.toposort()))
        x = np.arange(4, dtype=np.float32)
        (found,), _ = interpret(fused, [x, np.zeros((4, 4), np.float32)])
        np.testing.assert_allclose(found, np.broadcast_to(np.exp(x), (4, 4)), rtol=1e-6)
    assert counts == [1, 2]
