"""While it traces, Python may look at tensors that are computed from constants alone; at no others."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest

import flambeau as fb
from flambeau import nn
from flambeau.errors import TraceError

KNOWN: dict[str, Callable[[fb.Tensor], Any]] = {
    "item": lambda x: x * fb.tensor([1, 2]).amax().item(),
    "tolist": lambda x: x * sum(fb.arange(6).view(2, 3)[1].tolist()),
    "int": lambda x: x * int(fb.ceil(fb.tensor(x.shape[0] / 2))),
    "if": lambda x: x if fb.tensor(x.shape[0]) > 2 else -x,
    "numpy": lambda x: x * float(fb.linspace(0, 1, 5).numpy().sum()),
    "16 bits": lambda x: x * fb.tensor([1.5], dtype=fb.bfloat16).item(),
    "written": lambda x: x * written().item(),
    "overwritten argument": lambda x: x.clone() * x.clone().fill_(2.0).sum().item(),
    "mask": lambda x: x[fb.tensor([True, False, True])],
    "assigned by a mask": lambda x: x.clone().masked_fill(fb.arange(3) > 1, 0.0)[fb.nonzero(fb.arange(3)).squeeze(1)],
    "unique": lambda x: fb.unique(fb.tensor([3, 1, 1]), return_counts=True)[1] * x[:2],
    "unique_consecutive": lambda x: fb.unique_consecutive(fb.tensor([3, 3, 1])) * x[:2],
    "bincount": lambda x: fb.bincount(fb.tensor([0, 1, 1])) * x[:2],
    "repeat_interleave": lambda x: fb.repeat_interleave(x, fb.tensor([1, 0, 2])),
    "packed": lambda x: nn.utils.rnn.pack_padded_sequence(x[None, :, None], fb.tensor([2]), batch_first=True).data,
    "in a choice": lambda x: fb.cond(x.sum() > 0, lambda x: x * fb.arange(3)[2].item(), lambda x: x, (x,)),
}
HIDDEN: dict[str, Callable[[fb.Tensor], Any]] = {
    "an argument": lambda x: x * x.sum().item(),
    "of both": lambda x: x * (fb.arange(3) * x)[0].item(),
    "random": lambda x: x * fb.rand(()).item(),
    "outside": lambda x: x * OUTSIDE.item(),
    "written with an argument": lambda x: x * written(x[0]).item(),
    "in a choice": lambda x: fb.cond(x.sum() > 0, lambda x: x * x.sum().item(), lambda x: x, (x,)),
    "mapped": lambda x: fb.vmap(lambda v: v * v.item())(x),
}
OUTSIDE = fb.tensor(2.0)


def written(value: Any = 5) -> fb.Tensor:
    made = fb.zeros(2, 2)
    made[1].fill_(3.0)
    made[0, 0] = value
    return made.sum()


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_computed_from_constants_is_known(name: str) -> None:
    f, x = KNOWN[name], fb.tensor([1.0, 2.0, 3.0], requires_grad=True)
    compiled, grads = fb.compile(f), []
    for _ in range(2):
        assert compiled(x).tolist() == f(x).tolist()
    for g in (compiled, f):
        grads.append(fb.autograd.grad(g(x).sum(), x)[0])
    assert grads[0].tolist() == grads[1].tolist() and len(compiled.signatures) == 1


@pytest.mark.parametrize("name", HIDDEN)
def test_other_tensors_have_no_value(name: str) -> None:
    with pytest.raises((TraceError, RuntimeError), match="value of a"):
        fb.compile(HIDDEN[name])(fb.ones(3))


def test_numbers_among_the_arguments() -> None:
    compiled = fb.compile(lambda x, n: x * fb.tensor([n]).item())
    assert [compiled(fb.ones(1), n).item() for n in (1.5, 2.5, 1.5)] == [1.5, 2.5, 1.5]


def test_a_known_array_can_only_be_read() -> None:
    def f(x: fb.Tensor) -> fb.Tensor:
        fb.arange(3).numpy()[0] = 7
        return x

    with pytest.raises(ValueError, match="read-only"):
        fb.compile(f)(fb.ones(3))


def test_an_array_that_is_in_use_shows_what_a_tensor_holds() -> None:
    def f(x: fb.Tensor, change: Callable[[fb.Tensor, fb.Tensor], Any], copies: bool) -> fb.Tensor:
        z = fb.zeros(3)
        array = z[1:].numpy()
        array = array.copy() if copies else array[1:]
        change(z, x)
        return x * float(array.sum()) + z

    for change in (lambda z, x: z.add_(1), lambda z, x: z[0].copy_(x[0]),
                   lambda z, x: fb.cond(x.sum() > 0, lambda: z.mul_(2).sum(), lambda: x.sum(), ())):
        x = fb.ones(3)
        with pytest.raises(TraceError, match="array that its numpy"):
            fb.compile(lambda x: f(x, change, False))(x)        # noqa: B023
        assert fb.compile(lambda x: f(x, change, True))(x).tolist() == f(x, change, True).tolist()      # noqa: B023


def test_an_object_that_makes_attributes_when_it_is_looked_at() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.logger, self.out = MagicMock(), nn.Linear(3, 2)

        def forward(self, x: fb.Tensor) -> fb.Tensor:
            return self.out(x) if self.logger is not None else x

    net = Net()
    np.testing.assert_allclose(fb.compile(net)(fb.ones(3)).tolist(), net(fb.ones(3)).tolist(), rtol=1e-6)
