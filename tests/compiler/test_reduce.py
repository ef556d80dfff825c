"""What `fb.compile(verify=True)` finds is shrunk to a few lines of IR that run by themselves, whatever is wrong."""
from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from programs import mlp, program
from random_graphs import Generator

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import kept, nn, optim
from flambeau.backends import CpuBackend
from flambeau.codegen.cpu import vmath
from flambeau.compiler import compile_graph
from flambeau.errors import KernelError, VerificationError
from flambeau.ir import ops
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.reduce import pruned, reduce
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.fusion import fuse
from flambeau.passes.graph import simplify
from flambeau.passes.graph.rewrite import Rule
from flambeau.passes.pipeline import Pass
from flambeau.repro import Repro, call_on_arrays
from flambeau.runtime.cache import Cache


class Anew(CpuBackend):
    """Compiles as the CPU does, and knows no kernel from before."""

    def __repr__(self) -> str:
        return "Anew()"


def training_step(**how: Any) -> Callable[[], Any]:
    fb.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3))
    opt = optim.AdamW(net.parameters(), lr=1e-2)
    x, y = fb.randn(16, 6), fb.randint(0, 3, (16,))

    @fb.compile(verify=True, **how)
    def step(x: Any, y: Any) -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        return loss

    return lambda: step(x, y)


def found(call: Callable[[], Any], blame: str, most_lines: int = 15) -> tuple[VerificationError, Repro]:
    """The error of a call and its repro, which runs by itself and raises the same."""
    with pytest.raises(VerificationError) as raised:
        call()
    error, repro = raised.value, raised.value.repro
    assert re.fullmatch(blame, error.blame) and isinstance(repro, Repro)
    assert repro.n_lines <= most_lines and str(repro) in str(error)
    graph = fb.ir.parse(repro.text)
    verify(graph)
    graph(*repro.arrays())
    script = str(repro)
    with pytest.raises(VerificationError) as again:
        exec(script, {"Anew": Anew, "passes": PASSES})
    assert again.value.blame == error.blame and error.where is not None and "test_reduce.py" in error.where
    return error, repro


# -- planted faults ---------------------------------------------------------------------------------------------------


def test_a_wrong_rule_is_found_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(b: Any, node: Any) -> Any:
        x, y = node.operands
        return b.mul(x, y) if any(v.node.op is ops.sqrt for v in y.node.operands) else None

    rule = Rule("x / (sqrt(y) + z) -> x * (sqrt(y) + z)", ("div",), wrong)
    monkeypatch.setitem(simplify._RULES_OF, "div", [rule, *simplify._RULES_OF.get("div", ())])      # type: ignore[index]
    _, repro = found(training_step(), r"pass \d+, simplify")
    assert rule.rewrite in repro.rules and "= div(" in repro.text and "= sqrt(" in repro.text
    assert rule.rewrite in str(repro)


def test_a_wrong_fusion_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a region takes in a subtraction with something else, it subtracts the wrong way round."""
    right = fuse.outline

    def wrong(*given: Any) -> Graph:
        fused = right(*given)
        for node in fused.toposort():
            for region in node.regions:
                for inner in region.toposort():
                    if inner.op is ops.sub and len(region) > len(region.inputs) + 1:
                        x, y = inner.operands
                        if x.type == y.type:
                            region.set_operand(inner, 0, y)
                            region.set_operand(inner, 1, x)
        return fused

    monkeypatch.setattr(fuse, "outline", wrong)
    _, repro = found(training_step(), r"pass \d+, fuse")
    assert repro.n_lines <= 8


def test_wrong_machine_code_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = vmath.emit

    def wrong(emitter: Any, op: str, dtype: Any, lanes: int, operands: Sequence[Any], *rest: Any) -> Any:
        return right(emitter, op, dtype, lanes, operands[::-1] if op == "sub" else operands, *rest)

    monkeypatch.setattr(vmath, "emit", wrong)
    monkeypatch.setattr(kept, "_libraries", Cache())        # which knows code by its kernel
    _, repro = found(training_step(backend=Anew()), "code generation")
    assert repro.n_lines <= 10 and "Anew()" in str(repro)


def test_a_fault_that_needs_certain_numbers_keeps_them() -> None:
    def forgets_nan(graph: Graph) -> Graph:
        for node in graph.toposort():
            if node.op is ops.isnan:
                node.op = ops.isinf
        return graph

    PASSES[:] = (*CPU_PASSES[:-1], Pass("forget", forgets_nan), CPU_PASSES[-1])
    f = fb.compile(lambda x: fb.where(fb.isnan(x * 2), 0.0, x).sum(), verify=True, passes=PASSES)
    x = fb.arange(40.0)
    assert f(x).item() == 780
    x[7] = float("nan")
    _, repro = found(lambda: f(x), r"pass \d+, forget")
    assert "isnan" in repro.text and np.isnan(repro.arrays()[0]).any()


def test_written_state_and_halves_of_floats_come_along() -> None:
    def wrong_write(graph: Graph) -> Graph:
        for node in graph.toposort():
            if node.op is ops.neg:
                node.op = ops.abs
        return graph

    PASSES[:] = (*CPU_PASSES[:-1], Pass("wrong", wrong_write), CPU_PASSES[-1])
    total = fb.ones(3).bfloat16()

    @fb.compile(verify=True, passes=PASSES)
    def f(x: Any, n: float) -> Any:
        total.copy_(-x)
        return x * n

    _, repro = found(lambda: f(fb.ones(3).bfloat16(), 2.5), r"pass \d+, wrong")
    assert "neg(" in repro.text and "bfloat16" in str(repro) and total.tolist() == [1, 1, 1]


PASSES: list[Pass] = []             # what the programs are compiled with, for those that run by themselves


# -- the reducer ------------------------------------------------------------------------------------------------------


def test_a_step_of_many_nodes_is_reduced_to_the_one_that_matters() -> None:
    made = program(mlp, "step")
    assert len(made.graph) > 50
    calls = 0

    def fails(graph: Graph, arrays: Sequence[np.ndarray]) -> bool:
        nonlocal calls
        calls += 1
        verify(graph)
        interpret(graph, arrays)            # every candidate is a graph that runs
        return any(node.op is ops.exp for node in graph.toposort())

    before = print_graph(made.graph)
    small, arrays = reduce(made.graph, made.arrays, fails)
    assert len(small) - len(small.inputs) == 1 and len(arrays) == len(small.inputs) == 1 and calls < 60
    assert print_graph(made.graph) == before


def test_random_graphs_are_reduced_to_one_of_their_nodes(seeds: Any) -> None:
    """Whatever op is wanted, what is left is that op and what it is fed."""
    for seed in seeds:
        made = Generator(seed)
        graph, arrays = pruned(made.graph, made.arrays, made.graph.outputs, made.graph.writes)
        names = [node.op.name for node in graph.toposort() if node.operands]
        for wanted in names[:: max(1, len(names) // 2)]:
            def fails(graph: Graph, arrays: Sequence[np.ndarray], wanted: str = wanted) -> bool:
                verify(graph)
                try:
                    interpret(graph, arrays)
                except KernelError:                 # of fewer elements some divisor of integers is zero
                    return False
                return any(node.op.name == wanted for node in graph.toposort())

            small, left = reduce(graph, arrays, fails)
            ops_left = [node.op.name for node in small.toposort() if node.operands]
            assert ops_left == [wanted] and len(left) == len(small.inputs), f"seed {seed}, {wanted}: {print_graph(small)}"


def test_a_reduction_stops_in_time() -> None:
    made = program(mlp, "step")
    small, _ = reduce(made.graph, made.arrays, lambda graph, arrays: True, seconds=0.0)
    assert small is made.graph


def test_a_graph_is_called_on_arrays() -> None:
    graph = fb.ir.parse("""
        graph @f {
          %0 = input arg "x" : f32[2]
          %1 = input state "s" : f32[2]
          %2 = add(%0, %1) : f32[2]
          write %2 to %1
          return %2
        }""")
    x, s = np.ones(2, np.float32), np.full(2, 3, np.float32)
    (out,) = call_on_arrays(compile_graph(graph), [x, s])
    assert out.tolist() == [4, 4] and s.tolist() == [3, 3]
