"""What a compiled function became, in words."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from flambeau.ir.facts import LARGEST
from flambeau.passes.memory.order import Chosen, Order, Repeated


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
        f"  memory     {_size(stats.arena_bytes)} of scratch ({_size(stats.unshared_bytes)} without sharing), "
        f"{_size(stats.state_bytes)} of captured state, {stats.in_place_writes} tensors updated in place",
    ]
    lines += _inputs(newest)
    lines += _sizes(newest.family)
    lines += [line for part in newest.parts for line in _calls(part)]
    lines += _recompiles(signatures)
    return "\n".join(lines)


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
    lines += [f"    it is for {condition}{'' if condition.where is None else f', which {condition.where} asks'}"
              for condition in facts.conditions]
    came = ", ".join("x".join(map(str, key)) for key in list(family.entries)[-8:])
    lines.append(f"    prepared for {len(family.entries)}: {'..., ' if len(family.entries) > 8 else ''}{came}")
    if family.why_separate is not None:
        lines.append(f"    the passes run for each size by itself: {family.why_separate}")
    return lines


def _calls(compiled: Any) -> list[str]:
    memory = compiled.memory
    order = tuple(range(len(memory.calls))) if memory.order is None else memory.order
    return ["  steps, in order:", *_steps(memory.calls, order, "    "), *_notes(compiled)]


def _notes(compiled: Any) -> list[str]:
    """What the backend says of kernels, under the numbers of their steps."""
    numbers: dict[str, list[int]] = {}
    for number, built in enumerate(compiled.built):
        if note := compiled.backend.note(built.kernel, compiled.target):
            numbers.setdefault(note, []).append(number)
    lines = [f"    {', '.join(map(str, those)):>7s} {note}" for note, those in numbers.items()]
    return ["  on the device:", *lines] if lines else []


def _steps(calls: Sequence[Any], order: Order, indent: str) -> Iterator[str]:
    """A line for each step; those of loops and branches further in."""
    for item in order:
        match item:
            case Repeated(_, body):
                yield f"{indent}    as long as the condition holds:"
                yield from _steps(calls, body, indent + "  ")
            case Chosen(_, then, otherwise):
                for words, body in (("if the predicate holds:", then), ("else:", otherwise)):
                    yield f"{indent}    {words}"
                    yield from _steps(calls, body, indent + "  ")
            case number:
                call = calls[number]
                where = ", ".join(call.kernel.locations[:2]) + (", ..." if len(call.kernel.locations) > 2 else "")
                space = " x ".join(str(e) for e in (call.sizes if call.sizes else call.kernel.extents)) or "1"
                yield f"{indent}{number:3d} {call.phase:8s} {call.kernel.keyword:11s} over {space:24s} {where}"


def _recompiles(signatures: Sequence[Any]) -> list[str]:
    reasons = [s.reason for s in signatures if s.reason]
    return ["  compiled again because:"] + [f"    {reason}" for reason in reasons] if reasons else []


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def _size(nbytes: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024          # type: ignore[assignment]
    return f"{nbytes:.1f} GiB"
