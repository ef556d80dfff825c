"""Ops on types whose sizes have names: what they give holds for all sizes that meet the conditions.

Each sample of the registry, with names for sizes of its operands (and of the attributes that say the same), is inferred,
decomposed, batched and differentiated once, and the graphs compared at other sizes with what the numbers give there.
"""
from __future__ import annotations

import dataclasses
import itertools
import random
import typing
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from op_harness import WITHOUT_SAMPLES, emitted, new_graph

from flambeau.errors import FlambeauError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import assuming
from flambeau.ir.attributes import attribute_names, type_of_attribute
from flambeau.ir.dims import Dim, Size
from flambeau.ir.facts import LARGEST, Facts
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.sizes import record_with_sizes, type_with_sizes, with_sizes
from flambeau.ir.graph.verifier import verify
from flambeau.ir.op import OPS, Op, Sample
from flambeau.ir.types import TensorType
from flambeau.passes.graph.autodiff import vjp

# Ops of which some sample fixes a size to its number, with or without need. Whoever mends one takes it from here.
FIXING = {
    "conv2d_input_grad", "conv2d_weight_grad", "conv3d_input_grad", "conv3d_weight_grad", "max_pool2d_take",
    "max_pool2d_grad", "avg_pool2d_grad", "windows_sum",    # a size and the number of windows on it, named each by itself
    "conv3d",                               # a kernel that is larger than what it would slide over were a size less
    "reshape", "split",                     # attributes that are numbers, beside names
    "fft", "irfft", "random_bits",          # pairs, and keys, are two
    "resample",                             # by numbers that were worked out for one size
}
NAMES = [name for name in OPS if name not in WITHOUT_SAMPLES]


def is_size(declared: Any) -> bool:
    return declared is Dim or any(map(is_size, typing.get_args(declared)))


def named(sample: Sample, names: dict[int, Dim]) -> tuple[Op, list[TensorType]]:
    """The op and its operands' types with names for numbers; in attributes also for products of them."""

    def attribute(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(attribute, value))
        if type(value) is not int or value in names:
            return names.get(value, value)
        pairs = itertools.combinations_with_replacement(names, 2)
        return next((names[a] * names[b] for a, b in pairs if a * b == value),
                    next((names[a] * (value // a) for a in names if value and value % a == 0), value))

    changed = {name: attribute(getattr(sample.op, name)) for name in attribute_names(type(sample.op))
               if is_size(type_of_attribute(type(sample.op), name))}
    op = dataclasses.replace(sample.op, **changed) if changed else sample.op     # type: ignore[type-var]
    return op, [t.with_shape(tuple([names.get(n, n) for n in t.shape])) for t in sample.types]  # type: ignore[call-overload]


def plain(op: Op, types: Sequence[TensorType]) -> Graph:
    b, inputs = new_graph(types)
    b.graph.outputs = list(emitted(b, op, inputs))
    return b.graph


def derivative(op: Op, types: Sequence[TensorType]) -> Graph | None:
    graph = plain(op, types)
    inputs = list(graph.inputs)
    cotangents = [graph.add_input(y.type) if y.dtype.is_floating_point else None for y in graph.outputs]
    if not any(cotangents):
        return None
    graph.outputs = [v for v in vjp(graph, graph.outputs, cotangents, inputs) if v is not None]
    return graph


def tangent(op: Op, types: Sequence[TensorType]) -> Graph | None:
    if not op.has_jvp or not any(t.dtype.is_floating_point for t in types):
        return None
    b, inputs = new_graph(types)
    results = emitted(b, op, inputs)
    tangents = [b.graph.add_input(x.type) if x.dtype.is_floating_point else None for x in inputs]
    b.graph.outputs = [v for v in op.jvp(b, inputs, results, tangents) if v is not None]
    return b.graph


def parts(op: Op, types: Sequence[TensorType]) -> Graph | None:
    b, inputs = new_graph(types)
    op.infer(*types)                                # which comes first in a graph too
    found = op.decompose(b, inputs)
    b.graph.outputs = list(found or ())
    return b.graph if found is not None else None


def batched(op: Op, types: Sequence[TensorType]) -> Graph | None:
    if not op.is_batchable:
        return None
    b, inputs = new_graph([t.with_shape((3, *t.shape)) for t in types])
    b.graph.outputs = list(op.batched(b, inputs, [True] * len(inputs), 3))
    return b.graph


def samples_of(name: str) -> list[Sample]:
    """Those of an op with operands; of many for all dtypes, some."""
    found = [sample for sample in OPS[name].samples() if any(n > 1 for t in sample.types for n in t.shape)]
    by_shapes = {tuple(t.shape for t in sample.types): sample for sample in found}
    return list(by_shapes.values())[:3] if isinstance(OPS[name], ops.Elementwise) else found[:12]


def names_of(sample: Sample, r: random.Random) -> Iterator[dict[int, Dim]]:
    sizes = sorted({n for t in sample.types for n in t.shape if n > 1})        # type: ignore[operator, type-var]
    names: dict[int, Dim] = {n: Dim(f"N{n}") for n in sizes}                    # type: ignore[misc]
    yield names
    if len(names) > 1:
        chosen = r.choice(list(names))
        yield {chosen: names[chosen]}


def arrays_for(graph: Graph, sample: Sample, rng: np.random.Generator, is_batch: bool) -> list[np.ndarray]:
    """The sample's operands over and over, as far as there are any, else random numbers."""
    found = []
    for i, v in enumerate(graph.inputs):
        if i < len(sample.operands) and sample.operands[i].size and not is_batch:
            array = np.resize(sample.operands[i], v.shape)
        else:
            array = rng.standard_normal(v.shape) if v.dtype.is_floating_point else rng.integers(0, 2, v.shape)
        found.append(np.asarray(array).astype(v.dtype.storage))
    return found


def check_at(sizes: dict[str, int], graph: Graph, expected: Graph, sample: Sample, is_batch: bool) -> None:
    """The graph with names, at these sizes, types and gives what the one with numbers does."""
    found = with_sizes(graph, sizes)
    verify(found)
    assert [v.type for v in found.outputs] == [v.type for v in expected.outputs]
    arrays = arrays_for(found, sample, np.random.default_rng(0), is_batch)
    try:
        wanted = interpret(expected, arrays)[0]
    except (FlambeauError, IndexError, np.linalg.LinAlgError):
        return                                      # operands of another size mean nothing: an index too large
    for a, b, v in zip(interpret(found, arrays)[0], wanted, expected.outputs, strict=True):
        tolerance = 2e-2 if v.dtype.itemsize == 2 else 1e-4 if v.dtype is dt.f32 else 1e-8
        np.testing.assert_allclose(*[dt.to_compute(x, v.dtype).astype(np.float64) for x in (a, b)], rtol=tolerance,
                                   atol=tolerance)


def fixed_by(name: str, build: Callable[[Op, Sequence[TensorType]], Graph | None]) -> set[str]:
    """The op, if it fixed a name to a number."""
    fixed = set()
    for number, sample in enumerate(samples_of(name)):
        r = random.Random(number)
        for names in names_of(sample, r):
            call = {str(dim): n for n, dim in names.items()}
            facts = Facts(call, dict.fromkeys(call, (1, LARGEST)))
            op, types = named(sample, names)
            try:
                with assuming(facts):
                    graph = build(op, types)
            except (NotImplementedError, FlambeauError) as error:
                with pytest.raises(type(error)):            # which it is without names too
                    build(sample.op, sample.types)
                continue
            if graph is None:
                continue
            if any(isinstance(facts.values.get(size), int) for size in call):
                fixed.add(name)
            assert facts.broken(call) is None
            others = [{size: r.choice([n - 1, n + 1, n + 2, 2 * n, 1]) for size, n in call.items()} for _ in range(2)]
            for sizes in [call, *others]:
                if facts.broken(sizes) is None:
                    there = [type_with_sizes(t, sizes) for t in types]
                    expected = build(record_with_sizes(op, sizes), there)
                    assert expected is not None
                    check_at(sizes, graph, expected, sample, build is batched)
    return fixed


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", [plain, derivative, tangent, parts, batched])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_made_of_names_is_what_is_made_of_numbers(name: str, build: Callable[..., Graph | None]) -> None:
    assert fixed_by(name, build) <= FIXING, "it fixes a size to its number"


def test_ops_that_fix_sizes_are_listed() -> None:
    mended = FIXING - set().union(*[fixed_by(name, build) for name in FIXING for build in (plain, derivative)])
    assert not mended, "take them from the list"


def test_a_cut_of_a_named_size_is_a_condition_unless_it_is_proved() -> None:
    size: Size = Dim("B")
    facts = Facts({"B": 8}, {"B": (1, LARGEST)})
    with assuming(facts):
        x = TensorType((size,), dt.f32)
        assert ops.Slice((0,), (size - 1,), (1,)).infer(x)[0].shape == (size - 1,)
        assert ops.Slice((1,), (size,), (2,)).infer(x)[0].shape == (size // 2,)
        assert not facts.conditions
        assert ops.Slice((0,), (5,), (1,)).infer(x)[0].shape == (5,)
    assert [str(condition) for condition in facts.conditions] == ["B >= 5"]


def test_a_graph_means_what_it_means_at_the_sizes_of_its_inputs() -> None:
    facts = Facts({"B": 4}, {"B": (1, LARGEST)})
    with assuming(facts):
        b, (x,) = new_graph([TensorType((Dim("B"), 2), dt.f32)])
        b.graph.outputs = [b.div(b.sum(x, (0,)), b.number(x.shape[0], dt.f32)), b.iota(x.shape[0] * 2, dt.i64)]
        assert x.shape[0] > 2
    b.graph.facts = facts
    verify(b.graph)
    for size in (3, 5):
        mean, counted = interpret(b.graph, [np.full((size, 2), 7, np.float32)])[0]
        assert mean.tolist() == [7, 7] and counted.tolist() == list(range(2 * size))
    with pytest.raises(VerificationError, match="it is for B from 3"):
        interpret(b.graph, [np.zeros((2, 2), np.float32)])
    with pytest.raises(VerificationError, match=r"takes f32\[B,2\], got arrays of \[3, 3\]"):
        interpret(b.graph, [np.zeros((3, 3), np.float32)])


def test_checking_a_graph_makes_no_conditions() -> None:
    facts = Facts({"B": 4}, {"B": (1, LARGEST)})
    with assuming(None):
        b, (x, y) = new_graph([TensorType((Dim("B"),), dt.f32), TensorType((4,), dt.f32)])
    b.graph.facts = facts
    b.graph.outputs = [b.graph.append(ops.add, (x, y), types=[x.type]).result]
    verify(b.graph)
    assert not facts.conditions and facts.copy().sizes == {"B": 4}
