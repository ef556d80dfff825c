"""A second opinion on memory plans: walk the calls and remember which value each byte holds."""
from __future__ import annotations

from dataclasses import dataclass

from flambeau.ir.graph import Graph, Value
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.plan import Home, MemoryPlan

Content = tuple[int, int]                       # a value, by node and result


@dataclass
class _Stretch:
    """Bytes [start, stop) of one memory that hold `content`."""

    memory: tuple[str, int]
    start: int
    stop: int
    content: Content | None


def replay(graph: Graph, plan: MemoryPlan) -> None:
    """Assert that every call reads what it should, writes over nothing that it or a later call still reads, and that
    outputs and states hold the right values at the end."""
    held = [_stretch(plan.home_of[v], _content(v)) for v in (*graph.inputs, *plan.constants)]
    peak = 0
    for number, (call, scratch) in enumerate(zip(plan.calls, plan.scratch, strict=True)):
        held = _step(plan, number, call, scratch, held, is_copy=number >= len(plan.calls) - plan.copies)
        peak = max([peak, *[h.index + h.nbytes for h in _homes(plan, call, scratch) if h.kind == "arena"]])
    assert peak <= plan.arena_bytes, f"calls reach byte {peak} of an arena of {plan.arena_bytes}"
    for number, value in enumerate(graph.outputs):
        _assert_holds(held, Home("out", number, value.type.nbytes), _content(value), f"output {number}")
    for state in graph.inputs:
        if state.node.op.kind == "state":                       # type: ignore[attr-defined]
            expected = _content(graph.writes.get(state, state))
            _assert_holds(held, plan.home_of[state], expected, f"state {state!r}")


def _content(value: Value) -> Content:
    return (value.node.seq, value.index)


def _stretch(home: Home, content: Content | None) -> _Stretch:
    in_arena = home.kind == "arena"
    start = home.index if in_arena else 0
    return _Stretch((home.kind, 0 if in_arena else home.index), start, start + home.nbytes, content)


def _homes(plan: MemoryPlan, call: Call, scratch: tuple[Home, ...]) -> list[Home]:
    return [plan.home_of[v] for v in call.buffers] + list(scratch)


def _overlap(a: _Stretch, b: _Stretch) -> bool:
    return a.memory == b.memory and a.start < b.stop and b.start < a.stop


def _assert_holds(held: list[_Stretch], home: Home, content: Content, what: str) -> None:
    wanted = _stretch(home, content)
    if home.nbytes:
        assert wanted in held, f"{what} should hold {content}, there is {[h for h in held if _overlap(h, wanted)]}"


def _step(plan: MemoryPlan, number: int, call: Call, scratch: tuple[Home, ...],
          held: list[_Stretch], is_copy: bool) -> list[_Stretch]:
    what = f"call {number} ({call.kernel.name})"
    reads, writes = [], [_stretch(home, None) for home in scratch]
    for value, param in zip(call.buffers, call.kernel.params, strict=True):
        if param.role == "in":
            content = _content_read(held, plan.home_of[value], value, what, is_copy)
            reads.append((value, _stretch(plan.home_of[value], content)))
        elif param.role == "out":
            copied = reads[0][1].content if is_copy else _content(value)
            stretch = _stretch(plan.home_of[value], copied)
            _assert_may_write(call, value, stretch, reads, what)
            writes.append(stretch)
    for i, first in enumerate(writes):
        assert not any(_overlap(first, second) for second in writes[i + 1:]), f"{what} writes {first} twice"
    for stretch in writes[:len(scratch)]:
        assert not any(_overlap(stretch, read) for _, read in reads), f"{what}: scratch lies over an operand"
    return [h for h in held if not any(_overlap(h, w) for w in writes)] + writes


def _content_read(held: list[_Stretch], home: Home, value: Value, what: str, is_copy: bool) -> Content | None:
    """What lies there; the value itself unless a copy carries something through a temporary."""
    if is_copy:
        place = _stretch(home, None)
        found = [h for h in held if (h.memory, h.start, h.stop) == (place.memory, place.start, place.stop)]
        assert found or not home.nbytes, f"{what} copies {value!r}, which is gone"
        return found[0].content if found else _content(value)
    _assert_holds(held, home, _content(value), f"{what}: operand {value!r}")
    return _content(value)


def _assert_may_write(call: Call, value: Value, stretch: _Stretch, reads: list[tuple[Value, _Stretch]],
                      what: str) -> None:
    for read, place in reads:
        if _overlap(stretch, place):
            same = (place.start, place.stop) == (stretch.start, stretch.stop)
            assert same and call.may_share(read, value), f"{what} overwrites its operand {read!r} with {value!r}"
