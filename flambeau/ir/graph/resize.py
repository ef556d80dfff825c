"""A graph and its arrays -> the same with smaller dims, as candidates: `reduce` keeps those that still show a fault.

A candidate takes some dims of the inputs from n to m: all of one size, or one or two alone. Arrays are cut, indices too
large then become the last one, and each op gets attributes that fit its new operands. Sizes only become smaller. What then
is no graph, or can't be evaluated, is no candidate.
"""
from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from flambeau.errors import FlambeauError
from flambeau.ir import ops
from flambeau.ir.attributes import attribute_names
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.structure import Graph, Input, Value
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import Op
from flambeau.ir.types import TensorType

__all__ = ["smaller_sizes"]

_Case = tuple[Graph, list[np.ndarray]]
_Place = tuple[int, int]                # an input, by number, and a dim of it
# attributes that are sizes, as they are or in tuples
_SIZES: Final = ("groups", "input_shape", "input_size", "keep", "kernel_shape", "shape", "size", "sizes")
_ALONE: Final = 10                      # dims of one size, at most, of which each and each two are tried alone


def smaller_sizes(graph: Graph, arrays: Sequence[np.ndarray]) -> Iterator[_Case]:
    """Candidates, those with the largest change first."""
    places: dict[int, list[_Place]] = {}
    for number, value in enumerate(graph.inputs):
        for dim, size in enumerate(value.type.static_shape):
            places.setdefault(size, []).append((number, dim))
    inner = {size for node in graph.toposort() for v in node.results for size in v.type.static_shape}
    for n in sorted(inner | set(places), reverse=True):
        for m in sorted({m for m in (1, 2, 3, n // 2, n - 1) if 0 < m < n}):
            yield from _made(graph, arrays, places.get(n, ()), {n: m})
    for n, those in sorted(places.items(), reverse=True):
        some = [[place] for place in those] + [[*pair] for pair in itertools.combinations(those, 2)]
        for few in some if 1 < len(those) <= _ALONE else ():
            for m in sorted({m for m in (1, 2, n // 2) if 0 < m < n}):
                yield from _made(graph, arrays, few, {n: m}, {})
                yield from _made(graph, arrays, few, {n: m})


def _made(graph: Graph, arrays: Sequence[np.ndarray], places: Collection[_Place], change: Mapping[int, int],
          of_attributes: Mapping[int, int] | None = None) -> Iterator[_Case]:
    """One candidate, or none. change: of the dims at `places`; of_attributes: of what attributes say, else the same."""
    types, cut = [], []
    for number, (value, array) in enumerate(zip(graph.inputs, arrays, strict=True)):
        shape = tuple([change[size] if (number, dim) in places else size
                       for dim, size in enumerate(value.type.static_shape)])
        types.append(value.type.with_shape(shape))
        part = np.ascontiguousarray(array[tuple(map(slice, shape))])
        cut.append(_indices(part, change) if value.dtype.kind in "iu" else part)
    try:
        small, new_of = _resized(graph, types, change if of_attributes is None else of_attributes)
        verify(small)
        interpret(small, cut, effects=False)
    except (FlambeauError, LookupError, ValueError, TypeError, ArithmeticError):
        return
    pairs = [pair for old, new in new_of.items() for pair in zip(old.type.static_shape, new.type.static_shape, strict=True)]
    if any(m < n for n, m in pairs) and all(m <= n for n, m in pairs):
        yield small, cut


def _indices(array: np.ndarray, change: Mapping[int, int]) -> np.ndarray:
    for n, m in change.items():
        array = np.where((array >= m) & (array < n), np.array(m - 1, array.dtype), array)
    return array


def _resized(graph: Graph, types: Sequence[TensorType], change: Mapping[int, int]) -> tuple[Graph, dict[Value, Value]]:
    """The graph on inputs of these types, and what its values are there. Raises what inferring types raises, if that can't
    be."""
    small, new_of = Graph(name=graph.name), dict[Value, Value]()
    for value, type in zip(graph.inputs, types, strict=True):
        op = value.node.op
        assert isinstance(op, Input)
        new_of[value] = small.add_input(type, op.label, op.kind)
    for node in graph.toposort():
        if node.op.name == "input":
            continue
        operands = [new_of[v] for v in node.operands]
        op = _fitted(node.op, [v.type for v in node.operands], [v.type for v in operands], change)
        inner = [[v.type for v in operands[len(operands) - len(region.inputs):]] for region in node.regions]
        regions = tuple([_resized(region, those, change)[0] for region, those in zip(node.regions, inner, strict=True)])
        made = small.append(op, operands, loc=node.loc, phase=node.phase, regions=regions)
        new_of.update(zip(node.results, made.results, strict=True))
    small.outputs = [new_of[v] for v in graph.outputs]
    small.writes = {new_of[state]: new_of[v] for state, v in graph.writes.items()}
    return small, new_of


def _fitted(op: Op, before: Sequence[TensorType], types: Sequence[TensorType], change: Mapping[int, int]) -> Op:
    """The op for operands that had the types `before` and have others now."""
    changed: dict[str, Any] = {}
    for name in attribute_names(type(op)):
        if name in _SIZES:
            old = getattr(op, name)
            changed[name] = tuple([change.get(n, n) for n in old]) if isinstance(old, tuple) else change.get(old, old)
    match op:
        case ops.Broadcast():
            shape = list(changed["shape"])
            for size, was, dim in zip(types[0].static_shape, before[0].static_shape, op.dims, strict=True):
                shape[dim] = size if was == op.shape[dim] else shape[dim]
            changed["shape"] = tuple(shape)
        case ops.Reshape():
            changed["shape"] = _of_count(changed["shape"], op.shape, types[0].numel)
        case ops.Slice():
            sizes = types[0].static_shape
            changed["starts"] = tuple([min(start, max(n - 1, 0)) for start, n in zip(op.starts, sizes, strict=True)])
            changed["limits"] = tuple([n if limit == was else min(limit, n) for limit, was, n in
                                       zip(op.limits, before[0].static_shape, sizes, strict=True)])
        case ops.UpdateSlice():
            rows = zip(op.starts, op.strides, types[0].static_shape, types[1].static_shape, strict=True)
            changed["starts"] = tuple([max(0, min(start, size - 1 - (n - 1) * stride)) for start, stride, size, n in rows])
        case ops.Split():
            rest = types[0].static_shape[op.dim] - sum(changed["sizes"][:-1])
            changed["sizes"] = (*changed["sizes"][:-1], rest)
    return replace(op, **changed) if changed else op                                            # type: ignore[type-var]


def _of_count(shape: tuple[int, ...], before: tuple[Any, ...], count: int) -> tuple[int, ...]:
    """A shape of so many elements: `shape`, or that with one dim made smaller."""
    for dim, was in enumerate(before):
        rest = int(np.prod([n for d, n in enumerate(shape) if d != dim], dtype=np.int64))
        if np.prod(shape, dtype=np.int64) != count and rest and count % rest == 0 and count // rest <= was:
            return (*shape[:dim], count // rest, *shape[dim + 1:])
    return shape
