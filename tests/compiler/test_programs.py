"""Whole programs, compiled: what a call returns and what it leaves in captured state is what the interpreter says."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from checked import check, compiled, run
from programs import (
    Program,
    Value,
    batch_norm,
    conv,
    cross_entropy,
    dropout,
    lenet,
    mlp,
    program,
    residual_net,
    transformer,
)

from flambeau.errors import KernelError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.passes.graph.autodiff import vjp


@pytest.mark.parametrize("model", [mlp, lenet, residual_net, transformer])
def test_training_step_agrees_with_the_interpreter(model: Callable[[Program], Value]) -> None:
    made = program(model, model.__name__)
    step = check(made.graph, made.arrays, roundings=64)
    assert step.memory.copied_writes == 0, "every parameter is updated in place"


# -- convolutions -----------------------------------------------------------------------------------------------------

CONVOLUTIONS = {
    "plain": ops.Conv2d((1, 1), ((0, 0), (0, 0)), (1, 1), 1, "NCHW"),
    "same": ops.Conv2d((1, 1), ((1, 1), (1, 1)), (1, 1), 1, "NCHW"),
    "strided": ops.Conv2d((2, 3), ((1, 0), (2, 1)), (1, 1), 1, "NCHW"),
    "dilated": ops.Conv2d((1, 1), ((2, 2), (1, 1)), (2, 1), 1, "NCHW"),
    "grouped": ops.Conv2d((1, 1), ((1, 1), (1, 1)), (1, 1), 2, "NCHW"),
    "depthwise_strided": ops.Conv2d((2, 2), ((1, 1), (1, 1)), (1, 1), 4, "NCHW"),
    "everything": ops.Conv2d((2, 1), ((2, 1), (0, 2)), (1, 2), 2, "NCHW"),
    "channels_last": ops.Conv2d((2, 1), ((2, 1), (0, 2)), (1, 2), 2, "NHWC"),
    "volumes": ops.Conv3d((1, 1, 1), ((1, 1), (1, 1), (0, 0)), (1, 1, 1), 1, "NCDHW"),
    "volumes_of_everything": ops.Conv3d((3, 2, 1), ((0, 1), (2, 1), (0, 2)), (1, 1, 2), 2, "NCDHW"),
    "depthwise": ops.Conv2d((1, 1), ((1, 1), (1, 0)), (1, 1), 8, "NCHW"),
    "depthwise_everything": ops.Conv2d((2, 1), ((2, 1), (0, 2)), (1, 2), 8, "NHWC"),
    "volumes_depthwise": ops.Conv3d((1, 2, 1), ((1, 1), (1, 1), (1, 1)), (2, 1, 1), 8, "NCDHW"),
    "volumes_of_pairs": ops.Conv3d((1, 2, 2), ((1, 1), (1, 1), (1, 1)), (2, 1, 1), 4, "NDHWC"),
}


@pytest.mark.parametrize("op", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
def test_convolution_and_its_gradients(op: ops.Conv2d | ops.Conv3d) -> None:
    channels, outputs = max(4, op.groups), 8 if op.groups >= 4 else 6
    per_group = channels // op.groups
    shapes = {"NCHW": (f"f32[2,{channels},7,6]", f"f32[{outputs},{per_group},3,2]"),
              "NHWC": (f"f32[2,7,6,{channels}]", f"f32[3,2,{per_group},{outputs}]"),
              "NCDHW": (f"f32[2,{channels},4,7,6]", f"f32[{outputs},{per_group},2,3,2]"),
              "NDHWC": (f"f32[2,4,7,6,{channels}]", f"f32[2,3,2,{per_group},{outputs}]")}[op.layout]

    def build(p: Program) -> Sequence[Value]:
        x, w = p.arg(shapes[0]), p.arg(shapes[1])
        y = p.b.emit(op, x, w)
        ct = p.arg(str(y.type))
        first = vjp(p.graph, [y], [ct], [x, w])
        second = vjp(p.graph, [first[0]], [x], [ct, w])         # type: ignore[list-item]
        return [y, *first, *second]                             # type: ignore[list-item]

    made = program(build)
    check(made.graph, made.arrays, roundings=32)


def test_convolution_of_no_images_is_empty() -> None:
    made = program(lambda p: p.b.relu(conv(p, p.arg("f32[0,3,5,5]"), 4, 3)))
    check(made.graph, made.arrays)


# -- values that come and go ------------------------------------------------------------------------------------------


def swapped(p: Program) -> None:
    a, b = p.state("f32[5]"), p.state("f32[5]")
    p.graph.writes[a], p.graph.writes[b] = b, a


def rotated(p: Program) -> Value:
    a, b, c = (p.state("f32[5]") for _ in range(3))
    p.graph.writes.update({a: b, b: c, c: a})
    return p.b.add(a, c)


def written_from_other_states(p: Program) -> None:
    a, b = p.state("f32[5]"), p.state("f32[5]")
    p.graph.writes[a] = p.b.neg(b)
    p.graph.writes[b] = p.b.exp(a)


def crossed_through_matmul(p: Program) -> None:
    """Each new state needs all of the other's old one."""
    a, b = p.state("f32[4,4]"), p.state("f32[4,4]")
    p.graph.writes[a], p.graph.writes[b] = p.b.matmul(a, b), p.b.matmul(b, a)


def output_that_is_also_written(p: Program) -> Value:
    a = p.state("f32[5]")
    p.graph.writes[a] = p.b.exp(a)
    return p.graph.writes[a]


def one_value_for_two_states(p: Program) -> Value:
    a, b = p.state("f32[5]"), p.state("f32[5]")
    p.graph.writes[a] = p.graph.writes[b] = p.b.add(a, b)
    return p.graph.writes[a]


def old_state_returned(p: Program) -> Value:
    a = p.state("f32[5]")
    p.graph.writes[a] = p.b.exp(a)
    return a


def old_state_copied_to_another(p: Program) -> Value:
    a, b = p.state("f32[5]"), p.state("f32[5]")
    p.graph.writes[a], p.graph.writes[b] = p.b.exp(a), a
    return p.b.neg(b)


def state_written_with_itself(p: Program) -> Value:
    a = p.state("f32[5]")
    p.graph.writes[a] = a
    return p.b.neg(a)


def input_returned(p: Program) -> Sequence[Value]:
    x = p.arg("f32[3]")
    return [x, x, p.b.neg(x), x]


def input_written(p: Program) -> None:
    p.graph.writes[p.state("f32[3]")] = p.arg("f32[3]")


def value_returned_twice(p: Program) -> Sequence[Value]:
    y = p.b.exp(p.arg("f32[3]"))
    return [y, y]


def constants_returned(p: Program) -> Sequence[Value]:
    array = p.b.constant(np.arange(6, dtype=np.float32).reshape(2, 3), dt.f32)
    p.graph.writes[p.state("f32[2,3]")] = array
    p.graph.writes[p.state("f32[]")] = p.b.scalar(2.0, dt.f32)
    return [array, p.b.scalar(True, dt.bool_), p.b.iota(4, dt.i64), p.b.permute(array, (1, 0))]


def transposed_in_place(p: Program) -> None:
    """The new value is the old one moved, so it can't be stored where it is read."""
    a, b = p.state("f32[4,4]"), p.state("f32[4]")
    p.graph.writes[a] = p.b.permute(a, (1, 0))
    p.graph.writes[b] = p.b.add(p.b.emit(ops.Flip((0,)), b), b)


def reduced_and_updated(p: Program) -> Value:
    """Every element of the new state needs the sum of the old."""
    a = p.state("f32[6,7]")
    total = p.b.sum(a, (0, 1))
    p.graph.writes[a] = p.b.sub(a, p.b.broadcast(total, (6, 7), ()))
    return total


def normalized_in_place(p: Program) -> None:
    a = p.state("f32[6,7]")
    p.graph.writes[a] = p.b.emit(ops.Softmax(1), a)


def read_after_the_update(p: Program) -> Sequence[Value]:
    """Old and new parameter are both read by later kernels."""
    w, x = p.state("f32[4,4]"), p.arg("f32[4,4]")
    new = p.b.sub(w, p.b.mul(p.b.matmul(x, x), p.b.scalar(0.1, x)))
    p.graph.writes[w] = new
    return [p.b.matmul(x, new), p.b.matmul(x, w)]


def accumulated_by_matmul(p: Program) -> None:
    a, x = p.state("f32[4,4]"), p.arg("f32[4,4]")
    p.graph.writes[a] = p.b.add(p.b.matmul(x, x), a)


def squared_by_matmul(p: Program) -> None:
    """The state is an operand of the contraction and of its epilogue."""
    a = p.state("f32[4,4]")
    p.graph.writes[a] = p.b.add(p.b.matmul(a, a), a)


def partly_overwritten(p: Program) -> Value:
    """What a cache of keys does, and a replay buffer."""
    cache, row = p.state("f32[6,4]"), p.arg("f32[1,4]")
    p.graph.writes[cache] = p.b.emit(ops.UpdateSlice((2, 0), (1, 1)), cache, row)
    return p.b.sum(p.graph.writes[cache], (0,))


def shifted(p: Program) -> None:
    buffer, new = p.state("f32[6]"), p.arg("f32[1]")
    kept = p.b.emit(ops.Slice((1,), (6,), (1,)), buffer)
    p.graph.writes[buffer] = p.b.emit(ops.Concat(0), kept, new)


def narrowed(p: Program) -> Value:
    """The new state has another dtype on the way."""
    a = p.state("f32[9]")
    half = p.b.cast(a, dt.bf16)
    p.graph.writes[a] = p.b.cast(p.b.mul(half, half), dt.f32)
    return half


def scalar_arguments(p: Program) -> Value:
    lr, x = p.arg("f64[]", np.array(0.5), "scalar"), p.arg("f32[4]")
    p.graph.writes[p.state("f32[4]")] = p.b.mul(x, p.b.cast(lr, dt.f32))
    return p.b.mul(lr, lr)


def random_numbers(p: Program) -> Value:
    key = p.state("i64[2]", np.array([3, 2**40]))
    p.graph.writes[key] = p.b.add(key, p.b.constant(np.array([0, 1]), dt.i64))
    return dropout(p, p.arg("f32[5,7]"), 0.5, key)


def nothing(p: Program) -> None:
    p.arg("f32[4]")


PROGRAMS = [swapped, rotated, written_from_other_states, crossed_through_matmul, output_that_is_also_written,
            one_value_for_two_states, old_state_returned, old_state_copied_to_another, state_written_with_itself,
            input_returned, input_written, value_returned_twice, constants_returned, transposed_in_place,
            reduced_and_updated, normalized_in_place, read_after_the_update, accumulated_by_matmul,
            squared_by_matmul, partly_overwritten, shifted, narrowed, scalar_arguments, random_numbers, nothing]


@pytest.mark.parametrize("build", PROGRAMS)
def test_program_agrees_with_the_interpreter(build: Callable[[Program], Value]) -> None:
    made = program(build)
    check(made.graph, made.arrays)


@pytest.mark.parametrize("build", [normalized_in_place, accumulated_by_matmul, written_from_other_states,
                                   output_that_is_also_written, narrowed])
def test_a_write_costs_no_more_than_one_copy(build: Callable[[Program], Value]) -> None:
    made = program(build)
    memory = compiled(made.graph).memory
    assert memory.copied_writes <= 1 and memory.arena_bytes <= 64


# -- checks -----------------------------------------------------------------------------------------------------------


def embedding_step(p: Program, indices: Sequence[int]) -> Value:
    """Training an embedding: a take, its scattered gradient, and another parameter that is updated beside it."""
    table, w = p.parameter("f32[5,4]"), p.parameter("f32[4,4]")
    rows = p.b.emit(ops.Take(0), table, p.arg(f"i64[{len(indices)}]", np.array(indices)))
    loss = p.b.sum(p.b.tanh(p.b.matmul(rows, w)), (0, 1))
    p.sgd(loss)
    return loss


def test_repeated_indices_add_up() -> None:
    made = program(lambda p: embedding_step(p, [1, 3, 1, 1, 0]))
    check(made.graph, made.arrays, roundings=32)


@pytest.mark.parametrize("bad", [5, -1, 2**40])
def test_a_bad_index_raises_before_any_state_changes(bad: int) -> None:
    made = program(lambda p: embedding_step(p, [1, 3, bad, 1, 0]))
    before = [a.copy() for a in made.arrays]
    step = compiled(made.graph)
    with pytest.raises(KernelError, match=f"(?i)index {bad} is out of range") as caught:
        run(step, made.arrays)
    states = list(caught.value.states.values())                 # type: ignore[attr-defined]
    assert all((s == a).all() for s, a in zip(states, before[:2], strict=True))


def late_check(p: Program) -> Value:
    """The index that is checked is computed from the state that an earlier kernel updates."""
    w = p.state("f32[4]", np.array([1.0, 2.0, 3.0, 9.0]))
    p.graph.writes[w] = p.b.mul(w, p.b.scalar(2.0, w))
    where = p.b.cast(p.b.sum(p.graph.writes[w], (0,)), dt.i64)
    return p.b.emit(ops.Take(0), p.arg("f32[6]"), where)


def checked_update(p: Program) -> None:
    """The kernel that checks is the one that stores."""
    w = p.state("f32[4]")
    picked = p.b.emit(ops.Take(0), p.arg("f32[6]"), p.arg("i64[4]", np.array([0, 1, 2, 7])))
    p.graph.writes[w] = p.b.add(w, picked)


def divided_update(p: Program) -> None:
    n, w = p.state("i64[3]", np.array([6, 7, 8])), p.state("f32[3]")
    p.graph.writes[w] = p.b.neg(w)
    p.graph.writes[n] = p.b.floor_divide(n, p.arg("i64[3]", np.array([1, 2, 0])))


def checked_after_statistics(p: Program) -> None:
    """Labels are looked at after BatchNorm's kernel, which writes the running statistics."""
    scores = batch_norm(p, p.arg("f32[3,5,2,2]"))
    loss = cross_entropy(p, p.b.sum(scores, (2, 3)), p.arg("i64[3]", np.array([0, 5, 1])))
    p.sgd(loss)


def test_labels_are_checked_before_statistics_are_written_in_place() -> None:
    memory = compiled(program(checked_after_statistics).graph).memory
    assert memory.copied_writes == 0 and memory.calls[0].kernel.name == "check"


@pytest.mark.parametrize("build", [late_check, checked_update, divided_update, checked_after_statistics])
def test_a_failing_call_leaves_state_as_it_was(build: Callable[[Program], Value]) -> None:
    made = program(build)
    step = compiled(made.graph)
    with pytest.raises(KernelError) as caught:
        run(step, made.arrays)
    for (value, state) in caught.value.states.items():          # type: ignore[attr-defined]
        before = made.arrays[made.graph.inputs.index(value)]
        assert (state == before).all(), f"{value!r} was {before}, is {state}"


def test_a_padded_division_does_not_divide_by_the_padding() -> None:
    def build(p: Program) -> Value:
        quotient = p.b.floor_divide(p.arg("i64[3]", np.array([7, 8, 9])), p.arg("i64[3]", np.array([2, 3, 4])))
        return p.b.emit(ops.Pad((1,), (2,), (1,)), quotient)

    made = program(build)
    check(made.graph, made.arrays)


def test_a_padded_take_does_not_check_the_padding() -> None:
    def build(p: Program) -> Value:
        indices = p.b.add(p.arg("i64[3]", np.array([-7, -8, -9])), p.b.scalar(10, dt.i64))
        return p.b.emit(ops.Pad((1,), (2,), (1,)), p.b.emit(ops.Take(0), p.arg("f32[4]"), indices))

    made = program(build)
    check(made.graph, made.arrays)


# -- size -------------------------------------------------------------------------------------------------------------


def test_long_chains_do_not_reach_the_recursion_limit() -> None:
    def build(p: Program) -> Value:
        x = p.arg("f32[3,4]")
        for i in range(1500):
            x = p.b.cast(p.b.cast(x, dt.f64), dt.f32) if i % 3 else p.b.sin(p.b.permute(x, (1, 0)))
        return x

    made = program(build)
    check(made.graph, made.arrays, roundings=64)
