"""`explain`, `diff` and graphs that run: what is said is what was compiled."""

from __future__ import annotations

import doctest
import random
import textwrap
import time

import numpy as np
import pytest
from random_graphs import Generator
from rounding import bounds

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.errors import UnsupportedError, VerificationError
from flambeau.frontend.call.replay import function_of
from flambeau.ir.dims import Dim, Size, evaluated, names_of
from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.difference import difference
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.markup import folded
from flambeau.ir.ops import Fusion
from flambeau.ir.size_text import parse_size
from flambeau.passes.cpu.pipeline import CPU_LIMITS, CPU_PASSES
from flambeau.passes.fusion.reasons import reasons
from flambeau.passes.memory.timeline import bound_of, lives, named_types, occupied, peaks
from flambeau.passes.pipeline import run


def golden(text: str, wanted: str) -> bool:
    """Whether a text is as wanted; `...` stands for what differs from machine to machine."""
    checker = doctest.OutputChecker()
    same = checker.check_output(textwrap.dedent(wanted).strip() + "\n", text + "\n",
                                doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert same, f"is\n\n{text}\n\nnot\n\n{textwrap.dedent(wanted)}"
    return same


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(32)
        self.fc = nn.Linear(32, 16)

    def forward(self, x):
        return self.fc(self.norm(x) + x)


def test_explain_of_an_inference():
    net = Net()
    forward = fb.compile(lambda x: F.softmax(net(x), dim=-1))
    with fb.no_grad():
        forward(fb.ones(8, 32))
        forward(fb.ones(9, 32))
    assert golden(forward.explain(), """
        <lambda>: 2 signatures, 1 calls of the newest
          traced     ... ops (0 of them derivatives) in ... ms
          ...
          memory     ... of scratch (... without sharing), 2.3 KiB of captured state, 0 tensors updated in place...
          inputs     1 arguments, 4 captured tensors; ... objects watched
          ...
          steps, in order:
              0 forward loop over 9 x 32 LayerNorm of net.norm + add of net; ...FLOP, ...; ...test_explain.py:...
              1 forward contraction over 9 x 16 x 32 Linear of net.fc; 9.36 kFLOP, 3.8 KiB, 2.44 FLOP/B; ...py:...
              2 forward loop over 9 x 16 softmax; ...
          scratch ...
            at its most, ... in step ...:
              ...
          not fused, and why:
            ...: a contraction kernel reads its operands from memory
            ...
          of the passes, ...
          compiled again because:
            argument 0 is f32[9,32], was f32[8,32]
    """)


def test_explain_says_share_of_peak_once_profiled():
    f = fb.compile(lambda x: (x @ x).relu())
    x = fb.ones(128, 128)
    f(x)
    assert "of peak" not in f.explain()
    with fb.profile():
        f(x)
    assert "us, " in f.explain() and "% of peak" in f.explain()


def test_steps_of_a_training_step_are_named():
    net = Net()
    opt = optim.SGD(net.parameters(), lr=0.1)

    @fb.compile
    def step(x, y):
        opt.zero_grad()
        F.cross_entropy(net(x), y).backward()
        opt.step()

    step(fb.ones(8, 32), fb.zeros(8, dtype=fb.int64))
    told = step.explain()
    for words in ("LayerNorm backward of net.norm", "Linear backward of net.fc", "cross_entropy", "optimizer step"):
        assert words in told, told
    p = step.provenance()
    assert {module for n in range(len(p.calls)) for module in p.modules_of(n)} >= {"net.norm", "net.fc"}


def test_a_kernel_read_by_two_says_so():
    f = fb.compile(lambda x, w: (F.gelu(x) @ w, F.gelu(x).sum(dim=0)))
    f(fb.ones(40, 40), fb.ones(40, 40))
    whys = [why for _, _, why in f.signatures[0].compiled.unfused]
    assert "a contraction kernel reads its operands from memory" in whys


def test_every_pair_of_kernels_has_a_reason_and_no_other_has():
    end, count = time.monotonic() + 1.0, 0
    while time.monotonic() < end or count < 3:
        seed = random.randrange(1 << 30)
        count += 1
        graph = Generator(seed, 30).graph
        before, _ = run(clone(graph)[0], CPU_PASSES[:-1])
        fused = CPU_PASSES[-1].function(clone(before)[0])
        fusions = [node for node in fused.toposort() if isinstance(node.op, Fusion)]
        number_of = {node: number for number, node in enumerate(fusions)}
        read = {(number_of[value.node], number_of[node]) for node in fusions for value in node.operands
                if value.node in number_of}
        found = reasons(before, CPU_LIMITS)
        told = {(pair.producer, pair.consumer) for pair in found}
        assert read <= told, seed
        assert all(0 <= a < len(fusions) and 0 <= b < len(fusions) and a != b for a, b in told), seed
        assert all(pair.why for pair in found), seed


def test_lives_of_the_arena_do_not_overlap_and_fit():
    end, count = time.monotonic() + 1.0, 0
    while time.monotonic() < end or count < 2:
        seed = random.randrange(1 << 30)
        count += 1
        graph = Generator(seed, 25).graph
        memory = fb.compiler.compile_graph(graph).memory
        found = lives(memory)
        for number, life in enumerate(found):
            assert 0 <= life.offset and life.offset + life.nbytes <= memory.arena_bytes, seed
            for other in found[:number]:
                apart = other.last < life.first or life.last < other.first
                below = other.offset + other.nbytes <= life.offset
                assert apart or below or life.offset + life.nbytes <= other.offset, seed
        assert max(occupied(found, len(memory.calls)), default=0) <= memory.arena_bytes, seed


def test_peak_of_a_family_is_a_formula_in_its_sizes():
    layer = nn.Linear(64, 32)

    def step(x: fb.Tensor, y: fb.Tensor) -> list[fb.Tensor]:
        return list(fb.autograd.grad(F.mse_loss(layer(x).softmax(-1).relu(), y), [*layer.parameters()]))

    f = fb.compile(step, dynamic=True)
    for n in (200, 300, 400):
        f(fb.randn(n, 64), fb.randn(n, 32))
        family = f.signatures[0].family
        memory, at = family.newest_compiled.memory, dict(zip(family.named.facts.sizes, (n, 64, n, 32), strict=True))
        found = peaks(memory, named_types(family.named_graph, family.newest_compiled.fused))
        most = max(occupied(lives(memory), len(memory.calls)))
        assert max(evaluated(size, at) for size in found) == most <= evaluated(bound_of(found), at)
        assert any(names_of(size) for size in found)
    assert len(f.signatures) == 1
    assert "peak of scratch memory" in f.explain() and "s0" in f.explain().partition("peak of scratch memory")[2][:80]


@pytest.mark.parametrize(("sizes", "wanted"), [
    ([4 * Dim("n"), 4 * Dim("n") + 8], "4*n+8"), ([4 * Dim("n") - 8, 2 * Dim("n")], "4*n"),
    ([Dim("n") * Dim("m"), 3 * Dim("n"), 16], "m*n+3*n+16"), ([5, 7], "7")])
def test_bound_of_sizes(sizes: list[Size], wanted: str):
    assert bound_of(sizes) == parse_size(wanted)
    for n in range(5):
        assert all(evaluated(size, {"n": n, "m": 3}) <= evaluated(bound_of(sizes), {"n": n, "m": 3}) for size in sizes)


def test_explain_of_a_program_whose_scratch_memory_is_empty():
    f = fb.compile(lambda x: (x.sort(0).values * 2).cumsum(0))
    f(fb.zeros(0, 3))
    assert "scratch" in f.explain()


# -- diff -------------------------------------------------------------------------------------------------------------


def test_diff_of_a_pass():
    f = fb.compile(lambda x: fb.softmax(x, dim=1) * 1)
    f(fb.ones(2, 3))
    assert golden(f.diff("graph", "decompose"), """
        --- graph
        +++ decompose
        @@ -1,5 +1,9 @@
         %0 = input arg "arg[0]" : f32[2,3]
        -%1 = softmax(%0, dim=1) : f32[2,3]
        -%2 = constant(value=f32[] 1.0) : f32[]
        -%3 = mul(%1, %2) : f32[2,3]
        -return %3
        +%4 = amax(%0, dims=(1,)) : f32[2]
        +%5 = broadcast(%4, shape=(2, 3), dims=(0,)) : f32[2,3]
        +%6 = sub(%0, %5) : f32[2,3]
        +%7 = exp(%6) : f32[2,3]
        +%8 = sum(%7, dims=(1,)) : f32[2]
        +%9 = broadcast(%8, shape=(2, 3), dims=(0,)) : f32[2,3]
        +%10 = div(%7, %9) : f32[2,3]
        +return %10
    """)
    with pytest.raises(ValueError, match="no IR level or pass called 'nonsense'"):
        f.diff("graph", "nonsense")


def test_fusion_differs_by_its_frames_alone():
    f = fb.compile(lambda x, w: fb.exp(x @ w) + 1)
    f(fb.ones(4, 8), fb.ones(8, 3))
    changed = [line for line in f.diff("decompose", "fused").splitlines()[2:] if line[0] in "+-"]
    assert changed[0] == "+fusion contraction {" and all(line.startswith(("+fusion", "+}")) for line in changed)


def test_a_graph_does_not_differ_from_its_copy():
    for seed in range(5):
        graph = Generator(seed, 40).graph
        assert difference(graph, clone(graph)[0]) == ""
        assert difference(graph, fb.ir.parse(str(graph))) == ""


# -- graphs that run --------------------------------------------------------------------------------------------------

SCALED = """
graph @scaled {
  %0 = input arg "x" : f32[2,3]
  %1 = input state "total" : f32[3]
  %2 = input scalar "by" : f64[]
  %3 = cast(%2, dtype=f32) : f32[]
  %4 = mul(%0, %3) : f32[2,3]
  %5 = sum(%4, dims=(0,)) : f32[3]
  %6 = add(%1, %5) : f32[3]
  write %6 to %1
  return %4
}
"""


def test_parsed_graph_runs_and_writes():
    total = np.ones(3, np.float32)
    out = fb.ir.parse(SCALED)(np.ones((2, 3), np.float32), total, np.array(2.0))
    assert out.tolist() == [[2.0] * 3] * 2 and total.tolist() == [5.0] * 3


def test_parsed_graph_compiles_and_writes():
    scaled = fb.compile(fb.ir.parse(SCALED))
    total = fb.ones(3)
    assert scaled(fb.ones(2, 3), total, 2.0).tolist() == [[2.0] * 3] * 2 and total.tolist() == [5.0] * 3
    assert scaled(fb.ones(2, 3), total, 3.0).tolist() == [[3.0] * 3] * 2 and total.tolist() == [11.0] * 3
    assert len(scaled.signatures) == 1 and "scaled" in repr(scaled)


def test_wrong_arguments_of_a_graph_are_told():
    graph = fb.ir.parse(SCALED)
    with pytest.raises(VerificationError, match="takes 3 inputs, got 1"):
        graph(np.ones(3))
    with pytest.raises(VerificationError, match=r"input 'x' is f32\[2,3\], got an array of float64\[2, 3\]"):
        graph(np.ones((2, 3)), np.ones(3, np.float32), np.array(2.0))
    with pytest.raises(TypeError, match=r"arg 'x' is f32\[2,3\], got f32\[3,2\]"):
        fb.compile(graph)(fb.ones(3, 2), fb.ones(3), 1.0)
    with pytest.raises(TypeError, match="takes 3 arguments, 1 were given"):
        fb.compile(graph)(fb.ones(2, 3))
    with pytest.raises(UnsupportedError, match="only graphs of fixed sizes"):
        fb.compile(fb.ir.parse('graph @g {\n  %0 = input arg "x" : f32[B]\n  return %0\n}\n'))


def test_graphs_with_loops_and_branches_run():
    def halved(x):
        return fb.while_loop(lambda x: x.sum() > 1, lambda x: (x / 2,), (x,))[0]

    def chosen(x):
        return fb.cond(x.sum() > 3, lambda x: x * 2, lambda x: x - 1, (x,))

    for function in (halved, chosen):
        f = fb.compile(function)
        wanted = f(fb.ones(8))
        again = fb.compile(fb.ir.parse(f.ir("graph")))
        assert again(fb.ones(8)).tolist() == wanted.tolist()


def replayed(graph: Graph, arrays):
    found = function_of(graph)(*[fb.from_numpy(array.copy()) for array in arrays])
    return [t.numpy() for t in (found if isinstance(found, tuple) else (found,))]


def test_random_graphs_replay_as_they_are_interpreted():
    end, count = time.monotonic() + 1.0, 0
    while time.monotonic() < end or count < 3:
        seed = random.randrange(1 << 30)
        count += 1
        made = Generator(seed, 20)
        graph, arrays = made.graph, made.arrays
        wanted, _ = interpret(graph, arrays)
        fused, _ = run(clone(graph)[0], CPU_PASSES)
        for one in (graph, fused):
            for found, expected, bound in zip(replayed(one, arrays), wanted, bounds(graph, arrays), strict=False):
                near = np.abs(found.astype(np.float64) - expected.astype(np.float64)) <= bound
                assert (near | (found == expected) | (np.isnan(found) & np.isnan(expected))).all(), seed


# -- logs -------------------------------------------------------------------------------------------------------------


def test_logs_say_what_there_is_and_what_was_decided(capsys):
    with fb.config.set(logs="help"):
        pass
    told = capsys.readouterr().err
    assert all(f"\n  {channel} " in told for channel in ("fusion", "memory", "passes", "recompiles", "cache"))
    with fb.config.set(logs="passes,memory,fusion,cache"):
        fb.compile(lambda x: fb.softmax(x @ x, dim=0).sum(dim=1))(fb.ones(9, 9))
    told = capsys.readouterr().err
    assert "[flambeau passes]" in told and "decompose" in told and "[flambeau memory]" in told
    assert "[flambeau fusion]" in told and "[flambeau cache]" in told


# -- notebooks --------------------------------------------------------------------------------------------------------


def test_notebooks_show_graphs_functions_and_tensors():
    f = fb.compile(lambda x: x * 2 + 1)
    x = fb.ones(2, 3)
    assert "not called yet" in f._repr_html_()
    f(x)
    shown = f._repr_html_()
    assert "<summary>compiled &lt;lambda&gt;, 1 signatures</summary>" in shown and "steps, in order" in shown
    shown = f.graph("graph")._repr_html_()
    assert "1 inputs" in shown and "%0 = input arg" in shown and "<lambda>" not in shown
    assert "<summary>tensor f32[2,3]</summary>" in x._repr_html_() and "1." in x._repr_html_()
    assert "requires grad" in fb.ones(2, requires_grad=True)._repr_html_()
    assert "lines more" in folded("long", "line\n" * 1000)
