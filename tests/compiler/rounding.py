"""How far rounding may carry each element of a graph's results, found by disturbing every rounded value a little.

Stochastic arithmetic: the graph runs a few times with random relative errors of one unit of rounding in what each op
gives (and in the terms of sums, which compiled code may take in any order). How far the results spread is how far a
correct program may be off. Vignes, "A stochastic arithmetic for reliable scientific computation", 1993.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from checked import EPS

from flambeau.ir import ops
from flambeau.ir.dtypes import DType, to_compute, to_storage
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.interpreter import evaluate_node

RUNS = 4
SPREAD = 8.0            # times the largest spread seen
NEIGHBOURS = 0.25       # of the largest spread in the whole result: four runs don't show every element's own
OWN = 8.0               # roundings of the element itself

EXACT = frozenset({
    "input", "constant", "iota", "reshape", "permute", "broadcast", "slice", "flip", "pad", "concat", "update_slice",
    "neg", "abs", "sign", "relu", "maximum", "minimum", "where", "floor", "ceil", "trunc", "round", "amax", "amin",
    "argmax", "argmin", "take", "take_along", "max_pool2d", "stop_gradient", "random_bits",
})
SUMS = frozenset({"sum", "prod", "matmul", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "conv3d",
                  "conv3d_input_grad", "conv3d_weight_grad", "cumsum", "avg_pool2d",
                  "scatter_add", "scatter_along_add", "softmax", "log_softmax", "normalize"})


def bounds(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each root of the graph (outputs, then writes) how far each element may be from the interpreter's."""
    rng = np.random.default_rng(0)
    reference = _run(graph, arrays, None)
    runs = [_run(graph, arrays, rng) for _ in range(RUNS)]
    return [_bound(value.dtype, expected, [run[number] for run in runs])
            for number, (value, expected) in enumerate(zip(graph.roots(), reference, strict=True))]


def _bound(dtype: DType, expected: np.ndarray, found: Sequence[np.ndarray]) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        spread = np.asarray(np.max([np.nan_to_num(np.abs(run - expected), nan=np.inf) for run in found], axis=0))
        spread = np.where(np.isfinite(expected), spread, 0.0)
    if not dtype.is_floating_point:
        return spread
    largest = spread[np.isfinite(spread)].max(initial=0.0)
    own = OWN * EPS[dtype.name] * np.abs(np.nan_to_num(expected, posinf=0.0, neginf=0.0))
    return SPREAD * (spread + NEIGHBOURS * largest) + own + (1e-7 if dtype.name == "f16" else 1e-37)


def _run(graph: Graph, arrays: Sequence[np.ndarray], rng: np.random.Generator | None) -> list[np.ndarray]:
    array_of: dict[Value, np.ndarray] = dict(zip(graph.inputs, arrays, strict=True))
    for node in graph.toposort():
        if node.op.name == "input":
            continue
        operands = [array_of[v] for v in node.operands]
        if rng is not None and node.op.name in SUMS:
            operands = [_disturbed(a, v.dtype, rng) for a, v in zip(operands, node.operands, strict=True)]
        made = evaluate_node(node, operands)
        if rng is not None and not _is_exact(node):
            made = [_disturbed(a, v.dtype, rng) for a, v in zip(made, node.results, strict=True)]
        array_of.update(zip(node.results, made, strict=True))
    return [to_compute(array_of[v], v.dtype).astype(np.float64) for v in graph.roots()]


def _is_exact(node: Node) -> bool:
    if isinstance(node.op, ops.Cast):
        source, target = node.operands[0].dtype, node.results[0].dtype
        return source.is_floating_point and EPS.get(target.name, 1.0) <= EPS[source.name]
    return node.op.name in EXACT


def _disturbed(array: np.ndarray, dtype: DType, rng: np.random.Generator) -> np.ndarray:
    if not dtype.is_floating_point:
        return array
    values = to_compute(array, dtype).astype(np.float64)
    with np.errstate(all="ignore"):
        return to_storage((values * (1 + EPS[dtype.name] * rng.uniform(-1.5, 1.5, values.shape))).astype(dtype.compute),
                          dtype)
