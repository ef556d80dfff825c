"""What later stages of a loop kernel compute again: true on every device, and worth something where a row's values can be
kept from one stage to the next.

    stage (%i1) { %0 = load x; reduce max %0 }
    stage (%i1) { %2 = load x; %3 = sub %2, %1; %4 = exp %3; reduce sum %4 }
    stage (%i1) { %6 = load x; %7 = sub %6, %1; %8 = exp %7; %9 = div %8, %5; store %9 }
    ->  the second is given %2 (it is %0) and the third %8 (it is %4): only the first loads x, only the second calls exp
"""
from __future__ import annotations

from collections.abc import Collection, Sequence

from flambeau.ir.kernel.dataflow import address_values, dims_of_values, values_read
from flambeau.ir.kernel.grammar import Address, Instr, Stage
from flambeau.ir.kernel.loop_kernel import LoopKernel
from flambeau.ir.records import dataclass

__all__ = ["Rest", "equal_values", "rests", "walked_back"]


@dataclass(frozen=True)
class Rest:
    """What is left of a stage. given: (a value of it, the value of an earlier stage that it equals). body: what it still
    computes. kept: those of its values that later stages are given."""

    given: tuple[tuple[int, int], ...]
    body: tuple[Instr, ...]
    kept: tuple[int, ...] = ()


def rests(kernel: LoopKernel) -> tuple[Rest, ...]:
    """Of each stage. Values are kept between stages that walk the same dims, where they hang on something loaded there:
    anything else is as cheap to compute again."""
    same = equal_values(kernel)
    dims_of = dims_of_values(kernel)
    made: dict[tuple[int, ...], dict[int, int]] = {}            # by dims: the first value of each class, and its stage
    loaded: set[int] = set()
    found: list[Rest] = []
    for number, stage in enumerate(kernel.stages):
        here = made.setdefault(stage.dims, {})
        at_hand = {i.id for i in stage.body if stage.dims and same[i.id] in here}
        given, body = walked_back(stage, at_hand)
        found.append(Rest(tuple([(v, same[v]) for v in given]), body))
        for value in given:
            maker = here[same[value]]
            kept = dict.fromkeys([*found[maker].kept, same[value]])
            found[maker] = Rest(found[maker].given, found[maker].body, tuple(kept))
        loaded.update(given)
        for instr in body:
            walks = any(d in stage.dims for d in dims_of[instr.id])
            if (instr.op == "load" and walks) or any(v in loaded for v in values_read(instr)):
                loaded.add(instr.id)
                if same[instr.id] == instr.id:
                    here[instr.id] = number
    return tuple(found)


def walked_back(stage: Stage, at_hand: Collection[int]) -> tuple[list[int], tuple[Instr, ...]]:
    """(values that are at hand and needed, instructions that are needed beside them)."""
    by_id = {instr.id: instr for instr in stage.body}
    wanted = [i.id for i in stage.body if i.op == "check"] + [r.value for r in stage.reductions]
    for store in stage.stores:
        wanted += [store.value, *address_values(store.address)]
    seen: set[int] = set()
    while wanted:
        value = wanted.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in by_id and value not in at_hand:
            wanted += values_read(by_id[value])
    return ([i.id for i in stage.body if i.id in seen and i.id in at_hand],
            tuple([i for i in stage.body if i.id in seen and i.id not in at_hand]))


def equal_values(kernel: LoopKernel) -> dict[int, int]:
    """For each value the first that is computed alike. What is loaded from a buffer that the kernel stores to, or what a
    check has seen, is like nothing else."""
    stored = {store.address.buffer for stage in kernel.stages for store in stage.stores}
    same: dict[int, int] = {}
    first: dict[object, int] = {}
    for stage in kernel.stages:
        for instr in stage.body:
            key = _key(instr, same)
            alone = instr.op == "check" or (isinstance(instr.attr, Address) and instr.attr.buffer in stored)
            same[instr.id] = instr.id if alone else first.setdefault(key, instr.id)
        same.update({r.id: r.id for r in stage.reductions})
    return same


def _key(instr: Instr, same: dict[int, int]) -> object:
    attr: object = repr(instr.attr)                     # tells 0.0 from -0.0, and NaN is itself
    if isinstance(instr.attr, Address):
        address = instr.attr
        attr = (address.buffer, address.offset, address.strides, _named(address.dynamic, same),
                None if address.guard is None else same[address.guard])
    return instr.op, instr.dtype.name, tuple([same[v] for v in instr.operands]), attr


def _named(dynamic: Sequence[tuple[int, int]], same: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple([(same[value], stride) for value, stride in dynamic])
