"""Program <-> bytes (`ir.sealed`). Steps are lists that begin with what they are:

    ["launch", symbol, tasks, grain, parallel, slots, sizes, errors, location]      ["loop", condition, body]
    ["host", symbol, slots, sizes, errors, location]                      ["branch", condition, then, otherwise]

A number that waits for a call is [number of the size, factor]; constants and initial states are blobs.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, assert_never

from flambeau.errors import ParseError
from flambeau.ir.sealed import boolean, integer, integers, items, optional, parts, seal, text, unseal
from flambeau.ir.types import TensorType, parse_type
from flambeau.runtime.signature import Signature, SizeSpec, TensorSpec
from flambeau.runtime.steps import Blocks, Branch, Extent, HostCall, Launch, Loop, SizeOf, Slot, Step

if TYPE_CHECKING:
    from flambeau.runtime.program import Program

__all__ = ["decode", "encode"]

_VERSION: Final = 2
_LONGEST_TYPE: Final = 1000         # characters: products of long sizes would take for ever to multiply out


def encode(program: Program) -> bytes:
    """The bytes of `program`."""
    signature = program.signature
    blobs = list(program.consts)

    def state(spec: TensorSpec) -> list[Any]:
        if spec.initial is None:
            return [spec.name, str(spec.type), None]
        blobs.append(spec.initial)
        return [spec.name, str(spec.type), len(blobs) - 1]

    def tensors(specs: Sequence[TensorSpec]) -> list[Any]:
        return [[spec.name, str(spec.type)] for spec in specs]

    content = {
        "slots": [[slot.kind, slot.index, slot.nbytes, slot.device] for slot in program.slots],
        "steps": _steps(program.steps),
        "args": tensors(signature.args), "states": [state(spec) for spec in signature.states],
        "scalars": tensors(signature.scalars), "outs": tensors(signature.outs),
        "sizes": [[size.name, size.most] for size in signature.sizes],
        "arena_bytes": program.arena_bytes, "consts": len(program.consts), "writes_state": program.writes_state,
        "locations": program.locations,
        "once": None if program.once is None else len(blobs),
    }
    return seal("program", _VERSION, content, blobs if program.once is None else [*blobs, encode(program.once)])


def _steps(steps: Sequence[Step]) -> list[Any]:
    made: list[Any] = []
    for step in steps:
        match step:
            case Launch():
                tasks = step.tasks if isinstance(step.tasks, int) else [[_extent(f.extent), f.block] for f in step.tasks]
                made.append(["launch", step.symbol, tasks, step.grain, step.parallel, step.slots,
                             [_extent(extent) for extent in step.sizes], step.errors, step.location])
            case HostCall():
                made.append(["host", step.symbol, step.slots, [_extent(extent) for extent in step.sizes], step.errors,
                             step.location])
            case Loop(condition, body):
                made.append(["loop", condition, _steps(body)])
            case Branch(condition, then, otherwise):
                made.append(["branch", condition, _steps(then), _steps(otherwise)])
            case _:
                assert_never(step)
    return made


def _extent(extent: Extent) -> Any:
    return extent if isinstance(extent, int) else [extent.number, extent.times]


def decode(data: bytes, make: Callable[..., Program], is_whole: bool = True) -> dict[str, Any]:
    """The fields of the program. make: a program of such; is_whole: it is no other's `once`. Raises ParseError."""
    content, blobs = unseal(data, "program", _VERSION)
    match content:
        case {"slots": slots, "steps": steps, "args": args, "states": states, "scalars": scalars, "outs": outs,
              "sizes": sizes, "arena_bytes": arena, "consts": consts, "writes_state": writes, "locations": lines,
              "once": once}:
            pass
        case _:
            raise ParseError("the content of a program lacks a field")
    if not 0 <= integer(consts) <= len(blobs):
        raise ParseError(f"a program of {consts} constants has {len(blobs)} blobs")

    def state(value: Any) -> TensorSpec:
        name, type, number = parts(value, text, _type, optional(integer))
        if number is not None and not consts <= number < len(blobs):
            raise ParseError(f"the initial value of state {name} is blob {number} of {len(blobs)}")
        return TensorSpec(name, type, None if number is None else blobs[number])

    signature = Signature(items(args, _tensor), items(states, state), items(scalars, _tensor), items(outs, _tensor),
                          items(sizes, lambda value: SizeSpec(*parts(value, text, integer))))
    if (number := optional(integer)(once)) is not None and not consts <= number < len(blobs) * is_whole:
        raise ParseError(f"what runs once is blob {number} of {len(blobs)}")
    try:
        tree = items(steps, _step)
    except RecursionError:
        raise ParseError("the bodies of a program nest too deep to be read") from None
    return {"slots": items(slots, lambda value: Slot(*parts(value, text, integer, integer, text))),
            "steps": tree, "signature": signature, "arena_bytes": integer(arena),
            "consts": tuple(blobs[:consts]), "writes_state": boolean(writes), "locations": items(lines, text),
            "once": None if number is None else make(**decode(blobs[number], make, is_whole=False))}


def _tensor(value: Any) -> TensorSpec:
    return TensorSpec(*parts(value, text, _type))


def _type(value: Any) -> TensorType:
    words = text(value)
    if len(words) > _LONGEST_TYPE:
        raise ParseError(f"a program names a type in {len(words)} characters: {words[:40]}...")
    try:
        return _parsed(words)
    except ValueError as error:
        raise ParseError(f"a program names a type that is none: {error}") from None


_parsed = lru_cache(maxsize=1024)(parse_type)       # a program's values are of few types


def _step(value: Any) -> Step:
    match value:
        case ["launch", *rest]:
            return Launch(*parts(rest, text, _tasks, integer, boolean, integers, _extents, _errors, optional(integer)))
        case ["host", *rest]:
            return HostCall(*parts(rest, text, integers, _extents, _errors, optional(integer)))
        case ["loop", *rest]:
            return Loop(*parts(rest, integer, _body))
        case ["branch", *rest]:
            return Branch(*parts(rest, integer, _body, _body))
        case _:
            raise ParseError("expected a step: launch, host, loop or branch")


def _body(value: Any) -> tuple[Step, ...]:
    return items(value, _step)


def _tasks(value: Any) -> int | tuple[Blocks, ...]:
    if isinstance(value, list):
        return items(value, lambda factor: Blocks(*parts(factor, _read_extent, integer)))
    return integer(value)


def _read_extent(value: Any) -> Extent:
    return SizeOf(*parts(value, integer, integer)) if isinstance(value, list) else integer(value)


def _extents(value: Any) -> tuple[Extent, ...]:
    return items(value, _read_extent) if type(value) is list and list in map(type, value) else integers(value)


def _errors(value: Any) -> tuple[tuple[int, str], ...]:
    return items(value, lambda error: parts(error, integer, text))
