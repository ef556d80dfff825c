"""Errors say what the user called, in which Module, and what to do, not what our functions are made of."""
from __future__ import annotations

import pickle
import re

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 2))

    def forward(self, x):
        return self.body(x)


@pytest.mark.parametrize("wraps", (lambda net: net, fb.compile, lambda net: fb.compile(lambda x: net(x))))
def test_an_error_names_the_module_by_its_path(wraps):
    with pytest.raises(fb.errors.ShapeError, match="must end in 9") as error:
        wraps(Net())(fb.ones(2, 4))
    assert error.value.__notes__ == ["in Net.body.2, Linear(in_features=9, out_features=2, bias=True)"]
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)


def test_the_innermost_module_of_a_chain_of_owners_without_names():
    inner = nn.Linear(3, 2)

    class Holder(nn.Module):
        def forward(self, x):
            return inner(x)                 # no part of this one

    with pytest.raises(fb.errors.ShapeError) as error:
        nn.Sequential(Holder())(fb.ones(2, 4))
    assert error.value.__notes__ == ["in Linear(in_features=3, out_features=2, bias=True)"]


def test_a_hook_and_a_users_own_error_too():
    class Fails(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    net = nn.Sequential(nn.ReLU(), Fails())
    net[1].register_forward_hook(lambda *args: None)
    with pytest.raises(KeyError) as error:
        net(fb.ones(2))
    assert error.value.__notes__ == ["in Sequential.1, Fails()"]


def test_a_module_that_breaks_while_it_is_described_hides_nothing():
    class Half(nn.Module):
        def extra_repr(self):
            return self.nothing

        def forward(self, x):
            raise KeyError("mine")

    with pytest.raises(KeyError) as error:
        Half()(fb.ones(2))
    assert not hasattr(error.value, "__notes__")


x = fb.ones
MISTAKES = {
    "batch_norm: running_mean f32[3] must be of shape (4,)": lambda: F.batch_norm(x(2, 4, 5), x(3), x(3)),
    "instance_norm: running_var f32[3] must be": lambda: F.instance_norm(x(2, 4, 5), x(4), x(3)),
    "batch_norm: mul: shapes": lambda: F.batch_norm(x(2, 4, 5), x(4), x(4), weight=x(3)),
    "scaled_dot_product_attention: matmul: contracting dims": lambda: F.scaled_dot_product_attention(
        x(1, 2, 3, 4), x(1, 2, 3, 5), x(1, 2, 3, 4)),
    "cross_entropy: weight f32[3] must have": lambda: F.cross_entropy(x(2, 4), fb.tensor([0, 1]), weight=x(3)),
    "index_add: scatter_add: updates": lambda: fb.zeros(3, 2).index_add(0, fb.tensor([0, 1]), x(3, 2)),
    "masked_fill: where: shapes": lambda: x(3).masked_fill(x(4).bool(), 0.0),
    "add: shapes": lambda: x(3) + x(4),
    "matmul: contracting dims differ": lambda: x(3, 4) @ x(3, 4),
    "linear: bias f32[5] must be of shape (4,)": lambda: F.linear(x(2, 3), x(4, 3), x(5)),
    "cast one with .to(dtype)": lambda: x(3, 3) @ x(3, 3).double(),
    "target.long()": lambda: F.cross_entropy(x(4, 3), x(4)),
    "pass input.long()": lambda: F.embedding(x(4), x(3, 2)),
    "pass its .parameters()": lambda: optim.SGD(nn.Linear(2, 2), lr=0.1),
    "pass a list of it": lambda: optim.SGD(x(3), lr=0.1),
    "or a list of tensors": lambda: optim.SGD(nn.Linear(2, 2).state_dict(), lr=0.1),
    "detach().requires_grad_()": lambda: optim.SGD([x(3).requires_grad_() * 2], lr=0.1),
    "nn.ModuleList": lambda: optim.SGD([], lr=0.1),
    "did you mean 'relu'?": lambda: fb.reluu,
    "did you mean 'Linear'?": lambda: nn.Linaer,
    "it is not implemented": lambda: fb.utterly_unlike,
    "did you mean 'dim'?": lambda: fb.sum(x(2, 2), dims=0),
    'GPUs are "cuda"': lambda: fb.ones(3, device="gpu"),
    "got 10 and 3": lambda: nn.MultiheadAttention(10, 3),
    "fb.debug_print": lambda: fb.compile(lambda a: print(a))(x(3)),
}


@pytest.mark.parametrize("words", MISTAKES)
def test_what_to_do_is_said(words):
    with pytest.raises(Exception, match=re.escape(words)) as error:
        MISTAKES[words]()
    assert ": " not in words or str(error.value).startswith(words)


@pytest.mark.parametrize(("call", "message"), [
    (lambda x: nn.LSTMCell(4, 6)(x), r"lstm_cell: input f32\[3,5\] must end in 4"),
    (lambda x: nn.LSTMCell(5, 6)(x, (fb.ones(3, 6), fb.ones(3, 7))), r"lstm_cell: hx\[1\] f32\[3,7\] must be \[3, 6\]"),
    (lambda x: nn.LSTMCell(5, 6)(x, (fb.ones(2, 6), fb.ones(2, 6))), r"lstm_cell: hx\[0\] f32\[2,6\] must be \[3, 6\]"),
    (lambda x: nn.GRUCell(5, 6)(x, fb.ones(3, 7)), r"gru_cell: hx f32\[3,7\] must be \[3, 6\]"),
    (lambda x: nn.RNNCell(5, 6)(x, fb.ones(2, 6)), r"rnn_tanh_cell: hx f32\[2,6\] must be \[3, 6\]"),
    (lambda x: nn.CrossEntropyLoss(weight=fb.ones(4))(x, fb.tensor([1, 2, 0])),
     r"cross_entropy: weight f32\[4\] must have one number for each of the 5 classes"),
])
def test_cells_and_weights_name_the_argument(call, message):
    with pytest.raises(fb.errors.ShapeError, match=message):
        call(fb.ones(3, 5))


def test_the_state_of_an_lstm_cell_is_a_pair():
    with pytest.raises(TypeError, match="LSTMCell: hx takes .h, c., two tensors, got one"):
        nn.LSTMCell(5, 6)(fb.ones(3, 5), fb.ones(2, 6))
