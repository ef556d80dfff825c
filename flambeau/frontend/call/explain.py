"""What a compiled function became, in words."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from flambeau.frontend.words import amount, size
from flambeau.ir.dims import evaluated
from flambeau.ir.facts import LARGEST
from flambeau.ir.kernel.work import Work, work_of
from flambeau.passes.memory.order import Chosen, Order, Repeated
from flambeau.passes.memory.timeline import bound_of, lives, named_types, occupied, peaks

_PASSES = 4                         # that are told, of those that took longest
_TENSORS = 3                        # that are told, of those that make the peak
_PAIRS = 6                          # of kernels that are told for one reason
_BARS = " ▁▂▃▄▅▆▇█"
_PEAKS = 3                          # formulas, of which the largest is the peak
_WIDTH = 60                         # of the timeline


def explain(name: str, signatures: Sequence[Any], stats: Any) -> str:
    """A page about a compiled function: what was traced, fused and planned, and why it was compiled again."""
    newest = signatures[-1]
    lines = [
        f"{name}: {len(signatures)} signature{'s' * (len(signatures) != 1)}, {stats.calls} calls of the newest",
        f"  traced     {stats.n_ops_traced} ops ({stats.n_backward_ops} of them derivatives) in "
        f"{_ms(stats.trace_seconds)}",
        f"  found on disk in {_ms(stats.load_seconds)}: an earlier process compiled it" if stats.from_disk else
        f"  passes     {_ms(stats.passes_seconds)}, lowering {_ms(stats.lower_seconds)}, machine code "
        f"{_ms(stats.codegen_seconds)}, planning and loading {_ms(stats.load_seconds)}",
        f"  kernels    {stats.n_launches} launches of {stats.n_kernels} kernels, {stats.n_new_kernels} of them new",
        f"  memory     {size(stats.arena_bytes)} of scratch ({size(stats.unshared_bytes)} without sharing), "
        f"{size(stats.state_bytes)} of captured state, {stats.in_place_writes} tensors updated in place"
        f"{f', {size(stats.kept_bytes)} kept of computing with it' if stats.kept_bytes else ''}",
    ]
    if newest.compiled.program.once is not None and not newest.entry.bound.prepares:
        lines.append("  captured tensors changed at nearly every call: what runs once below runs at every call now")
    lines += _inputs(newest)
    lines += _sizes(newest.family)
    for number, part in enumerate(newest.parts):
        lines += _calls(part, newest.measured.get(number, {}))
    lines += _recompiles(signatures)
    return "\n".join(lines)


def told(channel: str, compiled: Any) -> list[str]:
    """What a channel of FLAMBEAU_LOGS says of a compiled graph: "passes", "memory" or "fusion"."""
    match channel:
        case "passes":
            return [f"{record.name} {_ms(record.seconds)}, {record.nodes_before} -> {record.nodes_after} nodes"
                    + "".join(f"; {rule} ({n} times)"
                              for rule, n in Counter(r.rule for r in record.rewrites).most_common(3))
                    for record in compiled.report.records]
        case "memory":
            return [line.strip() for line in _timeline(compiled)]
        case _:
            return [line.strip() for line in _fusion(compiled)]


def _inputs(signature: Any) -> list[str]:
    traced = signature.traced
    kinds = Counter(v.node.op.kind for v in traced.graph.inputs)
    scalars = [v.node.op.label for v in traced.graph.inputs if v.node.op.kind == "scalar"]
    numbers = f", runtime numbers {', '.join(dict.fromkeys(scalars))}" if scalars else ""
    return [f"  inputs     {kinds['arg']} arguments, {kinds['state']} captured tensors{numbers}; "
            f"{len(traced.plan.heap.nodes)} objects watched"]


def _sizes(family: Any) -> list[str]:
    """The sizes that have names, what the trace depends on, and the numbers that came."""
    if family is None:
        return []
    facts, lines = family.named.facts, ["  one trace for many sizes:"]
    for name, (number, dim) in family.named.places.items():
        if name not in facts.values:
            low, high = facts.ranges[name]
            lines.append(f"    {name} is dim {dim} of {family.traced.plan.leaves[number].name}, from {low}"
                         f"{'' if high >= LARGEST else f' to {high}'}")
    lines += [f"    {name} is the stride of dim {dim} of {family.traced.plan.leaves[number].name}"
              for name, (number, dim) in family.named.steps.items() if name not in facts.values]
    lines += [f"    it is for {condition}{'' if condition.where is None else f', which {condition.where} asks'}"
              for condition in facts.conditions]
    came = ", ".join("x".join(map(str, key)) for key in list(family.entries)[-8:])
    lines.append(f"    prepared for {len(family.entries)}: {'..., ' if len(family.entries) > 8 else ''}{came}")
    lines += [f"    {line}" for line in _peak(family)]
    if family.why_separate is not None:
        lines.append(f"    the passes run for each size by itself: {family.why_separate}")
    return lines


def _peak(family: Any) -> list[str]:
    """Scratch memory as a formula in sizes, and how true that is of the sizes that came."""
    compiled = family.newest_compiled
    types = None if family.named_graph is None else named_types(family.named_graph, compiled.fused)
    found = [] if types is None else peaks(compiled.memory, types)
    if not found or found == [0]:
        return []
    formula = str(found[0]) if len(found) == 1 else f"max({', '.join(map(str, found[:_PEAKS]))})"
    if len(found) > _PEAKS:
        formula = f"at most {bound_of(found)}"
    arenas = []
    for key, known in family.compiled.items():
        at = dict(zip(family.named.facts.sizes, key, strict=True))
        if (live := max(evaluated(size, at) for size in found)):
            arenas.append(known.program.arena_bytes / live)
    about = "" if not arenas else f"; the arenas of the sizes that came take {min(arenas):.2f} to {max(arenas):.2f} of that"
    return [f"peak of scratch memory, planned as for the newest: {formula} bytes{about}"]


def _calls(compiled: Any, measured: dict[int, float]) -> list[str]:
    """measured: seconds of a run of each kernel call, as the newest profile found them."""
    memory = compiled.memory
    first = frozenset[int]() if memory.once is None else memory.once.calls
    order = tuple(n for n in range(len(memory.calls)) if n not in first) if memory.order is None else memory.order
    told = _Steps(compiled, measured)
    return [*_once(memory, told), "  steps, in order:", *told.lines(order, "    "), *_notes(compiled), *_timeline(compiled),
            *_fusion(compiled), *_passes(compiled)]


def _once(memory: Any, told: _Steps) -> list[str]:
    """What runs once for each version of captured tensors."""
    once = memory.once
    if once is None:
        return []
    packed = ", ".join(map(str, sorted({number for number, _ in once.packs})))
    return [f"  once, and again when a captured tensor changed, {size(once.nbytes)} kept:",
            *told.lines(tuple(sorted(once.calls)), "    "),
            *([f"    an operand of {packed} is packed"] if packed else [])]


class _Steps:
    """A line for each step: what it does, how much, and where that is written."""

    def __init__(self, compiled: Any, measured: dict[int, float]):
        self.calls, self.provenance, self.measured = compiled.memory.calls, compiled.provenance, measured
        self.peaks = import_module("flambeau.backends.peaks").peaks_of(compiled.backend.place) if measured else None

    def lines(self, order: Order, indent: str) -> Iterator[str]:
        """Those of loops and branches further in."""
        for item in order:
            match item:
                case Repeated(_, body):
                    yield f"{indent}    as long as the condition holds:"
                    yield from self.lines(body, indent + "  ")
                case Chosen(_, then, otherwise):
                    for words, body in (("if the predicate holds:", then), ("else:", otherwise)):
                        yield f"{indent}    {words}"
                        yield from self.lines(body, indent + "  ")
                case number:
                    yield f"{indent}{self.line(number)}"

    def line(self, number: int) -> str:
        call = self.calls[number]
        locations = call.kernel.locations
        where = ", ".join(locations[:2]) + (", ..." if len(locations) > 2 else "")
        space = " x ".join(str(e) for e in (call.sizes if call.sizes else call.kernel.extents)) or "1"
        work = work_of(call.kernel, dict(zip(call.kernel.sizes, call.sizes, strict=False)))
        told = [self.provenance.words(number), self.work(number, work), where]
        return f"{number:3d} {call.phase:8s} {call.kernel.keyword:11s} over {space:24s} {'; '.join(filter(None, told))}"

    def work(self, number: int, work: Work) -> str:
        """`12 MFLOP, 1.5 MiB, 8.0 FLOP/B`, and what a profile found."""
        told = [f"{amount(work.flops)}FLOP"] * bool(work.flops) + [size(work.bytes)] * bool(work.bytes)
        if work.flops and work.bytes:
            told.append(f"{work.intensity:.2f} FLOP/B")
        if self.peaks is not None and number in self.measured:
            seconds = self.measured[number]
            told.append(f"{1e6 * seconds:.1f} us, {self.peaks.share(work.flops, work.bytes, seconds):.0%} of peak")
        return ", ".join(told)


def _notes(compiled: Any) -> list[str]:
    """What the backend says of kernels, under the numbers of their steps."""
    numbers: dict[str, list[int]] = {}
    for number, built in enumerate(compiled.built):
        if note := compiled.backend.note(built.kernel, compiled.target):
            numbers.setdefault(note, []).append(number)
    lines = [f"    {', '.join(map(str, those)):>7s} {note}" for note, those in numbers.items()]
    return ["  on the device:", *lines] if lines else []


def _timeline(compiled: Any) -> list[str]:
    """Scratch memory over the steps, and what makes its peak."""
    memory, provenance = compiled.memory, compiled.provenance
    found = lives(memory)
    if not found:
        return []
    used = occupied(found, len(memory.calls))
    peak = used.index(max(used))
    groups = [used[n * len(used) // _WIDTH:max((n + 1) * len(used) // _WIDTH, n * len(used) // _WIDTH + 1)]
              for n in range(_WIDTH)] if len(used) > _WIDTH else [[nbytes] for nbytes in used]
    bars = "".join(_BARS[-(-8 * max(group) // max(used[peak], 1))] for group in groups)
    lines = [f"  scratch    |{bars}|", f"    at its most, {size(used[peak])}, in step {peak}:"]
    alive = sorted((life for life in found if life.first <= peak <= life.last), key=lambda life: -life.nbytes)
    for life in alive[:_TENSORS]:
        what = f"{life.values[-1].type} of {provenance.words(life.first, 1)}" if life.values else "a kernel's own memory"
        lines.append(f"    {size(life.nbytes):>10s} {what}, steps {life.first} to {life.last}")
    if len(alive) > _TENSORS:
        rest = sum(life.nbytes for life in alive[_TENSORS:])
        lines.append(f"    {size(rest):>10s} in {len(alive) - _TENSORS} others")
    return lines


def _fusion(compiled: Any) -> list[str]:
    """Which kernels that read one another are two, by the reasons."""
    pairs: dict[str, list[str]] = {}
    for producer, consumer, why in compiled.unfused:
        pairs.setdefault(why, []).append(f"{producer} into {consumer}")
    lines = [f"    {', '.join(those[:_PAIRS])}{f' and {len(those) - _PAIRS} more' if len(those) > _PAIRS else ''}: {why}"
             for why, those in sorted(pairs.items(), key=lambda item: -len(item[1]))]
    return ["  not fused, and why:", *lines] if lines else []


def _passes(compiled: Any) -> list[str]:
    """Where the time of the passes went."""
    seconds: Counter[str] = Counter()
    for record in compiled.report.records:
        seconds[record.name] += record.seconds
    return [f"  of the passes, {', '.join(f'{name} {_ms(s)}' for name, s in seconds.most_common(_PASSES))}"]


def _recompiles(signatures: Sequence[Any]) -> list[str]:
    reasons = [s.reason for s in signatures if s.reason]
    return ["  compiled again because:"] + [f"    {reason}" for reason in reasons] if reasons else []


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"
