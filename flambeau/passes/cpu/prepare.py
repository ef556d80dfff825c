"""Calls as lowering leaves them -> the calls that a CPU runs: long reductions of few rows cut into parts for its cores,
everything spelled out, every kernel scheduled."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from flambeau.ir.kernel import Kernel
from flambeau.ir.kinds import kind_of
from flambeau.ir.target import Target
from flambeau.passes.cpu.schedule import schedule
from flambeau.passes.lowering.lower import Call, finish

__all__ = ["in_parts", "prepare"]

Schedule = Callable[[Kernel, Target], Kernel]


def prepare(calls: Sequence[Call], target: Target, schedule: Schedule = schedule) -> list[Call]:
    """schedule: what chooses; a caller with a memory of its choices brings its own."""
    return [_scheduled(finish(part), target, schedule) for call in calls for part in in_parts(call, target)]


def in_parts(call: Call, target: Target) -> list[Call]:
    """The call, or several that do the same where that gives the target's cores more to do."""
    here = kind_of(call.kernel).implementations.get("cpu")
    return [call] if here is None or here.divide is None else list(here.divide(call, target))


def _scheduled(call: Call, target: Target, schedule: Schedule) -> Call:
    if call.kernel.schedule is not None:
        return call
    chosen = schedule(call.kernel, target)
    return replace(call, kernel=replace(chosen, name=call.kernel.name, locations=call.kernel.locations))
