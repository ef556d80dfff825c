"""checkpoint: the numbers of the same program without it, eager and compiled, and less memory."""
from __future__ import annotations

from types import SimpleNamespace

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.errors import UnsupportedError
from flambeau.utils.checkpoint import checkpoint, checkpoint_sequential


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.wide, self.narrow = nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, scale=None):
        y = self.drop(self.narrow(F.gelu(self.wide(self.norm(x)))))
        return x + (y if scale is None else y * scale)


def trained(decorator, wrap, rows=8, width=8, depth=3):
    """What three steps give and leave, and the step."""
    fb.manual_seed(0)
    blocks = nn.ModuleList([Block(width) for _ in range(depth)])
    optimizer = fb.optim.AdamW(blocks.parameters(), lr=0.01)

    def step(x):
        optimizer.zero_grad()
        for block in blocks:
            x = wrap(block, x)
        loss = (x * x).mean()
        loss.backward()
        optimizer.step()
        return loss

    call = decorator(step)
    losses = [call(fb.randn(rows, width)).item() for _ in range(3)]
    return [*losses, fb.rand(1).item(), *[p.sum().item() for p in blocks.parameters()]], call


WRAPPED = {"plain": lambda block, x: block(x),
           "no reentry": lambda block, x: checkpoint(block, x, use_reentrant=False),
           "a keyword": lambda block, x: checkpoint(block, x, scale=fb.ones(1), use_reentrant=False),
           "captured": lambda block, x: checkpoint(lambda y: block(y) + (x - x), x),
           "nested": lambda block, x: checkpoint(lambda y: checkpoint(block, y), x)}


@pytest.mark.parametrize("how", [*WRAPPED][1:])
@pytest.mark.parametrize("decorator", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_steps_with_dropout_are_the_same(how, decorator):
    expected, _ = trained(lambda f: f, WRAPPED["plain"])
    found, _ = trained(decorator, WRAPPED[how])
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_compiled_step_needs_less_memory():
    plain, checkpointed = [trained(fb.compile, WRAPPED[how], rows=64, width=32, depth=4)[1].stats().arena_bytes
                           for how in ("plain", "no reentry")]
    assert checkpointed < 0.6 * plain


@pytest.mark.parametrize("decorator", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_backward_from_outside_and_several_results(decorator):
    def gradients(wrap):
        fb.manual_seed(0)
        layer = nn.Linear(3, 3)
        f = decorator(lambda x: wrap(lambda y: (F.dropout(layer(y)).tanh(), {"sum": y.sum()}), x))
        x = fb.ones(2, 3, requires_grad=True)
        out, rest = f(x)
        (out.sum() * rest["sum"]).backward()
        return [x.grad.tolist(), layer.weight.grad.tolist(), layer.bias.grad.tolist()]

    assert gradients(checkpoint) == gradients(lambda f, x: f(x))


@pytest.mark.parametrize("decorator", [lambda f: f, fb.compile], ids=["eager", "compiled"])
def test_second_derivatives(decorator):
    w = fb.tensor([0.5, 2.0], requires_grad=True)

    def second(x, wrap):
        y = wrap(lambda v: (v * w).sin() * v, x).sum()
        (g,) = fb.autograd.grad(y, x, create_graph=True)
        return fb.autograd.grad((g * g).sum(), (x, w))

    x = fb.tensor([1.0, -1.0], requires_grad=True)
    expected = second(x, lambda f, v: f(v))
    found = decorator(lambda v: second(v.detach().requires_grad_(), checkpoint))(x.detach())
    for a, b in zip(found, expected, strict=True):
        assert fb.allclose(a, b, atol=1e-6)


def test_sequential_and_what_is_refused():
    fb.manual_seed(0)
    net = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    x = fb.ones(1, 4, requires_grad=True)
    assert fb.allclose(checkpoint_sequential(net, 2, x, use_reentrant=False), net(x))
    checkpoint_sequential(net, 2, x).sum().backward()
    assert x.grad is not None and net[0].weight.grad is not None
    with pytest.warns(UserWarning, match="None of the inputs"):
        assert not checkpoint(net, fb.ones(1, 4), use_reentrant=True).requires_grad
    with fb.no_grad():
        assert not checkpoint(net, x).requires_grad

    changed = fb.ones(2, requires_grad=True)
    y = checkpoint(lambda v: (v * changed).exp(), fb.ones(2))
    with fb.no_grad():
        changed.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_gradients_of_gradients_outside_do_not_take_what_changed_since():
    config, x = SimpleNamespace(scale=2.0), fb.ones(2, requires_grad=True)
    compiled = fb.compile(lambda x: checkpoint(lambda x: fb.tanh(x * config.scale), x, use_reentrant=False).sum())
    y = compiled(x)
    config.scale = 5.0
    with pytest.raises(UnsupportedError, match=r"changed at .*scale from 2.0 to 5.0"):
        fb.autograd.grad(y, x, create_graph=True)
    config.scale = 2.0
    first = fb.autograd.grad(compiled(x), x, create_graph=True)[0]
    expected = fb.autograd.grad(fb.tanh(x * 2).sum(), x, create_graph=True)[0]
    assert fb.allclose(first, expected)
    assert fb.allclose(fb.autograd.grad(first.sum(), x)[0], fb.autograd.grad(expected.sum(), x)[0], atol=1e-5)
