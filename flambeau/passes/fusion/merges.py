"""The three ways in which a producing group joins a consuming one. Each answers with how to do it, or None.

- same space: pushing the producer's index through the views on the way gives every dim of the consumer, so that one
  loop nest computes both (elementwise chains, softmax's stages, a matmul's or a convolution's epilogue);
- inline: an elementwise producer that nothing else reads is recomputed wherever its consumer looks;
- row: an elementwise producer of per-row values is computed beside the reductions of its consumer.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from math import prod
from typing import NamedTuple

from flambeau.ir import ops
from flambeau.ir.dims import hint
from flambeau.ir.graph import Node, Value
from flambeau.ir.index_maps import Index, Symbol, is_one_point, linearize
from flambeau.ir.records import dataclass
from flambeau.passes.fusion.groups import LOOP, Group
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.lowering.spaces import (
    FREE,
    IndexTuple,
    identity,
    is_view,
    pull,
    push,
    single,
    solve,
    substitute,
    symbols,
)

Binding = Mapping[Symbol, Index]
_NOTHING_MOVES: Binding = {}


class Apart(Enum):
    """Why a group is not merged with one that reads it."""

    NO_EPILOGUE = "kernels of its kind end with their result"
    TOO_LARGE = "the two together would be too large a kernel"
    EFFECT = "it has an effect, or what reads it has"
    CYCLE = "a third kernel would have to run between its parts"
    REPEATS = "it would be computed again at too many places"
    KEPT = "it is computed once for each version of what is captured, and what reads it at every call"
    SPACES = "the two walk different points"


class Use(NamedTuple):
    """How a group reads another: `user` takes `value`, seen through the views of `path` (first the one nearest to
    `value`), as its operand at `position`."""

    value: Value
    path: tuple[Node, ...]
    user: Node
    position: int


def operand_index(group: Group, user: Node, position: int) -> IndexTuple | None:
    """How `user` reads its operand, in its group's dims; None where that isn't affine or depends on where `user` is
    read."""
    index = group.anchor.get(user)
    if index is None:
        return None
    if isinstance(user.op, ops.Reduction):
        return group.reads[user]
    if is_view(user):
        return pull(user, index)
    if isinstance(user.op, ops.Elementwise) or user.op.name == "stop_gradient":
        return index if user.operands[position].type.shape else ()
    return None


def read_index(group: Group, use: Use) -> IndexTuple | None:
    """Where a use reads its value, in the consuming group's dims."""
    index = operand_index(group, use.user, use.position)
    for view in reversed(use.path):
        if index is None:
            return None
        index = pull(view, index)
    return index


# -- same space -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SameSpace:
    """The consumer's dims in terms of the producer's (None: they are the same), and the dims that the two together
    reduce over."""

    binding: Binding | None
    reduced: frozenset[int]


def same_space(producer: Group, consumer: Group, use: Use, fresh: list[int],
               crossing: Sequence[Use]) -> SameSpace | None:
    """crossing: every use by the consumer of a value that is pinned if the two are merged."""
    if consumer.kind.name != LOOP or (producer.kind.name != LOOP and consumer.has_reduction):
        return None
    target = operand_index(consumer, use.user, use.position)
    pushed = producer.anchor.get(use.value.node)
    if target is None or pushed is None:
        return None
    if (not use.path and producer.extents == consumer.extents and not consumer.has_reduction
            and pushed == target == identity(producer.extents)):            # the usual case, without solving for it
        is_anchored = all(_reads_at_anchor(producer, consumer, u, _NOTHING_MOVES) for u in crossing)
        return SameSpace(None, producer.reduced) if is_anchored else None
    for view in use.path:
        pushed = push(view, pushed, fresh)
        if pushed is None:
            return None
    found = solve(target, pushed)
    if found is None or not _covers(consumer, found):
        return None
    binding = _without_free(producer, found)
    if binding is None or not _is_bijective(producer, consumer, binding):
        return None
    reduced = _merged_reduced(producer, consumer, binding)
    if reduced is None or not all(_reads_at_anchor(producer, consumer, u, binding) for u in crossing):
        return None
    return SameSpace(None if _is_identity(producer, consumer, binding) else binding, reduced)


def _is_identity(producer: Group, consumer: Group, binding: Binding) -> bool:
    return producer.extents == consumer.extents and all(
        is_one_point(size) or binding[("dim", d)] == Index.dim(d, size) for d, size in enumerate(consumer.extents))


def _covers(group: Group, binding: Binding) -> bool:
    """Every dim of the group that is longer than 1 must be known."""
    return all(("dim", d) in binding for d, size in enumerate(group.extents) if not is_one_point(size))


def _without_free(producer: Group, binding: dict[Symbol, Index]) -> Binding | None:
    """Dims that a Broadcast added can only be the dims the producer reduced over, in order."""
    extent_of = {s: e for index in binding.values() for s, _, e in index.terms if s[0] == FREE}
    if not extent_of:
        return binding
    free = sorted(extent_of)
    reduced = [d for d in sorted(producer.reduced) if not is_one_point(producer.extents[d])]
    if [extent_of[s] for s in free] != [producer.extents[d] for d in reduced]:
        return None
    bound = {s: Index.dim(d, producer.extents[d]) for s, d in zip(free, reduced, strict=True)}
    return {symbol: substitute((index,), bound)[0] for symbol, index in binding.items()}


def _is_bijective(producer: Group, consumer: Group, binding: Binding) -> bool:
    """Both walk the same points: the consumer's dims hold each of the producer's (row dims, for a consumer of
    reduced values only) once, and all of it. Sizes are compared dim by dim: a product with a 0 in it tells nothing."""
    seen: set[Symbol] = set()
    for d, size in enumerate(consumer.extents):
        if is_one_point(size):
            continue
        found = symbols((binding[("dim", d)],))
        if found & seen or size != prod(producer.extents[d] for _, d in found):
            return False
        seen |= found
    walked = {d for d, size in enumerate(producer.extents) if not is_one_point(size)}
    return walked - {d for _, d in seen} <= producer.reduced


def _merged_reduced(producer: Group, consumer: Group, binding: Binding) -> frozenset[int] | None:
    """The dims the merged group reduces over; None when the two don't fit."""
    if not consumer.has_reduction:
        return producer.reduced
    dims = [d for d in sorted(consumer.reduced) if not is_one_point(consumer.extents[d])]
    mapped = frozenset(symbol[1] for d in dims for symbol in symbols((binding[("dim", d)],)))
    if producer.has_reduction:
        if mapped != {d for d in producer.reduced if not is_one_point(producer.extents[d])}:
            return None
    elif any(single(binding[("dim", d)]) is None for d in dims):
        return None
    if _finds_positions(consumer) and not _in_order(producer, sorted(mapped), [binding[("dim", d)] for d in dims],
                                                    [consumer.extents[d] for d in dims]):
        return None
    return producer.reduced if producer.has_reduction else mapped


def _finds_positions(group: Group) -> bool:
    return any(isinstance(node.op, ops.ArgMax | ops.ArgMin) for node in group.reads)


def _in_order(producer: Group, mapped: Sequence[int], bound: Sequence[Index], extents: Sequence[int]) -> bool:
    """Whether walking the producer's dims counts positions as the consumer's own dims do."""
    sizes = tuple(producer.extents[d] for d in mapped)
    walked = tuple(Index.dim(d, size) for d, size in zip(mapped, sizes, strict=True))
    return linearize(tuple(bound), tuple(extents)) == linearize(walked, sizes)


def _reads_at_anchor(producer: Group, consumer: Group, use: Use, binding: Binding) -> bool:
    """A pinned value can only be read where it is computed."""
    index = read_index(consumer, use)
    if index is None:
        return False
    if use.value.node in producer.anchor:
        return substitute(index, binding) == producer.anchor[use.value.node]
    return index == consumer.anchor.get(use.value.node)


# -- inline and row ---------------------------------------------------------------------------------------------------


def may_inline(producer: Group, consumer: Group, limits: Limits) -> bool:
    """Whether the producer may be recomputed wherever the consumer reads it."""
    if not producer.is_elementwise or producer.is_root or not producer.readers.isdisjoint(consumer.of_memory):
        return False
    if any(node not in consumer.members and node not in producer.members for node in producer.readers):
        return False
    points, original = hint(prod(consumer.extents)), hint(prod(producer.extents))
    return not (producer.cost > limits.cheap and points > limits.repeats * original and original > 1)


def row(producer: Group, consumer: Group, use: Use) -> Binding | None:
    """The producer's dims in terms of the rows of a consumer that reduces. What the producer stores is stored row by
    row, so each of its dims must be a whole dim of the rows: a constant, or a shorter dim, would leave elements out."""
    if not producer.is_elementwise or not consumer.reduced or producer.inlined:
        return None
    index = read_index(consumer, use)
    found = producer.anchor.get(use.value.node)
    binding = solve(found, index) if index is not None and found is not None else None
    rows = {("dim", d) for d, size in enumerate(consumer.extents)
            if not is_one_point(size) and d not in consumer.reduced}
    if binding is None or not _covers(producer, binding):
        return None
    walked = [(single(binding[("dim", d)]), size) for d, size in enumerate(producer.extents)
              if not is_one_point(size)]
    if {symbol for symbol, _ in walked} != rows or len(walked) != len(rows):
        return None
    return binding if all(symbol and consumer.extents[symbol[1]] == size for symbol, size in walked) else None
