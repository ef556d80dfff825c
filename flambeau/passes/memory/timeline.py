"""MemoryPlan -> what lies in the arena when: for people who ask what takes the memory."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.ir.graph import Value
from flambeau.ir.records import dataclass
from flambeau.passes.memory.plan import Home, MemoryPlan

__all__ = ["Life", "lives", "occupied"]


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
