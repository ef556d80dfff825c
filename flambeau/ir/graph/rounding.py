"""Graph + inputs -> what it means, and how far from that a right program may land, element by element.

A compiled program rounds where the meaning does not: it sums in another order, contracts a product and a sum, takes an
exponential to a few units in the last place. How much of that shows in a result depends on the numbers: cancellation
magnifies it, a comparison of near equals turns it into the other answer. So the error of every value is carried along
with the value, to first order: what an op inherits is how much its own meaning moves when its operands do by their
errors, and it adds its own rounding, which grows with the number of terms it sums.

Two errors go along. `error` is of arithmetic in f32 and f64: programs that take other steps (sums in another order, rules)
are further apart than one step is, so `difference` multiplies it. `coarse` is of roundings to 16 bits: ops compute in f32,
and right programs round at the same places, each to a neighbour at worst. That is a bound as it is, one unit in the last
place for each op.
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np

from flambeau.ir import dtypes, ops
from flambeau.ir.builder import Builder
from flambeau.ir.dtypes import DType, to_compute
from flambeau.ir.evaluation import apply
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.op import Op, RegionOp
from flambeau.ir.ops.reductions import ArgMax, ArgMin
from flambeau.ir.quiet import quietly
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["Bounded", "bounded", "difference", "evaluated"]

# ops that move, choose or compare numbers, and round nothing
_REARRANGED: Final = (ops.View, ops.Pad, ops.Concat, ops.UpdateSlice)
_MOVES: Final = (*_REARRANGED, ops.Take, ops.TakeAlong, ops.AMax, ops.AMin, ops.Constant, ops.Iota, ops.RandomBits)
_CHOICES: Final = frozenset({"neg", "abs", "relu", "maximum", "minimum", "where", "sign", "floor", "ceil", "trunc",
                             "round", "stop_gradient"})
_DIVISIONS: Final = frozenset({"div", "reciprocal", "rsqrt", "floor_divide", "remainder", "fmod"})
_SIGNS: Final = frozenset({"copysign", "signbit"})           # of their last operand, and a NaN's is nobody's
_ULPS: Final = 4.0                  # of one op: transcendental functions are that good, and sums and products better
_SAFETY: Final = 4.0                # second-order terms, errors of both sides
_COARSE_SAFETY: Final = 2.0         # second-order terms, and directions that were not tried

Error = np.ndarray | None           # f64 of the value's shape; None: exact


@dataclass(frozen=True)
class Bounded:
    """A storage array and the errors of each of its elements (None where it is exact)."""

    array: np.ndarray
    error: Error = None
    coarse: Error = None

    @property
    def is_exact(self) -> bool:
        return self.error is None and self.coarse is None


def bounded(graph: Graph, inputs: Iterable[Bounded]) -> dict[Value, Bounded]:
    """Every value of `graph` with its error, for inputs in the graph's order. Raises what an op's meaning raises on bad
    data (KernelError)."""
    found = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.toposort():
        if node.op.name != "input":
            found.update(zip(node.results, evaluated(node, [found[v] for v in node.operands]), strict=True))
    return found


def difference(found: np.ndarray, meant: Bounded, dtype: DType, slack: float = 1.0) -> str:
    """In words, how `found` is not what is meant, to rounding; or "". slack: multiplies what is allowed for arithmetic,
    where much lies between the two."""
    left, right = _wide(found, dtype), _wide(meant.array, dtype)
    with np.errstate(all="ignore"):
        same = (left == right) | (np.isnan(left) & np.isnan(right)) if dtype.is_floating_point else left == right
        if same.all():
            return ""
        allowed = np.full(right.shape, 0.0 if meant.is_exact else _smallest(dtype))
        if meant.error is not None:
            allowed += slack * _SAFETY * meant.error
        if meant.coarse is not None:
            allowed += _COARSE_SAFETY * meant.coarse
        close = np.abs(left.astype(np.float64) - right.astype(np.float64)) <= allowed       # false for a NaN
        wrong = ~(same | (close & np.isfinite(left) & np.isfinite(right)) | np.isinf(allowed) |
                  _overflows(left, right, allowed, dtype))
    if not wrong.any():
        return ""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    place = f"element {list(at)}" if at else "it"
    return (f"{place} is {left[at]:.9g} and means {right[at]:.9g}, with {allowed[at]:.2g} allowed for rounding "
            f"({int(wrong.sum())} of {wrong.size} differ)")


def _overflows(left: np.ndarray, right: np.ndarray, allowed: np.ndarray, dtype: DType) -> np.ndarray | bool:
    """Where one is infinite and the other so near the largest number that rounding may go either way."""
    if dtype.itemsize != 2 or not dtype.is_floating_point:
        return False
    largest = 65504.0 if dtype is dtypes.f16 else 2.0**128 * (1 - 2.0**-8)
    smaller = np.minimum(np.abs(left), np.abs(right))
    return (np.isinf(left) != np.isinf(right)) & (np.sign(left) == np.sign(right)) & (smaller + allowed >= largest)


class _Evaluation:
    """Regions on arrays with their errors. A predicate that may be otherwise leaves no bound on what it decides."""

    is_sure = True

    def outputs(self, region: Graph, operands: Sequence[Bounded]) -> list[Bounded]:
        found = bounded(region, operands)
        return [found[v] for v in region.outputs]

    def holds(self, predicate: Bounded) -> bool:
        self.is_sure = self.is_sure and predicate.is_exact
        return bool(predicate.array)


def evaluated(node: Node, operands: Sequence[Bounded]) -> list[Bounded]:
    """The results of one node with their errors. Effects are left out."""
    if isinstance(node.op, RegionOp):
        evaluation = _Evaluation()
        found = node.op.evaluate_regions(evaluation, node.regions, operands)
        return list(found) if evaluation.is_sure else [Bounded(x.array, np.full(x.array.shape, np.inf)) for x in found]
    if not node.results:                    # it prints, or calls back
        return []
    types, results = [v.type for v in node.operands], [v.type for v in node.results]
    arrays = apply(node.op, [x.array for x in operands], types, results)
    errors = _errors(node.op, types, results, operands, arrays)
    return [Bounded(a, _clean(fine, a.shape), _clean(coarse, a.shape)) for a, (fine, coarse) in
            zip(arrays, errors, strict=True)]


def _clean(error: Error, shape: tuple[int, ...]) -> Error:
    """NaN (zero times infinity) is no bound at all; all zeros are exact."""
    if error is None or not error.any():
        return None
    return np.broadcast_to(np.where(np.isnan(error), np.inf, error), shape)


# -- one op -----------------------------------------------------------------------------------------------------------


def _errors(op: Op, types: Sequence[TensorType], results: Sequence[TensorType], operands: Sequence[Bounded],
            arrays: Sequence[np.ndarray]) -> list[tuple[Error, Error]]:
    """The fine and the coarse error of each result."""
    if type(op).decompose is not Op.decompose and (parts := _parts(op, tuple(types))) is not None:
        found = bounded(parts, operands)
        return [(found[v].error, found[v].coarse) for v in parts.outputs]
    values = [_wide(x.array, t.dtype) if t.dtype.is_floating_point else x.array
              for x, t in zip(operands, types, strict=True)]
    with np.errstate(all="ignore"):
        wide = [_wide(a, t.dtype) if t.dtype.is_floating_point else a for a, t in zip(arrays, results, strict=True)]
        fine, coarse = [x.error for x in operands], [x.coarse for x in operands]
        is_coarse = any(e is not None for e in coarse)
        if (own := op.errors(types, values, fine, wide)) is not None:
            others = op.errors(types, values, coarse, wide) if is_coarse else None
            return list(zip(own, others or [None] * len(own), strict=True))
        (result,), (array,) = results, arrays
        error = _inherited(op, types, values, fine, array, result.dtype)
        if op.name in _SIGNS:
            error = _added(error, np.where(np.isnan(values[-1]), np.inf, np.zeros(array.shape)))
        error = _added(error, _rounding(op, types, values, array, result.dtype))
        inherited = _inherited(op, types, values, coarse, array, result.dtype) if is_coarse else None
        return [(error, _added(inherited, _narrowing(op, types, array, result.dtype)))]


@lru_cache(maxsize=256)
def _parts(op: Op, types: tuple[TensorType, ...]) -> Graph | None:
    """What the op is made of, as a graph of its own."""
    graph = Graph(name=op.name)
    results = op.composition(Builder(graph), [graph.add_input(type) for type in types])
    if results is None:
        return None
    graph.outputs = list(results)
    return graph


def _inherited(op: Op, types: Sequence[TensorType], values: list[np.ndarray], errors: Sequence[Error],
               array: np.ndarray, dtype: DType) -> Error:
    """How much the result may move because the operands may."""
    moving = [n for n, error in enumerate(errors) if error is not None]
    if not moving:
        return None
    if isinstance(op, _REARRANGED):
        return np.asarray(op.evaluate(*[np.zeros(v.shape) if e is None else e
                                        for v, e in zip(values, errors, strict=True)]))
    if any(not types[n].dtype.is_floating_point for n in moving) and not isinstance(op, ops.Elementwise | ops.Reduction):
        return np.full(array.shape, np.inf)                 # which element is read may differ
    if isinstance(op, ArgMax | ArgMin):
        return _near_ties(op, values[0], errors[0], array)
    if isinstance(op, ops.Linear):
        moved = [np.zeros(v.shape) if e is None and t.dtype.is_floating_point else v if e is None else e
                 for v, e, t in zip(values, errors, types, strict=True)]
        return np.asarray(op.evaluate(*moved), np.float64)
    if isinstance(op, ops.Bilinear):
        (x, y), (dx, dy) = values, [np.zeros(v.shape) if e is None else e for v, e in zip(values, errors, strict=True)]
        return np.asarray(op.evaluate(dx, np.abs(y)) + op.evaluate(np.abs(x) + dx, dy), np.float64)
    # what comes of moving is not rounded to 16 bits, so neither may be what that is held against
    base = np.asarray(quietly(op.evaluate, *values)).astype(np.float64) if dtype.itemsize == 2 else _wide(array, dtype)
    largest = np.zeros(array.shape)
    for shifts in _shifts(op, [values[n].shape for n in moving]):
        changed = list(values)
        for n, shift in zip(moving, shifts, strict=True):
            changed[n] = _moved(values[n], shift * errors[n], types[n].dtype)
        now = np.asarray(quietly(op.evaluate, *changed)).astype(np.float64)
        step = np.where((now == base) | (np.isnan(now) & np.isnan(base)), 0.0, np.abs(now - base))
        largest = np.fmax(largest, np.where(np.isnan(step), np.inf, step))
    return np.where(_is_anything(op, values, errors), np.inf, largest)


def _is_anything(op: Op, values: Sequence[np.ndarray], errors: Sequence[Error]) -> np.ndarray | bool:
    """Where no corner tells how far an elementwise result may go: an operand without a bound, a divisor around zero."""
    if not isinstance(op, ops.Elementwise) or op.name == "where":
        return False
    found: np.ndarray | bool = False
    for position, (value, error) in enumerate(zip(values, errors, strict=True)):
        if error is not None:
            is_divisor = op.name in _DIVISIONS and position == len(values) - 1
            found = found | np.isinf(error) | (is_divisor & (error >= np.abs(value)))
    return found


def _shifts(op: Op, shapes: Sequence[tuple[int, ...]]) -> Iterable[Sequence[Any]]:
    """Directions to move the operands in: for elementwise ops every corner, else up, down and two mixtures."""
    if isinstance(op, ops.Elementwise):
        return itertools.product((-1.0, 1.0), repeat=len(shapes))
    rng = np.random.default_rng(0)
    mixed = [[rng.choice((-2.0, 2.0), shape) for shape in shapes] for _ in range(2)]
    return [[-1.0] * len(shapes), [1.0] * len(shapes), *mixed]


def _moved(value: np.ndarray, by: np.ndarray, dtype: DType) -> np.ndarray:
    if dtype.is_floating_point:
        return np.asarray(value + by)
    if dtype.kind == "bool":
        return np.where(by == 0, value, by > 0)
    limits = np.iinfo(dtype.storage)
    return np.clip(value.astype(np.float64) + np.round(by), float(limits.min), float(limits.max)).astype(dtype.storage)


def _near_ties(op: Op, value: np.ndarray, error: Error, array: np.ndarray) -> np.ndarray:
    """Infinite where another element may be the extremum."""
    assert error is not None
    dim = op.dim                                                                    # type: ignore[attr-defined]
    found = np.take_along_axis(value, np.expand_dims(array, dim), dim)
    reach = 2 * _SAFETY * error.max(axis=dim, keepdims=True)
    rivals = (np.abs(value - found) <= reach).sum(axis=dim)
    return np.where(rivals > 1, np.inf, 0.0)


# -- rounding ---------------------------------------------------------------------------------------------------------


def _is_rounded(op: Op, types: Sequence[TensorType], dtype: DType) -> bool:
    """Whether the op may round."""
    return dtype.is_floating_point and not isinstance(op, _MOVES) and op.name not in _CHOICES and \
        not (isinstance(op, ops.Cast) and _holds(dtype, types[0].dtype))


def _narrowing(op: Op, types: Sequence[TensorType], array: np.ndarray, dtype: DType) -> Error:
    """What rounding to 16 bits may be off by: two numbers that are nearly one become neighbours."""
    if dtype.itemsize != 2 or not _is_rounded(op, types, dtype):
        return None
    return _eps(dtype) * np.abs(np.nan_to_num(_wide(array, dtype), nan=0.0, posinf=0.0, neginf=0.0)) + _smallest(dtype)


def _rounding(op: Op, types: Sequence[TensorType], values: Sequence[np.ndarray], array: np.ndarray,
              dtype: DType) -> Error:
    """What computing the op itself may be off by, in f32 where it gives 16 bits."""
    if not _is_rounded(op, types, dtype):
        return None
    wide = dtypes.f32 if dtype.itemsize == 2 else dtype
    size = np.abs(np.nan_to_num(_wide(array, dtype), nan=0.0, posinf=0.0, neginf=0.0))
    own = _ULPS * _eps(wide) * size
    if isinstance(op, ops.Elementwise) and not isinstance(op.expression, str):
        return own + _ULPS * _eps(wide) * _largest(values, array.shape)    # steps between may be as large as operands
    if isinstance(op, ops.Prod):
        return own * (1 + types[0].numel / max(array.size, 1))
    if not isinstance(op, ops.Linear | ops.Bilinear):
        return own
    terms = np.asarray(op.evaluate(*[np.abs(v) if v.dtype.kind == "f" else v for v in values]), np.float64)
    terms = np.nan_to_num(terms, nan=0.0, posinf=0.0, neginf=0.0)
    return own + (_ULPS + 2 * math.sqrt(_terms(op, types, array))) * _eps(wide) * terms


def _largest(values: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """The largest finite magnitude among the operands of each element."""
    largest = np.zeros(shape)
    for value in values:
        largest = np.maximum(largest, np.nan_to_num(np.abs(value), nan=0.0, posinf=0.0, neginf=0.0))
    return largest


def _terms(op: Op, types: Sequence[TensorType], array: np.ndarray) -> float:
    """About how many numbers one element of the result adds up."""
    if isinstance(op, ops.Bilinear):
        return math.sqrt(types[0].numel * types[1].numel / max(array.size, 1)) + 16
    if isinstance(op, ops.Cumsum):
        return float(types[0].static_shape[op.dim])
    if isinstance(op, ops.ScatterAdd | ops.ScatterAlongAdd):
        return float(types[0].numel)
    return types[0].numel / max(array.size, 1) + 16


def _holds(wide: DType, narrow: DType) -> bool:
    """Whether every number of `narrow` is one of `wide`."""
    if narrow.is_floating_point:
        return wide is narrow or wide is dtypes.f64 or (wide is dtypes.f32 and narrow.itemsize == 2)
    return narrow.kind == "bool" or 8 * narrow.itemsize <= -math.log2(_eps(wide))


def _added(a: Error, b: Error) -> Error:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _wide(array: np.ndarray, dtype: DType) -> np.ndarray:
    """As f64; 64-bit integers as they are, since f64 can't hold them."""
    if dtype.is_floating_point or dtype.kind == "bool":
        return to_compute(array, dtype).astype(np.float64)
    return array.astype(np.int64) if dtype.itemsize < 8 else array


def _eps(dtype: DType) -> float:
    return 2.0**-7 if dtype is dtypes.bf16 else float(np.finfo(dtype.storage).eps)


def _smallest(dtype: DType) -> float:
    """What underflow may lose: results below the normal numbers may be cut to zero."""
    if not dtype.is_floating_point:
        return 0.0
    return 2.0**-24 if dtype is dtypes.f16 else 2.0**-126 if dtype is not dtypes.f64 else 2.0**-1022
