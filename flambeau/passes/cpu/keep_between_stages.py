"""LoopKernel -> LoopKernel: what several stages compute of one element, and that is slow, the first of them stores where a
result of the kernel will lie, and the others load it.

    stage { ... reduce max %28 }                            stage { ... reduce max %28; store %28 to out[...] }
    stage { (all of %28 again) exp; reduce sum }        ->  stage { load out[...]; exp; reduce sum; store to out[...] }
    stage { (all of that again) div; store to out[...] }    stage { load out[...]; div; store to out[...] }

A row of the result is written again and again while it lies in a cache. Bits stay the same: equal code gives equal bits.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Final

from flambeau.ir.kernel import SCALAR_OPS, Address, Instr, LoopKernel, Stage, Store
from flambeau.ir.kernel.dataflow import dims_of_values
from flambeau.ir.kernel.repeats import equal_values, walked_back
from flambeau.ir.target import Target

__all__ = ["keep_between_stages"]

_WORTH: Final = 8.0                     # instructions a point that are spared at least, beside a store and loads


def keep_between_stages(kernel: LoopKernel, target: Target) -> LoopKernel:
    """The kernel, or one that computes slow values once."""
    if kernel.sizes or sum(bool(stage.dims) for stage in kernel.stages) < 2:
        return kernel
    for last, store in _places(kernel, target):
        kept = _chosen(kernel, last, store)
        if kept:
            return _keeping(kernel, store.address, kept)
    return kernel


def _places(kernel: LoopKernel, target: Target) -> Iterator[tuple[int, Store]]:
    """(a stage, a result that it stores whole and nothing else touches), where a row of it is small."""
    touched = [address.buffer for address in kernel.addresses()]
    for number, stage in enumerate(kernel.stages):
        points = math.prod([e for d in stage.dims if isinstance(e := kernel.extents[d], int)])
        for store in stage.stores:
            address, param = store.address, kernel.params[store.address.buffer]
            is_plain = store.combine == "set" and not address.dynamic and address.guard is None and param.role == "out"
            is_row = stage.dims and address.step_of(stage.dims[-1]) == 1
            if (is_plain and is_row and touched.count(address.buffer) == 1
                    and points * param.dtype.itemsize <= target.l2_bytes // 4):
                yield number, store


def _chosen(kernel: LoopKernel, last: int, store: Store) -> dict[int, tuple[int, int, int]]:
    """For stages that load a value instead of computing it: (the value there, the stage that stores it, the value
    there)."""
    same, dims_of = equal_values(kernel), dims_of_values(kernel)
    dims, dtype = kernel.stages[last].dims, kernel.params[store.address.buffer].dtype
    chosen: dict[int, tuple[int, int, int]] = {}
    held: tuple[int, int] | None = None             # the class of the value that lies there, and the stage that stored it
    until = -1                                      # the last stage that loads it
    for number, stage in enumerate(kernel.stages[:last + 1]):
        if stage.dims != dims:
            continue
        costs = _costs(stage, dims_of)
        for instr in sorted(stage.body, key=lambda i: -costs[i.id]):
            if costs[instr.id] < _WORTH or instr.dtype is not dtype:
                continue
            makers = [(n, i.id) for n, other in enumerate(kernel.stages[:number]) if other.dims == dims
                      for i in other.body if same[i.id] == same[instr.id]]
            if not makers:
                continue
            if held is not None and held[0] == same[instr.id]:
                chosen[number] = (instr.id, held[1], next(v for n, v in makers if n == held[1]))
            elif (later := [maker for maker in makers if maker[0] >= until]):
                held = same[instr.id], later[0][0]
                chosen[number] = (instr.id, *later[0])
            else:
                continue
            until = number
            break
    return chosen


def _costs(stage: Stage, dims_of: Mapping[int, frozenset[int]]) -> dict[int, float]:
    """What it takes to compute each value of a stage at a point, with all that goes into it and differs from point to
    point."""
    weight_of: dict[int, float] = {}
    made: dict[int, frozenset[int]] = {}
    for instr in stage.body:
        if dims_of[instr.id].isdisjoint(stage.dims):
            made[instr.id] = frozenset()
            continue
        weight_of[instr.id] = SCALAR_OPS[instr.op].weight
        made[instr.id] = frozenset([instr.id]).union(*[made.get(v, ()) for v in instr.operands])
    return {value: sum(weight_of[part] for part in parts) for value, parts in made.items()}


def _keeping(kernel: LoopKernel, address: Address, kept: Mapping[int, tuple[int, int, int]]) -> LoopKernel:
    """The kernel with these loads, and the stores that they need."""
    stages = list(kernel.stages)
    for maker, value in dict.fromkeys((maker, value) for _, maker, value in kept.values()):
        stages[maker] = replace(stages[maker], stores=(*stages[maker].stores, Store(address, value)))
    for number, (loaded, _, _) in kept.items():
        stage = stages[number]
        _, body = walked_back(stage, {loaded})
        dtype = next(i.dtype for i in stage.body if i.id == loaded)
        stages[number] = replace(stage, body=(Instr(loaded, "load", dtype, (), address), *body))
    return kernel.with_code(stages)
