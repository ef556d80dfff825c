"""Reductions cut into parts give what they gave in one, and only long ones of few rows are cut."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from checked import check, compiled, run
from programs import Program, program

from flambeau.compiler import Compiled
from flambeau.ir import ops
from flambeau.ir.graph import Value
from flambeau.passes.cpu import split_reductions as split
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.cpu.prepare import prepare
from flambeau.passes.lowering.lower import lower
from flambeau.passes.pipeline import run as run_passes
from flambeau.runtime.host import host_target


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split whatever can be split."""
    monkeypatch.setattr(split, "LAUNCH_NS", 0.0)
    monkeypatch.setattr(split, "GAIN", np.inf)
    monkeypatch.setattr(split, "_cores", lambda target: 4)


def normalized(p: Program) -> list[Value]:
    return list(p.b.emit(ops.Normalize((0, 1), 1e-5), p.arg("f32[6,10,5]")))


def softmax_of_few_rows(p: Program) -> Value:
    return p.b.emit(ops.Softmax(1), p.arg("f32[3,64]"))


def extrema(p: Program) -> list[Value]:
    x = p.arg("f32[4,36]")
    return [p.b.emit(ops.AMax((1,)), x), p.b.emit(ops.AMin((1,)), x), p.b.emit(ops.Prod((0, 1)), x)]


def bools(p: Program) -> list[Value]:
    x = p.b.gt(p.arg("f32[4,36]"), p.arg("f32[4,36]"))
    return [p.b.emit(ops.Any((1,)), x), p.b.emit(ops.All((0, 1)), x)]


def narrow(p: Program) -> Value:
    return p.b.sum(p.arg("bf16[48,3]"), (0,))


def rows_that_compute(p: Program) -> list[Value]:
    """Row values before and after the sum, stored and read again by the points."""
    x, scale = p.arg("f32[40,7]"), p.arg("f32[7]")
    factor = p.b.exp(scale)
    total = p.b.sum(p.b.mul(x, p.b.broadcast(factor, x.shape, (1,))), (0,))
    root = p.b.mul(p.b.tanh(total), factor)
    return [root, p.b.sub(x, p.b.broadcast(root, x.shape, (1,)))]


def padded(p: Program) -> Value:
    return p.b.sum(p.b.emit(ops.Pad((3, 0), (2, 1), (0, 0)), p.arg("f32[19,5]")), (0,))


def n_more_calls(made: Compiled) -> int:
    """Calls beyond one for each fusion."""
    return len(made.memory.calls) - sum(isinstance(n.op, ops.Fusion) for n in made.fused.toposort())


@pytest.mark.parametrize("build", [normalized, softmax_of_few_rows, extrema, bools, narrow, rows_that_compute, padded])
def test_parts_agree_with_the_interpreter(always: None, build: Callable[[Program], Value]) -> None:
    made = program(build)
    assert n_more_calls(check(made.graph, made.arrays)) > 0


def test_positions_and_empty_dims_are_left_whole(always: None) -> None:
    for build in (lambda p: p.b.emit(ops.ArgMax(1), p.arg("f32[2,64]")), lambda p: p.b.sum(p.arg("f32[64,0]"), (0,))):
        made = program(build)
        assert n_more_calls(check(made.graph, made.arrays)) == 0


def names(shape: str, dims: tuple[int, ...], cores: int = 8) -> list[str]:
    """The kernels of a sum on a machine of many cores."""
    fused, _ = run_passes(program(lambda p: p.b.sum(p.arg(shape), dims)).graph, CPU_PASSES)
    return [call.kernel.name.removeprefix("k0") for call in prepare(lower(fused), replace(host_target(), cores=cores))]


@pytest.mark.parametrize(("shape", "dims"), [("f32[1048576]", (0,)), ("f32[65536,64]", (0,)), ("f32[2,1048576]", (1,))])
def test_long_sums_of_few_rows_are_cut(shape: str, dims: tuple[int, ...]) -> None:
    assert names(shape, dims) == ["_parts", "_combined"]


@pytest.mark.parametrize(("shape", "dims"), [("f32[4096]", (0,)), ("f32[64,8,8,16]", (0, 1, 2)),
                                             ("f32[4096,512]", (1,)), ("f32[128,10]", (0,))])
def test_short_sums_and_many_rows_stay_whole(shape: str, dims: tuple[int, ...]) -> None:
    assert names(shape, dims) == [""]


def test_one_core_cuts_nothing() -> None:
    assert names("f32[1048576]", (0,), cores=1) == [""]


def test_sums_have_the_same_bits_every_time() -> None:
    made = program(lambda p: p.b.sum(p.arg("f32[524288]"), (0,)))
    module = compiled(made.graph)
    bits = {run(module, made.arrays).outputs[0].tobytes() for _ in range(5)}
    assert len(bits) == 1


def test_sums_of_long_rows_far_apart_are_cut_into_parts_of_rows() -> None:
    """Tasks of some columns each would fetch pieces of every row."""
    target = replace(host_target(), cores=2, l2_bytes=1 << 20)
    fused, _ = run_passes(program(lambda p: p.b.sum(p.arg("f32[4096,512]"), (0,))).graph, CPU_PASSES)
    parts, combined = prepare(lower(fused), target)
    assert parts.kernel.extents == (128, 512, 32) and combined.kernel.extents == (512, 128)
