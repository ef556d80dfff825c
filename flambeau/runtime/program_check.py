"""Program -> nothing, or VerificationError: every number refers to something that exists and fits. Native code looks no
more."""
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, assert_never

from flambeau.errors import VerificationError
from flambeau.runtime.signature import LARGEST, Signature
from flambeau.runtime.steps import Blocks, Branch, Extent, HostCall, Launch, Loop, Slot, Step

if TYPE_CHECKING:
    from flambeau.runtime.program import Program

__all__ = ["check_program"]

_ALIGNMENT = 64                     # of the arena and of everything in it
_DEEPEST = 64                       # bodies within bodies
_MOST_CHUNKS = (1 << 32) - 2        # of one launch: the thread pool counts them in 32 bits


def check_program(program: Program, devices: Collection[str] = ("cpu",), asked: Collection[str] = ("cpu",)) -> None:
    """devices: those whose memory the runner can reach. asked: those that it asks for conditions. Raises VerificationError
    for a program that it cannot run."""
    _check_signature(program.signature)
    if not 0 <= program.arena_bytes <= LARGEST:
        raise VerificationError(f"an arena of {program.arena_bytes} bytes")
    known = _bytes_known(program)
    for number, slot in enumerate(program.slots):
        _check_slot(program, number, slot, known, devices)
    _check_steps(program, program.steps, 0, asked)
    if program.once is not None:
        _check_once(program, program.once, devices, asked)


def _check_once(program: Program, once: Program, devices: Collection[str], asked: Collection[str]) -> None:
    signature = once.signature
    if signature.args or signature.scalars or signature.sizes or once.once is not None or once.writes_state:
        raise VerificationError("what runs once takes states, writes none, and gives outputs")
    first = program.n_states - once.n_outs
    if first < 0 or [s.type for s in program.signature.states[:first]] != [s.type for s in signature.states] or \
            [s.type for s in program.signature.states[first:]] != [s.type for s in signature.outs]:
        raise VerificationError("what runs once gives other states than the program takes")
    check_program(once, devices, asked)


def _check_signature(signature: Signature) -> None:
    names = [size.name for size in signature.sizes]
    if len(set(names)) != len(names):
        raise VerificationError(f"two sizes of one name: {', '.join(names)}")
    for size in signature.sizes:
        if not 0 <= size.most <= LARGEST:
            raise VerificationError(f"size {size.name} is at most {size.most}")
    for spec in (*signature.args, *signature.scalars, *signature.outs):
        if spec.initial is not None:
            raise VerificationError(f"{spec.name} : {spec.type} is no state, and has an initial value")
    for spec in signature.states:
        if spec.initial is not None and len(spec.initial) != signature.nbytes(spec):
            raise VerificationError(f"state {spec.name} : {spec.type} has an initial value of {len(spec.initial)} bytes")
    for spec in signature.scalars:
        if spec.type.shape != ():
            raise VerificationError(f"scalar {spec.name} : {spec.type} is no number")


def _bytes_known(program: Program) -> dict[str, list[int]]:
    """The sizes of everything but the arena, by kind."""
    signature = program.signature
    return {
        "arg": [signature.nbytes(spec) for spec in signature.args],
        "state": [signature.nbytes(spec) for spec in signature.states],
        "out": [signature.nbytes(spec) for spec in signature.outs],
        "scalar": [8] * len(signature.scalars),
        "const": [len(data) for data in program.consts],
    }


def _check_slot(program: Program, number: int, slot: Slot, known: Mapping[str, Sequence[int]],
                devices: Collection[str]) -> None:
    if slot.device not in devices:
        raise VerificationError(f"slot {number} lies on {slot.device!r}, which the runner does not reach: {slot}")
    if slot.nbytes < 0:
        raise VerificationError(f"slot {number} has a negative size: {slot}")
    if slot.kind == "arena":
        if slot.index < 0 or slot.index + slot.nbytes > program.arena_bytes:
            raise VerificationError(f"slot {number} leaves the arena of {program.arena_bytes} bytes: {slot}")
        if slot.index % _ALIGNMENT:
            raise VerificationError(f"slot {number} is not aligned: {slot}")
        return
    if slot.kind not in known:
        raise VerificationError(f"slot {number} has an unknown kind: {slot}")
    sizes = known[slot.kind]
    if not 0 <= slot.index < len(sizes):
        raise VerificationError(f"slot {number} names a missing {slot.kind}, of {len(sizes)}: {slot}")
    if slot.nbytes > sizes[slot.index]:
        raise VerificationError(f"slot {number} is larger than its {slot.kind} of {sizes[slot.index]} bytes: {slot}")


def _check_steps(program: Program, steps: Sequence[Step], depth: int, asked: Collection[str]) -> None:
    if depth > _DEEPEST:
        raise VerificationError(f"bodies nest more than {_DEEPEST} deep")
    for step in steps:
        match step:
            case Launch():
                _check_launch(program, step)
                _check_tasks(program, step)
            case HostCall():
                _check_launch(program, step)
            case Loop(condition, body):
                _check_condition(program, "loop", condition, asked)
                _check_steps(program, body, depth + 1, asked)
            case Branch(condition, then, otherwise):
                _check_condition(program, "branch", condition, asked)
                _check_steps(program, then, depth + 1, asked)
                _check_steps(program, otherwise, depth + 1, asked)
            case _:
                assert_never(step)


def _check_condition(program: Program, what: str, number: int, asked: Collection[str]) -> None:
    if not 0 <= number < len(program.slots):
        raise VerificationError(f"{what}: no slot {number} among {len(program.slots)}")
    slot = program.slots[number]
    if slot.nbytes != 1 or slot.kind == "scalar" or slot.device not in asked:
        raise VerificationError(f"{what}: its condition is no bool that the runner can read: {slot}")


def _check_launch(program: Program, launch: Launch | HostCall) -> None:
    for slot in launch.slots:
        if not 0 <= slot < len(program.slots):
            raise VerificationError(f"{launch.symbol}: no slot {slot} among {len(program.slots)}")
    for extent in launch.sizes:
        if type(extent) is not int or not -LARGEST <= extent <= LARGEST:
            _largest(program, launch, extent)
    if launch.location is not None and not 0 <= launch.location < len(program.locations):
        raise VerificationError(f"{launch.symbol}: no location {launch.location} among {len(program.locations)}")


def _check_tasks(program: Program, launch: Launch) -> None:
    tasks = launch.tasks if isinstance(launch.tasks, int) else _most_tasks(program, launch, launch.tasks)
    if tasks < 0:
        raise VerificationError(f"{launch.symbol}: negative tasks {tasks}")
    if not 1 <= launch.grain <= LARGEST:
        raise VerificationError(f"{launch.symbol}: grain {launch.grain} is not at least 1")
    if tasks + launch.grain > LARGEST or -(-tasks // launch.grain) > _MOST_CHUNKS:
        raise VerificationError(f"{launch.symbol}: too many chunks, {tasks} tasks")


def _most_tasks(program: Program, launch: Launch, factors: Sequence[Blocks]) -> int:
    tasks = 1
    for factor in factors:
        if not 1 <= factor.block <= LARGEST:
            raise VerificationError(f"{launch.symbol}: blocks of {factor.block}")
        extent = _largest(program, launch, factor.extent)
        if extent < 0:
            raise VerificationError(f"{launch.symbol}: negative tasks {extent}")
        tasks *= max(1, -(-extent // factor.block))        # so that the others fit too, whatever their order
    return tasks


def _largest(program: Program, launch: Launch | HostCall, extent: Extent) -> int:
    """The extent when every size is at its most."""
    if isinstance(extent, int):
        if not -LARGEST <= extent <= LARGEST:
            raise VerificationError(f"{launch.symbol}: an extent of {extent}")
        return extent
    sizes = program.signature.sizes
    if not 0 <= extent.number < len(sizes):
        raise VerificationError(f"{launch.symbol}: no size {extent.number} among {len(sizes)}")
    most = sizes[extent.number].most * extent.times
    if extent.times < 0 or most > LARGEST:
        raise VerificationError(f"{launch.symbol}: {extent} reaches {most}")
    return most
