"""fb.compile(verify=True): planted faults are found, named and put down to who made them; right programs pass."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from checked import run
from programs import lenet, mlp, program
from random_graphs import Generator, in_16_bits

import flambeau as fb
import flambeau.compiler
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.backends import Artifact, CpuBackend
from flambeau.compiler import compile_graph
from flambeau.errors import FlambeauError, GraphError, KernelError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph
from flambeau.ir.kernel import Address, ContractionKernel, Kernel, LoopKernel, Stage
from flambeau.ir.target import Target
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.plan import MemoryPlan
from flambeau.passes.pipeline import Pass
from flambeau.repro import call_on_arrays
from flambeau.runtime import Executable


def soft(x: Any, w: Any) -> Any:
    hidden = fb.relu(x @ w)
    return fb.softmax(hidden * 0.5, dim=1) + x.sum()


def operands() -> tuple[Any, Any]:
    fb.manual_seed(0)
    return fb.randn(4, 6), fb.randn(6, 5)


# -- right programs ---------------------------------------------------------------------------------------------------


def test_a_training_step_is_verified_and_writes_its_state_once() -> None:
    def train(**how: Any) -> list[float]:
        fb.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))
        opt = optim.AdamW(net.parameters(), lr=1e-2)
        x, y = fb.randn(16, 6), fb.randint(0, 3, (16,))

        @fb.compile(**how)
        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss

        return [step(x, y).item() for _ in range(4)]

    assert train(verify=True) == pytest.approx(train(), rel=1e-5)


@pytest.mark.parametrize("backend", ["cpu", "interpret"])
@pytest.mark.parametrize("model", [mlp, lenet])
def test_whole_steps_are_verified_on_both_backends(model: Any, backend: str) -> None:
    made = program(model, "step")
    verified = run(compile_graph(made.graph, verify=True, backend=backend), made.arrays)
    plain = run(compile_graph(made.graph, backend=backend), made.arrays)
    assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(verified.outputs, plain.outputs, strict=True))
    assert all(np.array_equal(plain.states[state], array) for state, array in verified.states.items())


@pytest.mark.parametrize("f", [
    lambda x: (x * 3).floor() + x.round(),                          # near the steps rounding may fall either way
    lambda x: fb.cat([x, x]).argmax(0),                             # ties
    lambda x: (x - x.mean(1, keepdim=True)).var(1).sum() + (x / x.sum()).log(),
    lambda x: fb.cat([x[:1] * 2, x[1:].exp()]).cumsum(0).half().float(),
    lambda x: x[:0].sum() + fb.zeros(0, 3).sum(0),
    lambda x: (x > x.mean()).sum() + (x * 1e30 * 1e30).sum(),       # inf
    lambda x: F.dropout(x, 0.5) + fb.randn(4, 6),
    lambda x: (x.int() // 2, x.int() % 3, x.bool(), x.amax(1), x.argmin(1)),
])
def test_rounding_is_no_fault(f: Callable[..., Any]) -> None:
    x, _ = operands()
    compiled = fb.compile(f, verify=True)
    for scale in (1.0, 1e-20, 1e20):
        compiled(x * scale)


def test_a_backward_outside_is_verified_too() -> None:
    x, w = operands()
    w.requires_grad_()
    fb.compile(soft, verify=True)(x, w).sum().backward()
    assert w.grad is not None and np.isfinite(w.grad.numpy()).all()


def test_bad_data_is_still_the_kernels_error_and_leaves_state_as_it_was() -> None:
    total = fb.zeros(3)

    @fb.compile(verify=True)
    def picked(table: Any, rows: Any) -> Any:
        total.add_(1)
        return table[rows] + total

    picked(fb.zeros(4, 3), fb.tensor([0, 3]))
    with pytest.raises(KernelError, match="7"):
        picked(fb.zeros(4, 3), fb.tensor([0, 7]))
    assert total.tolist() == [1, 1, 1]


def test_without_verify_nothing_stands_before_the_native_call() -> None:
    with fb.config.set(poison=False):
        made = compile_graph(program(mlp, "step").graph)
    assert type(made.executable) is Executable


# -- planted faults ---------------------------------------------------------------------------------------------------


def swap_exp_and_log(graph: Graph) -> Graph:
    """A rewrite that is wrong: exp(x) -> log(x)."""
    for node in graph.toposort():
        if node.op is ops.exp:
            node.op = ops.log
    return graph


def test_a_wrong_pass_is_named_with_the_users_line() -> None:
    passes = (*CPU_PASSES[:8], Pass("swap", swap_exp_and_log), *CPU_PASSES[8:])
    compiled = fb.compile(soft, verify=True, passes=passes)
    message = r"soft: pass 9, swap, changes output 0, add : f32\[4,5\]: element \[0, 0\]"
    with pytest.raises(VerificationError, match=message) as e:
        compiled(*operands())
    assert e.value.where is not None and "test_verified.py" in e.value.where


def constants_changed(kernel: Kernel) -> Kernel:
    """The same with 0.5 replaced by 0.25."""
    def changed(stage: Stage) -> Stage:
        return replace(stage, body=tuple(replace(i, attr=0.25) if i.attr == 0.5 else i for i in stage.body))

    if isinstance(kernel, ContractionKernel):
        return replace(kernel, epilogue=changed(kernel.epilogue))
    return replace(kernel, stages=tuple(map(changed, kernel.stages)))


class WrongCode(CpuBackend):
    """Compiles something else than it is given."""

    def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
        return super().build([constants_changed(kernel) for kernel in kernels], target)


def test_wrong_machine_code_is_put_down_to_code_generation() -> None:
    compiled = fb.compile(soft, verify=True, backend=WrongCode())
    message = r"soft: kernel k\d+ computes \w+ wrongly: .*code generation is to blame"
    with pytest.raises(VerificationError, match=message) as e:
        compiled(*operands())
    assert e.value.where is not None and "test_verified.py" in e.value.where


def lowered_by(change: Callable[[Kernel], Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every kernel is changed after it was lowered."""
    right = flambeau.compiler.lower

    def wrong(graph: Graph, prepare: Callable[[list[Call]], list[Call]]) -> Any:
        return right(graph, lambda calls: prepare([replace(call, kernel=change(call.kernel)) for call in calls]))

    monkeypatch.setattr(flambeau.compiler, "lower", wrong)


def test_wrong_kernels_are_put_down_to_lowering(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered_by(constants_changed, monkeypatch)
    with pytest.raises(VerificationError, match=r"soft: kernel k\d+ computes \w+ wrongly: .*lowering is to blame"):
        fb.compile(soft, verify=True)(*operands())


def only_evens(kernel: Kernel) -> Kernel:
    """Stores go to every second element."""
    if not isinstance(kernel, LoopKernel):
        return kernel

    def spread(address: Address) -> Address:
        return replace(address, strides=tuple((dim, 2 * stride) for dim, stride in address.strides))

    return replace(kernel, extents=tuple(max(1, int(e) // 2) if isinstance(e, int) else e for e in kernel.extents),
                   stages=tuple(replace(stage, stores=tuple(replace(s, address=spread(s.address)) for s in stage.stores))
                                for stage in kernel.stages))


def test_a_store_that_covers_a_part_is_refused_when_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered_by(only_evens, monkeypatch)
    with pytest.raises(GraphError, match="after lowering and scheduling: kernel .*its store leaves out element 1 of 24"):
        fb.compile(lambda x: x.t().exp() + 1, verify=True)(operands()[0])


def test_a_plan_that_overwrites_what_is_still_read_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = flambeau.compiler.plan

    def wrong(*how: Any) -> MemoryPlan:
        memory = right(*how)
        arena = {v: h for v, h in memory.home_of.items() if h.kind == "arena"}
        memory.home_of.update({value: replace(home, index=0) for value, home in arena.items()})
        return memory

    monkeypatch.setattr(flambeau.compiler, "plan", wrong)

    def two_products(x: Any, w: Any) -> Any:
        first, second = x @ w, (x + 1) @ w
        return fb.softmax(first, 1) @ fb.softmax(second, 1).t(), first.sum(0), second.sum(0)

    with pytest.raises(VerificationError, match="changed since it was made: the memory plan is wrong"):
        fb.compile(two_products, verify=True)(*operands())


def test_after_a_fault_state_is_what_it_was() -> None:
    weight = fb.ones(5)

    @fb.compile(verify=True, backend=WrongCode())
    def update(x: Any) -> Any:
        weight.add_(x.sum(0))
        return fb.softmax(x @ x.t(), 1) * 0.5

    with pytest.raises(VerificationError):
        update(fb.ones(4, 5))
    assert weight.tolist() == [1] * 5


def test_stale_state_is_seen_on_the_data_that_shows_it() -> None:
    """A fault that needs certain numbers: found at the call that has them."""
    def forget_nan(graph: Graph) -> Graph:
        for node in graph.toposort():
            if node.op is ops.isnan:
                node.op = ops.isinf
        return graph

    compiled = fb.compile(lambda x: fb.where(fb.isnan(x), 0.0, x), verify=True,
                          passes=(*CPU_PASSES[:-1], Pass("forget", forget_nan), CPU_PASSES[-1]))
    assert compiled(fb.ones(3)).tolist() == [1, 1, 1]
    with pytest.raises(VerificationError, match="forget, changes output 0, where"):
        compiled(fb.tensor([1.0, float("nan"), 2.0]))


def test_random_graphs_hold_under_verify(seeds: Iterator[int]) -> None:
    """No false alarms: what rounding may differ by is wide enough, whatever the graph."""
    for seed in seeds:
        made = Generator(seed)
        try:
            run(compile_graph(made.graph, verify=True), made.arrays)
        except VerificationError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("dtype", (dt.bf16, dt.f16))
def test_random_graphs_of_16_bits_hold_under_verify(dtype: DType, seeds: Iterator[int]) -> None:
    for seed in seeds:
        try:
            graph, arrays = in_16_bits(Generator(seed), dtype)
        except FlambeauError:
            continue                    # an op that has no such dtype
        try:
            call_on_arrays(compile_graph(graph, verify=True, shrinks=False), arrays)
        except VerificationError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


@pytest.mark.parametrize("dtype", (fb.bfloat16, fb.float16))
def test_what_a_few_roundings_to_16_bits_cannot_come_to_is_found(dtype: Any) -> None:
    """Of four ops: 2 % in f16, whose last place is 0.1 %, and 10 % in bf16, whose last is 0.8 %."""
    def off(graph: Graph) -> Graph:
        b, (out,) = Builder(graph), graph.outputs
        graph.outputs = [b.cast(b.mul(b.cast(out, dt.f32), b.scalar(factor, dt.f32)), out.dtype)]
        return graph

    def f(x: Any, w: Any) -> Any:
        return F.relu(fb.tanh(x * 0.5 + 1) * 0.5) @ w.abs()

    x, w = (t.to(dtype) for t in operands())
    factor = 1.02 if dtype is fb.float16 else 1.1
    with pytest.raises(VerificationError, match="pass 1, off"):
        fb.compile(f, verify=True, passes=(Pass("off", off), *CPU_PASSES))(x, w)
    fb.compile(f, verify=True)(x, w)


def test_an_error_that_a_kernel_invents_is_not_the_datas(monkeypatch: pytest.MonkeyPatch) -> None:
    class Later(CpuBackend):
        """Reads rows that are not there."""

        def build(self, kernels: Sequence[Kernel], target: Target) -> list[Artifact]:
            return super().build([replace(kernel, stages=tuple(
                replace(stage, body=tuple(replace(i, op="mul") if i.op == "sub" else i for i in stage.body))
                for stage in kernel.stages)) if isinstance(kernel, LoopKernel) else kernel for kernel in kernels], target)

    f = fb.compile(lambda table, rows: table[rows - 3], verify=True, backend=Later())
    with pytest.raises(VerificationError, match=r"raises 'index.*on data that is right; code generation is to blame"):
        f(fb.zeros(4, 3), fb.tensor([3, 5]))


def test_a_pass_that_makes_what_cannot_be_evaluated_is_named() -> None:
    def beyond(graph: Graph) -> Graph:
        for node in graph.toposort():
            if node.op is ops.sub:
                node.op = ops.mul
        return graph

    f = fb.compile(lambda table, rows: table[rows - 3], verify=True, passes=(Pass("beyond", beyond), *CPU_PASSES))
    with pytest.raises(VerificationError, match=r"pass 1, beyond, changes .* evaluating it raises KernelError"):
        f(fb.zeros(4, 3), fb.tensor([3, 5]))


def test_a_loop_is_not_blamed_for_what_nothing_reads() -> None:
    """`a` goes round in loops within loops and is read by none: the memory plan gives its place away."""
    @fb.compile(verify=True)
    def step(x: Any, w: Any) -> Any:
        x = x.detach().requires_grad_() * 1
        _, _, b = fb.while_loop(lambda i, a, b: i < 3, lambda i, a, b: (i + 1, a, fb.where(w.bool(), b, b * 2)), (0, w, x),
                                max_steps=70)
        b[-1].sum().backward()
        return b[-1].detach()

    x, w = fb.ones(5, 4, 3), fb.tensor([[1], [0], [2], [0]], dtype=fb.int32)
    assert step(x, w).tolist() == [[1] * 3, [8] * 3, [1] * 3, [8] * 3]
