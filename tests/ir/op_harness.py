"""What the tests over the op registry stand on: every sample, a small reverse mode, and scalar rules run on arrays."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flambeau.ir import dtypes, ops, philox
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType, to_compute
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import scalar as kernel_scalar
from flambeau.ir.op import OPS, Op, Sample
from flambeau.ir.types import TensorType

assert ops, "importing ops fills the registry"
WITH_REGIONS = ("fusion", "custom", "cond", "while_loop")
WITHOUT_SAMPLES = ("input", "print", "callback", *WITH_REGIONS)
NOT_DIFFERENTIATED = ("stop_gradient",)     # its derivative is declared to be zero, which it is not


def all_samples() -> Iterator[tuple[str, Sample]]:
    """(an id for pytest, sample) over the whole registry."""
    for name, entry in OPS.items():
        for number, sample in enumerate(entry.samples()):
            yield f"{name}-{number}", sample


def computed(sample: Sample) -> tuple[np.ndarray, ...]:
    """What the op's meaning says, before rounding."""
    result = sample.op.evaluate(*[to_compute(a, t.dtype) for a, t in zip(sample.operands, sample.types, strict=True)])
    return result if isinstance(result, tuple) else (result,)


# -- derivatives ------------------------------------------------------------------------------------------------------


def widened(sample: Sample) -> tuple[list[TensorType], list[np.ndarray]]:
    """The sample's operands, floats in f64."""
    types = [t.with_dtype(dtypes.f64) if t.dtype.is_floating_point else t for t in sample.types]
    arrays = [to_compute(a, t.dtype).astype(np.float64) if t.dtype.is_floating_point else a
              for a, t in zip(sample.operands, sample.types, strict=True)]
    return types, arrays


def differentiable(sample: Sample) -> list[int]:
    """Positions of the operands that a derivative may be taken by."""
    marks = sample.differentiable or (True,) * len(sample.types)
    return [i for i, (t, mark) in enumerate(zip(sample.types, marks, strict=True))
            if mark and t.dtype.is_floating_point]


def is_smooth(sample: Sample) -> bool:
    """True when finite differences in f64 can tell whether a derivative is right."""
    (results, positions) = (sample.op.infer(*widened(sample)[0]), differentiable(sample))
    finite = all(np.isfinite(a).all() for a, t in zip(widened(sample)[1], sample.types, strict=True)
                 if t.dtype.is_floating_point)
    narrows = any(t.dtype.is_floating_point and t.dtype is not dtypes.f64 for t in results)
    return bool(positions) and finite and not narrows and sample.op.name not in NOT_DIFFERENTIATED and any(
        t.dtype.is_floating_point for t in results) and not any(t.dtype.itemsize == 2 for t in sample.types)


def emitted(b: Builder, op: Op, operands: Sequence[Value]) -> tuple[Value, ...]:
    result = b.emit(op, *operands)
    return result if isinstance(result, tuple) else (result,)


def total(b: Builder, results: Sequence[Value], weights: Sequence[np.ndarray]) -> Value:
    """sum of weight * result over the floating-point results."""
    parts = [b.sum(b.mul(y, b.constant(w, y.dtype)), range(len(y.shape)))
             for y, w in zip(results, weights, strict=True) if y.dtype.is_floating_point]
    value = parts[0]
    for part in parts[1:]:
        value = b.add(value, part)
    return value


def gradients(b: Builder, output: Value, wrt: Sequence[Value]) -> list[Value]:
    """Reverse mode by the ops' own rules; zeros where nothing flows."""
    flowing: dict[Value, Value] = {output: b.full(output.type, 1.0)}
    for node in reversed(list(b.graph.toposort())):
        cotangents = [flowing.get(y) for y in node.results]
        if node.op.name == "input" or all(g is None for g in cotangents):
            continue
        for x, g in zip(node.operands, _vjp(b, node, cotangents), strict=True):
            if g is not None:
                assert g.type == x.type, f"{node.op.name}: cotangent {g.type} for operand {x.type}"
                flowing[x] = b.add(flowing[x], g) if x in flowing else g
    return [flowing[x] if x in flowing else b.zeros(x.type) for x in wrt]


def _vjp(b: Builder, node: Node, cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
    if not any(x.dtype.is_floating_point for x in node.operands):
        return [None] * len(node.operands)
    return node.op.vjp(b, node.operands, node.results, cotangents)


def new_graph(types: Sequence[TensorType]) -> tuple[Builder, list[Value]]:
    b = Builder(Graph())
    return b, [b.graph.add_input(t) for t in types]


def directional(op: Op, arrays: Sequence[np.ndarray], directions: Sequence[np.ndarray], weights: Sequence[np.ndarray],
                step: float = 1e-5) -> float:
    """d/dt of sum(weights * op(arrays + t * directions)) at 0, by central differences."""

    def value(t: float) -> float:
        results = op.evaluate(*[a + t * d if d.size and a.dtype.kind == "f" else a
                                for a, d in zip(arrays, directions, strict=True)])
        results = results if isinstance(results, tuple) else (results,)
        return float(sum(np.sum(w * y) for w, y in zip(weights, results, strict=True) if y.dtype.kind == "f"))

    return (value(step) - value(-step)) / (2 * step)


# -- scalar rules -----------------------------------------------------------------------------------------------------


class ArrayContext:
    """A ScalarContext that computes at once, for every element of the result: a value is an array over elements."""

    def __init__(self, arrays: Sequence[np.ndarray], types: Sequence[TensorType], result: TensorType):
        self.arrays = [to_compute(a, t.dtype) for a, t in zip(arrays, types, strict=True)]
        self.types, self.count = types, result.numel
        self.values: list[np.ndarray] = []
        self.positions = np.indices(result.static_shape).reshape(result.rank, self.count)

    def index(self, result: TensorType) -> tuple[Index, ...]:
        return tuple(Index.dim(d, size) for d, size in enumerate(result.static_shape))

    def _keep(self, value: np.ndarray) -> int:
        self.values.append(np.broadcast_to(value, (self.count,)))
        return len(self.values) - 1

    def _at(self, index: Index) -> np.ndarray:
        position = np.full(self.count, index.offset, np.int64)
        for (kind, number), coefficient, extent in index.terms:
            symbol = self.positions[number] if kind == "dim" else self.values[number]
            if kind == "dim":
                assert ((symbol >= 0) & (symbol < extent)).all(), f"dim {number} leaves its range {extent}"
            position = position + coefficient * symbol
        return position

    def operand(self, position: int, index: tuple[Index, ...], guard: int | None = None) -> int:
        array, t = self.arrays[position], self.types[position]
        assert len(index) == t.rank, f"{t} read with {len(index)} indices"
        live = np.full(self.count, True) if guard is None else self.values[guard]
        if not live.any():
            return self._keep(np.zeros(self.count, array.dtype))
        found = []
        for part, size in zip(index, t.static_shape, strict=True):
            where = self._at(part)
            assert ((where >= 0) & (where < size))[live].all(), f"operand {position} {t}: {part} leaves {size}"
            if guard is None:
                assert self._bounded(part, size), f"operand {position} {t}: {part} is not known to stay in {size}"
            found.append(np.where(live, where, 0))
        return self._keep(np.where(live, array[tuple(found)], np.zeros((), array.dtype)))

    @staticmethod
    def _bounded(part: Index, size: int) -> bool:
        return part.low >= 0 and part.high < size

    def emit(self, op: str, dtype: DType, *operands: int, attr: Any = None) -> int:
        values = [self.values[v] for v in operands]
        with np.errstate(all="ignore"):
            if op == "cast":
                return self._keep(kernel_scalar.cast(values[0], dtype))
            if op == "philox":
                return self._keep(philox.philox_4x32(*values)[attr].astype(dtype.compute))
            if op == "check":
                assert values[0].all(), f"a check with status {attr} failed"
                return -1
            return self._keep(kernel_scalar.evaluate(op, values, dtype))

    def const(self, value: float | int | bool, dtype: DType) -> int:
        return self._keep(kernel_scalar.constant(value, dtype))

    def value_of(self, index: Index) -> int:
        return self._keep(self._at(index))

    def index_of(self, value: int, extent: int) -> Index:
        return Index.value(value, extent)

    def within(self, index: Index, low: int, high: int) -> int | None:
        if low <= index.low and index.high < high:
            return None
        position = self._at(index)
        return self._keep((position >= low) & (position < high))

    def both(self, a: int | None, b: int | None) -> int | None:
        if a is None or b is None:
            return b if a is None else a
        return self._keep(self.values[a] & self.values[b])
