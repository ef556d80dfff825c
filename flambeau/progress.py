"""Progress on one line that is rewritten in place: tqdm's, where that is installed (`pip install "flambeau[progress]"`),
else a bar of our own; plain lines where output is not a terminal."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from typing import Any, Protocol, Self, TextIO

__all__ = ["Bar", "ProgressBar", "progress_bar"]

_REDRAW_SECONDS = 0.05
_PLAIN_LINES = 10
_BAR_WIDTH = 24


class Bar(Protocol):
    """Counts steps. As a context manager it leaves the cursor on a fresh line."""

    def update(self, done: int, note: str) -> None:
        """Show that `done` of the steps are done, with `note` beside it. Cheap enough for every step."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_error: object) -> None: ...


def progress_bar(total: int, unit: str = "steps", stream: TextIO | None = None) -> Bar:
    """A bar of `total` steps, which are called `unit`, drawn to `stream` (stdout)."""
    stream = stream if stream is not None else sys.stdout
    if stream.isatty() and importlib.util.find_spec("tqdm") is not None:
        return _Tqdm(total, unit, stream)
    return ProgressBar(total, unit, stream)


class _Tqdm:
    """The same by tqdm, which is optional."""

    def __init__(self, total: int, unit: str, stream: TextIO) -> None:
        from tqdm import tqdm

        form = "  {bar:24} {n_fmt}/{total_fmt}  {desc}  {rate_fmt} {remaining}"
        self._bar: Any = tqdm(total=total, file=stream, bar_format=form, unit=f" {unit}", dynamic_ncols=True)

    def update(self, done: int, note: str) -> None:
        """As ProgressBar's."""
        self._bar.set_description_str(note, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= self._bar.total:
            self._bar.close()               # what is printed next has a line of its own

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.close()


class ProgressBar:
    """`total` steps, drawn to `stream`. As a context manager it leaves the cursor on a fresh line."""

    def __init__(self, total: int, unit: str = "steps", stream: TextIO | None = None) -> None:
        self.total, self.unit = total, unit
        self.stream = stream if stream is not None else sys.stdout
        self.live = self.stream.isatty()
        # When the first update came, and with how many steps done: that step compiled, the rest tell the rate.
        self._first: tuple[float, int] | None = None
        self._drawn = 0.0
        self._open_line = False

    def update(self, done: int, note: str) -> None:
        """Show that `done` of the steps are done, with `note` beside it. Cheap enough for every step."""
        now = time.perf_counter()
        self._first = self._first or (now, done)
        if self.live:
            if now - self._drawn < _REDRAW_SECONDS and done < self.total:
                return
            self._drawn = now
            line = self._line(done, note, now)
            self.stream.write("\r\x1b[K" + line[: shutil.get_terminal_size().columns - 1])
            self._open_line = done < self.total
            if not self._open_line:         # what is printed next has a line of its own
                self.stream.write("\n")
        elif done * _PLAIN_LINES // self.total > (done - 1) * _PLAIN_LINES // self.total:
            self.stream.write(self._line(done, note, now) + "\n")
        self.stream.flush()

    def _line(self, done: int, note: str, now: float) -> str:
        began, before = self._first or (now, done)
        filled = _BAR_WIDTH * done // self.total
        full, empty = "█░" if _can_draw_blocks(self.stream) else "#."
        seconds, steps = now - began, done - before
        rate = "compiling" if done < self.total else ""
        if steps:
            rate = f"{steps / seconds:.0f} {self.unit}/s" if steps > seconds else f"{seconds / steps:.1f} s each"
        counted = f"{done:>{len(str(self.total))}}/{self.total}"
        return f"  {full * filled}{empty * (_BAR_WIDTH - filled)} {counted}  {f'{note}  ' if note else ''}{rate}".rstrip()

    def __enter__(self) -> Self:
        if self.live:                       # the first step may take a while: it compiles
            self.stream.write(self._line(0, "", time.perf_counter()))
            self.stream.flush()
            self._open_line = True
        return self

    def __exit__(self, *_error: object) -> None:
        if self._open_line:
            self.stream.write("\n")
            self.stream.flush()


def _can_draw_blocks(stream: TextIO) -> bool:
    return (stream.encoding or "").lower().replace("-", "") == "utf8"
