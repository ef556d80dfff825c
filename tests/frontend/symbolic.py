"""Functions traced once for all sizes, and held against eager code at several: what the tests of sizes share."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.frontend.active import traced_by
from flambeau.frontend.pytree import flatten
from flambeau.frontend.scalars import Scalar
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.watch import Watch
from flambeau.frontend.trace.regions import NestingTrace
from flambeau.ir.answers import assuming
from flambeau.ir.dims import Dim, Size, evaluated, names_of
from flambeau.ir.facts import Facts
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.graph.verifier import verify

Shape = tuple[int, ...]


@dataclass
class Program:
    """What a function became for arguments whose sizes have names."""

    trace: NestingTrace
    facts: Facts
    results: list[Any]                          # tensors, numbers, sizes
    arguments: list[Tensor]
    shapes: list[tuple[Size, ...]]
    compared: int = 0                           # sizes at which it was held against eager code

    @property
    def fixed(self) -> dict[str, int]:
        """Names that it is for one number of, and the numbers."""
        return {name: value for name, value in self.facts.values.items() if isinstance(value, int)}

    def sizes_like(self, wanted: Mapping[str, int]) -> dict[str, int] | None:
        """Sizes of all names that it is for, those that nothing determines as wanted; None where these don't fit."""
        sizes = {name: wanted[name] for name in self.facts.sizes if name not in self.facts.values}
        for name, size in self.facts.values.items():
            try:
                sizes[name] = evaluated(size, sizes)
            except (KeyError, ZeroDivisionError):
                return None
        return sizes if min(sizes.values(), default=0) >= 0 and self.facts.broken(sizes) is None else None

    def arrays_for(self, sizes: Mapping[str, int]) -> list[np.ndarray]:
        """The arguments' elements, repeated or cut to other sizes."""
        return [np.resize(t._data(), tuple([evaluated(size, sizes) for size in shape]))
                for t, shape in zip(self.arguments, self.shapes, strict=True)]

    def run(self, sizes: Mapping[str, int], arrays: Sequence[np.ndarray]) -> list[Any]:
        """Its results at these sizes, as storage arrays and numbers."""
        graph = with_sizes(self.trace.graph, sizes)
        verify(graph)
        given = iter(arrays)
        states = iter([captured.tensor._data().copy() for captured in self.trace.captured.values()])
        inputs = [next(given if node.op.kind == "arg" else states) for node in (v.node for v in graph.inputs)]
        found = iter(interpret(graph, inputs)[0])
        return [next(found) if isinstance(r, Tensor) else evaluated(r, sizes) if isinstance(r, Dim) else r
                for r in self.results]


def traced(function: Callable[..., Any], arguments: Sequence[Tensor], shapes: Sequence[tuple[Size, ...]],
           ranges: Mapping[str, tuple[int, int]] | None = None, watched: bool = False) -> Program:
    """The function as a program for arguments of shapes with names. watched: as a compiled function's code is, which loops
    within it need."""
    trace = NestingTrace("sizes", Watch())
    sizes: dict[str, int] = {}
    for t, shape in zip(arguments, shapes, strict=True):
        for size, number in zip(shape, t.shape, strict=True):
            if isinstance(size, Dim):
                sizes.setdefault(str(size), number)
    trace.facts = facts = Facts(sizes, ranges, trace.size_number)
    stand_ins = []
    for place, (t, shape) in enumerate(zip(arguments, shapes, strict=True)):
        stand_in = trace.input_tensor(t._type.with_shape(shape), f"x{place}")
        stand_in._requires_grad = t._requires_grad
        stand_ins.append(stand_in)
    with assuming(facts), traced_by(trace), trace.watch if watched else contextlib.nullcontext():
        results = flatten(function(*stand_ins))[0]
        results = [r.tensor if isinstance(r, Scalar) else r for r in results]
        tensors = [r for r in results if isinstance(r, Tensor)]
        trace.graph.outputs = [trace.value_of(t) for t in tensors]
        verify(trace.graph)
    trace.close()
    return Program(trace, facts, results, list(arguments), list(shapes))


def named(arguments: Sequence[Tensor], dims: Callable[[int], bool] = lambda d: True, least: int = 2
          ) -> list[tuple[Size, ...]]:
    """The shapes with a name of its own for each dim that `dims` takes and that is no smaller than `least`."""
    return [tuple([Dim(f"s{place}_{d}") if dims(d) and size >= least else size for d, size in enumerate(t.shape)])
            for place, t in enumerate(arguments)]


def other_sizes(program: Program, count: int, seed: int = 0, most: int = 9) -> list[dict[str, int]]:
    """Up to so many other sizes that the program is for, found by trying."""
    rng, found = random.Random(seed), list[dict[str, int]]()
    traced_sizes = program.facts.sizes
    for attempt in range(60):
        how = attempt % 4
        step = rng.randint(1, 3)
        wanted = {name: size + step if how == 0 else size * (step + 1) if how == 1 else max(size - step, 0) if how == 2
                  else rng.randint(0, most) for name, size in traced_sizes.items()}
        sizes = program.sizes_like(wanted)
        if sizes is not None and sizes != traced_sizes and sizes not in found:
            found.append(sizes)
        if len(found) == count:
            break
    return found


def eagerly(function: Callable[..., Any], program: Program, arrays: Sequence[np.ndarray]) -> list[Any]:
    """What the function gives eagerly for these elements."""
    given = []
    for t, array in zip(program.arguments, arrays, strict=True):
        made = Tensor._from_array(array.copy(), t.dtype)
        made._requires_grad = t._requires_grad
        given.append(made)
    return [r._data() if isinstance(r, Tensor) else r for r in flatten(function(*given))[0]]


def difference(found: Sequence[Any], wanted: Sequence[Any], tolerance: float = 1e-4) -> str | None:
    """How results differ, in words."""
    if len(found) != len(wanted):
        return f"{len(found)} results, not {len(wanted)}"
    for number, (x, y) in enumerate(zip(found, wanted, strict=True)):
        x, y = np.asarray(x), np.asarray(y)
        if x.shape != y.shape:
            return f"result {number}: shape {x.shape}, not {y.shape}"
        if isinstance(wanted[number], np.ndarray) and x.dtype != y.dtype:
            return f"result {number}: {x.dtype}, not {y.dtype}"
        with np.errstate(all="ignore"):
            p, q = x.astype(np.float64), y.astype(np.float64)
            scale = np.abs(np.where(np.isfinite(q), q, 0)).max(initial=0)
            if not np.allclose(p, q, rtol=tolerance, atol=tolerance * min(max(1.0, scale), 1e3), equal_nan=True):
                return f"result {number}: {p.ravel()[:6]}, not {q.ravel()[:6]}"
    return None


def check(function: Callable[..., Any], arguments: Sequence[Tensor], shapes: Sequence[tuple[Size, ...]] | None = None,
          count: int = 2, is_loose: bool = False, watched: bool = False) -> Program:
    """Trace, and compare at the traced sizes and at others. Raises AssertionError where results differ."""
    fb.manual_seed(0)
    program = traced(function, arguments, named(arguments) if shapes is None else shapes, watched=watched)
    for sizes in [program.facts.sizes, *other_sizes(program, count)]:
        arrays = program.arrays_for(sizes)
        try:
            fb.manual_seed(0)
            wanted = eagerly(function, program, arrays)
        except IndexError:                      # these elements are no indices into such sizes
            assert sizes != program.facts.sizes
            continue
        fb.manual_seed(0)
        found = program.run(sizes, arrays)
        if is_loose:
            assert [np.shape(x) for x in found] == [np.shape(y) for y in wanted], sizes
        else:
            wrong = difference(found, wanted)
            assert wrong is None, f"at {sizes}: {wrong}"
        program.compared += 1
    return program


def left(program: Program) -> set[str]:
    """Names that it is not for one number of."""
    return set(program.facts.sizes) - set(program.fixed)


__all__ = ["Program", "check", "difference", "eagerly", "left", "named", "names_of", "other_sizes", "traced"]
