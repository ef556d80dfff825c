"""Data that ends a kernel: a compiled function tells the op, the size and the line, as far as they are known apart."""

from __future__ import annotations

import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn

X, BAD = fb.ones(5, 4), fb.tensor([0, 7])


@pytest.mark.parametrize(("function", "expected"), [
    (lambda x, i: x[i], "index 7 is out of range for size 5"),
    (lambda x, i: x[:, i], "index 7 is out of range for size 4"),
    (lambda x, i: fb.index_select(x, 0, i), "index_select: index 7 is out of range for size 5"),
    (lambda x, i: x.gather(1, i[None]), "gather: index 7 is out of range for size 4"),
    (lambda x, i: F.embedding(i, x), "embedding: index 7 is out of range for size 5"),
    (lambda x, i: x.index_add(0, i, x[:2]), "index_add: index 7 is out of range for size 5"),
    (lambda x, i: x.scatter(0, i[None], x), "scatter: index 7 is out of range for size 5"),
    (lambda x, i: F.one_hot(i, 6), "one_hot: index 7 is out of range for size 6"),
    (lambda x, i: i // (i * 0), "floor_divide: integer division by zero"),
    (lambda x, i: i % (i * 0), "remainder: integer division by zero"),
])
def test_op_size_and_line_are_told(function, expected):
    with pytest.raises(fb.errors.KernelError) as caught:
        fb.compile(function)(X, BAD)
    line = function.__code__.co_firstlineno
    assert str(caught.value).startswith(f"{expected} (in the kernel of ") and str(caught.value).endswith(f".py:{line})")


def test_a_size_is_that_of_the_call():
    pick = fb.compile(lambda x, i: fb.index_select(x, 0, i), dynamic=True)
    pick(X, fb.tensor([0, 1]))
    for size in (3, 6):
        with pytest.raises(IndexError, match=f"^index_select: index 7 is out of range for size {size} "):
            pick(fb.ones(size, 4), BAD)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(9, 4), nn.Embedding(6, 4)

    def forward(self, x, place):
        return self.tok(x) + self.pos(place)


def test_of_several_ops_those_that_an_index_is_out_of_range_for():
    """One kernel computes both embeddings."""
    model = Net()
    run = fb.compile(model)
    with pytest.raises(IndexError, match=r"^Embedding of net\.pos: index 7 is out of range for size 6 \(in"):
        run(fb.tensor([0, 1]), BAD)
    with pytest.raises(IndexError, match=r"net\.tok: index 9 .* size 9, or .* net\.pos: index 9 .* size 6 \(in"):
        run(fb.tensor([0, 9]), fb.tensor([0, 1]))


class Tables(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Embedding(9, 4), nn.Embedding(9, 4)

    def forward(self, i, j):
        return self.a(i).sum(), self.b(j).sum()


def test_tables_that_share_code_have_their_own_names():
    run = fb.compile(Tables())
    run(BAD, BAD)
    for name, indices in (("a", (BAD + 5, BAD)), ("b", (BAD, BAD + 5))):
        with pytest.raises(IndexError, match=rf"^Embedding of tables\.{name}: index 12 is out of range for size 9 "):
            run(*indices)
