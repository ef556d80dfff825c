"""The order that data and effects impose on groups, kept while they merge.

Groups stand in one line, each behind those it must follow. So a path between two leads through groups that stand between
them, and is looked for from both ends at once: it costs what hangs together there, however long the line. Where two become
one, either what follows the first or what comes before the second steps out from between them. Two-way search in a kept
order, after Haeupler, Kavitha, Mathew, Sen and Tarjan, "Incremental cycle detection, topological ordering, and strong
component maintenance", sections 2 and 5.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from operator import attrgetter, or_
from typing import Final

from flambeau.passes.fusion.groups import Group

__all__ = ["Between", "Precedence"]

_GAP: Final = 1 << 64                           # between neighbours, so that others find room
_place = attrgetter("at")
Between = tuple[bool, set[Group]]


class Precedence:
    """The line of groups: `at` grows along `previous` and `next`. `earlier` and `later` of a group are those that it must
    follow, and that must follow it, with none between."""

    def __init__(self) -> None:
        self._last: Group | None = None

    def enter(self, group: Group, producers: Iterable[Group]) -> None:
        """A new group, at the end of the line, which must follow these."""
        for producer in producers:
            group.earlier.add(producer)
            producer.later.add(group)
        self._put([group], self._last, None)

    def may_follow(self, group: Group, producers: Sequence[Group]) -> bool:
        """Whether it is seen at once that no path leads from a group to those: they stand before it, or nothing follows."""
        return not producers or not group.later or True not in [producer.at > group.at for producer in producers]

    def follow(self, group: Group, producers: Sequence[Group]) -> None:
        """A group must follow these, too; see `may_follow`."""
        if producers and True in [producer.at > group.at for producer in producers]:
            self._take_out(group)
            self._put([group], self._last, None)
        for producer in producers:
            group.earlier.add(producer)
            producer.later.add(group)

    def between(self, producer: Group, consumer: Group) -> Between | None:
        """None where a path leads from the producer to the consumer through a third group: the two can't become one;
        else what `merge` asks for."""
        return _between(producer, consumer)

    def are_connected(self, a: Group, b: Group) -> bool:
        """Whether a path leads from one to the other."""
        first, second = (a, b) if a.at < b.at else (b, a)
        return second in first.later or _between(first, second) is None

    def merge(self, kept: Group, gone: Group, found: Between | None = None) -> None:
        """`gone` becomes part of `kept`: whatever came before or after either does so of both. No third group may stand
        on a path between them. found: what `between` gave, if it was asked."""
        first, second = (kept, gone) if kept.at < gone.at else (gone, kept)
        if found is None:
            found = _between(first, second)
        assert found is not None, "two groups that a third must run between can't become one"
        do_follow, groups = found
        moved = sorted(groups, key=_place) if groups else []
        for group in (*moved, first if do_follow else second):
            self._take_out(group)
        place = second if do_follow else first
        before, behind = place.previous, place.next
        self._take_out(place)
        self._put([kept, *moved] if do_follow else [*moved, kept], before, behind)
        for group in gone.earlier:
            group.later.remove(gone)
            group.later.add(kept)
        for group in gone.later:
            group.earlier.remove(gone)
            group.earlier.add(kept)
        kept.earlier |= gone.earlier
        kept.later |= gone.later
        for neighbours in (kept.earlier, kept.later):
            neighbours.discard(kept)
            neighbours.discard(gone)
        kept.join(gone)

    def connected(self, groups: Iterable[Group]) -> Connected:
        """Between which of these groups paths lead now."""
        line: list[Group] = []
        group = self._last
        while group is not None:
            line.append(group)
            group = group.previous
        return Connected(list(dict.fromkeys(groups)), line)

    def _take_out(self, group: Group) -> None:
        if group.previous is not None:
            group.previous.next = group.next
        if group.next is not None:
            group.next.previous = group.previous
        else:
            self._last = group.previous

    def _put(self, groups: Sequence[Group], before: Group | None, behind: Group | None) -> None:
        """Into the line, between two neighbours in it."""
        low = before.at if before is not None else (behind.at if behind is not None else 0) - _GAP * (len(groups) + 1)
        high = behind.at if behind is not None else low + _GAP * (len(groups) + 1)
        step = (high - low) // (len(groups) + 1)
        for group in groups:
            group.previous = before
            if before is not None:
                before.next = group
            low += step
            group.at, before = low, group
        groups[-1].next = behind
        if behind is not None:
            behind.previous = groups[-1]
        else:
            self._last = groups[-1]
        if step == 0:
            self._spread_out()

    def _spread_out(self) -> None:
        """There was no room left between two neighbours."""
        group, at = self._last, 0
        while group is not None:
            group.at, group, at = at, group.previous, at - _GAP


class Connected:
    """Between which of some groups paths lead. Sets of them are masks over their positions."""

    def __init__(self, groups: Sequence[Group], line: Sequence[Group]):
        """line: all groups, the last first."""
        self._groups = groups
        self._bit_of = {group: 1 << number for number, group in enumerate(groups)}
        after, before = dict[Group, int](), dict[Group, int]()
        for group in line:
            after[group] = reduce(or_, [after[g] for g in group.later], self._bit_of.get(group, 0))
        for group in reversed(line):
            before[group] = reduce(or_, [before[g] for g in group.earlier], self._bit_of.get(group, 0))
        self._of = {group: before[group] | after[group] for group in groups}

    def of(self, group: Group) -> int:
        """Those that it is connected with, itself included."""
        return self._of[group]

    def mask(self, groups: Iterable[Group]) -> int:
        return reduce(or_, [self._bit_of[group] for group in groups], 0)

    def groups(self, mask: int) -> list[Group]:
        found = []
        while mask:
            low = mask & -mask
            found.append(self._groups[low.bit_length() - 1])
            mask ^= low
        return found


def _between(first: Group, second: Group) -> Between | None:
    """None where a path leads from one group to one behind it through a third; else of those that stand between them either
    (True, all that must follow the first) or (False, all that must come before the second), whichever are found sooner."""
    if second in first.later:               # most pairs have an edge, and often that is all that one of them has
        if len(first.later) == 1:
            return True, set()
        if len(second.earlier) == 1:
            return False, set()
    following, preceding = {first}, {second}
    forward = _walk(first, second, following, lambda group: group.later, lambda group: group.at < second.at)
    backward = _walk(second, first, preceding, lambda group: group.earlier, lambda group: group.at > first.at)
    while True:
        for walk, found, others in ((forward, following, preceding), (backward, preceding, following)):
            group = next(walk, None)
            if group is None:
                return found is following, found - {first, second}
            if group in others:
                return None


def _walk(start: Group, end: Group, found: set[Group], neighbours: Callable[[Group], set[Group]],
          is_between: Callable[[Group], bool]) -> Iterator[Group]:
    """The other end of one edge at a time, away from a group, but for the edge that leads to the end at once; `found`
    becomes the groups between that were reached."""
    pending = [start]
    while pending:
        current = pending.pop()
        for group in neighbours(current):
            if group not in found and is_between(group):
                found.add(group)
                pending.append(group)
            if group is not end or current is not start:
                yield group
