"""Masks of causal attention are known by how they are made, for all sizes: never where they are none."""
from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from flambeau.ir import Builder, Graph, dtypes, ops
from flambeau.ir.answers import assuming
from flambeau.ir.dims import Dim, Size
from flambeau.ir.facts import Facts
from flambeau.ir.graph import Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.sizes import with_sizes
from flambeau.passes.graph.causal_masks import is_causal_mask

NONE = float("-inf")


class Made:
    """A mask [T, T] in the making, with a name for T or a number."""

    def __init__(self, size: Size) -> None:
        self.graph = Graph(name="mask")
        self.b, self.size = Builder(self.graph), size

    def index(self, d: int, offset: int = 0) -> Value:
        """i_d + offset: i64[T, T]."""
        counted = self.b.iota(self.size, dtypes.i64)
        if offset:
            counted = self.b.add(counted, self.b.scalar(offset, counted))
        return self.b.broadcast(counted, (self.size, self.size), (d,))

    def full(self, number: float) -> Value:
        return self.b.broadcast(self.b.constant(number, dtypes.f32), (self.size, self.size), ())


def tril(m: Made) -> Value:
    return m.b.where(m.b.le(m.index(1), m.index(0)), m.full(1.0), m.b.constant(0, dtypes.f32))


FORMS: dict[str, tuple[str, Callable[[Made], Value]]] = {
    "columns up to rows": ("seen", lambda m: m.b.le(m.index(1), m.index(0))),
    "rows from columns": ("seen", lambda m: m.b.ge(m.index(0), m.index(1))),
    "below the next row": ("seen", lambda m: m.b.lt(m.index(1), m.index(0, 1))),
    "columns beyond": ("hidden", lambda m: m.b.gt(m.index(1), m.index(0))),
    "not seen": ("hidden", lambda m: m.b.logical_not(m.b.ge(m.index(0, 3), m.index(1, 3)))),
    "from the next column": ("hidden", lambda m: m.b.ge(m.index(1), m.index(0, 1))),
    "tril == 0": ("hidden", lambda m: m.b.eq(tril(m), m.b.constant(0, dtypes.f32))),
    "tril != 0": ("seen", lambda m: m.b.ne(tril(m), m.b.constant(0, dtypes.f32))),
    "1 - tril": ("hidden", lambda m: m.b.cast(m.b.sub(m.full(1.0), tril(m)), dtypes.bool_)),
    "infinity above": ("added", lambda m: m.b.where(m.b.gt(m.index(1), m.index(0)), m.full(NONE), m.full(0.0))),
    "log of tril": ("added", lambda m: m.b.log(tril(m))),
    "transposed": ("seen", lambda m: m.b.permute(m.b.le(m.index(0), m.index(1)), (1, 0))),
    "distances": ("seen", lambda m: m.b.ge(m.b.sub(m.index(0), m.index(1)), m.b.constant(0, dtypes.i64))),
    "a dim more": ("seen", lambda m: m.b.reshape(m.b.le(m.index(1), m.index(0)), (1, m.size, m.size))),
    "spread": ("hidden", lambda m: m.b.broadcast(m.b.gt(m.index(1), m.index(0)), (3, 2, m.size, m.size), (2, 3))),
    "a part": ("seen", lambda m: m.b.emit(ops.Slice((1, 1), (m.size, m.size), (1, 1)), m.b.le(m.index(1), m.index(0)))),
}
OTHERS: dict[str, tuple[str, Callable[[Made], Value]]] = {
    "the other half": ("seen", lambda m: m.b.le(m.index(0), m.index(1))),
    "without the diagonal": ("seen", lambda m: m.b.lt(m.index(1), m.index(0))),
    "one column more": ("seen", lambda m: m.b.le(m.index(1), m.index(0, 1))),
    "the other kind": ("hidden", lambda m: m.b.le(m.index(1), m.index(0))),
    "all": ("seen", lambda m: m.b.le(m.index(1), m.index(1))),
    "large numbers": ("added", lambda m: m.b.where(m.b.gt(m.index(1), m.index(0)), m.full(-1e9), m.full(0.0))),
    "shifted rows": ("seen", lambda m: m.b.emit(ops.Slice((1, 0), (m.size, m.size), (1, 1)),
                                                m.b.le(m.index(1), m.index(0)))),
    "every other row": ("seen", lambda m: m.b.emit(ops.Slice((0, 0), (m.size, m.size), (2, 1)),
                                                   m.b.le(m.index(1), m.index(0)))),
}


def known(kind: str, form: Callable[[Made], Value]) -> bool:
    """Of a T of which nothing is known but that it is at least 2."""
    with assuming(Facts({"T": 5}, {"T": (2, 1 << 20)})):
        return is_causal_mask(kind, form(Made(Dim("T"))))


@pytest.mark.parametrize("name", FORMS)
def test_masks_that_are_known_for_all_sizes(name: str) -> None:
    kind, form = FORMS[name]
    assert known(kind, form) and is_causal_mask(kind, form(Made(5)))


@pytest.mark.parametrize("name", OTHERS)
def test_masks_of_something_else(name: str) -> None:
    kind, form = OTHERS[name]
    assert not known(kind, form) and not is_causal_mask(kind, form(Made(5)))


def test_a_mask_that_depends_on_an_input_is_not_known() -> None:
    def form(m: Made) -> Value:
        given = m.graph.add_input(m.full(0).type.with_dtype(dtypes.bool_), "x")
        return m.b.logical_and(m.b.le(m.index(1), m.index(0)), given)

    assert not known("seen", form) and not is_causal_mask("seen", form(Made(5)))


def test_a_constant_mask_is_known_by_its_elements() -> None:
    seen = np.tri(6, dtype=np.bool_)
    for array, expected in ((seen, True), (seen.T, False), (np.tri(6, k=1) > 0, False)):
        assert is_causal_mask("seen", Builder(Graph(name="mask")).constant(array, dtypes.bool_)) == expected


def drawn(rng: random.Random, m: Made) -> Value:
    """Bools or floats [T, T], of places, halves, numbers and views of such."""
    b = m.b
    places = [m.index(rng.randrange(2), rng.randint(-2, 2)) for _ in range(3)]
    places.append(rng.choice([b.sub, b.add])(*rng.sample(places, 2)))
    places.append(b.permute(rng.choice(places), (1, 0)))
    places.append(b.mul(rng.choice(places), b.constant(rng.choice([1, -1, 2]), dtypes.i64)))
    compare = rng.choice([b.le, b.lt, b.ge, b.gt, b.eq, b.ne])
    masks = [compare(rng.choice(places), rng.choice([*places, b.constant(rng.randint(-1, 1), dtypes.i64)]))]
    for _ in range(rng.randint(0, 4)):
        x, y = rng.choice(masks), rng.choice(masks)
        masks.append(rng.choice([
            lambda x, y: b.logical_not(x), lambda x, y: b.logical_and(x, y), lambda x, y: b.logical_or(x, b.logical_not(y)),
            lambda x, y: b.permute(x, (1, 0)), lambda x, y: b.eq(b.where(x, m.full(1.0), m.full(0.0)), m.full(0.0)),
            lambda x, y: b.cast(b.cast(x, dtypes.f32), dtypes.bool_), lambda x, y: b.where(x, y, b.logical_not(y))])(x, y))
    return masks[-1]


def test_random_masks_are_known_only_where_they_are_causal(seeds: Iterator[int]) -> None:
    for seed in seeds:
        with assuming(Facts({"T": 5}, {"T": (2, 1 << 20)})):
            made = Made(Dim("T"))
            mask = drawn(random.Random(seed), made)
            kinds = [kind for kind in ("seen", "hidden") if is_causal_mask(kind, mask)]
            made.graph.outputs = [mask]
        for size in (2, 3, 7):
            (array,), _ = interpret(with_sizes(made.graph, {"T": size}), [])
            expected = np.tri(size, dtype=np.bool_)
            for kind in kinds:
                assert np.array_equal(array, expected if kind == "seen" else ~expected), f"seed {seed}, {kind}, T = {size}"
