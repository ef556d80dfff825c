"""Models as their authors write them, a block of the literature each: eager, compiled, trained, saved, as in PyTorch."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import FILES, SPLIT, forward_and_gradients, load, same, tensors_in, to_torch, trained

import flambeau as fb

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def made(path: Path) -> tuple[Any, Any, Any, Any]:
    program = load(path)
    fb.manual_seed(0)
    return program, *program.make()


@pytest.mark.parametrize("path", SPLIT, ids=lambda path: path.stem)
def test_compiled_forward_and_its_backward(path: Path) -> None:
    program, model, inputs, targets = made(path)
    twin, state = copy.deepcopy(model), fb.get_rng_state()
    expected = forward_and_gradients(program, model, model, inputs, targets)
    after = fb.get_rng_state()
    fb.set_rng_state(state)
    found = forward_and_gradients(program, fb.compile(twin), twin, inputs, targets)
    assert (fb.get_rng_state() == after).all(), "the same draws"
    same(found[0], expected[0], "output", 1e-5)
    assert list(found[1]) == list(expected[1])
    same(found[1], expected[1], "gradient", 1e-4)
    same(twin.state_dict(), model.state_dict(), "state", 1e-5)


@every_file
def test_whole_steps_compiled_as_they_are_eager(path: Path) -> None:
    program, model, inputs, targets = made(path)
    twin, state = copy.deepcopy(model), fb.get_rng_state()
    expected = trained(program, fb, model, inputs, targets, compiled=False)
    after = fb.get_rng_state()
    fb.set_rng_state(state)
    found = trained(program, fb, twin, inputs, targets, compiled=True)
    assert (fb.get_rng_state() == after).all(), "the same draws"
    same(found, expected, "result", 1e-4)
    same(twin.state_dict(), model.state_dict(), "state", 1e-3)


@pytest.mark.torch
@every_file
def test_as_in_pytorch(path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    program, model, inputs, targets = made(path)
    reference = load(path, "torch")
    other, *_ = reference.make()
    for module in (*model.modules(), *other.modules()):
        if "Dropout" in type(module).__name__:
            module.p = 0.0
    before = fb.get_rng_state()
    with fb.no_grad():
        copy.deepcopy(model)(*inputs)
    if (fb.get_rng_state() != before).any():            # its draws are not PyTorch's
        model.eval(), other.eval()

    assert list(model.state_dict()) == list(other.state_dict())
    other.load_state_dict({key: to_torch(torch, value) for key, value in model.state_dict().items()})
    their_inputs, their_targets = to_torch(torch, inputs), to_torch(torch, targets)
    expected = forward_and_gradients(reference, other, other, their_inputs, their_targets)
    found = forward_and_gradients(program, model, model, inputs, targets)
    same(found[0], expected[0], "output", 1e-4)
    assert list(found[1]) == [name for name in expected[1] if name in found[1] or expected[1][name].any()]
    same(found[1], {name: expected[1][name] for name in found[1]}, "gradient", 1e-3)
    same(model.state_dict(), other.state_dict(), "state", 1e-4)


@every_file
def test_state_goes_round(path: Path) -> None:
    program, model, inputs, _ = made(path)
    other = program.make()[0]
    assert other.load_state_dict(model.state_dict(), strict=True).missing_keys == []
    for one in (model, other):
        one.eval()
    with fb.no_grad():
        results = [list(tensors_in(one(*inputs))) for one in (model, other)]
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())
