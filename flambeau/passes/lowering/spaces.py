"""Iteration spaces: how the index of one value reads in the dims of a group, and how views carry it across.

A group of fused ops walks one space of points. Each value the group holds (an anchored value) has an index, a tuple
of `Index` over the group's dims. `push` carries an index forward through a view (from operand to result), `pull`
carries it back (from result to operand); both give None where the map is not affine.
"""
from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.graph import Node
from flambeau.ir.index_maps import Index, Symbol, delinearize, is_one_point, linearize
from flambeau.ir.op import Op
from flambeau.ir.ops.views import reshape_groups
from flambeau.ir.types import TensorType

IndexTuple = tuple[Index, ...]
FREE = "free"            # symbols of dims that a Broadcast added and nothing has bound yet


class NotAffine(Exception):
    """The index map needs arithmetic that an affine index can't express."""


def is_view(node: Node) -> bool:
    """True for ops that only rename indices: they fold into their consumers' addresses."""
    return isinstance(node.op, ops.View) and node.op.is_index_map


def identity(shape: tuple[int, ...], first: int = 0) -> IndexTuple:
    """The index whose part d is dim `first + d`."""
    return (_identity if known() is None else _identity.__wrapped__)(shape, first)      # what is known of sizes differs


@lru_cache(maxsize=4096)
def _identity(shape: tuple[int, ...], first: int) -> IndexTuple:
    return tuple([Index.dim(first + d, size) for d, size in enumerate(shape)])


class _AffinePull:
    """A ScalarContext that only follows indices: the operand index that a view's `scalar` rule asks for."""

    def __init__(self) -> None:
        self.found: IndexTuple = ()

    def operand(self, position: int, index: IndexTuple, guard: int | None = None) -> int:
        if guard is not None:
            raise NotAffine
        self.found = index
        return 0

    def __getattr__(self, name: str) -> Any:
        raise NotAffine


def pull(view: Node, index: IndexTuple) -> IndexTuple | None:
    """The operand's index at a view result's `index`; None where it is not affine."""
    find = _pulled if known() is None else _pulled.__wrapped__          # as in `identity`
    return find(view.op, index, view.operands[0].type, view.results[0].type)


@lru_cache(maxsize=4096)
def _pulled(op: Op, index: IndexTuple, operand: TensorType, result: TensorType) -> IndexTuple | None:
    context = _AffinePull()
    try:
        op.scalar(context, index, (operand,), result)
    except NotAffine:
        return None
    return context.found


def push(view: Node, index: IndexTuple, fresh: list[int]) -> IndexTuple | None:
    """The view result's index at the operand's `index`. Dims that a Broadcast adds become FREE symbols, numbered by
    `fresh[0]`. None for views that drop points (slice) or need arithmetic."""
    x, y = view.operands[0].type, view.results[0].type
    match view.op:
        case ops.Permute(dims=dims):
            return tuple([index[d] for d in dims])
        case ops.Flip(dims=dims):
            return tuple([-i + (size - 1) if d in dims else i
                          for d, (i, size) in enumerate(zip(index, x.static_shape, strict=True))])
        case ops.Broadcast(dims=dims):
            kept = {d: i for i, d in enumerate(dims) if x.shape[i] == y.shape[d]}
            made: list[Index] = []
            for d, size in enumerate(y.static_shape):
                if d in kept:
                    made.append(index[kept[d]])
                elif is_one_point(size):
                    made.append(Index())
                else:
                    made.append(Index(0, (((FREE, fresh[0]), 1, size),)))
                    fresh[0] += 1
            return tuple(made)
        case ops.Reshape():
            return _push_reshape(index, x.static_shape, y.static_shape)
        case _:
            return None


def _push_reshape(index: IndexTuple, source: tuple[int, ...], target: tuple[int, ...]) -> IndexTuple | None:
    def fail(position: Index, size: int) -> tuple[Index, Index]:
        raise NotAffine
    if 0 in source:
        return None
    found: list[Index] = []
    try:
        for left, right in reshape_groups(source, target):
            position = linearize(tuple(index[d] for d in left), tuple(source[d] for d in left))
            found += delinearize(position, tuple(target[d] for d in right), fail)
    except NotAffine:
        return None
    return tuple(found)


def substitute(index: IndexTuple, binding: Mapping[Symbol, Index]) -> IndexTuple:
    """`index` with each symbol in `binding` replaced by its expression."""
    made = []
    for part in index:
        if len(part.terms) < 2:             # nearly all are a dim or a constant
            replacement = binding.get(part.terms[0][0]) if part.terms else None
            made.append(part if replacement is None else replacement * part.terms[0][1] + part.offset)
            continue
        total = Index(part.offset)
        for symbol, coefficient, extent in part.terms:
            replacement = binding.get(symbol)
            if replacement is None:
                total = total + Index(0, ((symbol, coefficient, extent),))
            else:
                total = total + replacement * coefficient
        made.append(total)
    return tuple(made)


def single(index: Index) -> Symbol | None:
    """The symbol that `index` is, exactly; None for anything else."""
    if index.offset == 0 and len(index.terms) == 1 and index.terms[0][1] == 1:
        return index.terms[0][0]
    return None


def solve(index: IndexTuple, target: IndexTuple) -> dict[Symbol, Index] | None:
    """Symbols of `index` in terms of those of `target`, given that both index the same element.

    Every part of `index` must be one symbol (each symbol once) or a constant equal to target's part."""
    binding: dict[Symbol, Index] = {}
    for mine, other in zip(index, target, strict=True):
        symbol = single(mine)
        if symbol is not None and symbol not in binding:
            binding[symbol] = other
        elif mine.terms or other != mine:
            return None
    return binding


def symbols(index: IndexTuple) -> set[Symbol]:
    return {symbol for part in index for symbol, _, _ in part.terms}
