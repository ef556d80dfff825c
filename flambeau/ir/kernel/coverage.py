"""Kernel -> does it store every element of its results exactly once? Proved from index maps and extents.

What one store writes is a box, offset + sum(stride * i) for 0 <= i < extent: the dims its stage walks, each with its
stride in the address. One box fills [0, n) without repeats exactly if its strides, in order, are 1, then the product
of the extents so far, and so on up to n (a mixed radix; for sums of arithmetic progressions there is no other way).
Several boxes, the pieces of a `cat`, first lose the structure that they share, and what is left is counted.

A stage may store anew, at the same places, what an earlier stage of the same point stored; the last store counts.
Stores at computed places (scattered sums) are proved to come after a whole initialisation, and to keep to their own
part of the buffer, so that iterations of the parallel dims stay independent.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir.kernel.grammar import Extent, Stage, Store
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.ir.kernel.base import Kernel

__all__ = ["coverage_mistake"]

MOST_COUNTED = 1 << 24              # elements of a buffer that pieces are counted in, where no structure is shared


def coverage_mistake(kernel: Kernel, number: int) -> str:
    """What is wrong with the stores to param `number`: elements that none reaches or that several do, results
    accumulated into before they hold anything; or "". An inout param need not be stored whole."""
    param = kernel.params[number]
    stores = [(stage, store) for stage in kernel.code for store in stage.stores if store.address.buffer == number]
    if param.role != "inout":
        first = next((stage for stage, store in stores if _is_update(store)), None)
        boxes = [_box(kernel, stage, store) for stage, store in _last_stores(stores) if not _is_update(store)]
        if mistake := _filling_mistake(boxes, param.elements):
            return mistake
        if first is not None and any(stage is first for stage, store in stores if not _is_update(store)):
            return "the stage that fills it also stores at computed places"
        if first is not None and _fills_after(kernel, first, stores):
            return "it is stored at computed places before it is filled"
    for stage, store in stores:
        if _is_update(store) and (dims := _shared_dims(kernel, stage, store)):
            return f"points of %i{dims[0]}, which are parallel, may store to one element"
    return ""


def _last_stores(stores: Sequence[tuple[Stage, Store]]) -> list[tuple[Stage, Store]]:
    """Without those that a later stage repeats at the same places, walking the same dims."""
    last = {(store.address, frozenset(stage.dims)): stage for stage, store in stores}
    return [(stage, store) for stage, store in stores if last[store.address, frozenset(stage.dims)] is stage]


def _is_update(store: Store) -> bool:
    """Whether it only changes what a buffer holds: where it stores is computed, or it adds."""
    return store.combine == "add" or bool(store.address.dynamic) or store.address.guard is not None


def _fills_after(kernel: Kernel, first: Stage, stores: Sequence[tuple[Stage, Store]]) -> bool:
    """Whether a stage after `first` still fills."""
    place = next(n for n, stage in enumerate(kernel.code) if stage is first)
    return any(stage is later for later in kernel.code[place:] for stage, store in stores if not _is_update(store))


# -- boxes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Box:
    """offset + sum(stride * i), 0 <= i < extent, by (extent, stride)."""

    offset: int
    dims: tuple[tuple[Extent, int], ...]

    @property
    def points(self) -> int:
        return math.prod(extent for extent, _ in self.dims if isinstance(extent, int))

    def normal(self) -> _Box:
        """Without negative strides and dims of one point, smallest strides first, neighbours that compose merged.
        Extents must be known."""
        offset = self.offset + sum(stride * (int(extent) - 1) for extent, stride in self.dims if stride < 0)
        merged: list[tuple[int, int]] = []
        for extent, stride in sorted(((int(e), abs(s)) for e, s in self.dims if e != 1), key=lambda dim: dim[1]):
            if merged and stride == merged[-1][0] * merged[-1][1]:
                merged[-1] = (merged[-1][0] * extent, merged[-1][1])
            else:
                merged.append((extent, stride))
        return _Box(offset, tuple(merged))

    def elements(self) -> np.ndarray:
        """Every element, as often as it is stored."""
        found = np.array([self.offset], np.int64)
        for extent, stride in self.dims:
            found = (found[:, None] + np.arange(extent, dtype=np.int64) * stride).ravel()
        return found


def _box(kernel: Kernel, stage: Stage, store: Store) -> _Box:
    dims = kernel.walked(stage)
    return _Box(store.address.offset, tuple((kernel.extents[d], store.address.stride_of(d)) for d in dims))


def _filling_mistake(boxes: Sequence[_Box], elements: Extent) -> str:
    """Why `boxes` together are not every element below `elements` exactly once; or ""."""
    if isinstance(elements, str) or any(isinstance(extent, str) for box in boxes for extent, _ in box.dims):
        return _sized_mistake(boxes, elements)
    boxes = [box.normal() for box in boxes if box.points]
    for box in boxes:
        repeated = next((extent for extent, stride in box.dims if stride == 0), 0)
        if repeated:
            return f"a store writes each of its elements {repeated} times"
    if len(boxes) == 1:
        return _one_box_mistake(boxes[0], elements)
    points = sum(box.points for box in boxes)
    if points != elements:
        return f"{points} stores for its {elements} elements"
    boxes, elements = _reduced(boxes, elements)
    return _counted_mistake(boxes, elements) if 0 < elements <= MOST_COUNTED else ""


def _one_box_mistake(box: _Box, elements: int) -> str:
    reached = 1
    if box.offset:
        return f"element {0 if box.offset > 0 else box.offset} of {elements} is the first that its store should not miss"
    for extent, stride in box.dims:
        if stride > reached:
            return f"its store leaves out element {reached} of {elements}"
        if stride < reached:
            return f"its store writes element {stride} of {elements} more than once"
        reached *= int(extent)
    return "" if reached == elements else f"its store ends at element {reached} of {elements}"


def _sized_mistake(boxes: Sequence[_Box], elements: Extent) -> str:
    """With sizes known at run time: one walk over a buffer of that size, the form that lowering makes."""
    for box in boxes:
        long = [(extent, stride) for extent, stride in box.dims if extent != 1]
        if len(boxes) == 1 and box.offset == 0 and long == [(elements, 1)]:
            return ""
    return f"it has {elements} elements, which is not what its stores walk, one by one, at run time"


def _reduced(boxes: Sequence[_Box], elements: int) -> tuple[list[_Box], int]:
    """The same question in a smaller buffer: runs that all boxes have innermost become one element, and dims that all
    walk outermost go."""
    boxes = list(boxes)
    while boxes:
        inner = math.gcd(elements, *[g for box in boxes for g in _inner_parts(box)])
        if inner > 1:
            boxes, elements = [_divided(box, inner) for box in boxes], elements // inner
            continue
        last = {box.dims[-1] if box.dims else (1, elements) for box in boxes}
        extent, stride = next(iter(last))
        if len(last) > 1 or extent == 1 or int(extent) * stride != elements or not all(_fits(box, stride) for box in boxes):
            break
        boxes, elements = [replace(box, dims=box.dims[:-1]) for box in boxes], stride
    return boxes, elements


def _inner_parts(box: _Box) -> Iterator[int]:
    """Numbers that a run must divide to be cut out of the box."""
    yield box.offset
    has_run = bool(box.dims) and box.dims[0][1] == 1
    yield int(box.dims[0][0]) if has_run else 1
    yield from (stride for _, stride in box.dims[has_run:])


def _divided(box: _Box, by: int) -> _Box:
    (extent, _), rest = box.dims[0], box.dims[1:]
    run = ((int(extent) // by, 1),) if extent != by else ()
    return _Box(box.offset // by, (*run, *[(e, stride // by) for e, stride in rest])).normal()


def _fits(box: _Box, stride: int) -> bool:
    """Whether the box without its outermost dim stays below `stride`."""
    return box.offset + sum(s * (int(extent) - 1) for extent, s in box.dims[:-1]) < stride


def _counted_mistake(boxes: Sequence[_Box], elements: int) -> str:
    times = np.zeros(elements, np.int64)
    for box in boxes:
        found = box.elements()
        if found.min() < 0 or found.max() >= elements:
            return "its stores leave it"                # their bounds are proved elsewhere; a guard against misuse
        times += np.bincount(found, minlength=elements)
    wrong = np.flatnonzero(times != 1)
    if not len(wrong):
        return ""
    missing, twice = int((times == 0).sum()), int((times > 1).sum())
    return f"its stores leave out {missing} of {elements} elements and write {twice} more than once"


# -- updates ----------------------------------------------------------------------------------------------------------


def _shared_dims(kernel: Kernel, stage: Stage, store: Store) -> list[int]:
    """Parallel dims that do not keep their points' updates apart, as far as strides tell. A gathered index is taken to
    stay below the next longer stride of a parallel dim, which its check sees to. What has no points shares nothing."""
    if any(kernel.extents[d] == 0 for d in kernel.walked(stage)):
        return []
    address = store.address
    parallel = {d: abs(address.stride_of(d)) for d in kernel.parallel if kernel.extents[d] != 1}
    # (stride, how many points, the dim if it is parallel); a gathered index has as many as fit
    terms: list[tuple[int, Extent | None, int | None]] = [
        (stride, kernel.extents[d], d) for d, stride in parallel.items()]
    terms += [(abs(address.stride_of(d)), kernel.extents[d], None) for d in stage.dims if address.stride_of(d)]
    terms += [(abs(stride), None, None) for _, stride in address.dynamic]
    elements = kernel.params[address.buffer].elements
    reached: Extent = 1                                 # what shorter strides span
    shared: list[int] = []
    ordered = sorted(terms, key=lambda term: (term[0], term[2] is not None))
    for place, (stride, extent, dim) in enumerate(ordered):
        if not isinstance(reached, int) or not isinstance(elements, int):
            return shared if dim is None else [dim]     # nothing is longer than a size known at run time
        if dim is not None and (stride == 0 or stride < reached):
            shared.append(dim)
        if extent is None:
            reached = next((s for s, _, d in ordered[place + 1:] if d is not None), elements)
        elif isinstance(extent, str):
            reached = extent
        elif extent:
            reached += stride * (extent - 1)
    return shared
