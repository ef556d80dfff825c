import os
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from small_kernels import executable, program_of, visits

from flambeau import config
from flambeau.errors import KernelError
from flambeau.runtime import (
    Launch,
    Slot,
    as_ndarray,
    default_num_threads,
    get_num_threads,
    set_num_threads,
    threads,
    zeros,
)


@pytest.fixture(params=[2, 4])
def workers(request):
    """A pool of this many threads, more than there may be cores."""
    with config.set(num_threads=request.param):
        yield request.param


def counts_after(program, calls):
    counts = zeros(program.slots[0].nbytes)
    ready = executable(program)
    for _ in range(calls):
        ready.fast_call(counts.ptr)
    return as_ndarray(counts, np.int64, (program.slots[0].nbytes // 8,))


@pytest.mark.parametrize(("tasks", "grain"), [(1, 1), (2, 1), (64, 1), (1000, 7), (1000, 999), (5, 100)])
def test_every_task_is_done_once(workers, tasks, grain):
    assert (counts_after(visits(tasks, grain), 50) == 50).all()


def test_no_tasks_is_no_work(workers):
    program = program_of((Slot("arg", 0, 8),), (Launch("nothing", 0, 1, True, (0,)),), n_args=1)
    buffer = zeros(8)
    executable(program).fast_call(buffer.ptr)


def test_many_launches_in_a_row(workers):
    """50,000 barriers with 3 chunks each: a chunk that is lost, doubled or late shows in the counts."""
    assert (counts_after(visits(3, 1, launches=50), 1000) == 50_000).all()


def test_workers_wake_after_sleeping(workers):
    counts, ready = zeros(8 * 16), executable(visits(16))
    for _ in range(10):
        time.sleep(0.003)
        ready.fast_call(counts.ptr)
    assert (as_ndarray(counts, np.int64, (16,)) == 10).all()


def test_chunks_run_on_two_threads_at_once(workers):
    """Each of two tasks waits for the other: only two threads can finish this."""
    launch = Launch("meet", 2, 1, True, (0,), sizes=(2, 2_000_000_000))
    met = zeros(8)
    executable(program_of((Slot("arg", 0, 8),), (launch,), n_args=1)).fast_call(met.ptr)
    assert as_ndarray(met, np.int64, ()) == 2


def test_two_python_threads_launch_at_once(workers):
    """One has the pool, the other runs inline; neither waits for the other, and no task is lost."""
    counts = [zeros(8 * 20) for _ in range(3)]
    ready = executable(visits(20, 1, launches=20))

    def work(buffer):
        for _ in range(500):
            ready.fast_call(buffer.ptr)

    callers = [threading.Thread(target=work, args=(buffer,)) for buffer in counts]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert all((as_ndarray(buffer, np.int64, (20,)) == 10_000).all() for buffer in counts)


def test_a_busy_pool_is_not_waited_for(workers):
    """While one call holds the pool until a second one comes, the second one runs inline and frees it."""
    holding = Launch("meet", 2, 1, True, (0,), sizes=(3, 2_000_000_000))
    one = executable(program_of((Slot("arg", 0, 8),), (holding,), n_args=1))
    met = zeros(8)
    holder = threading.Thread(target=one.fast_call, args=(met.ptr,))
    holder.start()
    while as_ndarray(met, np.int64, ()) < 2:
        time.sleep(0.001)
    others = zeros(32)                      # held: a call does not keep its buffers alive
    executable(visits(4)).fast_call(others.ptr)
    executable(visits(1, parallel=False)).fast_call(met.ptr)
    holder.join(timeout=60)
    assert not holder.is_alive()


def test_a_failing_chunk_stops_the_launch(workers):
    """Chunks below the limit are fine; the first one above it fails, whoever runs it."""
    launch = Launch("bounded", 1000, 1, True, (), sizes=(10,), errors=((1, "stopped at {0} of {1}"),))
    ready = executable(program_of((), (launch,)))
    for _ in range(200):
        with pytest.raises(KernelError) as caught:
            ready.call([])
        # Details belong to one failure: the begin that failed first, and its limit.
        assert 10 <= caught.value.details[0] < 1000 and caught.value.details[1] == 10
        assert caught.value.details[0] < 10 + get_num_threads()


def test_thread_count_can_change_between_calls():
    counts, ready = zeros(8 * 100), executable(visits(100))
    for number in (1, 3, 2, 1, 4):
        with config.set(num_threads=number):
            ready.fast_call(counts.ptr)
            assert get_num_threads() == number
            assert len(threads._pool.threads) == number - 1
    assert (as_ndarray(counts, np.int64, (100,)) == 5).all()


def test_thread_count_can_change_during_calls():
    counts, ready, ended = zeros(8 * 50), executable(visits(50)), threading.Event()
    calls = []

    def work():
        while not ended.is_set():
            ready.fast_call(counts.ptr)
            calls.append(1)

    caller = threading.Thread(target=work)
    caller.start()
    for number in (2, 1, 3) * 10:
        with config.set(num_threads=number):
            time.sleep(0.002)
    ended.set()
    caller.join(timeout=60)
    assert (as_ndarray(counts, np.int64, (50,)) == len(calls)).all()


def test_stopped_workers_end():
    with config.set(num_threads=3):
        counts_after(visits(8), 1)
        workers = threads._pool.threads
        assert all(worker.is_alive() and worker.daemon for worker in workers)
    assert not any(worker.is_alive() for worker in workers)


@pytest.mark.parametrize("bad", [0, -2, 1.5, "x"])
def test_set_num_threads_wants_a_positive_integer(bad):
    with pytest.raises(ValueError, match="num_threads"):
        set_num_threads(bad)


def test_omp_num_threads_is_the_default(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    assert default_num_threads() == 3
    with config.set(num_threads=5):
        assert get_num_threads() == 5


def test_empty_omp_num_threads_asks_for_nothing(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")
    assert 1 <= default_num_threads() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize("value", ["0", "-1", "many", "\u00b2", "9" * 5000, "1e3", "4097"])
def test_senseless_omp_num_threads_is_ignored_with_a_warning(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    with pytest.warns(RuntimeWarning, match="OMP_NUM_THREADS starts with .*, no number from 1 to 1024"):
        assert 1 <= default_num_threads() <= len(os.sched_getaffinity(0))


def test_cgroup_quota_is_the_smallest_on_the_way_up(tmp_path):
    group = tmp_path / "cgroup" / "a" / "b"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("150000 100000\n")
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert threads._cgroup_cpus(tmp_path / "cgroup", own) == 1.5


def test_cgroup_version_1_quota(tmp_path):
    group = tmp_path / "cpu" / "a"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("50000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    own = tmp_path / "own"
    own.write_text("3:memory:/a\n2:cpu,cpuacct:/a\n")
    assert threads._cgroup_cpus(tmp_path, own) == 0.5
    (group / "cpu.cfs_quota_us").write_text("-1\n")
    assert threads._cgroup_cpus(tmp_path, own) is None


def run_script(body):
    """Run a program of its own with two threads; its standard output. Fails if it fails or hangs."""
    script = "import os, sys, time, threading\nimport numpy as np\n" + textwrap.dedent(body)
    path = os.pathsep.join(filter(None, [*sys.path, os.getcwd()]))
    environment = {**os.environ, "FLAMBEAU_NUM_THREADS": "2", "PYTHONPATH": path}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_forked_child_starts_its_own_workers():
    out = run_script(
        """
        from small_kernels import executable, visits
        from flambeau.runtime import as_ndarray, threads, zeros
        counts, ready = zeros(8 * 10), executable(visits(10))
        ready.fast_call(counts.ptr)
        child = os.fork()
        if child == 0:
            alive_before = threads._pool is not None
            for _ in range(1000):
                ready.fast_call(counts.ptr)
            right = (as_ndarray(counts, np.int64, (10,)) == 1001).all() and not alive_before
            os._exit(0 if right and threads._pool.threads[0].is_alive() else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        ready.fast_call(counts.ptr)
        print((as_ndarray(counts, np.int64, (10,)) == 2).all())
        """
    )
    assert out.split() == ["0", "True"]


def test_a_child_forked_during_another_threads_call_is_not_stuck():
    """The state lock and the pool are held by a thread that the child does not have."""
    out = run_script(
        """
        from small_kernels import executable, program_of
        from flambeau.runtime import Launch, Slot, as_ndarray, zeros
        launch = Launch("meet", 2, 1, True, (0,), sizes=(3, 4_000_000_000))
        program = program_of((Slot("state", 0, 8),), (launch,), n_states=1, writes_state=True)
        state = zeros(8)
        ready = executable(program).bind_states([state.ptr])
        other = threading.Thread(target=ready.fast_call)
        other.start()
        view = as_ndarray(state, np.int64, ())
        while view < 2:
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            ready.fast_call()
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        view[...] += 1
        other.join()
        """
    )
    assert out.split() == ["0"]


def test_the_process_ends_with_workers_asleep_or_spinning():
    for pause in (0.0, 0.01):
        run_script(
            f"""
            from small_kernels import executable, visits
            from flambeau.runtime import zeros
            counts, ready = zeros(80), executable(visits(10))
            ready.fast_call(counts.ptr)
            time.sleep({pause})
            """
        )


def test_the_process_ends_while_a_daemon_thread_still_calls():
    run_script(
        """
        from small_kernels import executable, visits
        from flambeau.runtime import zeros
        counts, ready = zeros(80), executable(visits(10))
        def forever():
            while True:
                ready.fast_call(counts.ptr)
        threading.Thread(target=forever, daemon=True).start()
        time.sleep(0.05)
        """
    )


def test_idle_workers_use_no_processor_time():
    out = run_script(
        """
        from small_kernels import executable, visits
        from flambeau.runtime import zeros
        buffer = zeros(80)
        executable(visits(10)).fast_call(buffer.ptr)
        time.sleep(0.02)
        before = time.process_time()
        time.sleep(0.3)
        print(time.process_time() - before)
        """
    )
    assert float(out) < 0.03


def test_importing_the_runtime_loads_no_compiler():
    out = run_script(
        """
        import flambeau.runtime
        print([name for name in sys.modules if name.split(".")[0] in ("llvmlite", "numba")])
        """
    )
    assert out.strip() == "[]"
