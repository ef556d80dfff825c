"""Rules for batches that several ops share: where the dim of the examples goes while one op runs on all of them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flambeau.ir.op import Op

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


class Stacked(Op):
    """Operands and results hold matrices (or what belongs to each) along the same first dims: a batch has one more."""

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return results_of(b.emit(self, *spread_all(b, operands, mapped, size)))


def results_of(found: Any) -> Sequence[Value]:
    """What a builder gave for an op, be it one value or several."""
    return found if isinstance(found, tuple) else (found,)


def spread(b: Builder, x: Value, size: int) -> Value:
    """x for each of `size` examples, in a further first dim."""
    return b.broadcast(x, (size, *x.shape), range(1, len(x.shape) + 1))


def spread_all(b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> list[Value]:
    """The operands of a batch with the examples as their first dim, every one."""
    return [x if m else spread(b, x, size) for x, m in zip(operands, mapped, strict=True)]


def merged(b: Builder, x: Value, dim: int) -> Value:
    """x[B, ...] whose examples' dim `dim` holds those of all examples, one example after the other."""
    order = (*range(1, dim + 1), 0, *range(dim + 1, len(x.shape)))
    shape = [x.shape[d] for d in order]
    return b.reshape(b.permute(x, order), (*shape[:dim], shape[dim] * shape[dim + 1], *shape[dim + 2:]))


def parted(b: Builder, x: Value, dim: int, size: int) -> Value:
    """Undo `merged`: the examples become the first dim again."""
    each = x.shape[dim] // size
    apart = b.reshape(x, (*x.shape[:dim], size, each, *x.shape[dim + 1:]))
    return b.permute(apart, (dim, *range(dim), *range(dim + 1, len(apart.shape))))


def folded(op: Op, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
    """An op whose operands and results all count images, or rows, along dim 0: those of all examples at once."""
    found = b.emit(op, *[merged(b, x, 0) for x in spread_all(b, operands, mapped, size)])
    return [parted(b, y, 0, size) for y in results_of(found)]
