"""MemoryPlan -> what lies in the arena when: for people who ask what takes the memory."""
from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from flambeau.ir.dims import Dim, Size, terms_of
from flambeau.ir.graph import Graph, Value
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType
from flambeau.passes.memory.plan import Home, MemoryPlan

__all__ = ["Life", "bound_of", "lives", "named_types", "occupied", "peaks"]


@dataclass(frozen=True)
class Life:
    """A stretch of arena from kernel call `first` to kernel call `last`. values: that lie there, one after another; none
    for a kernel's own scratch memory."""

    values: tuple[Value, ...]
    offset: int
    nbytes: int
    first: int
    last: int


def lives(memory: MemoryPlan) -> list[Life]:
    """By the time they begin. What a loop needs is told as if it had one turn."""
    times: dict[Value, list[int]] = {}
    for number, call in enumerate(memory.calls):
        for value in call.buffers:
            times.setdefault(value, []).append(number)
    found: list[Life] = []
    at: dict[Home, Life] = {}
    for value, those in sorted(times.items(), key=lambda item: item[1][0]):
        home = memory.home_of[value]
        if home.kind != "arena":
            continue
        before = at.get(home)
        if before is not None and before.last == those[0]:          # takes over what it is the last to read
            found.remove(before)
            at[home] = Life((*before.values, value), home.index, home.nbytes, before.first, those[-1])
        else:
            at[home] = Life((value,), home.index, home.nbytes, those[0], those[-1])
        found.append(at[home])
    found += [Life((), home.index, home.nbytes, number, number)
              for number, homes in enumerate(memory.scratch) for home in homes if home.kind == "arena"]
    return sorted(found, key=lambda life: (life.first, life.offset))


def occupied(found: Sequence[Life], n_calls: int) -> list[int]:
    """Bytes in use during each kernel call."""
    total = [0] * n_calls
    for life in found:
        for number in range(life.first, life.last + 1):
            total[number] += life.nbytes
    return total


def named_types(named: Graph, numbered: Graph) -> dict[Value, TensorType] | None:
    """What the values of a graph were before its sizes became numbers (`with_sizes`); None where that is not how it was
    made."""
    found: dict[Value, TensorType] = {}
    pairs = [(named, numbered)]
    while pairs:
        nodes = [graph.toposort() for graph in pairs.pop()]
        if len(nodes[0]) != len(nodes[1]):
            return None
        for before, after in zip(*nodes, strict=True):
            if type(before.op) is not type(after.op) or len(before.regions) != len(after.regions):
                return None
            found |= {value: old.type for old, value in zip(before.results, after.results, strict=True)}
            pairs += zip(before.regions, after.regions, strict=True)
    return found


def peaks(memory: MemoryPlan, type_of: Mapping[Value, TensorType]) -> list[Size]:
    """How many bytes live at once, in the names of sizes: of each step that is not at most as much as another for all
    sizes. type_of: with names, of values; others, and what kernels need for themselves, count as they are."""
    total: list[Size] = [0] * len(memory.calls)
    for life in lives(memory):
        type = next((type_of[value] for value in life.values if value in type_of), None)
        nbytes: Size = life.nbytes if type is None else math.prod(type.shape, start=type.dtype.itemsize)
        for number in range(life.first, life.last + 1):
            total[number] = total[number] + nbytes
    kept: list[Size] = []
    for size in dict.fromkeys(total):
        if not any(_is_at_most(size, other) for other in kept):
            kept = [other for other in kept if not _is_at_most(other, size)] + [size]
    return kept


def bound_of(sizes: Sequence[Size]) -> Size:
    """What is at least as much as each of some sizes, whatever their names are: by terms, which are not negative but for
    their coefficients."""
    most: Size = sizes[0]
    for size in sizes[1:]:
        for monomial, more in terms_of(size - most):
            most = most + Dim._of({monomial: max(more, 0)})
    return most


def _is_at_most(a: Size, b: Size) -> bool:
    return all(coefficient <= 0 for _, coefficient in terms_of(a - b))
