"""Which calls may fail, so that nothing that a failed call leaves behind is half done.

A call that checks indices which an earlier call has checked already, all of them and against no larger size, can't
fail: the scattered gradient of an embedding need not run before the first parameter is updated. Where a check of the
caller's indices comes after a kernel that updates state (labels, after the statistics of a normalization), a small
kernel looks at the indices first.
"""
from __future__ import annotations

from collections.abc import Sequence

from flambeau.ir import dtypes as dt
from flambeau.ir.graph import Value
from flambeau.ir.kernel import Address, Instr, Kernel, LoopKernel, Param, Stage
from flambeau.ir.ops.indexing import INDEX_OUT_OF_RANGE
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.lower import Call, Nested, Step


@dataclass(frozen=True)
class _Bound:
    """A check that elements of `indices` lie in [0, size); `whole` if it looks at every element."""

    indices: Value
    size: int
    whole: bool


def failing_calls(calls: Sequence[Step]) -> list[int]:
    """The steps, by number, that may end with an error when all steps before them did not."""
    found: list[int] = []
    checked: dict[Value, int] = {}              # indices known to be in range -> for what size
    for number, call in enumerate(calls):
        if not call.can_fail:
            continue
        if isinstance(call, Nested):
            found.append(number)
            continue
        bounds = _bounds(call)
        if any(b is None or checked.get(b.indices, b.size + 1) > b.size for b in bounds):
            found.append(number)
            for b in bounds:
                if b is not None and b.whole:
                    checked[b.indices] = min(b.size, checked.get(b.indices, b.size))
    return found


def check_call(indices: Value, size: int, like: Call) -> Call:
    """A call that only checks that all of `indices` lie in [0, size); an error names the user lines of `like`."""
    params = (Param("indices", indices.dtype, "n", "in"),)
    body = [Instr(0, "load", indices.dtype, (), Address(0, 0, ((0, 1),))), Instr(1, "cast", dt.i64, (0,)),
            Instr(2, "const", dt.i64, (), 0), Instr(3, "ge", dt.bool_, (1, 2)),
            Instr(4, "const", dt.i64, (), size), Instr(5, "lt", dt.bool_, (1, 4)),
            Instr(6, "and", dt.bool_, (3, 5)), Instr(7, "check", dt.bool_, (6, 1), INDEX_OUT_OF_RANGE)]
    kernel = LoopKernel("check", params, ("n",), 1, (Stage((), tuple(body)),), locations=like.kernel.locations)
    return Call(kernel, (indices,), (indices.type.numel,), like.phase, origin=like.origin, faults=like.faults)


def early_checks(calls: Sequence[Step], late: Sequence[int]) -> list[Call]:
    """Calls to run before all others, so that the steps numbered `late` can't fail; those that check more than ranges
    of whole inputs still can, and those that may not run at all."""
    found: dict[tuple[Value, int], Call] = {}
    for call in [calls[number] for number in late]:
        if isinstance(call, Nested):
            continue
        for bound in _bounds(call):
            if bound is not None and bound.whole and bound.indices.node.op.name == "input":
                key = (bound.indices, bound.size)
                found.setdefault(key, check_call(*key, call))
    return list(found.values())


def _bounds(call: Call) -> list[_Bound | None]:
    """What each check of the call asks; None for anything but a range of loaded indices."""
    made: dict[int, Instr] = {instr.id: instr for instr in call.kernel.instrs()}
    found = [_bound(call, made, instr) for instr in made.values() if instr.op == "check"]
    return found or [None]                      # whatever it is that a kernel without code checks


def _bound(call: Call, made: dict[int, Instr], check: Instr) -> _Bound | None:
    """`check(and(ge(i, 0), lt(i, size)), i)` where i is a load, perhaps cast."""
    fine, position = (made[operand] for operand in check.operands)
    if fine.op != "and":
        return None
    above, below = (made[operand] for operand in fine.operands)
    if (above.op, below.op) != ("ge", "lt") or {above.operands[0], below.operands[0]} != {position.id}:
        return None
    low, high = made[above.operands[1]], made[below.operands[1]]
    if (low.op, low.attr, high.op) != ("const", 0, "const") or not isinstance(high.attr, int):
        return None
    load = made[position.operands[0]] if position.op == "cast" else position
    if not isinstance(load.attr, Address) or load.attr.dynamic or load.attr.guard is not None:
        return None
    return _Bound(call.buffers[load.attr.buffer], high.attr, _walks_whole_buffer(call.kernel, load.attr))


def _walks_whole_buffer(kernel: Kernel, address: Address) -> bool:
    """Whether the address meets every element of its buffer, as far as nested strides tell."""
    elements = kernel.params[address.buffer].elements
    if kernel.sizes:
        return address.strides == ((0, 1),) and address.offset == 0 and elements == kernel.extents[0]
    reached = 1
    for dim, stride in sorted(address.strides, key=lambda pair: pair[1]):
        if stride != reached:
            return False
        extent = kernel.extents[dim]
        assert isinstance(extent, int), "sizes are static here"
        reached *= extent
    return address.offset == 0 and reached == elements
