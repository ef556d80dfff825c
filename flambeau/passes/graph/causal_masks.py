"""Whether a value is the mask of causal attention, whatever its sizes are: by how it is made, and else by its elements.

What a mask is made of says what an element is at any index: a *place* (an affine function of the index, as `arange` and
sums of such), or one of *two numbers*, by whether i_column - i_row is beyond a threshold, as comparing two places gives.
An elementwise op of such halves gives halves, of what it makes of either number: so `tril(ones(T, T)) == 0` is known for
all T at once.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir import dtypes, ops
from flambeau.ir.dims import same, same_shape
from flambeau.ir.evaluation import apply
from flambeau.ir.graph import Node, Value
from flambeau.ir.graph.interpreter import evaluate_node
from flambeau.ir.ops.families import Elementwise
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["is_causal_mask"]

_MOST_EVALUATED: Final = 1 << 23            # elements of a mask that is looked at one by one
_MOST_NODES: Final = 64                     # that a mask is computed by


def is_causal_mask(kind: str, mask: Value) -> bool:
    """Whether a mask lets row i (of its last two dims) see columns up to i. kind: "seen" or "hidden", bools, or "added"."""
    rank = mask.type.rank
    nodes = _made_by(mask)
    if rank < 2 or nodes is None:
        return False
    seen, hidden = {"seen": (True, False), "hidden": (False, True)}.get(kind, (0.0, -inf))
    found = _element(mask, nodes)
    if isinstance(found, _Halves):
        return found.split == _Split(rank - 2, rank - 1, 0) and (found.near, found.far) == (seen, hidden)
    return found is None and _has_elements(mask, nodes, seen, hidden)


def _made_by(value: Value) -> list[Node] | None:
    """The nodes that a value is computed by, operands first; None where it depends on an input, or on too many."""
    nodes: list[Node] = []
    for node in _ancestors(value):
        if len(nodes) == _MOST_NODES or node.op.name == "input" or not node.is_pure or node.regions:
            return None
        nodes.append(node)
    return nodes


def _ancestors(value: Value) -> Iterator[Node]:
    done: set[Node] = set()
    stack = [(value.node, False)]
    while stack:
        node, left = stack.pop()
        if left:
            yield node
        elif node not in done:
            done.add(node)
            stack.append((node, True))
            stack += [(v.node, False) for v in node.operands]


# -- by how it is made ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """The i64 sum(coefficients[d] * i_d) + constant."""

    coefficients: tuple[int, ...]
    constant: int


@dataclass(frozen=True)
class _Split:
    """i_column - i_row <= most, of two dims, row < column."""

    row: int
    column: int
    most: int


@dataclass(frozen=True)
class _Halves:
    """`near` within the split, and `far` beyond it; without a split, both are what all elements are."""

    near: float | int | bool
    far: float | int | bool
    split: _Split | None


_Element = _Place | _Halves | None           # None: not known


def _element(value: Value, nodes: Sequence[Node]) -> _Element:
    known: dict[Value, _Element] = {}
    for node in nodes:
        operands = [known[v] for v in node.operands]
        known.update(dict.fromkeys(node.results, None))
        if None not in operands and len(node.results) == 1:
            known[node.results[0]] = _of_node(node, operands)
    return known.get(value)


def _of_node(node: Node, operands: Sequence[_Element]) -> _Element:
    match node.op:
        case ops.Constant(value) if value.array.size == 1:
            return _Halves(value.item(), value.item(), None)
        case ops.Iota(_, dtype) if dtype is dtypes.i64:
            return _Place((1,), 0)
        case ops.Broadcast() | ops.Permute() | ops.Reshape() | ops.Slice():
            return _viewed(node, operands[0])
        case Elementwise():
            return _computed(node, operands)
    return None


def _viewed(node: Node, element: _Element) -> _Element:
    """Of a view: where each dim of the operand is in the result, and what is added to its index."""
    given, made = node.operands[0].type.shape, node.results[0].type.shape
    start_of: tuple[int, ...] = (0,) * len(given)
    match node.op:
        case ops.Broadcast(_, dims):
            dim_of = [d if same(size, made[d]) else None if same(size, 1) else -1
                      for size, d in zip(given, dims, strict=True)]
        case ops.Permute(dims):
            dim_of = [dims.index(d) for d in range(len(given))]
        case ops.Reshape():                 # which adds or drops dims of 1
            kept, into = ([d for d, size in enumerate(shape) if not same(size, 1)] for shape in (given, made))
            if not same_shape(tuple([given[d] for d in kept]), tuple([made[d] for d in into])):
                return element if isinstance(element, _Halves) and element.split is None else None
            dim_of = [into[kept.index(d)] if d in kept else None for d in range(len(given))]
        case ops.Slice(starts, _, strides):
            dim_of = [d if step == 1 and isinstance(start, int) else -1
                      for d, (start, step) in enumerate(zip(starts, strides, strict=True))]
            start_of = tuple([start if isinstance(start, int) else 0 for start in starts])
    return _moved(element, dim_of, start_of, len(made))


def _moved(element: _Element, dim_of: Sequence[int | None], start_of: Sequence[int], rank: int) -> _Element:
    """dim_of: None for a dim of one index, -1 for what cannot be said."""
    if isinstance(element, _Place):
        coefficients, constant = [0] * rank, element.constant
        for d, coefficient in enumerate(element.coefficients):
            into = dim_of[d]
            if into == -1 and coefficient:
                return None
            constant += coefficient * start_of[d]
            if into is not None and coefficient:
                coefficients[into] = coefficient
        return _Place(tuple(coefficients), constant)
    if not isinstance(element, _Halves) or element.split is None:
        return element
    row, column = dim_of[element.split.row], dim_of[element.split.column]
    if row is None or column is None or -1 in (row, column):
        return None
    most = element.split.most + start_of[element.split.row] - start_of[element.split.column]
    return _halves(row, column, most, element.near, element.far)


def _halves(row: int, column: int, most: int, near: float | int | bool, far: float | int | bool) -> _Halves:
    """With dims in either order: not (a - b <= most) is b - a <= -most - 1."""
    if row < column:
        return _Halves(near, far, _Split(row, column, most))
    return _Halves(far, near, _Split(column, row, -most - 1))


def _computed(node: Node, operands: Sequence[_Element]) -> _Element:
    if any(isinstance(x, _Place) for x in operands):
        return _of_places(node, operands)
    halves = [x for x in operands if isinstance(x, _Halves)]
    splits = {x.split for x in halves if x.split is not None}
    if len(splits) > 1:
        return None
    types = [TensorType((2,), v.dtype) for v in (*node.operands, *node.results)]
    arrays = [np.array([x.near, x.far], t.dtype.storage) for x, t in zip(halves, types, strict=False)]
    if any(t.dtype is dtypes.bf16 for t in types):
        return None                         # whose storage is bits
    (found,) = apply(node.op, arrays, types[:len(halves)], types[len(halves):])
    near, far = found.tolist()
    return _Halves(near, far, next(iter(splits), None))


def _of_places(node: Node, operands: Sequence[_Element]) -> _Element:
    """Sums and comparisons of places."""
    rank = node.results[0].type.rank
    places = [_as_place(x, rank) for x in operands]
    if len(places) != 2 or node.operands[0].dtype is not dtypes.i64:
        return None
    x, y = places
    if x is None or y is None:
        return None
    if node.op.name in ("add", "sub"):
        sign = 1 if node.op.name == "add" else -1
        return _Place(tuple([a + sign * b for a, b in zip(x.coefficients, y.coefficients, strict=True)]),
                      x.constant + sign * y.constant)
    difference = [a - b for a, b in zip(x.coefficients, y.coefficients, strict=True)]
    above, below = [d for d, c in enumerate(difference) if c > 0], [d for d, c in enumerate(difference) if c < 0]
    if len(above) != 1 or len(below) != 1 or sum(difference) != 0 or node.op.name not in ("ge", "gt", "le", "lt"):
        return None
    (row,), (column,), times, over = above, below, difference[above[0]], x.constant - y.constant
    # x - y = over - times * (i_column - i_row)
    most = over // times if node.op.name in ("ge", "lt") else (over - 1) // times       # where x >= y, and where x > y
    holds = node.op.name in ("ge", "gt")
    return _halves(row, column, most, holds, not holds)


def _as_place(element: _Element, rank: int) -> _Place | None:
    if isinstance(element, _Place):
        return element if element.coefficients else _Place((0,) * rank, element.constant)
    if isinstance(element, _Halves) and element.split is None and isinstance(element.near, int):
        return _Place((0,) * rank, element.near)
    return None


# -- by its elements --------------------------------------------------------------------------------------------------


def _has_elements(mask: Value, nodes: Sequence[Node], seen: float, hidden: float) -> bool:
    """Of numbers for sizes, whose elements no place or halves tell: a constant array, a sum along a dim."""
    while isinstance(mask.node.op, ops.Broadcast) and mask.node.op.dims[-2:] == _last_two(mask) and \
            mask.node.operands[0].type.shape[-2:] == mask.type.shape[-2:]:
        mask = mask.node.operands[0]
    if not mask.type.is_static or mask.type.numel > _MOST_EVALUATED or len(mask.type.shape) < 2:
        return False
    array = _evaluated(mask, nodes)
    return array is not None and bool(np.all(array == np.where(np.tri(*array.shape[-2:], dtype=np.bool_), seen, hidden)))


def _last_two(value: Value) -> tuple[int, int]:
    rank = len(value.type.shape)
    return rank - 2, rank - 1


def _evaluated(value: Value, nodes: Sequence[Node]) -> np.ndarray | None:
    array_of: dict[Value, np.ndarray] = {}
    try:
        for node in nodes:
            results = evaluate_node(node, [array_of[v] for v in node.operands])
            array_of.update(zip(node.results, results, strict=True))
            if node is value.node:
                break
    except KernelError:                         # reported at run time, as in fold
        return None
    return array_of[value]
