import ctypes
import time

import numpy as np
import pytest
from small_kernels import TEXT, compile_text, executable, library, program_of

from flambeau.runtime import Launch, LoadError, Slot, allocate, as_ndarray, from_ndarray, load
from flambeau.runtime.loader import binding
from flambeau.runtime.native import layout
from flambeau.runtime.native.support import source, support

RECORDS = {
    "Launch": layout.LaunchRecord,
    "Step": layout.StepRecord,
    "Executable": layout.ExecutableRecord,
    "Context": layout.ContextRecord,
    "Instance": layout.InstanceRecord,
    "Pool": layout.PoolRecord,
    "Slots": layout.BufferSlots,
}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_support_code_of_every_platform_is_valid_ir(system, machine):
    binding().parse_assembly(source(system, machine)).verify()


def test_linux_waits_on_futexes_with_the_number_of_its_cpu():
    assert "@futex_number = internal constant i64 202" in source("linux", "x86_64")
    assert "@futex_number = internal constant i64 98" in source("linux", "aarch64")
    assert "nanosleep" in source("linux", "riscv64")


@pytest.mark.parametrize("name", RECORDS)
def test_python_and_native_code_agree_on_each_structure(name):
    record = RECORDS[name]
    module = binding().parse_assembly(source())
    target = binding().Target.from_default_triple().create_target_machine().target_data
    struct = module.get_struct_type(name)
    assert struct.is_struct and target.get_abi_size(struct) == ctypes.sizeof(record)
    offsets = [target.get_element_offset(struct, i) for i in range(len(record._fields_))]
    assert offsets == [getattr(record, field).offset for field, _ in record._fields_]


def test_shared_words_have_cache_lines_of_their_own():
    words = ("generation", "sleepers", "ticket", "done", "job", "busy", "stop")
    lines = [getattr(layout.PoolRecord, word).offset // 64 for word in words]
    assert len(set(lines)) == len(words)


def test_native_clock_is_pythons_monotonic_clock():
    before, now, after = time.monotonic_ns(), support().clock_ns(), time.monotonic_ns()
    assert before <= now <= after


def test_kernels_reach_libm_and_libc():
    program = program_of(
        (Slot("arg", 0, 8), Slot("out", 0, 80)),
        (Launch("libm_exp", 1, 1, False, (0, 1), sizes=(72,)),),
        n_args=1,
        out_bytes=(80,),
    )
    out = allocate(80)
    executable(program).call([from_ndarray(np.array([2.0])).ptr], [], [out.ptr])
    assert np.allclose(as_ndarray(out, np.float64, (10,)), [np.exp(2.0)] + [0] * 9, rtol=1e-15)


def test_equal_symbols_in_two_libraries_do_not_clash():
    first, second = (load([compile_text(TEXT)], ["nothing"]) for _ in range(2))
    assert first["nothing"] != second["nothing"]


def test_objects_of_one_library_call_each_other_and_imports():
    inner = "define i32 @inner() { ret i32 40 }"
    outer = """
    declare i32 @inner()
    declare i32 @given()
    define i32 @outer() {
      %a = call i32 @inner()
      %b = call i32 @given()
      %c = add i32 %a, %b
      ret i32 %c
    }"""
    given = load([compile_text("define i32 @two() { ret i32 2 }")], ["two"])
    both = load([compile_text(outer), compile_text(inner)], ["outer"], imports={"given": given["two"]})
    assert ctypes.CFUNCTYPE(ctypes.c_int32)(both["outer"])() == 42


def test_missing_symbols_are_errors(capfd):
    text = """
    declare i32 @nobody_has_this()
    define i32 @wanting() {
      %x = call i32 @nobody_has_this()
      ret i32 %x
    }"""
    with pytest.raises(LoadError, match="wanting") as caught:
        load([compile_text(text)], ["wanting"])
    assert "nobody_has_this" in str(caught.value) + capfd.readouterr().err  # LLVM names it there only.
    with pytest.raises(LoadError, match="not_in_it"):
        load([compile_text(TEXT)], ["not_in_it"])


@pytest.mark.parametrize("damage", [b"", b"not an object", compile_text(TEXT)[:100]])
def test_damaged_objects_are_refused(damage):
    with pytest.raises(LoadError):
        load([damage], ["nothing"])


def test_a_refused_object_leaves_the_loader_working():
    with pytest.raises(LoadError):
        load([b"rubbish"], ["f"])
    assert load([compile_text(TEXT)], ["nothing"])["nothing"] and library()["nothing"]
