"""Kernels to artifacts: one compilation per distinct kernel, launch data, inspection."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from loop_kernels import HOST, Script, at, filled, load_phase

from flambeau.codegen.artifact import TaskDim
from flambeau.codegen.cpu import backend, toolchain
from flambeau.ir.kernel import LoopSchedule, Param
from flambeau.ir.target import generic_x86_64


def scaled(n, factor=2.0, schedule=None):
    s = Script()
    x, out = s.param(n), s.param(n, role="out")
    s.stage(stores=[(at(out, {0: 1}), s.op("mul", s.load(x, {0: 1}), s.const(factor)))])
    return s.kernel([n], 1, schedule or LoopSchedule(0, 1, 64))


def renamed(kernel):
    params = tuple(Param(f"other{i}", p.dtype, p.elements, p.role) for i, p in enumerate(kernel.params))
    return replace(kernel, name="other", params=params, locations=("train.py:3: y = x * 2",))


def test_kernels_that_differ_in_names_alone_compile_once(monkeypatch):
    compiled = []
    emit_object = toolchain.emit_object
    monkeypatch.setattr(
        toolchain, "emit_object", lambda text, *rest: compiled.append(text) or emit_object(text, *rest)
    )
    kernels = [scaled(100), renamed(scaled(100)), scaled(100, 3.0), scaled(100)]
    first, second, third, fourth = backend.compile_kernels(kernels, HOST)
    assert len(compiled) == 2
    assert first == second == fourth and first.phases[0].symbol != third.phases[0].symbol


def test_symbols_differ_between_targets():
    key = "ab" * 32
    assert backend.symbol_of(key, HOST) != backend.symbol_of(key, generic_x86_64())
    assert backend.symbol_of(key, HOST) == backend.symbol_of(key, HOST)


@pytest.mark.skipif(not HOST.is_x86, reason="compares with plain x86-64 code")
def test_code_for_a_plain_machine_uses_no_wide_registers():
    text = backend.assembly(scaled(100, 3.0), generic_x86_64())
    assert "ymm" not in text and "zmm" not in text and "mulps" in text


def test_texts_are_those_of_the_code_that_was_compiled():
    """They are made again, so the same kernel must give the same module, whatever its names."""
    kernel = scaled(100)
    [artifact] = backend.compile_kernels([kernel], HOST)
    text = backend.llvm_ir(renamed(kernel), HOST)
    assert toolchain.emit_object(text, HOST) == artifact.object
    assert artifact.phases[0].symbol in text and artifact.phases[0].symbol in backend.assembly(kernel, HOST)


def test_a_phase_says_how_to_launch_it():
    [static, runtime] = backend.compile_kernels(
        [scaled(1000, schedule=LoopSchedule(0, 1, 64, 4, False)), scaled("n", schedule=LoopSchedule(0, 1, 64, 4))], HOST
    )
    [phase] = static.phases
    assert (phase.tasks, phase.params, phase.grain, phase.parallel, phase.errors) == (16, (0, 1), 4, False, ())
    [phase] = runtime.phases
    assert phase.tasks is None and phase.task_dims == (TaskDim("n", 64, 0),)
    assert [phase.task_count((n,)) for n in (0, 1, 64, 65)] == [0, 1, 1, 2]
    assert static.scratch_bytes == ()


def test_task_dim_counts_blocks():
    assert TaskDim(10, 4).count(()) == 3
    assert TaskDim("n", 4, 1).count((99, 8)) == 2


def test_objects_of_one_call_run():
    artifacts = backend.compile_kernels([scaled(7), scaled(7, 5.0)], HOST)
    x = np.arange(7, dtype="f4")
    for artifact, factor in zip(artifacts, (2, 5), strict=True):
        function, alive = load_phase(artifact.object, artifact.phases[0])
        out = filled(7)
        pointers = np.array([x.ctypes.data, out.ctypes.data])
        assert function(None, pointers.ctypes.data, None, 0, 1) == 0
        np.testing.assert_array_equal(out[:7], x * factor)
        del alive

