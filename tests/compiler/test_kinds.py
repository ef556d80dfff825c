"""A kernel kind is one object in one file: a stranger's goes end to end, and no other file tells kinds apart."""
from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checked import compiled, run
from reversal_kind import KIND, NOT_A_NUMBER, Reversal, ReversalKernel, ReversalSchedule

import flambeau as fb
from flambeau import kinds
from flambeau.compiler import compile_graph
from flambeau.errors import GraphError, KernelError, ParseError, UnsupportedError
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.ir import Builder, Graph, interpret, parse, parse_kernel, print_kernel
from flambeau.ir import kinds as table
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.interpreter import interpret as interpret_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.kinds import kind_named, kind_of
from flambeau.ir.op import OPS
from flambeau.passes.fusion.fuse import fuse
from flambeau.passes.lowering.lower import lower

PACKAGE = Path(fb.__file__).parent
GRAPH = """graph @main {
  %0 = input arg "x" : f32[3,4]
  %1 = exp(%0) : f32[3,4]
  %2 = permute(%1, dims=(1, 0)) : f32[4,3]
  %3, %4 = reversal(%2) : f32[4,3], i64[4,3]
  %5 = add(%3, %2) : f32[4,3]
  return %5, %4
}
"""
KERNEL = """reversal @back {
  in in0: f32[6]
  out out0: f32[6]
  out out1: i64[6]
  rows %i0 = 2, %i1 = 3
  schedule grain=4, parallel=false
  loc "train.py:7: y = reversal(x)"
}
"""


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user writes once: `register("reversal")(Reversal)` and `register_kind("reversal", lambda: KIND)`."""
    monkeypatch.setitem(OPS, "reversal", Reversal)
    monkeypatch.setitem(table._KINDS, "reversal", lambda: KIND)


def reversal(x: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
    found: tuple[fb.Tensor, fb.Tensor] = dispatch(Reversal(), x)
    return found


# -- a stranger's kind ------------------------------------------------------------------------------------------------


def test_op_is_fused_alone_and_its_operand_lies_in_memory() -> None:
    fused = fuse(parse(GRAPH))
    assert [n.op.kind for n in fused.toposort() if n.op.name == "fusion"] == ["loop", "reversal", "loop"]
    (node,) = (n for n in fused.toposort() if getattr(n.op, "kind", "") == "reversal")
    assert [n.op.name for n in node.regions[0].toposort()] == ["input", "reversal"]


def test_compiled_graph_means_what_it_says() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    outcome = run(compiled(parse(GRAPH)), [x])
    e = np.exp(x.T)
    np.testing.assert_allclose(outcome.outputs[0], e[:, ::-1] + e, rtol=1e-6)
    assert outcome.outputs[1].tolist() == [[2, 1, 0]] * 4


@pytest.mark.parametrize("sample", list(Reversal.samples()), ids=lambda sample: str(sample.types[0]))
def test_every_sample_runs_alike_on_both_backends_and_as_its_kernel_means(sample) -> None:
    graph = Graph(name="sample")
    operands = [graph.add_input(t) for t in sample.types]
    graph.outputs = list(Builder(graph).emit(sample.op, *operands))
    wanted, _ = interpret(graph, sample.operands)
    made = compiled(graph)
    interpreted = compile_graph(graph, backend="interpret")
    for outcome in (run(made, sample.operands), run(interpreted, sample.operands)):
        for found, meant in zip(outcome.outputs, wanted, strict=True):
            assert found.tobytes() == np.ascontiguousarray(meant).tobytes()
    (kernel,) = made.kernels
    assert isinstance(kernel, ReversalKernel)
    buffers = [np.ascontiguousarray(sample.operands[0]).ravel(), *[np.empty(w.size, w.dtype) for w in wanted]]
    interpret_kernel(kernel, buffers)
    for found, meant in zip(buffers[1:], wanted, strict=True):
        assert found.tobytes() == np.ascontiguousarray(meant).tobytes()


def test_kernel_reads_back_as_printed() -> None:
    kernel = parse_kernel(KERNEL)
    assert isinstance(kernel, ReversalKernel)
    assert kernel.schedule == ReversalSchedule(4, False)
    assert print_kernel(kernel) == KERNEL
    verify_kernel(kernel)
    assert [print_kernel(k) for k in fb.ir.parse_kernels(KERNEL + "\n" + KERNEL)] == [KERNEL, KERNEL]


@pytest.mark.parametrize(("old", "new", "message"), [
    ("out out1: i64[6]", "out out1: f32[6]", "kernel back: gives f32 and f32, not f32 and i64"),
    ("out out0: f32[6]", "out out0: f32[7]", "kernel back, param out0: has 6 elements to store, not 7"),
    ("out out0", "in out0", "kernel back: needs an operand and two results"),
    ("grain=4", "grain=0", "kernel back: grain=0 is not a positive int"),
])
def test_broken_kernels_are_found(old: str, new: str, message: str) -> None:
    with pytest.raises(GraphError) as caught:
        verify_kernel(parse_kernel(KERNEL.replace(old, new)))
    assert caught.value.message == message


def test_key_counts_what_code_depends_on() -> None:
    kernel = parse_kernel(KERNEL)
    assert kernel_key(kernel) == kernel_key(replace(kernel, name="other", locations=()))
    assert kernel_key(kernel) != kernel_key(replace(kernel, schedule=ReversalSchedule(5, False)))
    assert kernel_key(kernel) != kernel_key(replace(kernel, extents=(3, 2)))


def test_traced_function_with_gradient_verifies_itself() -> None:
    def f(x: fb.Tensor) -> fb.Tensor:
        y, positions = reversal(fb.sin(x).t())
        return (y * fb.cos(x).t() + positions).sum(0)

    x = fb.randn(5, 3, requires_grad=True)
    for found in (fb.compile(f, verify=True)(x), fb.compile(f)(x), fb.compile(f, backend="interpret")(x)):
        np.testing.assert_allclose(found.detach().numpy(), f(x).detach().numpy(), rtol=1e-5)
        x.grad = None
        found.sum().backward()
        compiled_grad = x.grad.numpy()
        x.grad = None
        f(x).sum().backward()
        np.testing.assert_allclose(compiled_grad, x.grad.numpy(), rtol=1e-5, atol=1e-6)


def test_result_that_nothing_reads_is_no_trouble() -> None:
    x = fb.randn(4, 3)
    assert fb.compile(lambda x: reversal(x)[1], verify=True)(x).tolist() == [[2, 1, 0]] * 4
    assert (fb.compile(lambda x: reversal(x + 1)[0] * 2)(x).numpy() == (x.numpy() + 1)[:, ::-1] * 2).all()


@pytest.mark.parametrize("options", [{}, {"backend": "interpret"}, {"verify": True}])
def test_error_has_its_words_and_leaves_state_as_it_was(options: dict[str, object]) -> None:
    state = fb.zeros(3)

    @fb.compile(**options)                                                          # type: ignore[arg-type]
    def step(x: fb.Tensor) -> fb.Tensor:
        state.add_(1.0)
        return reversal(x)[0]

    step(fb.ones(2, 3))
    with pytest.raises(KernelError, match="row 1 has a NaN") as caught:
        step(fb.tensor([[1.0, 2.0, 3.0], [1.0, float("nan"), 3.0]]))
    assert caught.value.status == NOT_A_NUMBER
    assert state.tolist() == [1.0, 1.0, 1.0]


def test_explain_and_ir_name_it() -> None:
    f = fb.compile(lambda x: reversal(x)[0])
    f(fb.ones(2, 3))
    assert "reversal    over 2 x 3" in f.explain()
    assert 'kind="reversal"' in f.ir("fused")
    assert "reversal @k" in f.ir("kernels")
    assert "define" in f.ir("llvm")


def test_code_for_it_is_missed_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(table._KINDS, "reversal", lambda: replace(KIND, implementations={}))
    with pytest.raises(UnsupportedError, match="there is no code for reversal kernels on the backend 'cpu'"):
        compile_graph(parse(GRAPH.replace("[3,4]", "[30,4]").replace("[4,3]", "[4,30]")))
    compile_graph(parse(GRAPH), backend="interpret")


def test_it_runs_in_branches_and_loops() -> None:
    def f(x: fb.Tensor, n: fb.Tensor) -> fb.Tensor:
        y = fb.cond(x.sum() > 0, lambda x: reversal(x)[0] + 1, lambda x: reversal(x.t())[0].t(), (x,))
        _, z = fb.while_loop(lambda i, z: i < n, lambda i, z: (i + 1, reversal(z)[0] * 1.5),
                             (fb.zeros((), dtype=fb.int64), y))
        return z

    for options in ({}, {"verify": True}, {"backend": "interpret"}):
        g = fb.compile(f, **options)                                                # type: ignore[arg-type]
        for sign in (1.0, -1.0):
            x, n = fb.rand(3, 3) * sign, fb.tensor(3)
            np.testing.assert_allclose(g(x, n).numpy(), f(x, n).numpy(), rtol=1e-6)
        with pytest.raises(KernelError, match="row 2 has a NaN"):
            g(fb.tensor([[1.0] * 3, [2.0] * 3, [3.0, 4.0, float("nan")]]), n)


AROUND = [
    lambda a, b: reversal(a)[0], lambda a, b: reversal(a.t())[0].t(), lambda a, b: reversal(a)[1].float() + b,
    lambda a, b: fb.tanh(a), lambda a, b: a.t(), lambda a, b: a @ b, lambda a, b: a - b.sum(-1, keepdim=True),
    lambda a, b: a * b, lambda a, b: reversal(a[1:])[0].sum(0) + b, lambda a, b: reversal(fb.cat([a, b]))[0][:4],
    lambda a, b: reversal(fb.ones(4, 4))[0] + a, lambda a, b: fb.relu(reversal(a.reshape(2, 8))[0]).reshape(4, 4),
    lambda a, b: reversal(a.expand(3, 4, 4))[0].sum(0) + b,
]


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_around_it_agree(seed: int) -> None:
    """Reversals between views, sums, products and updates of state: verified, interpreted and compiled alike."""
    def program(x: fb.Tensor, w: fb.Tensor, state: fb.Tensor) -> tuple[fb.Tensor, ...]:
        rng, values = random.Random(seed), [x, w]
        for _ in range(10):
            values.append(rng.choice(AROUND)(rng.choice(values), rng.choice(values)))
        state.copy_(reversal(state)[0] + values[-1].mean())
        return values[-1], reversal(values[-2])[1], values[-3]

    fb.manual_seed(seed)
    x, w = fb.randn(4, 4), fb.randn(4, 4)
    results = []
    for options in (None, {}, {"verify": True}, {"backend": "interpret"}):
        state = fb.ones(3, 4)
        f = program if options is None else fb.compile(program, **options)          # type: ignore[arg-type]
        results.append([t.numpy() for t in (*f(x, w, state), *f(w, x, state), state)])
    for found in results[1:]:
        for a, b in zip(found, results[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * max(1.0, float(np.abs(b).max(initial=0.0))))


@pytest.mark.parametrize(("kind", "message"), [
    (None, "reversal is computed by no kernel, and is still there after decompose"),
    ("sorcery", "there is no kind of kernel called 'sorcery'; known are loop, contraction, scatter"),
])
def test_op_without_a_kernel_is_an_error(kind: str | None, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reversal, "kernel_kind", kind)
    with pytest.raises(GraphError) as caught:
        compile_graph(parse(GRAPH))
    assert caught.value.message.startswith(message)


# -- those there are --------------------------------------------------------------------------------------------------


def test_every_registered_kind_is_a_module_with_its_name() -> None:
    files = {path.stem for path in (PACKAGE / "kinds").glob("*.py")}
    files -= {"__init__", "routines", "on_cuda"}        # "library"'s table, what GPUs have for all
    assert files == set(kinds.KINDS)
    assert [kind_named(name).name for name in kinds.KINDS] == list(kinds.KINDS)


def test_ops_name_kinds_that_exist() -> None:
    for name, op in OPS.items():
        kind = op.kernel_kind if not isinstance(op, type) else getattr(op, "kernel_kind", None)
        assert not isinstance(kind, str) or kind_named(kind).name == kind, name


@pytest.mark.parametrize("first", ["import flambeau as fb\nparse = fb.ir.parse_kernel",
                                   "from flambeau.ir import parse_kernel as parse",
                                   "from flambeau.ir.kernel.parser import parse_kernel as parse"])
def test_kernels_are_read_with_the_ir_alone(first: str) -> None:
    text = "loop @a {\n  out y: f32[1]\n  stage () {\n    %0 = const 1.0 : f32\n    store %0 to y[0]\n  }\n}\n"
    code = f"{first}\nprint(parse({text!r}).keyword)"
    ran = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert ran.stdout == "loop\n", ran.stderr


def test_unknown_kinds_and_keywords_are_errors_that_name_the_known() -> None:
    with pytest.raises(GraphError, match="no kind of kernel called 'sorcery'; known are loop, contraction, scatter"):
        kind_named("sorcery")
    for text in ("sorcery @a {\n}\n", "scatter @a {\n}\n"):
        with pytest.raises(ParseError, match="expected 'loop', 'contraction'.* or 'reversal', found 's"):
            parse_kernel(text)


def test_what_loops_make_of_a_scatter_is_scheduled_as_loops() -> None:
    graph = parse("graph @main {\n  %0 = input arg \"i\" : i64[4]\n  %1 = input arg \"x\" : f32[4]\n"
                  "  %2 = scatter_add(%0, %1, size=3, dim=0) : f32[3]\n  return %2\n}\n")
    (call,) = compile_graph(graph).memory.calls
    assert kind_of(call.kernel) is kind_named("loop")


def kernel_class_tests(path: Path) -> Iterator[str]:
    """Places that ask of which class a kernel is, or which kind a name is."""
    classes = {load().kernel.__name__ for load in table._KINDS.values()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(func=ast.Name(id="isinstance" | "issubclass"), args=[_, asked]):
                named = {n.id for n in ast.walk(asked) if isinstance(n, ast.Name)}
            case ast.MatchClass(cls=ast.Name(id=name)):
                named = {name}
            case ast.Compare():
                named = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)} & {"contraction", "scatter"}
                named |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & classes
            case _:
                continue
        if named & (classes | {"contraction", "scatter"}):
            yield f"{path.relative_to(PACKAGE.parent)}:{node.lineno}: {ast.unparse(node)}"


def test_no_file_tells_kernel_kinds_apart() -> None:
    wrong = [place for path in sorted(PACKAGE.rglob("*.py")) for place in kernel_class_tests(path)]
    assert not wrong, "\n".join(wrong)


def test_lowering_gives_every_op_its_kind() -> None:
    (*_, call, _) = lower(fuse(parse(GRAPH)))
    assert kind_of(call.kernel) is KIND
