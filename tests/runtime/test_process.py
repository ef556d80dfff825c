"""Forks, signals and the end of Python, at the worst of times: no deadlock, no abort."""
from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

SETUP = """
import os, signal, threading, time
import flambeau as fb
f = fb.compile(lambda x: (x @ x).tanh().sum(1))
x = fb.rand(200, 200)
f(x)

def codes_of_forks(work, in_child, count=4):
    # how forked children end while another thread works; 14 is the alarm, that is, a deadlock
    stop = threading.Event()
    def repeat():
        while not stop.is_set():
            work()
    thread = threading.Thread(target=repeat)
    thread.start()
    codes = []
    for _ in range(count):
        child = os.fork()
        if not child:
            signal.alarm(30)
            in_child()
            os._exit(0)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    thread.join()
    return codes
"""
PROGRAMS = {
    "fork while machine code runs": """
        print(codes_of_forks(lambda: f(x), lambda: f(x)))
    """,
    "fork while functions are compiled": """
        make = lambda: fb.compile(lambda x: (x * 2).exp().sum(0) + x[3])(x)
        print(codes_of_forks(make, make))
    """,
    "fork while interpreted kernels write state": """
        total, rows = fb.zeros(4), fb.ones(4, 4)
        g = fb.compile(lambda r: total.add_(r.sum(0)), backend="interpret")
        print(codes_of_forks(lambda: g(rows), lambda: g(rows)))
    """,
    "fork while calls are verified": """
        rows = fb.ones(4, 4)
        g = fb.compile(lambda r: (r @ r).sum(0), verify=True)
        print(codes_of_forks(lambda: g(rows), lambda: g(rows)))
    """,
    "call when Python ends": """
        class AtTheEnd:
            def __del__(self):
                print([0] * 4 if f(x).shape == (200,) else "wrong")
        last = AtTheEnd()
        last.itself = last
    """,
    "call from a signal handler": """
        signal.signal(signal.SIGALRM, lambda *_: f(x))
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        ends = time.monotonic() + 0.5
        while time.monotonic() < ends:
            f(x)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print([0] * 4)
    """,
    "compiled again from a handler while it is compiled": """
        g, refused = fb.compile(lambda x: (x @ x).softmax(1).cumsum(0)), []
        def handler(*_):
            try:
                g(x)
            except fb.errors.UnsupportedError as error:
                refused.append("while this thread compiles it" in str(error))
            except fb.errors.FlambeauError:
                pass                    # in the middle of a trace it is part of what is traced
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.02)
        g(x)
        signal.setitimer(signal.ITIMER_REAL, 0)
        print([0] * 4 if all(refused) else refused)
    """,
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("name", PROGRAMS)
def test_it_ends_well(name: str) -> None:
    code = SETUP + textwrap.dedent(PROGRAMS[name])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert (done.returncode, done.stdout.strip()) == (0, "[0, 0, 0, 0]"), done.stderr[-2000:]
