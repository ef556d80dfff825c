"""Whole training steps, compiled: loss, parameters, moments and statistics after a step are the interpreter's."""
from __future__ import annotations

from collections.abc import Callable

import pytest
from checked import check
from programs import Program, Value, lenet, mlp, program, residual_net, transformer


@pytest.mark.parametrize("model", [mlp, lenet, residual_net, transformer])
def test_training_step_agrees_with_the_interpreter(model: Callable[[Program], Value]) -> None:
    made = program(model, model.__name__)
    compiled = check(made.graph, made.arrays, roundings=64)
    assert compiled.memory.copied_writes == 0, "every parameter is updated in place"
