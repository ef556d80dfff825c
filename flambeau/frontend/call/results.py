"""After the machine code of a call: what it left on the arguments, and the function's result."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, assert_never

from flambeau.frontend.call.compiled_backward import Call, CompiledSegment
from flambeau.frontend.epoch import grad_epoch
from flambeau.frontend.pytree import unflatten
from flambeau.frontend.tape.autograd import SpentRecord, set_grad_enabled
from flambeau.frontend.tape.backward import retain_grad
from flambeau.frontend.tape.dispatch import dispatch, write
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.call_plan import (
    Again,
    ArgumentGradient,
    Copied,
    Fixed,
    Found,
    Given,
    GradientOf,
    Made,
    MadeNumber,
    Result,
)
from flambeau.ir import ops


def finish_writes(call: Call) -> None:
    """What was changed in place has another version; arguments that had to be copied are written back."""
    for state in call.plan.states:
        if state.is_written:
            state.memory._storage.version += 1
    for argument, (_, copied) in zip(call.plan.arguments, call.held, strict=True):
        if argument.is_written:
            tensor = call.leaves[argument.leaf]
            if copied is not None:
                call.memory.write_back(tensor, copied)
            tensor._storage.version += 1            # after: another thread may compute anew what depends on it at once
    for flag in call.plan.flags:
        flag.tensor.requires_grad_(flag.requires_grad)


def leave_gradients(call: Call) -> None:
    """Leave gradients on arguments."""
    for argument in call.plan.arguments:
        if argument.gradient is not None:
            left, tensor = argument.gradient, call.leaves[argument.leaf]
            grad = None if left.output is None else call.tensor(left.output)
            old = tensor._grad if left.is_added else None
            if old is not None and grad is not None:
                with set_grad_enabled(False):
                    write(old, dispatch(ops.add, old, grad))
            else:
                tensor.grad = grad


def make_results(call: Call, segments: Sequence[CompiledSegment], spent: dict[int, SpentRecord]) -> Any:
    """The function's result, on the tape where it requires grad. spent: the records of results that can't be
    differentiated any more, by position."""
    plan, made = call.plan, call.made
    for result in plan.results:
        made.append(_made(result, call))
    for position, result in enumerate(plan.results):
        if type(result) is Made:
            tensor = made[position]
            if result.gradient is not None:
                tensor._grad = call.tensor(result.gradient)
            if result.requires_grad:
                tensor._requires_grad, tensor._record = True, spent.get(position)
    if segments and not spent:
        inner: dict[int, Tensor] = {}
        for segment in segments:
            segment.record(call, inner)
    for position, result in enumerate(plan.results):
        if type(result) is Made and result.retains_grad:
            retain_grad(made[position])
    tree = unflatten(plan.result_structure, made)
    if not plan.handed:
        return tree
    tree, *values = tree
    for handed, value in zip(plan.handed, values, strict=True):
        handed.leave(value, call.given)
    return tree


def _made(result: Result, call: Call) -> Any:
    match result:
        case Made():
            return call.tensor(result.output, result.cls)
        case Fixed():
            return result.value
        case MadeNumber():
            number = call.tensor(result.output).item()
            return int(number) if result.is_integer else number
        case Given():
            return call.leaves[result.leaf]
        case Again():
            return call.made[result.position]
        case Copied():
            return copy.copy(result.value)
        case ArgumentGradient():
            return call.leaves[result.leaf]._grad
        case Found():
            grad_epoch.bump()
            return call.found[result.read]
        case GradientOf():
            grad_epoch.bump()
            return result.leaf._grad
        case _:
            assert_never(result)


__all__ = ["finish_writes", "leave_gradients", "make_results"]
