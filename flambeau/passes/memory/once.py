"""Calls -> which of them, and which phases of others, depend on nothing but states and constants: what runs once for each
version of the states, and what it leaves for every call to read.

A phase that packs an operand of a contraction is a part of its kernel that reads that operand alone. Where it runs once,
the rest of the kernel reads the panels only, so that the operand itself need not be kept. Steps of a loop that multiply by
one weight read the same panels.

Requires: a program that writes no state.
"""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from flambeau.ir.graph import Value
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call

__all__ = ["Once", "Packs", "once_of"]


@dataclass(frozen=True)
class Once:
    """calls: by number. packs: phases of other calls, (call, phase). values: results of `calls` that others read; panels:
    scratch buffers of other calls, (call, number of the scratch), that `packs` fill, those together that hold the same; the
    first of them is filled. idle: params of other calls, (call,
    param), that nothing but a phase of `packs` reads."""

    calls: frozenset[int]
    packs: frozenset[tuple[int, int]]
    values: tuple[Value, ...]
    panels: tuple[tuple[tuple[int, int], ...], ...]
    idle: frozenset[tuple[int, int]]
    nbytes: int                             # of what is kept


Packs = Mapping[int, tuple[int, int, str]]  # of a call: which phase packs which param into which buffer, in what layout
_Group = tuple[object, ...]                 # of what holds the same


def once_of(calls: Sequence[Call], elsewhere: Mapping[Value, str], packings: Sequence[Packs],
            scratch_bytes: Sequence[Sequence[int]], most: int) -> Once | None:
    """elsewhere: of values that are no calls' own, what kind of home they have. packings, scratch_bytes: of each call as
    it was built. most: bytes that may be kept; the largest panels beyond that are packed at every call. None where there
    is nothing, or the values alone take more."""
    early = _early(calls, elsewhere)
    known = {v for number in early for v in calls[number].results}
    settled = known | {v for v, kind in elsewhere.items() if kind in ("state", "const")}
    packs = {(number, phase): (source, panel, (call.buffers[source], layout) if layout else (number, panel))
             for number, call in enumerate(calls) if number not in early
             for phase, (source, panel, layout) in packings[number].items() if call.buffers[source] in settled}
    while True:
        found = _once(calls, early, known, packs, scratch_bytes)
        if found.nbytes <= most:
            return found if found.calls or found.packs else None
        if not packs:
            return None
        largest = packs[max(packs, key=lambda key: _panel_bytes(calls, scratch_bytes, key[0], packs[key][1]))]
        packs = {key: pack for key, pack in packs.items() if pack[2] != largest[2]}


def _early(calls: Sequence[Call], elsewhere: Mapping[Value, str]) -> set[int]:
    """Calls that read nothing else, and whose results nothing else writes."""
    writers: dict[Value, list[int]] = {}
    for number, call in enumerate(calls):
        for value in call.results:
            writers.setdefault(value, []).append(number)
    excluded: set[int] = set()
    while True:
        early: set[int] = set()
        known: set[Value] = set()
        for number, call in enumerate(calls):
            if number in excluded or call.has_effects or call.can_fail or any(v in elsewhere for v in call.results):
                continue
            if all(elsewhere.get(v) in ("state", "const") or v in known for v in call.operands):
                early.add(number)
                known.update(call.results)
        bad = {number for number in early for v in calls[number].results if not early.issuperset(writers[v])}
        if not bad:
            return early
        excluded |= bad


def _once(calls: Sequence[Call], early: Collection[int], known: Collection[Value],
          packs: Mapping[tuple[int, int], tuple[int, int, _Group]], scratch_bytes: Sequence[Sequence[int]]) -> Once:
    idle = {(number, source) for (number, _), (source, _, _) in packs.items()
            if not calls[number].kernel.reads_beside_packing(source)}
    values = dict.fromkeys(v for number, call in enumerate(calls) if number not in early
                           for param, v in enumerate(call.buffers) if v in known and (number, param) not in idle)
    groups: dict[_Group, list[tuple[int, int]]] = {}
    for (number, _), (_, panel, group) in packs.items():
        groups.setdefault(group, []).append((number, panel - len(calls[number].buffers)))
    panels = tuple([tuple(group) for group in groups.values()])
    nbytes = sum(v.type.nbytes for v in values) + sum(scratch_bytes[number][panel] for (number, panel), *_ in panels)
    return Once(frozenset(early), frozenset(packs), tuple(values), panels, frozenset(idle), nbytes)


def _panel_bytes(calls: Sequence[Call], scratch_bytes: Sequence[Sequence[int]], number: int, panel: int) -> int:
    return scratch_bytes[number][panel - len(calls[number].buffers)]
