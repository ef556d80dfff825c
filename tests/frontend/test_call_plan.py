"""What passes between a trace and its calls is one frozen plan, and so is the Python that a call runs: both print."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.frontend.trace.call_plan import CallPlan
from flambeau.ir.graph import Graph, Node, Value


def plan_of(compiled: Any) -> CallPlan:
    return compiled.signatures[-1].traced.plan


def test_the_call_of_one_op() -> None:
    @fb.compile
    def increment(x):
        return x + 1

    increment(fb.ones(3))
    assert increment.ir("call") == """\
call of increment, grad mode on:
  leaf 0: argument 0 is a Tensor f32[3]
  argument 0: leaf 0
  output 0: f32[3]
  result 0: a new tensor f32[3] over output 0

def call(args):
    if len(args) != 1 or active.tracer is not None: return MISS
    a0, = args
    if type(a0) is not Tensor or a0._requires_grad is not False: return MISS
    if a0._type is not guard0.expected and not guard0.holds(a0): return MISS
    if grad_mode.mode is not True: return MISS
    if epoch.value != bound.epoch and not (environment_holds() and guards.generation == 0): return MISS
    if held0.__code__ is not held1: return MISS
    s0 = a0._storage
    if a0._base is None and s0.pointer: p0 = s0.pointer
    else:
        if is_stale(a0): return MISS
        p0, h0 = memory_of(a0)
    b0 = allocate(12)
    run = bound.run
    run(p0, b0.ptr)
    bound.calls += 1
    r0 = Tensor._make(Storage(None, b0, layout0), type0)
    return r0
"""


def training_step() -> Any:
    layer = nn.Linear(3, 2)
    opt = optim.SGD(layer.parameters(), lr=0.1)

    @fb.compile
    def step(x, y):
        opt.zero_grad()
        loss = F.mse_loss(layer(x), y)
        loss.backward()
        opt.step()
        return loss

    step(fb.ones(4, 3), fb.ones(4, 2))
    return step


def test_the_plan_of_a_training_step() -> None:
    assert str(plan_of(training_step())) == """\
call of step, grad mode on:
  leaf 0: argument 0 is a Tensor f32[4,3]
  leaf 1: argument 1 is a Tensor f32[4,2]
  argument 0: leaf 0
  argument 1: leaf 1
  state 0: a captured tensor f32[2,3], written
  state 1: a captured tensor f32[2], written
  state 2: a new gradient f32[2,3], written
  state 3: a new gradient f32[2], written
  number 0: 'lr' of a dict
  output 0: f32[]
  effect 0: .grad of a captured tensor f32[2,3] becomes its new gradient
  effect 1: .grad of a captured tensor f32[2] becomes its new gradient
  result 0: a new tensor f32[] over output 0, requires grad
  backward 0: from result 0 to captured tensor f32[2], captured tensor f32[2,3] can't be walked any more"""


def test_the_call_of_a_training_step_binds_gradients_and_counts_versions() -> None:
    call = training_step().ir("call").partition("def call")[2]
    for line in ("    if not is_settled: bound.ready_gradients()\n", "    run(p0, p1, float(owner0['lr']), b0.ptr)\n",
                 "    for t in written0: t._storage.version += 1\n",
                 "    if not is_settled: bound.attach_gradients(args)\n"):
        assert line in call
    assert "entry" not in call


def test_every_kind_of_result_prints() -> None:
    captured = fb.zeros(2)

    @fb.compile
    def several(x, n):
        y = x + 1
        return y, y, x, n + 1, n / 2, captured, {1}, "text"

    several(fb.ones(2), 3)
    results = [line for line in str(plan_of(several)).splitlines() if line.startswith("  result")]
    assert results == [
        "  result 0: a new tensor f32[2] over output 0", "  result 1: result 0 again", "  result 2: leaf 0",
        "  result 3: the number in output 1, an int", "  result 4: the number in output 2, a float",
        "  result 5: always one Tensor", "  result 6: a copy of one set", "  result 7: always one str"]


def test_gradients_of_arguments_print() -> None:
    @fb.compile
    def differentiate(w):
        (w * w).sum().backward()
        return w.grad

    differentiate(fb.ones(2, requires_grad=True))
    text = str(plan_of(differentiate))
    assert "argument 0: leaf 0, .grad is None, .grad gets output 0" in text and "result 0: .grad of leaf 0" in text


def test_gradients_of_captured_tensors_print() -> None:
    w = fb.ones(2, requires_grad=True)
    w.grad = fb.ones(2)

    @fb.compile
    def accumulate(x):
        (w * x).sum().backward()
        return w.grad

    assert accumulate(fb.ones(2)).tolist() == [2.0, 2.0]
    text = str(plan_of(accumulate))
    assert "the gradient that is there f32[2], written" in text and "read 0: .grad of a captured tensor f32[2]" in text
    assert "result 0: .grad 0 of those that are read, as it was" in text


def written(x):
    x.add_(1)
    return x + 1


W = fb.ones(2, requires_grad=True)


@pytest.mark.parametrize(("function", "arguments", "reason"), [
    (lambda x: x + 1, {"x": fb.ones(2)}, "its arguments are named, or nest"),
    (lambda x: x[0] + 1, ([fb.ones(2)],), "its arguments are named, or nest"),
    (lambda x: {"y": x + 1}, (fb.ones(2),), "its result nests, or is of a class of its own"),
    (lambda x: ((x + 1,),), (fb.ones(2),), "its result nests, or is of a class of its own"),
    (lambda x, n: n + 1, (fb.ones(2), 1), "its result is more than new tensors and fixed objects"),
    (lambda x: x * W, (fb.ones(2),), "its result requires grad"),
    (written, (fb.ones(2),), "it changes an argument, its gradient, or runs its hooks"),
    (lambda x: x.reshape(4) + 1, (fb.ones(2, 2).t(),), "an argument does not lie in row-major order"),
])
def test_a_call_that_is_not_generated_says_why(function: Callable[..., Any], arguments: Any, reason: str) -> None:
    compiled = fb.compile(function)
    for _ in range(2):
        compiled(**arguments) if isinstance(arguments, dict) else compiled(*arguments)
    assert compiled.ir("call").splitlines()[-1] == f"every call is general: {reason}"
    assert len(compiled.signatures) == 1 and compiled.stats().calls == 2


def test_nothing_of_a_plan_can_be_changed() -> None:
    plan = plan_of(training_step())
    records = [plan, *plan.leaves, *plan.arguments, *plan.states, *plan.numbers, *plan.gradients, *plan.results,
               *plan.segments, *plan.outside]
    assert len({type(record) for record in records}) == 9
    for record in records:
        name = dataclasses.fields(record)[0].name
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, name, None)


def test_a_plan_holds_no_value_of_the_graph() -> None:
    """Calls know no more of a graph than the types of its inputs and outputs; only segments have graphs of their own."""
    plan = plan_of(training_step())
    parts = [getattr(plan, field.name) for field in dataclasses.fields(plan)]
    assert not any(isinstance(part, (Graph, Node, Value)) for part in parts)
    assert plan.outputs[0].shape == () and plan.states[0].type.shape == (2, 3)
