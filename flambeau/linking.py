"""Planned calls and built kernels -> Program: every value's home becomes a slot, every phase of a call a launch."""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.backends import Backend, BuiltKernel
from flambeau.ir.graph import Graph, Value
from flambeau.ir.kernel import Kernel
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.plan import Home, MemoryPlan
from flambeau.runtime.program import Launch, Program, Slot
from flambeau.verified import Step

__all__ = ["link", "separate_steps"]

_MOST_CHUNKS = 1 << 31              # of one launch: the thread pool counts them in 32 bits


def link(graph: Graph, memory: MemoryPlan, built: Sequence[BuiltKernel]) -> tuple[Program, list[int]]:
    """The plan as data for the runtime, and the call behind each launch."""
    slots: dict[tuple[str, int, int], int] = {}

    def slot(home: Home) -> int:
        return slots.setdefault((home.kind, home.index, home.nbytes), len(slots))

    launches: list[Launch] = []
    launch_calls: list[int] = []
    for number, (call, kernel, scratch) in enumerate(zip(memory.calls, built, memory.scratch, strict=True)):
        buffers = [slot(memory.home_of[v]) for v in call.buffers] + [slot(home) for home in scratch]
        launches += _launches(call, kernel, buffers)
        launch_calls += [number] * len(kernel.phases)
    kinds = [v.node.op.kind for v in graph.inputs]              # type: ignore[attr-defined]
    program = Program(
        tuple([Slot(kind, index, nbytes) for kind, index, nbytes in slots]),      # type: ignore[arg-type]
        tuple(launches), memory.arena_bytes, kinds.count("arg"), kinds.count("state"), kinds.count("scalar"),
        tuple([v.type.nbytes for v in graph.outputs]), tuple([_bytes(v) for v in memory.constants]),
        writes_state=bool(graph.writes))
    program.check()
    return program, launch_calls


def _launches(call: Call, kernel: BuiltKernel, slots: Sequence[int]) -> list[Launch]:
    """One launch for each phase of the call's kernel. slots: those of its buffers, then of its scratch."""
    made = []
    for phase in kernel.phases:
        tasks = phase.task_count(call.sizes)
        errors = tuple([(status, _located(message, call.kernel)) for status, message in phase.errors])
        grain = max(phase.grain, tasks // _MOST_CHUNKS + 1)
        made.append(Launch(phase.symbol, tasks, grain, phase.parallel and tasks > grain,
                           tuple([slots[p] for p in phase.params]), call.sizes, errors))
    return made


def separate_steps(memory: MemoryPlan, built: Sequence[BuiltKernel], backend: Backend) -> list[Step]:
    """Each call as a program of its own, over the addresses of its buffers and scratch."""
    made = []
    for call, kernel, scratch in zip(memory.calls, built, memory.scratch, strict=True):
        sizes = [v.type.nbytes for v in call.buffers] + [home.nbytes for home in scratch]
        launches = _launches(call, kernel, range(len(sizes)))
        slots = tuple([Slot("arg", number, nbytes) for number, nbytes in enumerate(sizes)])
        program = Program(slots, tuple(launches), n_args=len(sizes))
        made.append(Step(call, backend.executable(program, [kernel] * len(launches))))
    return made


def _located(message: str, kernel: Kernel) -> str:
    where = ", ".join(kernel.locations[:3])
    return f"{message} (in the kernel of {where})" if where else message


def _bytes(constant: Value) -> bytes:
    return bytes(constant.node.op.value.array.tobytes())       # type: ignore[attr-defined]
