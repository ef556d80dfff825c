"""Calls -> where every value lives. Captured state is written in place where no call still needs its old value;
results of calls take over the memory of operands they are the last to read; the rest shares one arena by liveness.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from flambeau.ir.graph import Graph, Value
from flambeau.ir.kernel import Address, ContractionKernel, Kernel, LoopKernel
from flambeau.passes.lower import Call, copy_call

ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Home:
    """kind and number of a buffer; in the arena `index` is a byte offset."""

    kind: Literal["arg", "state", "out", "scalar", "const", "arena"]
    index: int
    nbytes: int


@dataclass
class MemoryPlan:
    """Calls in execution order (the last `copies` move whole values to states and outputs), the home of every value
    they touch, scratch offsets per call, and the arena's size."""

    calls: list[Call]
    home_of: dict[Value, Home]
    scratch: list[tuple[Home, ...]]
    arena_bytes: int
    constants: list[Value]
    reused_bytes: int = 0
    in_place_writes: int = 0
    copied_writes: int = 0
    copies: int = 0
    unshared_bytes: int = field(default=0)          # what the arena would take without sharing


def plan(graph: Graph, calls: Sequence[Call], scratch_bytes: Sequence[Sequence[int]]) -> MemoryPlan:
    """scratch_bytes[i]: the extra buffers call i's artifact asked for."""
    home_of, constants = _fixed_homes(graph)
    writes = _in_place_writes(graph, calls)
    order = _order(calls, writes.anti_dependencies)
    ordered = [calls[i] for i in order]
    scratch = [tuple(scratch_bytes[i]) for i in order]
    made = {v for call in calls for v in _results(call)}
    copies: list[Call] = []
    for state, value in graph.writes.items():
        if state in writes.direct:
            home_of[value] = home_of[state]
        elif value is not state:
            copies.append(copy_call(value, state))
    for number, value in enumerate(graph.outputs):
        out = Home("out", number, value.type.nbytes)
        if value in made and value not in home_of:
            home_of[value] = out
        else:
            stand_in = Value(value.node, value.index, value.type)
            home_of[stand_in] = out
            copies.append(copy_call(value, stand_in))
    copies = _after(copies, graph)
    plan = _arena(ordered + copies, scratch + [()] * len(copies), home_of)
    plan.constants, plan.copies = constants, len(copies)
    plan.in_place_writes, plan.copied_writes = len(writes.direct), len(graph.writes) - len(writes.direct)
    return plan


def _after(copies: list[Call], graph: Graph) -> list[Call]:
    """Copies to outputs read states before copies to states overwrite them; a state that is copied to another state
    is read before it is written where the order allows (cycles of swapped states go through a temporary)."""
    to_state = {id(c.buffers[1]): c for c in copies if c.buffers[1] in graph.writes}
    to_output = [c for c in copies if id(c.buffers[1]) not in to_state]
    reads_state = [c for c in to_state.values() if c.buffers[0] in graph.writes]
    if not reads_state:
        return to_output + list(to_state.values())
    first, second = [], []
    for call in to_state.values():
        if call.buffers[0] in graph.writes:
            source = call.buffers[0]
            temporary = Value(source.node, source.index, source.type)
            first.append(copy_call(source, temporary))
            second.append(copy_call(temporary, call.buffers[1]))
        else:
            second.append(call)
    return to_output + first + second


def _fixed_homes(graph: Graph) -> tuple[dict[Value, Home], list[Value]]:
    """Homes of inputs and of constants that live in memory."""
    home_of: dict[Value, Home] = {}
    count = {"arg": 0, "state": 0, "scalar": 0}
    for value in graph.inputs:
        kind = value.node.op.kind                           # type: ignore[attr-defined]
        home_of[value] = Home(kind, count[kind], value.type.nbytes)
        count[kind] += 1
    constants = [n.results[0] for n in graph.toposort() if n.op.name == "constant"]
    for number, value in enumerate(constants):
        home_of[value] = Home("const", number, value.type.nbytes)
    return home_of, constants


def _results(call: Call) -> list[Value]:
    return [v for v, p in zip(call.buffers, call.kernel.params, strict=True) if p.role in ("out", "inout")]


def _operands(call: Call) -> list[Value]:
    return [v for v, p in zip(call.buffers, call.kernel.params, strict=True) if p.role in ("in", "inout")]


@dataclass
class _Writes:
    direct: dict[Value, Value] = field(default_factory=dict)          # state -> value stored straight into it
    anti_dependencies: list[tuple[int, int]] = field(default_factory=list)      # (reader, writer) calls


def _in_place_writes(graph: Graph, calls: Sequence[Call]) -> _Writes:
    """Which written values a call may store straight into the state's memory."""
    maker = {v: i for i, call in enumerate(calls) for v in _results(call)}
    readers: dict[Value, list[int]] = {}
    for i, call in enumerate(calls):
        for value in _operands(call):
            readers.setdefault(value, []).append(i)
    after = _Reachability(calls, maker)
    taken: set[Value] = set()
    found = _Writes()
    outputs = set(graph.outputs)
    forwarded = {v for s, v in graph.writes.items() if v in graph.writes and v is not s}
    for state, value in graph.writes.items():
        writer = maker.get(value)
        if writer is None or value in taken or state in outputs or state in forwarded or value in outputs:
            continue
        others = [r for r in readers.get(state, []) if r != writer]
        own = readers.get(state, []).count(writer) > 0
        if own and not may_share(calls[writer], state, value):
            continue
        if any(after.leads(writer, r) for r in others):
            continue
        found.direct[state] = value
        taken.add(value)
        for reader in others:
            found.anti_dependencies.append((reader, writer))
            after.add(reader, writer)
    return found


class _Reachability:
    """Which calls must come after which, by data and by the anti-dependencies added so far."""

    def __init__(self, calls: Sequence[Call], maker: Mapping[Value, int]):
        self.successors: list[set[int]] = [set() for _ in calls]
        for i, call in enumerate(calls):
            for value in _operands(call):
                if value in maker:
                    self.successors[maker[value]].add(i)

    def add(self, before: int, after: int) -> None:
        self.successors[before].add(after)

    def leads(self, source: int, target: int) -> bool:
        seen, stack = {source}, [source]
        while stack:
            for successor in self.successors[stack.pop()]:
                if successor == target:
                    return True
                if successor not in seen:
                    seen.add(successor)
                    stack.append(successor)
        return False


def _order(calls: Sequence[Call], anti_dependencies: Sequence[tuple[int, int]]) -> list[int]:
    """Call numbers in an order that respects data and anti-dependencies, near the given one."""
    before: list[list[int]] = [[] for _ in calls]
    maker = {v: i for i, call in enumerate(calls) for v in _results(call)}
    for i, call in enumerate(calls):
        before[i].extend(maker[v] for v in _operands(call) if v in maker)
    for reader, writer in anti_dependencies:
        before[writer].append(reader)
    done = [False] * len(calls)
    order: list[int] = []
    for start in range(len(calls)):
        stack = [(start, 0)]
        while stack:
            number, position = stack.pop()
            if done[number]:
                continue
            needed = before[number]
            while position < len(needed) and done[needed[position]]:
                position += 1
            if position < len(needed):
                stack.append((number, position + 1))
                stack.append((needed[position], 0))
            else:
                done[number] = True
                order.append(number)
    return order


def may_share(call: Call, read: Value, written: Value) -> bool:
    """Whether `written` may lie in the memory of `read`: each element is stored where it was loaded, and no later
    stage loads it again."""
    kernel = call.kernel
    ins = [n for n, v in enumerate(call.buffers) if v is read and kernel.params[n].role == "in"]
    outs = [n for n, v in enumerate(call.buffers) if v is written and kernel.params[n].role == "out"]
    if len(ins) != 1 or len(outs) != 1 or kernel.params[ins[0]].elements != kernel.params[outs[0]].elements:
        return False
    if isinstance(kernel, ContractionKernel) and ins[0] in (kernel.lhs.buffer, kernel.rhs.buffer):
        return False
    return _stored_where_loaded(kernel, ins[0], outs[0])


def _stored_where_loaded(kernel: Kernel, read: int, written: int) -> bool:
    stages = kernel.stages if isinstance(kernel, LoopKernel) else (kernel.epilogue,)
    place: Address | None = None
    store_stage = -1
    for number, stage in enumerate(stages):
        for store in stage.stores:
            if store.address.buffer == written:
                if place is not None or store.combine != "set":
                    return False
                place, store_stage = store.address, number
    if place is None or place.dynamic or place.guard is not None:
        return False
    for number, stage in enumerate(stages):
        for instr in stage.body:
            if isinstance(instr.attr, Address) and instr.attr.buffer == read:
                same = (instr.attr.offset, instr.attr.strides) == (place.offset, place.strides)
                if not same or instr.attr.dynamic or instr.attr.guard is not None or number > store_stage:
                    return False
    return True


@dataclass
class _Block:
    """A stretch of arena: alive from call `first` to call `last`."""

    nbytes: int
    first: int
    last: int
    offset: int = -1


def _arena(calls: list[Call], scratch: Sequence[Sequence[int]], home_of: dict[Value, Home]) -> MemoryPlan:
    last_read: dict[Value, int] = {}
    for i, call in enumerate(calls):
        for value in _operands(call):
            last_read[value] = i
    block_of: dict[Value, _Block] = {}
    blocks: list[_Block] = []
    reused = unshared = 0
    for i, call in enumerate(calls):
        for value in _results(call):
            if value in home_of or value in block_of:
                continue
            unshared += _aligned(value.type.nbytes)
            heir = _inheritance(call, value, i, block_of, last_read)
            if heir is not None:
                heir.last = max(i, last_read.get(value, i))
                block_of[value] = heir
                reused += value.type.nbytes
            else:
                block_of[value] = _Block(_aligned(value.type.nbytes), i, max(i, last_read.get(value, i)))
                blocks.append(block_of[value])
    scratch_blocks = [[_Block(_aligned(n), i, i) for n in sizes] for i, sizes in enumerate(scratch)]
    arena_bytes = _place(blocks + [b for group in scratch_blocks for b in group])
    for value, block in block_of.items():
        home_of[value] = Home("arena", block.offset, value.type.nbytes)
    homes = [tuple([Home("arena", b.offset, b.nbytes) for b in group]) for group in scratch_blocks]
    return MemoryPlan(calls, home_of, homes, arena_bytes, [], reused, unshared_bytes=unshared)


def _inheritance(call: Call, value: Value, now: int, block_of: Mapping[Value, _Block],
                 last_read: Mapping[Value, int]) -> _Block | None:
    """The block of an operand that dies here and that `value` may overwrite element by element."""
    for operand in _operands(call):
        block = block_of.get(operand)
        if (block is not None and block.last == now and last_read.get(operand) == now
                and block.nbytes == _aligned(value.type.nbytes) and operand.type.nbytes == value.type.nbytes
                and operand.dtype.itemsize == value.dtype.itemsize and may_share(call, operand, value)):
            return block
    return None


def _aligned(nbytes: int) -> int:
    return -(-max(nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _place(blocks: list[_Block]) -> int:
    """Give every block an offset; blocks alive at the same time do not overlap. Largest first, each in the lowest gap
    that holds it. Source: Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020."""
    placed: list[_Block] = []
    total = 0
    for block in sorted(blocks, key=lambda b: (-b.nbytes, b.first)):
        rivals = sorted((b for b in placed if b.first <= block.last and block.first <= b.last),
                        key=lambda b: b.offset)
        offset = 0
        for rival in rivals:
            if offset + block.nbytes <= rival.offset:
                break
            offset = max(offset, rival.offset + rival.nbytes)
        block.offset = offset
        placed.append(block)
        total = max(total, offset + block.nbytes)
    return total
