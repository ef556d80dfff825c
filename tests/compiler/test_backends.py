"""Backends and passes that users bring: the interpreting backend agrees with machine code, and what a stranger's pass
or backend may not do is an error."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checked import assert_close, run
from programs import lenet, mlp, program, residual_net, transformer

import flambeau as fb
from flambeau.backends import (
    Artifact,
    Backend,
    BuiltKernel,
    InterpretBackend,
    Runnable,
    backend_of,
    register_backend,
    whole_kernel,
)
from flambeau.compiler import compile_graph
from flambeau.errors import GraphError, KernelError, UnsupportedError
from flambeau.ir import parse
from flambeau.ir.graph import Graph
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.target import Target, generic_aarch64, generic_x86_64
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.lowering.lower import Call
from flambeau.passes.pipeline import Pass
from flambeau.runtime.host import host_target
from flambeau.runtime.interpreted import InterpretedExecutable
from flambeau.runtime.program import Program

DOUBLE = "graph @main {\n  %0 = input arg \"x\" : f32[6]\n  %1 = add(%0, %0) : f32[6]\n  return %1\n}\n"
TAKE = ("graph @main {\n  %0 = input arg \"x\" : f32[6]\n  %1 = input arg \"i\" : i64[2]\n"
        "  %2 = take(%0, %1, dim=0) : f32[2]\n  return %2\n}\n")


@pytest.mark.parametrize("model", [mlp, lenet])
def test_interpreted_training_step_agrees_with_machine_code(model: object) -> None:
    made = program(model, "step")                                       # type: ignore[arg-type]
    native = run(compile_graph(made.graph), made.arrays)
    interpreted = run(compile_graph(made.graph, backend="interpret"), made.arrays)
    for value, found, wanted in zip(made.graph.outputs, native.outputs, interpreted.outputs, strict=True):
        assert_close(found, wanted, value.dtype, 64, False, 0.0, "output")
    for value, found in native.states.items():
        assert_close(found, interpreted.states[value], value.dtype, 64, False, 0.0, repr(value))


def test_interpreted_kernel_fails_with_the_words_of_machine_code() -> None:
    arrays = [np.zeros(6, np.float32), np.array([0, 9])]
    messages = []
    for backend in ("cpu", "interpret"):
        with pytest.raises(KernelError) as caught:
            run(compile_graph(parse(TAKE), backend=backend), arrays)
        messages.append((str(caught.value), caught.value.status, caught.value.details))
    assert messages[0] == messages[1]


class Counting(InterpretBackend):
    """Interprets, and counts what it was asked to build."""

    levels = ("name",)

    def __init__(self) -> None:
        super().__init__()
        self.built = self.rounds = 0

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        self.built += len(kernels)
        self.rounds += 1
        return super().build(kernels, target)

    def text(self, kernel: Kernel, target: Target, level: str) -> str:
        return kernel.name if level == "name" else super().text(kernel, target, level)


def test_backend_builds_a_kernel_once_and_shows_its_own_levels() -> None:
    backend = Counting()
    register_backend("counting", backend)
    first, second = (compile_graph(parse(DOUBLE), backend="counting") for _ in range(2))
    assert backend.built == 1 and (first.new_kernels, second.new_kernels) == (1, 0)
    assert first.text("name") == first.kernels[0].name
    with pytest.raises(ValueError, match="no IR level or pass called 'llvm'"):
        first.text("llvm")
    assert run(second, [np.arange(6, dtype=np.float32)]).outputs[0].tolist() == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("change", [{"cores": 64}, {"l2_bytes": 64 << 10}, {"l1_bytes": 8 << 10}])
def test_targets_that_differ_in_cores_or_caches_share_no_schedule(change: dict[str, int]) -> None:
    """Their machine code may be the same, so that only what schedules read tells them apart."""
    backend = Counting()
    made = mlp_graph(256)
    few = replace(host_target(), cores=1, l1_bytes=32 << 10, l2_bytes=1 << 20)
    other = replace(few, **change)
    first, second, again = (compile_graph(made, target=target, backend=backend) for target in (few, other, few))
    alone = compile_graph(made, target=other, backend=Counting())
    assert [c.kernel for c in second.memory.calls] == [c.kernel for c in alone.memory.calls]
    assert [c.kernel for c in again.memory.calls] == [c.kernel for c in first.memory.calls]
    assert [c.kernel for c in second.memory.calls] != [c.kernel for c in first.memory.calls]


def mlp_graph(size: int) -> Graph:
    """A matrix product large enough that cores and caches decide how it is cut up."""
    return parse(f"graph @main {{\n  %0 = input arg \"x\" : f32[{size},{4 * size}]\n"
                 f"  %1 = input arg \"w\" : f32[{4 * size},{2 * size}]\n"
                 f"  %2 = matmul(%0, %1) : f32[{size},{2 * size}]\n  return %2\n}}\n")


class Whole(Backend):
    """The least that a backend says. Prepares as any device may, and remembers what it was given."""

    def __init__(self) -> None:
        self.prepared: list[Call] = []
        self.rounds = 0

    def prepare(self, calls: Sequence[Call], target: object) -> list[Call]:
        self.prepared += (found := super().prepare(calls, target))
        return found

    def build(self, kernels: Sequence[Kernel], target: object) -> list[Artifact]:
        self.rounds += 1
        return [whole_kernel(kernel) for kernel in kernels]

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Runnable:
        return InterpretedExecutable(program, [b.kernel for b in built])


@pytest.mark.parametrize("model", [mlp, lenet, residual_net, transformer])
def test_backend_that_decides_nothing_runs_what_the_cpu_runs(model: object) -> None:
    """No layouts, no parts, no schedules: the kernels are those of lowering."""
    made, backend = program(model, "step"), Whole()                     # type: ignore[arg-type]
    plain = compile_graph(made.graph, backend=backend)
    assert all(call.kernel.schedule is None for call in plain.memory.calls)
    assert {kernel_key(c.kernel) for c in plain.memory.calls} == {kernel_key(c.kernel) for c in backend.prepared}
    native, found = run(compile_graph(made.graph), made.arrays), run(plain, made.arrays)
    for value, output, wanted in zip(made.graph.outputs, found.outputs, native.outputs, strict=True):
        assert_close(output, wanted, value.dtype, 256, False, 0.0, "output")
    for value, state in found.states.items():
        assert_close(state, native.states[value], value.dtype, 256, False, 0.0, repr(value))


def test_only_the_cpu_cuts_long_sums() -> None:
    text = f'graph @main {{\n  %0 = input arg "x" : f32[{1 << 20}]\n  %1 = sum(%0, dims=(0,)) : f32[]\n  return %1\n}}\n'
    target = replace(host_target(), cores=8)
    cut, whole = (compile_graph(parse(text), target=target, backend=b).kernels for b in (Counting(), Whole()))
    assert [k.name for k in cut] == ["k0_parts", "k0_combined"] and [k.name for k in whole] == ["k0"]


SWAP = ("graph @main {\n  %0 = input state \"a\" : f32[6]\n  %1 = input state \"b\" : f32[6]\n"
        "  %2 = add(%0, %1) : f32[6]\n  write %1 to %0\n  write %0 to %1\n  return %2, %2\n}\n")


@pytest.mark.parametrize("make", [Whole, Counting])
def test_copies_are_prepared_as_all_calls_are_and_everything_is_built_at_once(make: type[Whole | Counting]) -> None:
    backend = make()
    swapped = compile_graph(parse(SWAP), backend=backend)
    assert swapped.memory.copies == 5 and backend.rounds == 1           # the second output, both states saved and set
    assert len({call.kernel.schedule is None for call in swapped.memory.calls}) == 1
    a, b = np.arange(6, dtype=np.float32), np.ones(6, np.float32)
    outcome = run(swapped, [a, b])
    assert [o.tolist() for o in outcome.outputs] == [(a + b).tolist()] * 2
    assert [s.tolist() for s in outcome.states.values()] == [b.tolist(), a.tolist()]


def test_schedules_are_a_backends_own() -> None:
    class Narrow(Counting):
        def prepare(self, calls: Sequence[Call], target: Target) -> list[Call]:
            return super().prepare(calls, replace(target, vector_bytes=4))

    made = mlp_graph(16)
    wide, narrow, again = (compile_graph(made, backend=b) for b in (Counting(), Narrow(), Counting()))
    assert wide.kernels == again.kernels != narrow.kernels


def test_kernels_are_built_for_each_target_and_kept() -> None:
    backend, here = Whole(), host_target()
    built = [compile_graph(parse(DOUBLE), target=t, backend=backend).new_kernels for t in ("a", "b", "a", here, here)]
    assert built == [1, 1, 0, 1, 0]


@pytest.mark.parametrize("how", [{}, {"backend": "interpret"}, {"verify": True}, {"verify": True, "backend": "interpret"}])
def test_every_runnable_is_profiled_launch_by_launch(how: dict[str, Any]) -> None:
    made = program(mlp, "step")
    compiled = compile_graph(made.graph, **how)
    arrays = [np.ascontiguousarray(a) for a in made.arrays]
    kinds = [v.node.op.kind for v in made.graph.inputs]                 # type: ignore[attr-defined]
    of_kind = {kind: [a for a, k in zip(arrays, kinds, strict=True) if k == kind] for kind in ("arg", "state", "scalar")}
    outs = [np.empty(v.type.static_shape, v.dtype.storage) for v in made.graph.outputs]
    bound = compiled.executable.bind_states([a.ctypes.data for a in of_kind["state"]])
    seconds = bound.profile([a.ctypes.data for a in of_kind["arg"]], [float(a) for a in of_kind["scalar"]],
                            [o.ctypes.data for o in outs], repeats=3)
    assert len(seconds) == len(compiled.program.launches) and all(s >= 0.0 for s in seconds) and sum(seconds) > 0.0


def test_a_call_that_was_not_finished_is_an_error() -> None:
    class Hasty(Whole):
        def prepare(self, calls: Sequence[Call], target: object) -> list[Call]:
            return list(calls)

    text = 'graph @main {\n  %0 = input arg "x" : i64[6]\n  %1 = iota(size=6, dtype=i64) : i64[6]\n' \
           '  %2 = add(%0, %1) : i64[6]\n  return %2\n}\n'
    with pytest.raises(GraphError, match="kernel k0 has an affine value: prepare has to finish every call"):
        compile_graph(parse(text), backend=Hasty(), rules=True)


def test_an_object_that_is_no_backend_is_refused() -> None:
    with pytest.raises(TypeError, match="expected a name or a flambeau.backends.Backend"):
        compile_graph(parse(DOUBLE), backend=object())                  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="abstract"):
        type("Half", (Backend,), {"build": lambda self, kernels, target: []})()


def test_unknown_backend_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="choose from .*cpu.*interpret"):
        backend_of("metal")


def test_own_pass_is_part_of_every_pass_list() -> None:
    def seven(graph: Graph) -> Graph:
        return parse(DOUBLE.replace("add", "sub"))

    made = compile_graph(parse(DOUBLE), passes=(Pass("seven", seven), *CPU_PASSES))
    assert "sub(" in made.text("seven")
    assert run(made, [np.arange(6, dtype=np.float32)]).outputs[0].tolist() == [0] * 6


def test_pass_that_changes_the_signature_is_an_error() -> None:
    def shorter(graph: Graph) -> Graph:
        return parse(DOUBLE.replace("f32[6]", "f32[5]"))

    with pytest.raises(GraphError, match="changed the inputs, outputs or writes"):
        compile_graph(parse(DOUBLE), passes=(Pass("shorter", shorter), *CPU_PASSES))


def test_pass_that_breaks_the_ir_is_named() -> None:
    def broken(graph: Graph) -> Graph:
        node = graph.outputs[0].node
        node.operands = node.operands[:1]
        return graph

    with pytest.raises(GraphError, match="after pass 1, broken"):
        compile_graph(parse(DOUBLE), passes=(Pass("broken", broken), *CPU_PASSES))


def test_passes_without_fusion_are_an_error() -> None:
    with pytest.raises(GraphError, match="outside any fusion"):
        compile_graph(parse(DOUBLE), passes=CPU_PASSES[:-1])


def test_compile_takes_backend_and_passes() -> None:
    seen: list[str] = []

    def look(graph: Graph) -> Graph:
        seen.append(graph.name)
        return graph

    def double(x: fb.Tensor) -> fb.Tensor:
        return x + x

    native = fb.compile(double)
    watched = fb.compile(native, backend="interpret", passes=(Pass("look", look), *CPU_PASSES))
    assert fb.compile(native) is native and watched is not native
    assert watched(fb.ones(3)).tolist() == native(fb.ones(3)).tolist() == [2.0] * 3
    assert seen == ["double"]
    assert isinstance(watched.signatures[0].compiled.executable, InterpretedExecutable)


def test_interpreted_step_updates_state_and_gradients_as_machine_code_does() -> None:
    def trained(backend: str) -> list[list[float]]:
        weight, state = fb.tensor([1.0, -2.0], requires_grad=True), fb.zeros(2)

        @fb.compile(backend=backend)
        def step(x: fb.Tensor, rate: float) -> fb.Tensor:
            (x * weight * weight).sum().backward()
            with fb.no_grad():
                weight.sub_(weight.grad * rate)
            weight.grad = None
            state.add_(x)
            return state * 1

        results = [step(fb.tensor([0.5, n]), 0.25).tolist() for n in (1.0, 2.0)]
        return [*results, weight.tolist(), state.tolist()]

    assert trained("interpret") == trained("cpu")


def test_code_for_another_kind_of_machine_is_not_run() -> None:
    foreign = generic_x86_64() if host_target().is_aarch64 else generic_aarch64()
    with pytest.raises(UnsupportedError, match="FLAMBEAU_TARGET"):
        compile_graph(parse(DOUBLE), target=foreign)
