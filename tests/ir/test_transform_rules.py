"""Rules of ops for tangents and for batches, over the registry: a batch is a loop, a tangent is what vjp pairs with."""
from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from flambeau.ir import dtypes as dt
from flambeau.ir.builder import Builder
from flambeau.ir.graph import Graph, Value
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.op import OPS, Op, Sample
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp
from tests.ir.op_harness import WITHOUT_SAMPLES

B = 3
# Ops without a rule, which take the slow way (frontend/func). Whoever adds a rule takes its op from here.
BY_LOOP = {"random_bits", "weighted_taps"}      # for batches, and they decompose into nothing
BY_DECOMPOSITION = {"median"}                   # for batches
BY_VJP = {"cholesky", "cholesky_ex", "det", "eigh", "eigvalsh", "geqrf", "inverse", "lu", "matrix_exp", "median", "pinv",
          "qr", "row_swaps", "slogdet", "solve_ex", "solve_triangular", "svd", "svdvals",
          "weighted_taps"}      # for tangents
INDEXED = ("take", "scatter_add", "take_along", "scatter_along_add", "last_along")
FIXED = ("cholesky", "cholesky_ex")             # matrices that must stay positive-definite
NAMES = [name for name in OPS if name not in WITHOUT_SAMPLES]


def samples_of(name: str) -> list[Sample]:
    return [sample for sample in OPS[name].samples() if sample.types]


def examples(sample: Sample, position: int) -> np.ndarray:
    """The operand of each example: the sample's own, and others of its kind."""
    array = sample.operands[position]
    is_index = array.dtype.kind in "iu" and sample.op.name in INDEXED
    if array.ndim and array.dtype.kind == "f" and sample.op.name not in FIXED:
        return np.stack([(array * array.dtype.type(factor)).astype(array.dtype) for factor in (1, 0.5, 1.5)])
    return np.stack([np.roll(array, n) if is_index else array for n in range(B)])


def outputs_of(op: Op, types: Sequence[TensorType], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    graph = Graph()
    graph.outputs = list(graph.append(op, [graph.add_input(t, f"x{i}") for i, t in enumerate(types)]).results)
    return list(interpret(graph, list(arrays))[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_batching_rule_is_a_loop(name: str) -> None:
    for sample in samples_of(name)[:24]:
        if not sample.op.is_batchable:
            continue
        count = len(sample.types)
        masks = [m for m in itertools.product((True, False), repeat=count) if any(m)] if count <= 3 else [(True,) * count]
        for mapped in masks:
            arrays = [examples(sample, i) if m else sample.operands[i] for i, m in enumerate(mapped)]
            graph = Graph()
            values = [graph.add_input(TensorType(a.shape, t.dtype), f"x{i}")
                      for i, (a, t) in enumerate(zip(arrays, sample.types, strict=True))]
            graph.outputs = list(sample.op.batched(Builder(graph), values, mapped, B))
            assert [v.type for v in graph.outputs] == [t.with_shape((B, *t.shape)) for t in sample.op.infer(*sample.types)]
            found = interpret(graph, arrays)[0]
            for n in range(B):
                one = [a[n] if m else a for a, m in zip(arrays, mapped, strict=True)]
                for batch, alone, v in zip(found, outputs_of(sample.op, sample.types, one), graph.outputs, strict=True):
                    eps = 2.0**-7 if v.dtype is dt.bf16 else 2.0**-10 if v.dtype is dt.f16 else 1e-6
                    np.testing.assert_allclose(dt.to_compute(batch[n], v.dtype).astype(np.float64),
                                               dt.to_compute(alone, v.dtype).astype(np.float64), rtol=8 * eps, atol=8 * eps)


def tangent_pairing(sample: Sample, moved: Sequence[int], rng: np.random.Generator) -> tuple[float, float, float]:
    """(cotangents . jvp(tangents), vjp(cotangents) . tangents, the size of the terms)"""
    op, graph = sample.op, Graph()
    values = [graph.add_input(t, f"x{i}") for i, t in enumerate(sample.types)]
    node = graph.append(op, values)
    tangents: list[Value | None] = [graph.add_input(t, f"t{i}") if i in moved else None for i, t in enumerate(sample.types)]
    seeds = [graph.add_input(v.type, "ct") if v.dtype.is_floating_point else None for v in node.results]
    changes = list(op.jvp(Builder(graph), values, node.results, tangents))
    assert all(c is None or c.type == v.type for c, v in zip(changes, node.results, strict=True))
    gradients = vjp(graph, list(node.results), seeds, values)
    graph.outputs = [v for v in (*changes, *gradients) if v is not None]
    drawn = {v: rng.standard_normal(v.shape).astype(v.dtype.storage) for v in (*tangents, *seeds) if v is not None}
    arrays = [*sample.operands, *[drawn[v] for v in graph.inputs[len(values):]]]
    array_of = dict(zip(graph.outputs, interpret(graph, arrays)[0], strict=True))

    def dot(pairs: Sequence[tuple[Value | None, Value | None]]) -> np.ndarray:
        terms = [np.ravel(array_of[a].astype(np.float64) * drawn[b]) for a, b in pairs if a is not None and b is not None]
        return np.concatenate([np.zeros(1), *terms])

    forward = dot(list(zip(changes, seeds, strict=True)))
    backward = dot([(gradients[i], tangents[i]) for i in moved])
    return forward.sum(), backward.sum(), np.abs(forward).sum()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_tangents_pair_with_cotangents(name: str) -> None:
    rng = np.random.default_rng(0)
    for sample in samples_of(name):
        floats = [i for i, t in enumerate(sample.types) if t.dtype in (dt.f32, dt.f64)]
        is_plain = all(np.isfinite(a).all() and a.size for a in sample.operands) and \
            not any(t.dtype in (dt.f16, dt.bf16) for t in (*sample.types, *sample.op.infer(*sample.types)))
        if not floats or not is_plain or not any(t.dtype.is_floating_point for t in sample.op.infer(*sample.types)):
            continue
        if not sample.op.has_jvp:
            continue
        for moved in [floats, *([i] for i in floats if len(floats) > 1)]:
            forward, backward, size = tangent_pairing(sample, moved, rng)
            assert abs(forward - backward) <= 3e-4 * size + 1e-5, (sample.op, sample.types, moved)


def test_ops_without_rules_are_listed() -> None:
    ops = {name: sample.op for name in NAMES for sample in samples_of(name)[:1]}
    by_vjp = {name for name, op in ops.items() if not op.has_jvp and has_derivative(op, samples_of(name)[0].types)}
    by_loop = {name for name, op in ops.items() if not op.is_batchable and type(op).decompose is Op.decompose}
    by_decomposition = {name for name, op in ops.items() if not op.is_batchable} - by_loop
    assert BY_LOOP <= by_loop and BY_DECOMPOSITION <= by_decomposition and BY_VJP <= by_vjp, "a rule was added"
    new = by_loop - BY_LOOP | by_decomposition - BY_DECOMPOSITION | by_vjp - BY_VJP
    if new:
        pytest.xfail(f"new ops take the slow way under vmap or jvp, and are not listed: {sorted(new)}")


def has_derivative(op: Op, types: Sequence[TensorType]) -> bool:
    is_smooth = any(t.dtype.is_floating_point for t in types) and any(
        t.dtype.is_floating_point for t in op.infer(*types))
    return is_smooth and type(op).vjp is not Op.vjp
