"""Memory that nothing stored to is NaN in every call, and the reference backend notices who reads it."""
from __future__ import annotations

import numpy as np
import pytest
from small_kernels import executable, program_of, visits

import flambeau as fb
from flambeau import config
from flambeau.errors import VerificationError
from flambeau.ir.kernel.text import parse_kernel
from flambeau.runtime import Launch, Program, Slot, allocate, as_ndarray
from flambeau.runtime.interpreted import InterpretedExecutable

HALF = parse_kernel("""
loop @half {
  in x: f32[4]
  out y: f32[4]
  parallel %i0 = 2
  stage () {
    %0 = load x[%i0] : f32
    store %0 to y[%i0]
  }
  loc "train.py:3: y = half(x)"
}
""")
COPY = parse_kernel("""
loop @copy {
  in x: f32[4]
  out y: f32[4]
  parallel %i0 = 4
  stage () {
    %0 = load x[%i0] : f32
    store %0 to y[%i0]
  }
  loc "train.py:4: z = y"
}
""")


def half_program(*launches: Launch) -> Program:
    slots = (Slot("arg", 0, 16), Slot("arena", 0, 16), Slot("out", 0, 16))
    return program_of(slots, launches, arena_bytes=64, n_args=1, out_bytes=(16,))


def test_the_reference_backend_names_who_reads_what_nothing_stored() -> None:
    program = half_program(Launch("half", 1, 1, False, (0, 1)), Launch("copy", 1, 1, False, (1, 2)))
    x, out = np.arange(4, dtype=np.float32), allocate(16)
    with config.set(poison=True):
        run = InterpretedExecutable(program, [HALF, COPY]).fast_call
        with pytest.raises(VerificationError, match=r"copy reads element 2 of x, which nothing stored \(2 of") as caught:
            run(x.ctypes.data, out.ptr)
    assert caught.value.where == "train.py:4: z = y"


def test_the_reference_backend_leaves_nan_in_what_nothing_stored() -> None:
    program = half_program(Launch("half", 1, 1, False, (0, 2)))
    x, out = np.arange(4, dtype=np.float32), allocate(16)
    with config.set(poison=True):
        InterpretedExecutable(program, [HALF]).fast_call(x.ctypes.data, out.ptr)
    assert np.array_equal(as_ndarray(out, np.float32, (4,)), [0, 1, np.nan, np.nan], equal_nan=True)


def test_arenas_are_filled_before_each_call() -> None:
    """The kernel counts up what lies in the arena: without poison the second call would see the first one's count."""
    program = program_of((Slot("arena", 0, 8),), (Launch("visit", 1, 1, False, (0,)),), arena_bytes=64)
    with config.set(poison=True):
        ready = executable(program)
        ready.fast_call()
        ready.fast_call()
    (_, arena), = ready._memory.instances
    assert arena is not None
    found = as_ndarray(arena, np.uint64, (1,))
    assert found[0] == 0x7FFA7FFA7FFA7FFA + 1


def test_without_poison_nothing_stands_before_the_native_call() -> None:
    with config.set(poison=False):
        assert type(executable(visits(1)).fast_call).__name__ == "builtin_function_or_method"


def test_compiled_and_eager_code_run_on_poisoned_memory() -> None:
    with config.set(poison=True):
        step = fb.compile(lambda x, w: (fb.softmax(x @ w, dim=1), x.sum()))
        x, w = fb.ones(3, 5), fb.ones(5, 4)
        for _ in range(2):
            soft, total = step(x, w)
            assert soft.tolist() == [[0.25] * 4] * 3 and total.item() == 15
