"""Rules that every op of the registry must keep, checked on its samples."""
from __future__ import annotations

import copy
import pickle
from collections.abc import Sequence

import numpy as np
import pytest
from op_harness import (
    WITHOUT_SAMPLES,
    ArrayContext,
    all_samples,
    computed,
    differentiable,
    directional,
    emitted,
    gradients,
    is_smooth,
    new_graph,
    total,
    widened,
)

from flambeau.errors import TypeInferenceError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import to_compute, to_storage
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.op import OPS, Sample
from flambeau.ir.ops.families import View
from flambeau.ir.ops.views import row_major
from flambeau.ir.types import TensorType

SAMPLES = dict(all_samples())


def over(samples: dict[str, Sample]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("sample", samples.values(), ids=samples.keys())


SMOOTH = {name: sample for name, sample in SAMPLES.items() if is_smooth(sample)}
POINTWISE = {name: sample for name, sample in SAMPLES.items() if sample.op.is_pointwise}


@pytest.mark.parametrize("name", [name for name in OPS if name not in WITHOUT_SAMPLES])
def test_every_op_has_samples_and_an_entry_under_its_name(name: str) -> None:
    samples = list(OPS[name].samples())
    assert samples and all(sample.op.name == name for sample in samples)


@over(SAMPLES)
def test_inference_agrees_with_the_meaning(sample: Sample) -> None:
    types, arrays = sample.op.infer(*sample.types), computed(sample)
    assert [np.shape(a) for a in arrays] == [t.static_shape for t in types]
    for array, t in zip(arrays, types, strict=True):
        assert array.dtype.kind == t.dtype.compute.kind and array.dtype.itemsize >= t.dtype.compute.itemsize


@over(SAMPLES)
def test_meaning_leaves_operands_as_they_are(sample: Sample) -> None:
    before = [a.copy() for a in sample.operands]
    computed(sample)
    assert all(a.tobytes() == b.tobytes() for a, b in zip(before, sample.operands, strict=True))


@over(SAMPLES)
def test_op_survives_pickle_and_copy(sample: Sample) -> None:
    op = sample.op
    for twin in (pickle.loads(pickle.dumps(op)), copy.deepcopy(op)):
        assert twin == op and hash(twin) == hash(op)


@over({name: sample for name, sample in SAMPLES.items() if isinstance(sample.op, View)})
def test_a_view_lies_where_it_says(sample: Sample) -> None:
    (t,), op = sample.types, sample.op
    assert isinstance(op, View)
    x = np.arange(t.numel).reshape(t.static_shape)
    y = np.asarray(op.evaluate(x))
    assert op.shape_after(t.static_shape) == y.shape
    if op.keeps_all and y.size:
        assert set(y.flat) == set(x.flat)
    strides = op.strides_through(t.static_shape, row_major(t.static_shape))
    assert (strides is not None) == op.shares_memory                # of memory in order even a reshape can be a view
    if strides is not None and y.size:
        memory, first = x.reshape(-1), int(y.flat[0])
        found = np.lib.stride_tricks.as_strided(memory[first:], y.shape, [8 * s for s in strides])
        np.testing.assert_array_equal(found, y)


@pytest.mark.parametrize("name", [name for name in OPS if name not in WITHOUT_SAMPLES])
def test_wrong_operand_count_is_an_error(name: str) -> None:
    sample = next(iter(OPS[name].samples()))
    if name != "concat":
        with pytest.raises(TypeInferenceError, match=f"{name}: takes"):
            sample.op.infer(*sample.types, TensorType((), dtypes.f32))


def directions_of(sample: Sample, arrays: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    allowed = differentiable(sample)
    return [np.asarray(rng.standard_normal(a.shape)) if i in allowed else np.zeros(0) for i, a in enumerate(arrays)]


@over(SMOOTH)
def test_derivative_agrees_with_finite_differences(sample: Sample) -> None:
    rng = np.random.default_rng(1)
    types, arrays = widened(sample)
    b, inputs = new_graph(types)
    results = emitted(b, sample.op, inputs)
    weights = [np.asarray(rng.standard_normal(y.shape)) for y in results]
    wrt = differentiable(sample)
    b.graph.outputs = gradients(b, total(b, results, weights), [inputs[i] for i in wrt])
    found, _ = interpret(b.graph, arrays)
    for _ in range(3):
        directions = directions_of(sample, arrays, rng)
        slope = sum(float(np.sum(g * directions[i])) for g, i in zip(found, wrt, strict=True))
        expected = directional(sample.op, arrays, directions, weights)
        scale = 1 + sum(float(np.abs(g * directions[i]).sum()) for g, i in zip(found, wrt, strict=True))
        # step**2 * third derivative + eps / step, with room for derivatives of some size
        assert abs(slope - expected) <= 1e-7 * scale


@over(SMOOTH)
def test_second_derivative_agrees_with_finite_differences(sample: Sample) -> None:
    """The gradient graph, differentiated by the same rules, against differences of the gradient."""
    rng = np.random.default_rng(2)
    types, arrays = widened(sample)
    wrt = differentiable(sample)
    weights = [np.asarray(rng.standard_normal(t.static_shape)) for t in sample.op.infer(*types)]
    probes = [np.asarray(rng.standard_normal(types[i].static_shape)) for i in wrt]

    def slope_graph(second: bool) -> Graph:
        b, inputs = new_graph(types)
        first = gradients(b, total(b, emitted(b, sample.op, inputs), weights), [inputs[i] for i in wrt])
        slope = total(b, first, probes)
        b.graph.outputs = gradients(b, slope, [inputs[i] for i in wrt]) if second else [slope]
        return b.graph

    found, _ = interpret(slope_graph(True), arrays)
    directions, step, once = directions_of(sample, arrays, rng), 1e-5, slope_graph(False)

    def slope(t: float) -> float:
        moved = [a + t * d if i in wrt else a for i, (a, d) in enumerate(zip(arrays, directions, strict=True))]
        return float(interpret(once, moved)[0][0])

    expected = (slope(step) - slope(-step)) / (2 * step)
    predicted = sum(float(np.sum(g * directions[i])) for g, i in zip(found, wrt, strict=True))
    scale = 1 + sum(float(np.abs(g * directions[i]).sum()) for g, i in zip(found, wrt, strict=True))
    assert abs(predicted - expected) <= 1e-6 * scale


def close(found: np.ndarray, expected: np.ndarray, t: TensorType, tolerance: float) -> None:
    """Equal, or for floats a few roundings of the dtype apart relative to the largest element."""
    if not t.dtype.is_floating_point:
        np.testing.assert_array_equal(found, expected)
        return
    eps = {"f16": 2**-10, "bf16": 2**-7, "f32": 2**-23, "f64": 2**-52}[t.dtype.name]
    bound = 8 * eps * tolerance
    finite = np.abs(np.where(np.isfinite(expected), expected, 0)).astype(np.float64)
    np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=bound,
                               atol=bound * min(float(finite.max(initial=0)), 8.0), equal_nan=True)


@over(POINTWISE)
def test_scalar_rule_agrees_with_the_meaning(sample: Sample) -> None:
    """The index-to-scalar rule, which kernels are made of, against NumPy; every read within its operand."""
    (result,) = sample.op.infer(*sample.types)
    ctx = ArrayContext(sample.operands, sample.types, result)
    value = sample.op.scalar(ctx, ctx.index(result), sample.types, result)
    (expected,) = computed(sample)
    with np.errstate(all="ignore"):
        rounded = to_compute(to_storage(expected, result.dtype), result.dtype)
    found = ctx.values[value].reshape(result.static_shape)
    assert found.dtype == result.dtype.compute
    close(found, rounded, result, sample.tolerance)


def decomposed(sample: Sample) -> Graph | None:
    """The op as a graph of ops that do not decompose further; None if it does not decompose."""
    b, inputs = new_graph(sample.types)
    results = sample.op.decompose(b, inputs)
    if results is None:
        return None
    b.graph.outputs = list(results)
    for node in list(b.graph.toposort()):
        parts = node.op.decompose(b, node.operands) if node.op.name != "input" else None
        for old, new in zip(node.results, parts or (), strict=False):
            b.graph.replace_uses(old, new)
    return b.graph


@over(SAMPLES)
def test_decomposition_agrees_with_the_meaning(sample: Sample) -> None:
    graph = decomposed(sample)
    if graph is None:
        return
    types = sample.op.infer(*sample.types)
    assert tuple(v.type for v in graph.outputs) == types
    found, _ = interpret(graph, sample.operands)
    for array, expected, t in zip(found, computed(sample), types, strict=True):
        with np.errstate(all="ignore"):
            rounded = to_compute(to_storage(expected, t.dtype), t.dtype)
        close(to_compute(array, t.dtype), rounded, t, sample.tolerance)
