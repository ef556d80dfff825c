import math
import threading
import weakref

import numpy as np
import pytest
from small_kernels import executable, library, program_of, visits

from flambeau import config
from flambeau.errors import KernelError
from flambeau.runtime import Executable, Launch, Slot, allocate, as_ndarray, from_ndarray, zeros
from flambeau.runtime.native.builtin import builtins_possible

ADD = program_of(
    slots=(Slot("arg", 0, 24), Slot("out", 0, 24), Slot("scalar", 0, 8)),
    steps=(Launch("add_scalar", 1, 1, False, (0, 1, 2), sizes=(3,)),),
    n_args=1,
    n_scalars=1,
    out_bytes=(24,),
)
INDEX_ERRORS = ((1, "index {0} is out of range for size {1}"),)


@pytest.fixture(params=["builtin", "ctypes"])
def call_of(request):
    """Both ways into a program: the native trampoline, and ctypes as on interpreters without it."""
    if request.param == "builtin":
        assert builtins_possible()
        return lambda executable: executable.fast_call
    return lambda executable: executable._memory.call


def add(call, values, scalar):
    x, out = from_ndarray(np.array(values, np.float64)), allocate(24)
    assert call(x.ptr, scalar, out.ptr) is None
    return as_ndarray(out, np.float64, (3,)).tolist()


def test_arguments_scalars_and_outputs_reach_the_kernel(call_of):
    assert add(call_of(executable(ADD)), [1, 2, 3], 0.5) == [1.5, 2.5, 3.5]


def test_scalars_may_be_minus_one_an_int_nan_or_infinite(call_of):
    call = call_of(executable(ADD))
    assert add(call, [1, 2, 3], -1.0) == [0, 1, 2]
    assert add(call, [1, 2, 3], 2) == [3, 4, 5]
    assert add(call, [1, 2, 3], math.inf) == [math.inf] * 3
    assert all(math.isnan(value) for value in add(call, [1, 2, 3], math.nan))


@pytest.mark.parametrize("count", [0, 1, 2, 4])
def test_wrong_number_of_values_is_a_type_error(call_of, count):
    with pytest.raises(
        TypeError, match=rf"1 argument pointers, 1 scalars and 1 output pointers; {count} values"
    ):
        call_of(executable(ADD))(*[zeros(24).ptr] * count)


@pytest.mark.parametrize("bad", [None, "x", 1.5, b"", [], np.zeros(3), 0, -1, 4095, 2**64, 2**80])
@pytest.mark.parametrize("position", [0, 2])
def test_wrong_pointer_is_a_type_error(call_of, position, bad):
    values = [zeros(24).ptr, 0.0, zeros(24).ptr]
    values[position] = bad
    name = "argument 0" if position == 0 else "output 0"
    with pytest.raises(TypeError, match=f"{name} of the program is not a pointer"):
        call_of(executable(ADD))(*values)


@pytest.mark.parametrize("bad", [None, "x", b"1", [1.0], 1j])
def test_wrong_scalar_is_a_type_error(call_of, bad):
    with pytest.raises(TypeError, match="scalar 0 of the program is not a number"):
        call_of(executable(ADD))(zeros(24).ptr, bad, zeros(24).ptr)


def test_no_keywords():
    with pytest.raises(TypeError):
        executable(ADD).fast_call(x=1)


def test_a_rejected_call_gives_its_instance_back(call_of):
    ready = executable(ADD)
    for _ in range(100):
        with pytest.raises(TypeError):
            call_of(ready)(None, None, None)
    assert len(ready._memory.instances) == 1


def test_program_without_launches_does_nothing(call_of):
    call_of(executable(program_of((), ())))()


def test_launches_run_in_order_through_the_arena_and_constants():
    """out = (x + 1.0) + constant 10.0, with the sum in between at byte 64 of the arena."""
    program = program_of(
        slots=(
            Slot("arg", 0, 16),
            Slot("arena", 64, 16),
            Slot("out", 0, 16),
            Slot("scalar", 0, 8),
            Slot("const", 0, 8),
        ),
        steps=(
            Launch("add_scalar", 1, 1, False, (0, 1, 3), sizes=(2,)),
            Launch("add_scalar", 1, 1, False, (1, 2, 4), sizes=(2,)),
        ),
        arena_bytes=128,
        n_args=1,
        n_scalars=1,
        out_bytes=(16,),
        consts=(np.float64(10).tobytes(),),
    )
    ready = executable(program)
    x, out = from_ndarray(np.array([1.0, 2.0])), allocate(16)
    ready.call([x.ptr], [1.0], [out.ptr])
    assert as_ndarray(out, np.float64, (2,)).tolist() == [12.0, 13.0]
    assert (ready.arena_bytes, ready.allocated_arena_bytes) == (128, 128)


def test_states_are_bound_and_updated_in_place():
    program = program_of(
        (Slot("state", 0, 8),), (Launch("visit", 1, 1, False, (0,)),), n_states=1, writes_state=True
    )
    ready = executable(program)
    first, second = zeros(8), zeros(8)
    one, two = ready.bind_states([first.ptr]), ready.bind_states([second.ptr])
    one.fast_call()
    one.fast_call()
    two.fast_call()
    assert as_ndarray(first, np.int64, ()) == 2 and as_ndarray(second, np.int64, ()) == 1


def test_unbound_states_are_our_mistake():
    program = program_of((Slot("state", 0, 8),), (), n_states=1)
    with pytest.raises(AssertionError, match="bind_states"):
        executable(program).fast_call()
    with pytest.raises(AssertionError, match="1 states, not 2"):
        executable(program).bind_states([1, 2])


@pytest.mark.parametrize("parallel", [False, True])
def test_failed_kernel_raises_its_message_and_details(call_of, parallel):
    launch = Launch("bounded", 8, 1, parallel, (), sizes=(7,), errors=INDEX_ERRORS)
    begin = 7 if parallel else 0            # the first range of one point that fails, or the only range of all eight
    with config.set(num_threads=2), pytest.raises(KernelError, match=f"index {begin} is out of range for size 7") as caught:
        call_of(executable(program_of((), (launch,))))()
    assert (caught.value.status, caught.value.details) == (1, (begin, 7))
    assert isinstance(caught.value, IndexError)


def test_failure_without_a_message_names_the_kernel():
    with pytest.raises(KernelError, match="kernel bounded failed with status 1"):
        executable(program_of((), (Launch("bounded", 2, 1, False, (), sizes=(1,)),))).call([])


def test_launches_after_a_failure_do_not_run(call_of):
    fail = Launch("bounded", 2, 1, False, (), sizes=(1,))
    visit = Launch("visit", 1, 1, False, (0,))
    counts = zeros(8)
    ready = executable(program_of((Slot("arg", 0, 8),), (visit, fail, visit), n_args=1))
    for _ in range(3):
        with pytest.raises(KernelError):
            call_of(ready)(counts.ptr)
    assert as_ndarray(counts, np.int64, ()) == 3
    assert len(ready._memory.instances) == 1


def test_a_failure_leaves_no_trace_on_the_next_call():
    limit = np.array([1.0])
    ready = executable(ADD)
    failing = executable(program_of((), (Launch("bounded", 4, 1, True, (), sizes=(3,)),)))
    for _ in range(20):
        with pytest.raises(KernelError):
            failing.call([])
        assert add(ready.fast_call, [0, 0, 0], limit[0]) == [1, 1, 1]


def test_two_threads_share_one_executable():
    ready = executable(ADD, release_gil=True)
    wrong = []

    def work(scalar):
        for _ in range(2000):
            if add(ready.fast_call, [1, 2, 3], scalar) != [1 + scalar, 2 + scalar, 3 + scalar]:
                wrong.append(scalar)

    run_all([lambda scalar=scalar: work(float(scalar)) for scalar in range(4)])
    assert not wrong


def test_calls_in_flight_have_their_own_arenas():
    """Two calls that wait for each other, then count in the arena: the executable then holds two arenas."""
    meet = Launch("meet", 1, 1, False, (0,), sizes=(2, 2_000_000_000))
    visit = Launch("visit", 1, 1, False, (1,))
    slots = (Slot("arg", 0, 8), Slot("arena", 0, 8))
    ready = executable(program_of(slots, (meet, visit), arena_bytes=64, n_args=1), release_gil=True)
    met = zeros(8)
    run_all([lambda: ready.fast_call(met.ptr)] * 2)
    assert as_ndarray(met, np.int64, ()) == 2 and ready.allocated_arena_bytes == 128


def test_state_writes_are_serialised(call_of):
    """The kernel fails if it finds another call in flight over its state, and loses counts."""
    launch = Launch("alone", 1, 1, False, (0,), sizes=(20_000,))
    program = program_of((Slot("state", 0, 16),), (launch,), n_states=1, writes_state=True)
    state = zeros(16)
    call = call_of(executable(program, release_gil=True).bind_states([state.ptr]))
    run_all([lambda: [call() for _ in range(500)]] * 4)
    assert as_ndarray(state, np.int64, (2,)).tolist() == [0, 2000]


def test_calls_that_write_no_state_do_overlap():
    """The proof that the test above can fail."""
    launch = Launch("alone", 1, 1, False, (0,), sizes=(20_000,))
    ready = executable(program_of((Slot("arg", 0, 16),), (launch,), n_args=1), release_gil=True)
    shared, overlapped = zeros(16), threading.Event()

    def work():
        for _ in range(100_000):
            if overlapped.is_set():
                return
            try:
                ready.fast_call(shared.ptr)
            except KernelError:
                overlapped.set()

    run_all([work] * 2)
    assert overlapped.is_set()


def test_other_threads_run_during_a_long_call():
    launch = Launch("count_slowly", 1, 1, False, (0,), sizes=(300_000_000,))
    ready = executable(program_of((Slot("arg", 0, 8),), (launch,), n_args=1), release_gil=True)
    count, seen = zeros(8), set()
    thread = threading.Thread(target=ready.fast_call, args=(count.ptr,))
    thread.start()
    while thread.is_alive():
        seen.add(as_ndarray(count, np.int64, ()).item())
    thread.join()
    assert len(seen) > 10 and as_ndarray(count, np.int64, ()) == 300_000_000


def test_profile_gives_the_seconds_of_each_launch():
    slow = Launch("count_slowly", 1, 1, False, (0,), sizes=(1_000_000,))
    quick = Launch("visit", 1, 1, False, (0,))
    ready = executable(program_of((Slot("arg", 0, 8),), (slow, quick), n_args=1))
    count = zeros(8)
    times = ready.profile([count.ptr], repeats=3)
    assert as_ndarray(count, np.int64, ()) == 1_000_001
    assert len(times) == 2 and 0 <= times[1] < times[0] and 1e-4 < times[0] < 1.0


def test_profile_reports_failures():
    with pytest.raises(KernelError):
        executable(program_of((), (Launch("bounded", 2, 1, False, (), sizes=(1,)),))).profile([])


def test_executable_frees_its_memory_and_keeps_its_code():
    class Code:
        pass

    code = Code()
    ready = Executable(ADD, library().addresses, keep=code)
    add(ready.fast_call, [1, 2, 3], 1.0)
    held, memory = weakref.ref(code), weakref.ref(ready._memory)
    call = ready.fast_call
    del code, ready
    assert held() is not None and add(call, [1, 2, 3], 1.0) == [2, 3, 4]
    del call
    assert held() is None and memory() is None


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (program_of((Slot("arg", 1, 8),), (), n_args=1), "missing arg, of 1"),
        (program_of((Slot("arena", 60, 8),), (), arena_bytes=64), "leaves the arena of 64 bytes"),
        (program_of((Slot("out", 0, 9),), (), out_bytes=(8,)), "larger than its out of 8 bytes"),
        (program_of((), (Launch("nothing", 1, 1, False, (0,)),)), "no slot 0 among 0"),
        (program_of((), (Launch("nothing", 1, 0, False, ()),)), "grain 0"),
        (program_of((), (Launch("missing", 1, 1, False, ()),)), "no address for kernel missing"),
    ],
)
def test_a_program_that_fits_nothing_is_refused(program, message):
    with pytest.raises(AssertionError, match=message):
        executable(program)


def test_equal_slots_share_one_pointer():
    program = program_of(
        (Slot("arg", 0, 8), Slot("arg", 0, 8)), (Launch("nothing", 1, 1, False, (0, 1)),), n_args=1
    )
    assert executable(program)._image.table_length == 1


def test_short_programs_keep_the_gil_and_long_ones_release_it():
    assert not executable(ADD)._release_gil
    assert executable(visits(100_000, parallel=False))._release_gil
    assert executable(visits(8, parallel=True))._release_gil


def run_all(actions):
    errors = []

    def guarded(action):
        try:
            action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not errors and not any(thread.is_alive() for thread in threads)
