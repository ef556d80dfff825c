"""Is anyone else using this machine? Linux's /proc only; elsewhere every round counts and the report says so.

CPU time is compared in clock ticks (10 ms): what all CPUs did, less what the measured session and we did.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
AVAILABLE = (PROC / "stat").exists()
SLACK_TICKS = 2  # accounting rounds each process to a tick
SLACK_SHARE = 0.02


@dataclass(frozen=True)
class Interval:
    """Ticks spent by others between two snapshots, and ticks there were on one CPU."""

    foreign: int
    elapsed: float

    @property
    def is_quiet(self) -> bool:
        return self.foreign <= SLACK_TICKS + SLACK_SHARE * self.elapsed


class Watch:
    """with Watch(session) as watch: ...; watch.interval. `session` is the session id of the measured process."""

    def __init__(self, session: int) -> None:
        self.session = session
        self.interval = Interval(0, 0)

    def __enter__(self) -> Watch:
        self._start = time.perf_counter()
        self._foreign = _busy_ticks() - _own_ticks(self.session)
        return self

    def __exit__(self, *exc: object) -> None:
        foreign = _busy_ticks() - _own_ticks(self.session) - self._foreign
        elapsed = (time.perf_counter() - self._start) * os.sysconf("SC_CLK_TCK")
        self.interval = Interval(foreign if AVAILABLE else 0, elapsed)


def wait_for_quiet(seconds: float) -> bool:
    """Wait until we are the only runnable process, seen three times in a row. False when time runs out first."""
    deadline, seen = time.perf_counter() + seconds, 0
    while seen < 3:
        seen = seen + 1 if runnable() <= 1 else 0
        if time.perf_counter() > deadline:
            return False
        time.sleep(0.003)
    return True


def runnable() -> int:
    """Processes running or ready to, ourselves included."""
    if not AVAILABLE:
        return 1
    return int((PROC / "stat").read_text().split("procs_running ")[1].split()[0])


def load_average() -> float:
    return os.getloadavg()[0]


def _busy_ticks() -> int:
    """user + nice + system + irq + softirq + steal, all CPUs."""
    if not AVAILABLE:
        return 0
    fields = [int(field) for field in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]]
    return sum(fields[i] for i in (0, 1, 2, 5, 6, 7))


def _own_ticks(session: int) -> int:
    """This process, and every process of the session with the children it has waited for."""
    if not AVAILABLE:
        return 0
    total = 0
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            total += _ticks_of(entry, session)
    return total


def _ticks_of(entry: Path, session: int) -> int:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it ended while we were reading
    if int(entry.name) == os.getpid():
        return int(fields[11]) + int(fields[12])
    return sum(int(field) for field in fields[11:15]) if int(fields[3]) == session else 0
