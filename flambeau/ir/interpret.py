"""The NumPy interpreter: a Graph's meaning. Slow, simple, and what every compiled result is checked against."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.errors import VerificationError
from flambeau.ir.dtypes import DType, bf16, to_compute, to_storage
from flambeau.ir.op import Op
from flambeau.ir.quiet import quietly
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node


def apply(op: Op, arrays: Sequence[np.ndarray], operands: Sequence[TensorType],
          results: Sequence[TensorType]) -> tuple[np.ndarray, ...]:
    """One op on storage arrays, giving storage arrays of the inferred types."""
    for t in operands:
        if t.dtype is bf16:
            arrays = [to_compute(a, t.dtype) for a, t in zip(arrays, operands, strict=True)]
            break
    computed = quietly(op.evaluate, *arrays)
    if not isinstance(computed, tuple):
        computed = (computed,)
    return tuple([_stored(a, t.dtype) for a, t in zip(computed, results, strict=True)])


def _stored(array: np.ndarray, dtype: DType) -> np.ndarray:
    if array.dtype is dtype.storage and dtype is not bf16:
        return array
    return quietly(to_storage, array, dtype)


def evaluate_node(node: Node, arrays: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    if node.regions:
        return interpret(node.regions[0], arrays)[0]
    return apply(node.op, arrays, [v.type for v in node.operands], [v.type for v in node.results])


def interpret(graph: Graph, inputs: Sequence[np.ndarray]) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """(outputs, written states in the order of `graph.writes`), as storage arrays. `inputs` are storage arrays in
    the order of `graph.inputs`; none is changed."""
    if len(inputs) != len(graph.inputs):
        raise VerificationError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    array_of = dict(zip(graph.inputs, inputs, strict=True))
    for node in graph.toposort():
        if node.op.name != "input":
            results = evaluate_node(node, [array_of[v] for v in node.operands])
            array_of.update(zip(node.results, results, strict=True))
    return (tuple(array_of[v] for v in graph.outputs), tuple(array_of[v] for v in graph.writes.values()))
