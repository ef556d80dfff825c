"""Zeros of both signs, infinities, NaN, what is tiny or huge: compiled ops give the very ones that their meaning gives."""
from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from checked import compiled, run

from flambeau.ir import dtypes, ops
from flambeau.ir.dtypes import DType, to_compute, to_storage
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.op import OPS, Op
from flambeau.ir.types import TensorType

assert ops, "importing ops fills the registry"
FLOATS = [d for d in dtypes.DTYPES.values() if d.is_floating_point]
SPECIALS = {
    1: (0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 7.0, 88.0, -104.0, 1e-4, np.inf, -np.inf, np.nan, "tiny", "least", "huge",
        "-huge"),
    2: (0.0, -0.0, 1.0, -1.0, 2.5, np.inf, -np.inf, np.nan, "least", "-huge"),
    3: (0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan),
}
ELEMENTWISE = {name: op for name, op in OPS.items() if isinstance(op, ops.Elementwise) and op.accepts & set(FLOATS)}
ROWS = (0.0, -0.0, 1.0, -2.0, np.inf, -np.inf, np.nan)
OVER_ROWS: dict[str, Op] = {
    "sum": ops.Sum((1,)), "prod": ops.Prod((1,)), "amax": ops.AMax((1,)), "amin": ops.AMin((1,)),
    "argmax": ops.ArgMax(1), "argmin": ops.ArgMin(1), "cumsum": ops.Cumsum(1), "softmax": ops.Softmax(1),
    "safe_softmax": ops.SafeSoftmax(1), "log_softmax": ops.LogSoftmax(1), "normalize": ops.Normalize((1,), 1e-5),
    "resample": ops.weighted_sums(1, 3, [[(0, 0.5), (1, 0.5)], [(1, 0.25), (2, 0.75)], [(2, 1.0)]]),
}
GEOMETRY = ((1, 2), (1, 1), ((0, 0), (1, 1)))
OVER_IMAGES: dict[str, Op] = {
    "max_pool": ops.MaxPool2d(*GEOMETRY, (1, 1), "NCHW", False),
    "max_pool of all": ops.MaxPool2d((1, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), "NCHW", False),
    "avg_pool": ops.AvgPool2d(*GEOMETRY, False, True, None, "NCHW"),
    "avg_pool of all": ops.AvgPool2d((1, 3), (1, 1), ((0, 0), (0, 0)), False, True, None, "NCHW"),
}


def number(value: float | str, dtype: DType) -> float:
    """A special number, those by name as the dtype has them."""
    if not isinstance(value, str):
        return value
    limits = np.finfo(dtype.compute)
    named = {"tiny": float(limits.tiny), "least": float(limits.smallest_subnormal), "huge": float(limits.max)}
    if dtype is dtypes.bf16:
        named |= {"least": 2.0**-133, "huge": 3.38e38}
    return -named[value[1:]] if value[0] == "-" else named[value]


def stored(values: np.ndarray, dtype: DType) -> np.ndarray:
    return to_storage(values.astype(dtype.compute), dtype)


def combinations(count: int, dtype: DType) -> list[np.ndarray]:
    numbers = [number(v, dtype) for v in SPECIALS[count]]
    return [stored(np.array(column), dtype) for column in zip(*itertools.product(numbers, repeat=count), strict=True)]


def rows(dtype: DType, huge: bool = True) -> np.ndarray:
    """Every row of three. At most one is huge: the order of a sum decides whether two of them overflow."""
    numbers = [number(v, dtype) for v in (*ROWS, *["huge"] * huge)]
    found = [row for row in itertools.product(numbers, repeat=3) if row.count(numbers[-1]) < 2 or not huge]
    return stored(np.array(found), dtype)


def kind_of(x: np.ndarray, dtype: DType) -> np.ndarray:
    """NaN, an infinity, a zero of either sign (to which subnormals may be flushed), or 1 for any other number."""
    tiny = float(np.finfo(np.float32 if dtype is dtypes.bf16 else dtype.compute).tiny)
    return np.where(np.isnan(x), np.nan, np.where(np.isinf(x), x, np.where(np.abs(x) < tiny, np.copysign(0.0, x), 1.0)))


def assert_same_specials(*cases: tuple[Op, Sequence[TensorType], Sequence[np.ndarray]]) -> None:
    """NaN, infinities and zeros (with their signs) stand in the same places, compiled as interpreted."""
    graph, arrays = Graph(name="specials"), [array for _, _, given in cases for array in given]
    for op, types, _ in cases:
        graph.outputs += graph.append(op, [graph.add_input(t) for t in types]).results
    outcome, (outputs, _) = run(compiled(graph), arrays), interpret(graph, arrays)
    for value, found, expected in zip(graph.outputs, outcome.outputs, outputs, strict=True):
        a, b = (to_compute(x, value.dtype) for x in (found, expected))
        wrong = a != b
        if value.dtype.is_floating_point:
            a, b = kind_of(a, value.dtype), kind_of(b, value.dtype)
            wrong = ~((a == b) & (np.signbit(a) == np.signbit(b)) | np.isnan(a) & np.isnan(b))
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            raise AssertionError(f"{value.node.op.name} {value.dtype}: {int(wrong.sum())} differ, first at {at}: "
                                 f"{to_compute(found, value.dtype)[at]}, not {to_compute(expected, value.dtype)[at]}")


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_ops_keep_specials(name: str) -> None:
    op, cases = ELEMENTWISE[name], []
    for dtype in FLOATS:
        arrays = combinations(2 if name == "where" else op.arity, dtype)
        types = [TensorType(a.shape, dtype) for a in arrays]
        if name == "where":
            arrays.insert(0, np.arange(len(arrays[0])) % 2 == 0)
            types.insert(0, types[0].with_dtype(dtypes.bool_))
        cases.append((op, types, arrays))
    assert_same_specials(*cases)


def test_casts_keep_specials() -> None:
    assert_same_specials(*[(ops.Cast(target), [TensorType(x.shape, dtype)], [x])
                           for dtype in FLOATS for target in FLOATS for x in combinations(1, dtype)])


@pytest.mark.parametrize("name", OVER_ROWS)
def test_ops_along_a_dim_keep_specials(name: str) -> None:
    arrays = [rows(dtype, huge=name != "prod") for dtype in FLOATS]      # a product may overflow before a 0 comes in
    assert_same_specials(*[(OVER_ROWS[name], [TensorType(x.shape, dtype)], [x])
                           for dtype, x in zip(FLOATS, arrays, strict=True)])


@pytest.mark.parametrize("name", OVER_IMAGES)
def test_pooling_keeps_specials(name: str) -> None:
    images = [rows(dtype)[:, None, None] for dtype in FLOATS]
    assert_same_specials(*[(OVER_IMAGES[name], [TensorType(x.shape, dtype)], [x])
                           for dtype, x in zip(FLOATS, images, strict=True)])


@pytest.mark.parametrize("dims", [(0,), (1,), (0, 1)])
def test_long_folds_keep_the_sign_of_zero(dims: tuple[int, ...]) -> None:
    """One +0 among many -0, or one -0 among many +0, wherever lanes and parts are merged."""
    cases = []
    for dtype, zero in itertools.product(FLOATS, (0.0, -0.0)):
        mixed = np.full((37, 67), -zero)
        mixed[19, 41] = zero
        for x, op in itertools.product((mixed, np.full(mixed.shape, zero)), (ops.AMax, ops.AMin, ops.Sum, ops.Prod)):
            cases.append((op(dims), [TensorType(x.shape, dtype)], [stored(x, dtype)]))
    assert_same_specials(*cases)
