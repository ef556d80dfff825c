"""Loops, branches, host calls and sizes of the call: native code does what the interpreter does."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small_kernels import bytes_spec, library, program_of
from small_kernels import executable as on_small_kernels
from tree_programs import HOST_ERRORS, countdown, launch, outcome, random_tree
from tree_programs import library as tree_library

from flambeau import config
from flambeau.errors import KernelError, VerificationError
from flambeau.ir import dtypes as dt
from flambeau.ir.types import TensorType, parse_type
from flambeau.runtime import (
    Blocks,
    Branch,
    Executable,
    HostCall,
    Launch,
    Loop,
    Program,
    Signature,
    SizeOf,
    SizeSpec,
    Slot,
    TensorSpec,
    as_ndarray,
    host_functions,
    zeros,
)
from flambeau.runtime.host_functions import register_host_function
from flambeau.runtime.interpreted import InterpretedExecutable


@pytest.mark.parametrize("threads", [1, 3])
def test_random_trees_run_natively_as_they_are_interpreted(seeds: Iterator[int], threads: int) -> None:
    with config.set(num_threads=threads):
        for seed in seeds:
            tree = random_tree(seed)
            native, interpreted = tree.native(), tree.interpreted()
            for call in range(2):                   # the second one in memory that the first one left
                found, wanted = outcome(native, seed + call), outcome(interpreted, seed + call)
                assert found == wanted, f"seed {seed}, call {call}"


@pytest.fixture(params=["builtin", "ctypes"])
def call_of(request: pytest.FixtureRequest) -> Callable[[Executable], Callable[..., None]]:
    """Both ways into a program."""
    return (lambda ready: ready.fast_call) if request.param == "builtin" else (lambda ready: ready._memory.call)


def looping(turns: int, *body: object, **rest: object) -> Program:
    """A program over one argument, i64[4], whose `body` runs `turns` times. Its slots: 0 the argument, 1 the counter, 2
    the condition."""
    slots = (Slot("arg", 0, 32), Slot("arena", 0, 8), Slot("arena", 64, 1))
    begin = launch("turns", [1], [turns])
    return program_of(slots, (begin, *countdown(1, 2, body)), n_args=1, arena_bytes=128, **rest)


def ready(program: Program, **options: object) -> Executable:
    return Executable(program, library().addresses | tree_library().addresses, **options)


VISIT = Launch("visit", 1, 1, False, (0,))


@pytest.mark.parametrize("turns", [0, 1, 2, 1000])
def test_a_loop_runs_its_body_while_its_condition_holds(call_of, turns: int) -> None:
    counts = zeros(32)
    call_of(ready(looping(turns, VISIT)))(counts.ptr)
    assert as_ndarray(counts, np.int64, (4,))[0] == turns


def test_loops_nest(call_of) -> None:
    slots = (Slot("arg", 0, 32), *[Slot("arena", 64 * n, size) for n, size in enumerate((8, 1, 8, 1))])
    inner = (launch("turns", [3], [5]), *countdown(3, 4, (VISIT,)))
    program = program_of(slots, (launch("turns", [1], [3]), *countdown(1, 2, inner)), n_args=1, arena_bytes=256)
    counts = zeros(32)
    call_of(ready(program))(counts.ptr)
    assert as_ndarray(counts, np.int64, (4,))[0] == 15


@pytest.mark.parametrize(("truth", "expected"), [(0, [0, 2]), (1, [1, 0]), (255, [1, 0])])
def test_a_branch_runs_one_of_its_bodies(call_of, truth: int, expected: list[int]) -> None:
    slots = (Slot("arg", 0, 1), Slot("arg", 1, 8), Slot("arg", 2, 8))
    other = Launch("visit", 1, 1, False, (2,))
    program = program_of(slots, (Branch(0, (Launch("visit", 1, 1, False, (1,)),), (other, other)),), n_args=3)
    chosen, counts = np.array([truth], np.uint8), [np.zeros(1, np.int64) for _ in range(2)]
    call_of(ready(program))(chosen.ctypes.data, *[array.ctypes.data for array in counts])
    assert [int(array[0]) for array in counts] == expected


def test_parallel_launches_run_in_loops() -> None:
    """Many turns with chunks on all threads: one that is lost, doubled or late shows in the counts."""
    counts, program = zeros(32), looping(3000, Launch("visit", 4, 1, True, (0,)))
    with config.set(num_threads=3):
        ready(program).fast_call(counts.ptr)
    assert (as_ndarray(counts, np.int64, (4,)) == 3000).all()


@pytest.mark.parametrize("parallel", [False, True])
def test_a_failure_in_a_body_ends_the_call_with_its_own_words(call_of, parallel: bool) -> None:
    fail = Launch("bounded", 8, 1, parallel, (), (7,), ((1, "index {0} is beyond {1}"),), location=1)
    program = replace(looping(3, VISIT, Loop(2, (fail, VISIT)), VISIT), locations=("a.py:1", "b.py:2: y = x[{0}]"))
    counts, call = zeros(32), call_of(ready(program))
    for _ in range(3):
        with pytest.raises(KernelError) as caught:
            call(counts.ptr)
        begin = 7 if parallel else 0
        assert str(caught.value) == f"index {begin} is beyond 7 (in the kernel of b.py:2: y = x[{{0}}])"
        assert (caught.value.status, caught.value.details) == (1, (begin, 7))
    assert as_ndarray(counts, np.int64, (4,))[0] == 3


def test_a_profile_has_all_turns_of_each_launch_and_nothing_for_what_did_not_run() -> None:
    slow = Launch("count_slowly", 1, 1, False, (0,), (10_000,))
    program = looping(200, slow, Branch(2, (VISIT,), (slow,)))
    count = zeros(32)                       # held: a call does not keep its buffers alive
    (alone,) = ready(program_of((Slot("arg", 0, 8),), (slow,), n_args=1)).profile([count.ptr], repeats=3)
    times = ready(program).profile([count.ptr], repeats=3)
    assert len(times) == len(program.launches) == 6 and times[4] == 0
    assert times[2] > alone and times[3] > 0            # 200 turns, and one


def test_launches_are_numbered_as_they_stand() -> None:
    a, b, c, d = (Launch(name, 1, 1, False, ()) for name in "abcd")
    host = HostCall("h", ())
    program = Program((), (a, Loop(0, (b, Branch(0, (c,), (host,)))), d))
    assert program.launches == (a, b, c, host, d)


# -- host calls -----------------------------------------------------------------------------------------------------


def hosted(*steps: object) -> Program:
    return program_of((Slot("arg", 0, 128), Slot("out", 0, 128)), steps, n_args=1, out_bytes=(128,))


def test_a_host_function_gets_pointers_and_sizes_and_takes_the_gil_itself(call_of) -> None:
    x, out = np.arange(1, 17), np.zeros(16, np.int64)
    call_of(ready(hosted(HostCall("mix", (0, 1), (5,)))))(x.ctypes.data, out.ctypes.data)
    assert out.tolist() == [4, 7, 10, 13, 16] + [0] * 11


def test_a_host_function_fails_with_status_and_details(call_of) -> None:
    x, out = np.arange(26, 42), np.zeros(16, np.int64)
    call = call_of(ready(hosted(HostCall("mix", (0, 1), (5,), HOST_ERRORS))))
    with pytest.raises(KernelError, match="the host found 26 after 27") as caught:
        call(x.ctypes.data, out.ctypes.data)
    assert caught.value.status == 7
    unexplained = call_of(ready(hosted(HostCall("mix", (0, 1), (5,)))))
    with pytest.raises(KernelError, match="host function mix failed with status 7"):
        unexplained(x.ctypes.data, out.ctypes.data)


def test_a_host_function_may_be_machine_code_given_with_the_program() -> None:
    counts = zeros(8)
    program = program_of((Slot("arg", 0, 8),), (HostCall("counter", (0,)),), n_args=1)
    Executable(program, {"counter": library()["visit"]}).fast_call(counts.ptr)
    assert as_ndarray(counts, np.int64, ()) == 1


def test_what_a_host_function_raises_is_raised() -> None:
    register_host_function("raising", lambda *_: 1 // 0)
    program = program_of((), (HostCall("raising", ()),))
    for runnable in (ready(program), InterpretedExecutable(program, [None])):
        with pytest.raises(ZeroDivisionError):
            runnable.fast_call()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_before_the_first_line_of_a_host_function_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ctypes returns then is anything, 0 too. Elsewhere than in the main thread nobody knows what it was."""
    def interrupted(*_: int) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(host_functions, "_guarded", lambda function: interrupted)
    register_host_function("interrupted", lambda *_: 0)
    program = program_of((), (HostCall("interrupted", ()),))
    for runnable in (ready(program), InterpretedExecutable(program, [None])):
        with pytest.raises(KeyboardInterrupt):
            runnable.fast_call()
        found: list[BaseException] = []

        def elsewhere(runnable: Any = runnable, found: list[BaseException] = found) -> None:
            try:
                runnable.fast_call()
            except KernelError as error:
                found.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "host function interrupted failed with status -1" in str(found[0])


def test_a_name_of_a_host_function_may_go_from_python_to_machine_code() -> None:
    counts = zeros(8)
    program = program_of((Slot("arg", 0, 8),), (HostCall("counted", (0,)),), n_args=1)
    for function, status in ((lambda *_: 7, 7), (library()["visit"], 0)):
        register_host_function("counted", function)
        runnable = ready(program)
        with pytest.raises(KernelError, match="status 7") if status else nullcontext():
            runnable.fast_call(counts.ptr)
    assert as_ndarray(counts, np.int64, ()) == 1


def test_threads_that_wait_for_a_state_leave_the_gil_to_its_host_function() -> None:
    """Were the GIL kept, the thread that waits for the state would keep it from the callback of the one that has it."""
    program = program_of((Slot("state", 0, 128),), (HostCall("mix", (0, 0), (16,)),) * 3, n_states=1, writes_state=True)
    state = np.full(16, 6)              # which 13 never divides, however often it becomes 3 x + 1
    bound = ready(program, release_gil=False).bind_states([state.ctypes.data])
    callers = [threading.Thread(target=lambda: [bound.fast_call() for _ in range(4)]) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    value = 6
    for _ in range(36):
        value = 3 * value + 1
    assert state.tolist() == [value] * 16


# -- sizes of the call ----------------------------------------------------------------------------------------------

MANY = 10_000


def sized(times: int = 1) -> Program:
    """q[i] = x[i] + y[i] for i < times * n, cut up for all threads; the kernel comes from the CPU's code generator."""
    slots = (Slot("arg", 0, 8 * MANY), Slot("arg", 1, 8 * MANY), Slot("out", 0, 8 * MANY))
    array = TensorSpec("x", parse_type("i64[2*n]" if times == 2 else "i64[n]"))
    signature = Signature((array, replace(array, name="y")), outs=(replace(array, name="q"),),
                          sizes=(SizeSpec("n", MANY // times),))
    return Program(slots, (launch("add cut", [0, 1, 2], [SizeOf(0, times)]),), signature)


def sums_of(call: Callable[..., None], n: int, salt: int) -> bool:
    x, y = np.arange(MANY) + salt, np.full(MANY, 7 * salt)
    out = np.full(MANY, -1)
    call(x.ctypes.data, y.ctypes.data, out.ctypes.data, n)
    return bool((out[:n] == x[:n] + y[:n]).all() and (out[n:] == -1).all())


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 4999, MANY])
def test_one_executable_takes_any_size(call_of, n: int) -> None:
    assert sums_of(call_of(ready(sized())), n, 3)


def test_extents_are_multiples_of_sizes() -> None:
    x, out = np.ones(MANY, np.int64), np.zeros(MANY, np.int64)
    ready(sized(2)).call([x.ctypes.data, x.ctypes.data], [], [out.ctypes.data], sizes=[6])
    assert out.sum() == 24


def test_calls_of_different_sizes_run_at_once() -> None:
    """One executable, four threads, each with sizes of its own: a size that leaks into another call shows at its end."""
    wrong: list[tuple[int, int]] = []
    with config.set(num_threads=2):
        call = ready(sized(), release_gil=True).fast_call
        start = threading.Barrier(4)

        def work(salt: int) -> None:
            start.wait()
            for turn in range(150):
                n = (salt * 2477 + turn * 331) % (MANY + 1)
                if not sums_of(call, n, salt):
                    wrong.append((salt, n))

        callers = [threading.Thread(target=work, args=(salt,)) for salt in range(4)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(timeout=120)
    assert not wrong and not any(caller.is_alive() for caller in callers)


@pytest.mark.parametrize("bad", [-1, MANY + 1, 2**63, 2**64, 1.5, "3", None])
def test_a_size_that_the_program_was_not_made_for_is_a_type_error(call_of, bad: object) -> None:
    executable, x = ready(sized()), np.zeros(MANY, np.int64)
    with pytest.raises(TypeError, match=f"size n of the program is not an int from 0 to {MANY}"):
        call_of(executable)(*[x.ctypes.data] * 3, bad)
    with pytest.raises(TypeError, match="1 output pointers, then 1 sizes; 3 values came"):
        call_of(executable)(*[x.ctypes.data] * 3)
    assert len(executable._memory.instances) == 1


# -- signals ----------------------------------------------------------------------------------------------------------


ENDLESS = """
import os, signal, sys, threading, time
sys.path[:0] = [{tests!r}]
from test_program_trees import *
slots = (Slot("arg", 0, 1), Slot("state", 0, 8))
body = (Launch("visit", 1, 1, False, (1,)),)
program = program_of(slots, (Loop(0, body),), n_args=1, n_states=1, writes_state=True)
state, more = np.zeros(1, np.int64), np.ones(1, np.uint8)
bound = ready(program).bind_states([state.ctypes.data])
call = bound.fast_call if {way!r} == "builtin" else bound._memory.call
"""
SIGNALS = {
    "Ctrl-C ends an endless loop, and the program runs again": """
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        try:
            call(more.ctypes.data)
        except KeyboardInterrupt:
            more[0] = 0
            call(more.ctypes.data)
            print("ended", state[0] > 100, len(bound._memory.instances))
    """,
    "a handler runs between two turns, and the loop goes on": """
        def handler(*_):
            global seen
            seen, more[0] = int(state[0]), 0
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        call(more.ctypes.data)
        print("ended", state[0] >= seen > 100, len(bound._memory.instances))
    """,
    "a handler that calls the program it interrupts is refused": """
        def handler(*_):
            more[0] = 0
            call(more.ctypes.data)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            call(more.ctypes.data)
        except fb.errors.UnsupportedError as error:
            call(more.ctypes.data)
            print("ended", "signal handler called the compiled function" in str(error), 1)
    """,
    "another thread waits for the state while the loop pauses": """
        import _thread
        ended = []
        def other():
            time.sleep(0.1)
            call(none.ctypes.data)
            ended.append(more[0] == 0)
        none = np.zeros(1, np.uint8)
        threading.Timer(0.4, lambda: more.__setitem__(0, 0)).start()
        thread = threading.Thread(target=other)
        thread.start()
        call(more.ctypes.data)
        thread.join()
        print("ended", ended == [True], 1)
    """,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such signals here")
@pytest.mark.parametrize("way", ["builtin", "ctypes"])
@pytest.mark.parametrize("name", SIGNALS)
def test_signals_in_a_long_loop(name: str, way: str) -> None:
    code = ENDLESS.format(tests=os.path.dirname(__file__), way=way) + "import flambeau as fb\n"
    done = subprocess.run([sys.executable, "-c", code + textwrap.dedent(SIGNALS[name])], capture_output=True, text=True,
                          timeout=100, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert (done.returncode, done.stdout.strip()) == (0, "ended True 1"), done.stderr[-2000:]


def test_a_loop_that_pauses_loses_and_repeats_nothing() -> None:
    """Long enough for several pauses; two threads take turns at the state."""
    slots = (Slot("state", 0, 16), Slot("arena", 0, 8), Slot("arena", 64, 1))
    alone = Launch("alone", 1, 1, False, (0,), (1,))
    steps = (launch("turns", [1], [600_000]), *countdown(1, 2, (alone,)))
    state = np.zeros(2, np.int64)
    program = program_of(slots, steps, n_states=1, writes_state=True, arena_bytes=128)
    call = ready(program).bind_states([state.ctypes.data]).fast_call
    callers = [threading.Thread(target=call) for _ in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=120)
    assert state.tolist() == [0, 1_200_000]


# -- what is refused ------------------------------------------------------------------------------------------------

BYTE, WORD = Slot("arg", 0, 1), Slot("arg", 0, 8)
NOTHING = Launch("nothing", 1, 1, False, ())


def deep(bodies: int) -> Loop:
    made = Loop(0, (NOTHING,))
    for _ in range(bodies - 1):
        made = Loop(0, (made,))
    return made


@pytest.mark.parametrize(("program", "message"), [
    (program_of((Slot("arg", 1, 8),), n_args=1), "missing arg, of 1"),
    (program_of((Slot("arg", -1, 8),), n_args=1), "missing arg, of 1"),
    (program_of((Slot("room", 0, 8),)), "unknown kind"),                        # type: ignore[arg-type]
    (program_of((Slot("arena", 0, -8),)), "negative size"),
    (Program((), (), Signature((TensorSpec("x", TensorType((-2, -3), dt.f32)),))), "no memory holds x : f32"),
    (Program((), (), Signature((TensorSpec("x", TensorType((1 << 40, 1 << 40), dt.f32)),))), "no memory holds x : f32"),
    (program_of((Slot("arena", 64, 8),), arena_bytes=64), "leaves the arena of 64 bytes"),
    (program_of((Slot("arena", 8, 8),), arena_bytes=64), "is not aligned"),
    (program_of((), arena_bytes=-1), "an arena of -1 bytes"),
    (program_of((Slot("out", 0, 9),), out_bytes=(8,)), "larger than its out of 8 bytes"),
    (program_of((Slot("const", 0, 9),), consts=(b"12345678",)), "larger than its const of 8 bytes"),
    (program_of((Slot("scalar", 0, 9),), n_scalars=1), "larger than its scalar of 8 bytes"),
    (Program((Slot("arg", 0, 9),), (), Signature((bytes_spec("x", 8),))), "larger than its arg of 8 bytes"),
    (program_of((Slot("arg", 0, 8, "cuda"),), n_args=1), "lies on 'cuda', which the runner does not reach"),
    (program_of((), (Launch("nothing", 1, 1, False, (0,)),)), "no slot 0 among 0"),
    (program_of((WORD,), (Launch("nothing", 1, 1, False, (-1,)),), n_args=1), "no slot -1 among 1"),
    (program_of((), (HostCall("mix", (0,)),)), "no slot 0 among 0"),
    (program_of((), (Launch("nothing", 1, 0, False, ()),)), "grain 0"),
    (program_of((), (Launch("nothing", -1, 1, False, ()),)), "negative tasks -1"),
    (program_of((), (Launch("nothing", 1 << 40, 1, False, ()),)), "too many chunks"),
    (program_of((), (Launch("nothing", 1, 1, False, (), (1 << 64,)),)), "an extent of 18446744073709551616"),
    (program_of((), (Launch("nothing", (Blocks(1 << 40), Blocks(1 << 40)), 1, False, ()),)), "too many chunks"),
    (program_of((), (Launch("nothing", (Blocks(1, 0),), 1, False, ()),)), "blocks of 0"),
    (program_of((), (Launch("nothing", (Blocks(SizeOf(0)),), 1, False, ()),)), "no size 0 among 0"),
    (program_of((), (HostCall("mix", (), (SizeOf(1),)),), sizes=(SizeSpec("n", 1),)), "no size 1 among 1"),
    (program_of((), (HostCall("mix", (), (SizeOf(0, -1),)),), sizes=(SizeSpec("n", 1),)), "reaches -1"),
    (program_of((), (HostCall("mix", (), (SizeOf(0, 1 << 40),)),), sizes=(SizeSpec("n", 1 << 40),)), "reaches"),
    (program_of((), (Launch("nothing", (Blocks(SizeOf(0)),), 1, True, ()),), sizes=(SizeSpec("n", 1 << 40),)),
     "too many chunks"),
    (program_of((), sizes=(SizeSpec("n", -1),)), "size n is at most -1"),
    (program_of((), sizes=(SizeSpec("n", 1), SizeSpec("n", 2))), "two sizes of one name"),
    (Program((), (), Signature((TensorSpec("x", parse_type("f32[n]")),))), "names 'n', which no call brings"),
    (Program((), (), Signature((TensorSpec("x", parse_type("f32[4+-1*n]")),), sizes=(SizeSpec("n", 4),))),
     "does not grow with its parts"),
    (Program((), (), Signature((TensorSpec("x", parse_type("f32[4]"), b""),))), "is no state, and has an initial"),
    (Program((), (), Signature(states=(TensorSpec("w", parse_type("f32[4]"), b"1234"),))), "initial value of 4 bytes"),
    (Program((), (), Signature(scalars=(TensorSpec("s", parse_type("f64[1]")),))), "is no number"),
    (program_of((), (Loop(0, ()),)), "loop: no slot 0 among 0"),
    (program_of((WORD,), (Loop(0, ()),), n_args=1), "loop: its condition is no bool"),
    (program_of((Slot("scalar", 0, 1),), (Branch(0, ()),), n_scalars=1), "branch: its condition is no bool"),
    (program_of((BYTE,), (Branch(-1, ()),), n_args=1), "branch: no slot -1 among 1"),
    (program_of((BYTE,), (Loop(0, (Branch(0, (), (Loop(1, ()),)),)),), n_args=1), "loop: no slot 1 among 1"),
    (program_of((BYTE,), (deep(10_000),), n_args=1), "bodies nest more than 64 deep"),
    (replace(program_of((), (replace(NOTHING, location=1),)), locations=("a.py:1",)), "no location 1 among 1"),
], ids=lambda case: case.replace(" ", "_") if isinstance(case, str) else "")
def test_a_program_that_native_code_must_not_see_is_refused(program: Program, message: str) -> None:
    with pytest.raises(VerificationError, match=message):
        on_small_kernels(program)
    with pytest.raises(VerificationError, match=message):
        InterpretedExecutable(program, [None] * 9)


def test_memory_of_other_devices_is_for_runners_that_reach_it() -> None:
    program = program_of((Slot("arg", 0, 8, "cuda"),), n_args=1)
    program.check(devices=("cpu", "cuda"))
    asked = program_of((Slot("arg", 0, 1, "cuda"),), (Loop(0, ()),), n_args=1)
    with pytest.raises(VerificationError, match="its condition is no bool that the runner can read"):
        asked.check(devices=("cpu", "cuda"))
    asked.check(devices=("cpu", "cuda"), asked=("cpu", "cuda"))


def test_nothing_runs_without_an_address() -> None:
    with pytest.raises(VerificationError, match="there is no host function 'solve'"):
        ready(program_of((), (HostCall("solve", ()),)))
    with pytest.raises(VerificationError, match="there is no host function 'solve'"):
        InterpretedExecutable(program_of((), (HostCall("solve", ()),)), [None])


def test_the_interpreter_notices_a_condition_that_nothing_stored() -> None:
    program = program_of((Slot("arena", 0, 1),), (Branch(0, ()),), arena_bytes=64)
    with config.set(poison=True), pytest.raises(VerificationError, match="asks for a bool that nothing stored"):
        InterpretedExecutable(program, []).fast_call()


def test_programs_that_differ_in_user_lines_alone_are_equal() -> None:
    first, second = (replace(program_of((), (replace(NOTHING, location=n),)), locations=("a.py:1", "b.py:2")[:n + 1])
                     for n in range(2))
    assert first == second and hash(first) == hash(second)
