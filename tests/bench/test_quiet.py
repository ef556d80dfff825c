"""Another process on the machine is noticed, the measured one is not counted as another."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks import quiet

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"

pytestmark = pytest.mark.skipif(not quiet.AVAILABLE, reason="needs /proc")


def burn(**options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BURN], **options)  # type: ignore[call-overload, no-any-return]


def test_a_strangers_cpu_time_makes_an_interval_loud() -> None:
    with quiet.Watch(session=-1) as watch:
        burn(start_new_session=True).wait()
    assert watch.interval.foreign >= 20  # 0.3 s of 10 ms ticks, less rounding
    assert not watch.interval.is_quiet


def test_the_measured_session_is_not_a_stranger() -> None:
    """0.3 s burnt inside the session are its own. The process stays alive, so that its ticks can still be read."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"input()\n{BURN}\nprint()\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin and process.stdout
    with process:
        ticks_before = quiet._own_ticks(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        ticks = quiet._own_ticks(process.pid) - ticks_before
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert ticks >= 25
