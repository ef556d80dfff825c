"""Functions of arguments whose sizes have names: one trace gives what eager code gives at all sizes that it is for."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import symbolic

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn
from flambeau.ir.dims import Dim

x = fb.randn(4, 6, 8)
picture = fb.randn(2, 3, 8, 10)
rows = fb.randint(0, 8, (4, 6))

# Functions, their arguments, each size of which has a name. None of these is fixed to a number.
CASES: dict[str, tuple[Callable[..., Any], list[fb.Tensor]]] = {
    "view": (lambda x: x.view(x.shape[0], x.size(1) * 2, -1), [x]),
    "view of rows": (lambda x: x.view(-1, x.shape[-1]), [x]),
    "heads": (lambda x: x.view(*x.shape[:2], 2, -1).transpose(1, 2), [x]),
    "flatten": (lambda x: (x.flatten(), x.flatten(1), x.ravel(), x.reshape(-1)), [x]),
    "unflatten": (lambda x: x.unflatten(2, (2, -1)), [x]),
    "expand": (lambda m, x: m.expand(x.shape[0], -1, -1), [fb.randn(6, 8), x]),
    "new dims": (lambda x: (x[None], x[:, None], x.unsqueeze(-1)), [x]),
    "transposed": (lambda x: (x.mT.contiguous().view(x.shape[0], -1), x.permute(2, 0, 1)), [x]),
    "filled": (lambda x: (fb.zeros(x.shape[0], 3), x.new_ones(x.shape[1:]), fb.full((x.numel(),), 2.0)), [x]),
    "like": (lambda x: (fb.zeros_like(x), fb.full_like(x, 3), fb.empty_like(x)), [x]),
    "arange": (lambda x: (fb.arange(x.shape[1]), fb.arange(1, x.shape[1] + 1, 2), fb.arange(x.shape[0], dtype=fb.float32),
                          fb.arange(x.shape[1], x.numel(), x.shape[2]), fb.arange(0, 2 * x.shape[1], 3).float()), [x]),
    "linspace": (lambda x: (fb.linspace(0, 1, x.shape[1]), fb.linspace(0, x.shape[0] - 1, 5)), [x]),
    "eye": (lambda x: (fb.eye(x.shape[1]), fb.eye(x.shape[0], x.shape[1])), [x]),
    "masks": (lambda x: (fb.ones(x.shape[1], x.shape[1]).tril(), x.new_ones(x.shape[0], x.shape[1]).bool().triu(1)), [x]),
    "random": (lambda x: (fb.rand(x.shape[0], 2), fb.randn(x.shape), fb.randint(0, 9, (x.shape[1],)), fb.rand_like(x),
                          fb.randint(0, x.shape[1], (3,)), fb.randperm(x.shape[1]), F.dropout(x)), [x]),
    "numbers of sizes": (lambda x: (fb.tensor(x.shape[0]), x / x.shape[1], x * x.numel(), x.shape[0] - x,
                                    fb.tensor([x.shape[0], 3 * x.shape[1]]), fb.full((2,), x.shape[0])), [x]),
    "sizes": (lambda x: (x.shape[0], x.size(-1) + 1, x.numel(), x.shape.numel(), x.nbytes, x.stride()), [x]),
    "roots of sizes": (lambda x: (x * x.shape[-1] ** -0.5, x / x.shape[-1] ** 0.5, x * (1 / x.shape[1])), [x]),
    "means": (lambda x: (x.mean(), x.mean(1), x.mean((0, 2), keepdim=True), x.half().mean(1)), [x]),
    "moments": (lambda x: (x.var(), x.std(1), x.var(0, correction=0), *fb.var_mean(x, (0, 1))), [x]),
    "sums": (lambda x: (x.sum(), x.sum(1), x.prod(-1), x.norm(), x.logsumexp(1), x.amax(0), x.argmax(), x.any(1)), [x]),
    "softmax": (lambda x: (x.softmax(-1), F.log_softmax(x, 1)), [x]),
    "normalized": (lambda x: (F.normalize(x), F.group_norm(x, 2), F.instance_norm(x)), [x]),
    "batch_norm": (lambda x: F.batch_norm(x, None, None, training=True), [x]),
    "losses": (lambda x, y: (F.mse_loss(x, y), F.l1_loss(x, y), F.smooth_l1_loss(x, y),
                             F.kl_div(x, y, reduction="batchmean"),
                             F.binary_cross_entropy_with_logits(x, y.sigmoid())), [x, fb.randn(4, 6, 8)]),
    "cross_entropy": (lambda x, y: F.cross_entropy(x.flatten(0, 1), y.flatten(), label_smoothing=0.1), [x, rows]),
    "soft targets": (lambda x, y: F.cross_entropy(x, y.softmax(1)), [x, fb.randn(4, 6, 8)]),
    "products": (lambda x, w: (x @ w.mT, F.linear(x, w), x @ x.mT, fb.einsum("btc,oc->bot", x, w)), [x, fb.randn(5, 8)]),
    "broadcast": (lambda x, y, v: (x + y, x * v, fb.broadcast_tensors(x, v)[1], fb.where(y > 0, x, v)),
                  [x, fb.randn(6, 1), fb.randn(8)]),
    "joined": (lambda x, y: (fb.cat([x, y], 1), fb.stack([x, x]), x.repeat(2, 1, 3), x.repeat_interleave(2, 1)),
               [x, fb.randn(4, 3, 8)]),
    "padded": (lambda x: (F.pad(x, (1, 2)), F.pad(x, (0, 0, x.shape[1], 0), value=1.0)), [x]),
    "looked up": (lambda at, w: (F.embedding(at, w), w[at], w.index_select(0, at[0])), [rows, fb.randn(8, 5)]),
    "one_hot": (lambda at: F.one_hot(at, 8), [rows]),
    "gathered": (lambda x, at: (x.gather(2, at), x.scatter_add(2, at, x), x.take_along_dim(at, 2)),
                 [x, fb.randint(0, 6, (4, 6, 8))]),
    "ordered": (lambda x: (x.sort(1), x.argsort(-1), x.topk(2, 1), x.cumsum(1), x.kthvalue(2, 0)), [x]),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), [x]),
    "causal attention": (lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True), [x]),
}


@pytest.mark.parametrize("name", CASES)
def test_one_trace_is_for_all_sizes(name: str) -> None:
    function, arguments = CASES[name]
    program = symbolic.check(function, arguments, count=3)
    assert program.fixed == {}
    assert symbolic.other_sizes(program, 1), program.facts.conditions


encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
lstm, linear, table = nn.LSTM(8, 8, batch_first=True), nn.Linear(8, 8), nn.Embedding(8, 8)
images = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.GroupNorm(2, 4), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1))


def attended(x: fb.Tensor) -> fb.Tensor:
    heads = x.reshape(*x.shape[:2], 2, 4).transpose(1, 2)
    weights = (heads @ heads.mT).masked_fill(fb.ones(x.shape[1], x.shape[1]).tril() == 0, -math.inf).softmax(-1)
    return (weights @ heads).transpose(1, 2).contiguous().view(*x.shape[:2], 8)


def picked(x: fb.Tensor) -> fb.Tensor:
    return linear(x).log_softmax(-1).gather(-1, fb.ones_like(x[..., :1], dtype=fb.int64)).squeeze(-1)


# Functions, an argument, and the dim that has a name, from 0 on
ONE_ROW: list[tuple[Callable[[fb.Tensor], fb.Tensor], fb.Tensor, int]] = [
    (attended, x, 0), (attended, x, 1), (encoder, x, 0), (encoder, x, 1), (lambda x: lstm(x)[0], x, 0), (table, rows, 0),
    (picked, x, 0), (images, fb.randn(3, 3, 8, 9), 0), (F.normalize, x, 0), (lambda x: linear(x.mT.mT.flatten(0, 1)), x, 1),
    (lambda x: fb.cat([linear.bias.expand(x.shape[0], 1, -1), x], 1).mean(1), x, 0)]


@pytest.mark.parametrize(("function", "argument", "dim"), ONE_ROW)
def test_one_trace_is_for_one_row_and_for_none(function: Callable[..., Any], argument: fb.Tensor, dim: int) -> None:
    """What is contiguous, broadcast, squeezed or joined is so for one row too, and for none. Gradients are results."""
    def with_gradients(x: fb.Tensor) -> list[fb.Tensor]:
        result, given = function(x), [*dict.fromkeys([*encoder.parameters(), *lstm.parameters(), *linear.parameters(),
                                                      *table.parameters(), *images.parameters()])]
        found = fb.autograd.grad(result.sin().sum(), given, allow_unused=True) if result.requires_grad else ()
        return [result, *[g for g in found if g is not None]]

    shape: list[Any] = list(argument.shape)
    shape[dim] = Dim("n")
    program = symbolic.traced(with_gradients, [argument], [tuple(shape)])
    for n in (1, 0):
        assert program.sizes_like({"n": n}) is not None, program.facts.conditions
        arrays = program.arrays_for({"n": n})
        wanted = symbolic.eagerly(with_gradients, program, arrays)
        assert symbolic.difference(program.run({"n": n}, arrays), wanted) is None, n


def test_sizes_are_numbers_in_users_texts_and_names_in_messages() -> None:
    def told(x: fb.Tensor) -> str:
        with pytest.raises(fb.errors.ShapeError) as caught:
            x + fb.zeros(3)
        return f"{x.shape} {caught.value.message}"

    program = symbolic.traced(told, [fb.zeros(2, 5)], [(Dim("B"), 5)])
    assert program.results == ["flambeau.Size([2, 5]) add: shapes (B, 5), (3,) do not broadcast: sizes 5 and 3 at dim 1"]


def test_a_dim_of_one_place_is_broadcast_whatever_the_other_is() -> None:
    program = symbolic.check(lambda x, y: x + y, [fb.randn(1, 4), fb.randn(3, 4)], [(1, 4), (Dim("B"), 4)])
    assert program.facts.conditions == []


def test_bits_are_conditions_on_the_range_of_a_size_alone() -> None:
    program = symbolic.traced(lambda x: fb.randperm(x.shape[0]), [fb.zeros(6)], [(Dim("B"),)])
    assert [n for n in range(1, 20) if program.sizes_like({"B": n})] == [5, 6, 7, 8]


def test_a_loop_over_a_size_fixes_it() -> None:
    program = symbolic.check(lambda x: sum(x[i] for i in range(math.prod(x.shape))), [fb.randn(5)])
    assert program.fixed == {"s0_0": 5}


def test_a_size_that_turned_out_to_be_1_is_walked_as_such() -> None:
    def f(x: fb.Tensor) -> Any:
        y = x * 2
        return (y, y.reshape(x.shape[0] // 2, 2)) if 2 <= x.shape[0] <= 2 else (y,)

    compiled = fb.compile(f, dynamic=True)
    for given in (fb.tensor([1.0, 2.0]), fb.tensor([3.0, 4.0, 5.0])):
        assert [t.tolist() for t in compiled(given)] == [t.tolist() for t in f(given)]


@pytest.mark.parametrize("function", [
    lambda x: fb.hann_window(x.shape[0]), lambda x: fb.kaiser_window(x.shape[0]), lambda x: fb.tril_indices(x.shape[0], 3),
    lambda x: x.unbind(), lambda x: [row * 2 for row in x], lambda x: fb.combinations(x)])
def test_what_is_made_in_python_fixes_sizes(function: Callable[..., Any]) -> None:
    assert symbolic.check(function, [fb.randn(6)]).fixed == {"s0_0": 6}


class Seven:
    def __eq__(self, other: object) -> bool:
        return bool(other == 7)

    __hash__ = None         # type: ignore[assignment]


@pytest.mark.parametrize("question", [
    lambda n: n == complex(7), lambda n: n == Fraction(7), lambda n: Decimal(7) == n, lambda n: n == Seven(),
    lambda n: n != Seven(), lambda n: n == np.uint8(7), lambda n: n > np.int8(127), lambda n: n - np.uint8(3),
    lambda n: n // np.int64(2) * 2,
    lambda n: n % np.uint8(4), lambda n: 1 << n, lambda n: 900 >> n, lambda n: ~n, lambda n: pow(n, 3, 5),
    lambda n: n.bit_count(), lambda n: n.to_bytes(2, "big"), lambda n: (n.real, n.imag, n.conjugate()),
    lambda n: (n.numerator, n.denominator, n.as_integer_ratio()), lambda n: f"{n:05d}|{n:x}|{n}|{n:>3}", lambda n: n * 2j,
    lambda n: 1j - n, lambda n: n == "7", lambda n: n is None or n == None])                    # noqa: E711
def test_a_size_does_what_an_int_does(question: Callable[[Any], Any]) -> None:
    """In a trace with names: none is left to one that has none."""
    for n in (7, 6):
        program = symbolic.traced(lambda x: str(question(x.shape[0])), [fb.zeros(n)], [(Dim("B"),)])
        assert program.results == [str(question(n))]


def test_a_size_is_compared_with_a_tensor() -> None:
    compiled = fb.compile(lambda x: x.shape[0] == fb.tensor([7, 6]), dynamic=True)
    assert [compiled(fb.zeros(n)).tolist() for n in (7, 6, 5)] == [[True, False], [False, True], [False, False]]
