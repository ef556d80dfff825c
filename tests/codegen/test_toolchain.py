"""Targets, object emission, and the emitter's loads, stores, loops and conversions, run on this machine."""

from __future__ import annotations

import threading

import llvmlite
import numpy as np
import pytest
from llvmlite.binding import ffi
from native_kernels import HOST, RUNNABLE, LoadedObject, build

from flambeau.codegen.cpu import toolchain
from flambeau.codegen.cpu.llvm import emitter as em
from flambeau.errors import FlambeauError
from flambeau.ir.target import avx2, generic_aarch64, generic_x86_64
from flambeau.runtime.host import host_target

FOREIGN = [generic_x86_64(), avx2(), generic_aarch64()]


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
@pytest.mark.parametrize("length", [1, 7, 8, 29])
def test_loop_with_masked_tail_writes_only_its_elements(target, length):
    lanes = 8

    def body(b):
        whole = length - length % lanes
        source, out = b.buffer(0), b.buffer(1)
        b.loop(0, whole, lanes, lambda i: b.store_vector(b.load_vector(source, i, "f32", lanes), out, i, "f32"))
        if length % lanes:
            value = b.load_vector(source, whole, "f32", lanes, active=length % lanes)
            b.store_vector(value, out, whole, "f32", active=length % lanes)
        b.succeed()

    x, y = np.arange(length, dtype="f4"), np.full(length + 40, -1, "f4")
    assert build(body, target)(x, y) == 0
    assert (y[:length] == x).all() and (y[length:] == -1).all()


def test_loop_carry_sums_begin_to_end():
    def body(b):
        total = b.loop(b.kernel.begin, b.kernel.end, 1, lambda i, acc: b.add(acc, i), [em.constant(em.I64, 0)])
        b.store_vector(total[0], b.buffer(0), 0, "i64")
        b.succeed()

    out = np.zeros(1, "i8")
    kernel = build(body, HOST)
    kernel(out, begin=3, end=7)
    assert out[0] == 3 + 4 + 5 + 6
    kernel(out, begin=5, end=5)
    assert out[0] == 0


def test_fail_returns_status_and_leaves_details():
    def body(b):
        value = b.load_scalar(b.buffer(0), 0, "i32")
        b.fail_if(b.icmp_signed("<", value, em.constant(em.I32, 0)), 3, value, b.size(0))
        b.succeed()

    kernel = build(body, HOST)
    assert kernel(np.array([5], "i4"), sizes=(9,)) == 0
    assert kernel(np.array([-5], "i4"), sizes=(9,)) == 3
    assert kernel.ctx[1:3] == [-5, 9]


def test_branch_values_runs_one_arm():
    def body(b):
        x = b.load_scalar(b.buffer(0), 0, "i64")
        positive = b.icmp_signed(">", x, b.index(0))
        (y,) = b.branch_values(positive, lambda: [b.add(x, b.index(1))], lambda: [b.sub(x, b.index(1))])
        b.store_vector(y, b.buffer(0), 0, "i64")
        b.succeed()

    kernel, data = build(body, HOST), np.array([4], "i8")
    kernel(data)
    assert data[0] == 5
    data[0] = -4
    kernel(data)
    assert data[0] == -5


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "u8", "f16", "bool"])
def test_strided_and_indexed_loads_agree_with_numpy(target, dtype):
    lanes, active = 4, 3
    storage = {"f32": "f4", "f64": "f8", "i32": "i4", "u8": "u1", "f16": "f2", "bool": "?"}[dtype]

    def body(b):
        source, out = b.buffer(0), b.buffer(1)
        b.store_vector(b.load_strided(source, 1, 3, dtype, lanes), out, 0, dtype)
        b.store_vector(b.load_strided(source, 2, 0, dtype, lanes), out, 4, dtype)
        indices = b.load_vector(b.buffer(2), 0, "i64", lanes)
        b.store_vector(b.gather(source, indices, dtype, active=active), out, 8, dtype)
        b.store_vector(b.load_strided(source, 1, 3, dtype, lanes, active=active), out, 12, dtype)
        b.succeed()

    source = (np.arange(12) % 7).astype(storage)
    out, indices = np.ones(16, storage), np.array([11, 0, 5, 1 << 40])
    build(body, target)(source, out, indices)
    gathered = np.append(source[[11, 0, 5]], source[:1] & 0 if storage == "?" else 0)
    expected = [source[1::3], source[[2] * 4], gathered, np.append(source[1:8:3], 0)]
    assert (out == np.concatenate(expected).astype(storage)).all()


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
def test_every_half_widens_as_numpy_does(target):
    def body(b):
        copy = lambda i: b.store_vector(b.load_vector(b.buffer(0), i, "f16", 8), b.buffer(1), i, "f32")
        b.loop(0, 65536, 8, copy)
        b.succeed()

    halves, out = np.arange(65536, dtype="u2").view("f2"), np.zeros(65536, "f4")
    build(body, target)(halves, out)
    assert np.array_equal(out, halves.astype("f4"), equal_nan=True)
    assert (np.signbit(out) == np.signbit(halves)).all()


def f32_samples() -> np.ndarray:
    """Random bit patterns, every half and bf16 neighbourhood's ties, and the special values."""
    bits = np.random.default_rng(0).integers(0, 1 << 32, 1 << 15, dtype="u4")
    near_halves = np.arange(65536, dtype="u2").view("f2").astype("f4").view("u4")
    ties = np.arange(0, 1 << 32, 0x8000, dtype="u8").astype("u4")
    around = [base + np.uint32(step) for base in (near_halves, ties) for step in (0, 0x0FFF, 0x1000, 0x1001)]
    values = np.concatenate([bits, *around]).view("f4")
    return values[: len(values) // 8 * 8].copy()


def narrow(target, dtype: str, values: np.ndarray) -> np.ndarray:
    def body(b):
        copy = lambda i: b.store_vector(b.load_vector(b.buffer(0), i, "f32", 8), b.buffer(1), i, dtype)
        b.loop(0, b.size(0), 8, copy)
        b.succeed()

    out = np.zeros(len(values), "u2")
    assert build(body, target)(values, out, sizes=(len(values),)) == 0
    return out


@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid")
@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
def test_f32_rounds_to_half_as_numpy_does(target):
    values = f32_samples()
    out, expected = narrow(target, "f16", values).view("f2"), values.astype("f2")
    assert np.array_equal(out, expected, equal_nan=True)
    assert (np.signbit(out) == np.signbit(expected)).all()


@pytest.mark.parametrize("target", RUNNABLE, ids=lambda target: target.cpu)
def test_f32_rounds_to_bf16_to_nearest_even(target):
    values = f32_samples()
    out = narrow(target, "bf16", values)
    wide = (out.astype("u4") << 16).view("f4")
    assert (np.isnan(wide) == np.isnan(values)).all()
    bits = values.view("u4").astype("u8")
    expected = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("u2")
    assert (out == expected)[~np.isnan(values)].all()


def test_stored_bool_is_zero_or_one():
    def body(b):
        b.store_vector(b.load_vector(b.buffer(0), 0, "bool", 4), b.buffer(1), 0, "bool")
        b.succeed()

    out = np.zeros(4, "u1")
    build(body, HOST)(np.array([0, 1, 2, 255], "u1"), out)
    assert out.tolist() == [0, 1, 1, 1]


def test_reduce_and_fold_see_every_lane():
    def body(b):
        vector = b.load_vector(b.buffer(0), 0, "f32", 8)
        b.store_vector(b.reduce("fadd", vector), b.buffer(1), 0, "f32")
        b.store_vector(b.fold(vector, b.fmul), b.buffer(1), 1, "f32")
        b.succeed()

    out = np.zeros(2, "f4")
    build(body, HOST)(np.array([1, 2, 3, 4, 1, 2, 1, 2], "f4"), out)
    assert out.tolist() == [16, 96]


def small_module(number: int, target) -> em.ll.Module:
    module = em.new_module(f"m{number}", target)
    b = em.new_kernel(module, f"kernel{number}", target)
    b.store_vector(em.constant(em.I64, number), b.buffer(0), 0, "i64")
    b.succeed()
    return module


@pytest.mark.parametrize("threads", [1, 3])
def test_compile_modules_keeps_order(threads):
    objects = toolchain.compile_modules([small_module(k, HOST) for k in range(9)], HOST, threads)
    out = np.zeros(1, "i8")
    for number, code in enumerate(objects):
        LoadedObject(code, [f"kernel{number}"]).kernel(f"kernel{number}")(out)
        assert out[0] == number


@pytest.mark.parametrize("threads", [1, 2])
def test_invalid_ir_raises_from_any_thread(threads):
    with pytest.raises(RuntimeError, match="parsing error"):
        toolchain.compile_modules([small_module(0, HOST), "define nonsense"], HOST, threads)


def test_objects_are_the_same_bytes_every_time():
    serial, parallel = (toolchain.compile_modules([small_module(1, HOST)] * 3, HOST, n) for n in (1, 2))
    assert serial == parallel and len(set(serial)) == 1


@pytest.mark.parametrize("target", FOREIGN, ids=lambda target: target.cpu)
def test_foreign_targets_compile_without_library_calls(target):
    module = em.new_module("m", target)
    b = em.new_kernel(module, "kernel", target)
    x = b.load_vector(b.buffer(0), 0, "f16", 8)
    b.store_vector(b.multiply_add(x, x, x), b.buffer(1), 0, "f16")
    b.store_vector(b.multiply_add(x, x, x), b.buffer(2), 0, "bf16")
    b.succeed()
    assembly = toolchain.emit_assembly(module, target)
    assert "call" not in assembly and "\tbl\t" not in assembly


def test_named_target_is_honoured_and_unknown_refused(monkeypatch):
    monkeypatch.setenv("FLAMBEAU_TARGET", "avx2")
    assert host_target() == avx2()
    monkeypatch.setenv("FLAMBEAU_TARGET", "pdp11")
    with pytest.raises(FlambeauError, match="pdp11.*avx2"):
        host_target()


def test_only_exempt_threads_pass_the_lock():
    lock, passed = threading.RLock(), []
    guarded = toolchain._LockUnlessExempt(lock)

    def enter(exempt: bool) -> None:
        toolchain._per_thread.lock_free = exempt
        with guarded:
            passed.append(exempt)

    threads = [threading.Thread(target=enter, args=(exempt,), daemon=True) for exempt in (True, False)]
    with lock:
        for thread in threads:
            thread.start()
        threads[0].join(timeout=10)
        threads[1].join(timeout=0.1)
        assert passed == [True]
    threads[1].join(timeout=10)
    assert passed == [True, False]


def test_known_llvmlite_compiles_without_the_process_wide_lock():
    if not llvmlite.__version__.startswith(toolchain._KNOWN_VERSIONS):
        pytest.skip("this llvmlite's lock is not known to us, so compilation is serial")
    assert toolchain.can_compile_in_parallel()
    for name in toolchain._HEAVY_CALLS:
        assert isinstance(getattr(ffi.lib, name)._lock, toolchain._LockUnlessExempt)


STEPPING = """
define void @f(ptr %p, i64 %n, i64 %s) {
entry:
  br label %loop
loop:
  %i = phi i64 [0, %entry], [%j, %loop]
  %far = mul i64 %i, %s
  %q = getelementptr float, ptr %p, i64 %far
  store float 1.0, ptr %q
  %j = add i64 %i, 1
  %more = icmp slt i64 %j, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}
"""


def test_llvm_steps_for_modules_that_do_not_step_themselves():
    if not llvmlite.__version__.startswith(toolchain._KNOWN_VERSIONS):
        pytest.skip("this llvmlite's options are not known to us")
    assert "imul" in toolchain.emit_assembly(STEPPING, generic_x86_64(), steps_itself=True)
    assert "imul" not in toolchain.emit_assembly(STEPPING, generic_x86_64())


def test_options_of_llvm_are_as_before_when_the_last_thread_is_done():
    before = toolchain.emit_object(STEPPING, generic_x86_64())
    with toolchain._short_pipeline:
        toolchain.compile_modules([STEPPING], generic_x86_64(), steps_itself=True)
        if llvmlite.__version__.startswith(toolchain._KNOWN_VERSIONS):
            assert toolchain.emit_object(STEPPING, generic_x86_64()) != before, "another is still inside"
    with pytest.raises(RuntimeError):
        toolchain.compile_modules(["define nonsense"], generic_x86_64(), steps_itself=True)
    assert toolchain.emit_object(STEPPING, generic_x86_64()) == before
