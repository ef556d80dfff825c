"""Planned calls and built kernels -> Program: every value's home becomes a slot, every phase of a call a launch, and the
plan's order a tree of steps (`passes.memory.order`, `runtime.program`)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from flambeau.backends import Backend, BuiltKernel
from flambeau.codegen.artifact import Phase, TaskDim
from flambeau.ir import dtypes as dt
from flambeau.ir.graph import Graph, Value
from flambeau.ir.types import TensorType
from flambeau.passes.lowering.loops import Fault
from flambeau.passes.lowering.lower import Call
from flambeau.passes.memory.order import Chosen, Order, Repeated
from flambeau.passes.memory.plan import Home, MemoryPlan
from flambeau.runtime.program import (
    Blocks,
    Branch,
    Extent,
    HostCall,
    Launch,
    Loop,
    Program,
    Signature,
    Slot,
    Step,
    TensorSpec,
)
from flambeau.verified import CheckedCall

__all__ = ["launches_of", "link", "separate_steps"]

_MOST_TOLD = 3                      # lines, or ops, of a call that failed
_MOST_CHUNKS = 1 << 31              # of one launch: the thread pool counts them in 32 bits


def link(graph: Graph, memory: MemoryPlan, built: Sequence[BuiltKernel],
         device: str = "cpu") -> tuple[Program, list[int]]:
    """The plan as data for the runtime, and the call behind each launch, those of `Program.once` last. built: the kernel
    of each call. device: where all memory lies."""
    linked, signature = _Linked(memory, built), _signature(graph, device)
    steps = linked.steps(tuple(range(len(memory.calls))) if memory.order is None else memory.order)
    constants = tuple([_bytes(v) for v in memory.constants])
    once, launch_calls = None, linked.launch_calls
    if memory.once is not None:
        first = _Once(memory, built)
        first_steps = first.steps(tuple(range(len(memory.calls))))
        kept = _kept(memory)
        once = Program(first.as_slots(device, {}), first_steps, Signature(states=signature.states, outs=kept),
                       memory.once_arena_bytes, constants, locations=tuple(first.locations))
        signature = replace(signature, states=(*signature.states, *kept))
        launch_calls = launch_calls + first.launch_calls
    slots = linked.as_slots(device, {"kept": len(signature.states) - (0 if once is None else once.n_outs)})
    return Program(slots, steps, signature, memory.arena_bytes, constants, writes_state=bool(graph.writes),
                   locations=tuple(linked.locations), once=once), launch_calls


def _kept(memory: MemoryPlan) -> tuple[TensorSpec, ...]:
    """What runs once leaves: values, then panels."""
    once = memory.once
    assert once is not None, "nothing runs once"
    return (*[TensorSpec(f"kept[{n}]", value.type) for n, value in enumerate(once.values)],
            *[TensorSpec(f"kept[{n}]", _bytes_type(memory.scratch[number][place].nbytes))
              for n, ((number, place), *_) in enumerate(once.panels, len(once.values))])


class _Linked:
    """Slots, locations, and the call behind each launch, as steps are made."""

    def __init__(self, memory: MemoryPlan, built: Sequence[BuiltKernel]) -> None:
        self.memory, self.built = memory, built
        self.slots: dict[tuple[str, int, int], int] = {}
        self.locations: dict[str, int] = {}
        self.launch_calls: list[int] = []

    def steps(self, order: Order) -> tuple[Step, ...]:
        made: list[Step] = []
        for item in order:
            match item:
                case Repeated(condition, body):
                    made.append(Loop(self.slot(self.memory.home_of[condition]), self.steps(body)))
                case Chosen(condition, then, otherwise):
                    slot = self.slot(self.memory.home_of[condition])
                    made.append(Branch(slot, self.steps(then), self.steps(otherwise)))
                case number:
                    made += self.launches(number)
        return tuple(made)

    def launches(self, number: int) -> list[Launch | HostCall]:
        call, kernel = self.memory.calls[number], self.built[number]
        homes = [*[self.memory.home_of[v] for v in call.buffers], *self.memory.scratch[number]]
        phases = self.phases(number, kernel.phases, homes)
        where = _where(call)
        location = self.locations.setdefault(where, len(self.locations)) if where and phases else None
        self.launch_calls += [number] * len(phases)
        return [launch for phase, those in phases
                for launch in launches_of([phase], [self.slot(home) for home in those], call.sizes, location,
                                           call.faults)]

    def phases(self, number: int, phases: Sequence[Phase], homes: list[Home]) -> list[tuple[Phase, list[Home]]]:
        """Those of a call that run here, each with the homes of its buffers."""
        once = self.memory.once
        if once is None:
            return [(phase, homes) for phase in phases]
        if number in once.calls:
            return []
        idle = {param for call, param in once.idle if call == number}
        if idle:                            # what the rest of the kernel does not look at may be anything
            other = next(home for param, home in enumerate(homes) if param not in idle)
            homes = [other if param in idle else home for param, home in enumerate(homes)]
        return [(phase, homes) for place, phase in enumerate(phases) if (number, place) not in once.packs]

    def slot(self, home: Home) -> int:
        return self.slots.setdefault((home.kind, home.index, home.nbytes), len(self.slots))

    def as_slots(self, device: str, first: Mapping[str, int]) -> tuple[Slot, ...]:
        """The slots of a program. first: the number of the first state among those that are kept."""
        made = []
        for kind, index, nbytes in self.slots:
            if kind == "kept":
                kind, index = ("state", first["kept"] + index) if first else ("out", index)
            made.append(Slot("arena" if kind == "once" else kind, index, nbytes, device))           # type: ignore[arg-type]
        return tuple(made)


class _Once(_Linked):
    """The steps that run once."""

    def phases(self, number: int, phases: Sequence[Phase], homes: list[Home]) -> list[tuple[Phase, list[Home]]]:
        once = self.memory.once
        assert once is not None, "nothing runs once"
        if number in once.calls:
            return [(phase, homes) for phase in phases]
        made = []
        filled = {alike[0] for alike in once.panels}
        n_buffers = len(self.memory.calls[number].buffers)
        for place, phase in enumerate(phases):
            if (number, place) in once.packs and phase.packs is not None:
                source, panel = phase.packs
                if (number, panel - n_buffers) not in filled:
                    continue
                made.append((phase, [homes[panel] if n == panel else homes[source] for n in range(len(homes))]))
        return made


def launches_of(phases: Sequence[Phase], slots: Sequence[int], sizes: Sequence[Extent] = (),
                location: int | None = None, faults: Sequence[Fault] = ()) -> list[Launch | HostCall]:
    """One launch for each phase of a built kernel. slots: those of its buffers, then of its scratch. sizes: its runtime
    extents; those that come with each call leave the task counts open. faults: what statuses mean in this call."""
    made: list[Launch | HostCall] = []
    for phase in phases:
        errors = _told(phase.errors, faults)
        params = tuple([slots[p] for p in phase.params])
        if phase.host:
            made.append(HostCall(phase.symbol, params, tuple(sizes) or phase.sizes, errors, location))
            continue
        known = [size for size in sizes if isinstance(size, int)]
        numbers = (*sizes, *phase.sizes)
        if len(known) == len(sizes):
            count = phase.task_count(known)
            grain = max(phase.grain, count // _MOST_CHUNKS + 1)
            made.append(Launch(phase.symbol, count, grain, phase.parallel and count > grain, params, numbers, errors,
                               location))
        else:
            tasks = tuple([_blocks(dim, sizes) for dim in phase.task_dims]) if phase.tasks is None else phase.tasks
            made.append(Launch(phase.symbol, tasks, phase.grain, phase.parallel, params, numbers, errors, location))
    return made


def _told(errors: Sequence[tuple[int, str]], faults: Sequence[Fault]) -> tuple[tuple[int, str], ...]:
    """The messages of a call's ops in place of those of its phase, where they have some."""
    of_ops = dict.fromkeys([(fault.status, fault.message) for fault in faults])
    statuses = dict(errors)
    known = {status for status, _ in of_ops}
    return (*[error for error in errors if error[0] not in known], *[error for error in of_ops if error[0] in statuses])


def _blocks(dim: TaskDim, sizes: Sequence[Extent]) -> Blocks:
    return Blocks(dim.extent if dim.size_index is None else sizes[dim.size_index], dim.block)    # type: ignore[arg-type]


def separate_steps(memory: MemoryPlan, built: Sequence[BuiltKernel], backend: Backend,
                   device: str = "cpu") -> list[CheckedCall]:
    """Each call as a program of its own, over the addresses of its buffers and scratch."""
    made = []
    for call, kernel, scratch in zip(memory.calls, built, memory.scratch, strict=True):
        types = [v.type for v in call.buffers] + [_bytes_type(home.nbytes) for home in scratch]
        where = _where(call)
        launches = launches_of(kernel.phases, range(len(types)), call.sizes, 0 if where else None, call.faults)
        program = Program(tuple([Slot("arg", number, type.nbytes, device) for number, type in enumerate(types)]),
                          tuple(launches), Signature(tuple([TensorSpec(f"buffer[{n}]", t) for n, t in enumerate(types)])),
                          locations=(where,) if where else ())
        made.append(CheckedCall(call, backend.executable(program, [kernel] * len(launches))))
    return made


def _signature(graph: Graph, device: str) -> Signature:
    """Names and types of what a call brings; memory of `device`, but numbers."""
    inputs: dict[str, list[TensorSpec]] = {"arg": [], "state": [], "scalar": []}
    for value in graph.inputs:
        op = value.node.op
        kind: str = op.kind                                                         # type: ignore[attr-defined]
        type = value.type if kind == "scalar" or device == "cpu" else value.type.on(device)
        inputs[kind].append(TensorSpec(op.label, type))                             # type: ignore[attr-defined]
    outs = [TensorSpec(f"result[{number}]", value.type) for number, value in enumerate(graph.outputs)]
    if device != "cpu":
        outs = [TensorSpec(spec.name, spec.type.on(device)) for spec in outs]
    return Signature(tuple(inputs["arg"]), tuple(inputs["state"]), tuple(inputs["scalar"]), tuple(outs))


def _bytes_type(nbytes: int) -> TensorType:
    return TensorType((nbytes,), dt.u8)


def _where(call: Call) -> str:
    """The user's lines that may end a call with an error, or else that it computes: the first of them."""
    lines = list(dict.fromkeys([fault.line for fault in call.faults if fault.line])) or call.kernel.locations
    return ", ".join(lines[:_MOST_TOLD])


def _bytes(constant: Value) -> bytes:
    return bytes(constant.node.op.value.array.tobytes())       # type: ignore[attr-defined]
