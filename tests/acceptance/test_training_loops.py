"""Shapes that training loops take: mixed modes, micro-batches, clipping, frozen layers, checkpoints, last batches."""
from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.nn.utils import clip_grad_norm_

Step = Callable[..., fb.Tensor]
RTOL = 1e-10                    # f64: some hundred roundings, amplified by Adam's normalisation


def network() -> nn.Module:
    fb.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 2)).double()


def batch(seed: int, n: int = 6) -> fb.Tensor:
    return fb.from_numpy(np.random.default_rng(seed).standard_normal((n, 3)))


def make_step(model: nn.Module, optimizer: optim.Optimizer) -> Step:
    def step(x: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss
    return step


def test_eager_and_compiled_steps_may_alternate() -> None:
    """They share parameters, moments, statistics and the random generator."""
    curves = []
    for choose in (lambda n: 0, lambda n: 1, lambda n: n % 2):
        model = network()
        step = make_step(model, optim.AdamW(model.parameters(), lr=0.01))
        both = (step, fb.compile(step))
        fb.manual_seed(5)
        curves.append([both[choose(n)](batch(n)).item() for n in range(10)])
        assert len(both[1].signatures) <= 1
    np.testing.assert_allclose(curves[1], curves[0], rtol=RTOL)
    np.testing.assert_allclose(curves[2], curves[0], rtol=RTOL)


def test_gradients_of_micro_batches_add_up() -> None:
    finals = []
    for wrap in (lambda f: f, fb.compile):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.1)

        def step(batches: Sequence[fb.Tensor], model=model, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            for x in batches:
                (model(x) ** 2).mean().backward()
            optimizer.step()

        run = wrap(step)
        for n in range(4):
            run([batch(10 * n + part) for part in range(3)])
        finals.append([a.detach().numpy() for p in model.parameters() for a in (p, p.grad)])
    for eager, compiled in zip(*finals, strict=True):
        np.testing.assert_allclose(compiled, eager, rtol=RTOL, atol=1e-14)


def test_a_compiled_forward_trains_with_an_eager_backward() -> None:
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    forward = fb.compile(lambda x: (model(x) ** 2).mean())
    x, losses = fb.randn(4, 3), []
    for _ in range(20):
        optimizer.zero_grad()
        loss = forward(x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert len(forward.signatures) == 1


def test_clipped_gradients_are_the_same_compiled() -> None:
    found = []
    for wrap in (lambda f: f, fb.compile):
        model = network()
        optimizer = optim.SGD(model.parameters(), lr=0.5)

        def step(x: fb.Tensor, model=model, optimizer=optimizer) -> tuple[fb.Tensor, fb.Tensor]:
            optimizer.zero_grad()
            loss = (model(x) ** 2).sum()
            loss.backward()
            norm = clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            return loss, norm

        run = wrap(step)
        found.append([[value.item() for value in run(batch(n))] for n in range(6)])
    np.testing.assert_allclose(found[1], found[0], rtol=RTOL)
    assert min(norm for _, norm in found[0]) > 0.1, "nothing was clipped"


def test_a_checkpoint_continues_in_the_same_and_in_another_program() -> None:
    model = network().eval()                    # no dropout: the checkpoint holds no random generator
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    step = fb.compile(make_step(model, optimizer))
    for n in range(3):
        step(batch(n))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    moments = copy.deepcopy(optimizer.state_dict())
    expected = [step(batch(n)).item() for n in range(5)]

    other = network().eval()
    other.load_state_dict(weights)
    other_optimizer = optim.Adam(other.parameters(), lr=0.1)
    other_optimizer.load_state_dict(copy.deepcopy(moments))
    elsewhere = fb.compile(make_step(other, other_optimizer))
    assert [elsewhere(batch(n)).item() for n in range(5)] == expected

    model.load_state_dict(weights)
    optimizer.load_state_dict(moments)
    assert [step(batch(n)).item() for n in range(5)] == expected


def test_a_layer_frozen_between_steps_stays_as_it_is() -> None:
    model = network()
    step = fb.compile(make_step(model, optim.SGD(model.parameters(), lr=0.1)))
    step(batch(0))
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    frozen, free = model[0].weight.detach().numpy().copy(), model[4].weight.detach().numpy().copy()
    step(batch(1))
    np.testing.assert_array_equal(model[0].weight.detach().numpy(), frozen)
    assert (model[4].weight.detach().numpy() != free).any()
    assert len(step.signatures) == 2


def test_the_partial_batch_of_each_epoch_compiles_once() -> None:
    model = network()
    step = fb.compile(make_step(model, optim.Adam(model.parameters())))
    for epoch in range(3):
        for n in (8, 8, 5):
            step(batch(epoch, n))
    assert len(step.signatures) == 2
    assert "f64[5,3], was f64[8,3]" in step.signatures[1].reason


@pytest.mark.parametrize("wrap", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_an_unrolled_recurrent_network_remembers(wrap: Callable[[Step], Step]) -> None:
    """Five steps back: the label is the first character of the sequence."""
    fb.manual_seed(0)
    model = nn.ModuleDict({"embed": nn.Embedding(7, 4), "cell": nn.Linear(8, 4), "out": nn.Linear(4, 7)})
    optimizer = optim.Adam(model.parameters(), lr=0.05)

    def step(codes: fb.Tensor, labels: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        hidden = fb.zeros(codes.shape[0], 4)
        for position in range(codes.shape[1]):
            hidden = fb.tanh(model["cell"](fb.cat([model["embed"](codes[:, position]), hidden], dim=1)))
        loss = F.cross_entropy(model["out"](hidden), labels)
        loss.backward()
        optimizer.step()
        return loss

    codes = fb.from_numpy(np.random.default_rng(0).integers(0, 7, (8, 5)))
    labels = codes[:, 0].clone()
    run = wrap(step)
    losses = [run(codes, labels).item() for _ in range(60)]
    assert losses[-1] < 0.3 * losses[0]
