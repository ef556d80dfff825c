"""Where a classifier of points in a plane draws the border: in the terminal, redrawn in place, and as a picture."""
from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

import flambeau as fb

__all__ = ["Border"]

_FRAME_SECONDS = 0.04               # at least: training is faster than the eye
_COLORS = ((244, 162, 97), (250, 243, 221), (69, 123, 157))       # class 0, undecided, class 1
_POINTS = ((188, 71, 0), (12, 45, 82))


class Border:
    """points: f32[n, 2] in [-1, 1], classes: of each, 0 or 1. live: redraw while it changes, on a terminal."""

    FRAMES = 75                     # of a run that is watched

    def __init__(self, points: np.ndarray, classes: np.ndarray, live: bool = True, stream: TextIO | None = None) -> None:
        self.points, self.classes = points, classes
        self.stream = stream if stream is not None else sys.stdout
        self.is_live = live and self.stream.isatty()
        self.has_color = self.stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._drawn_at, self._height = 0.0, 0

    def show(self, model: Any, title: str, is_last: bool = False) -> None:
        """Draw, so that one sees it move; elsewhere than on a terminal the last one alone."""
        if not is_last and not self.is_live:
            return
        if self.is_live:
            time.sleep(max(0.0, self._drawn_at + _FRAME_SECONDS - time.perf_counter()))
        self._drawn_at = time.perf_counter()
        size = shutil.get_terminal_size((80, 24))
        height = max(6, min(20, size.lines - 4))
        lines = [title[:size.columns - 1], *self.lines(model, min(2 * height, size.columns - 2), height)]
        up = f"\x1b[{self._height}A" if self._height and self.is_live else ""
        clear = "\x1b[K" if self.is_live else ""
        self.stream.write(up + "".join(f"\r{line}{clear}\n" if self.is_live else f"{line}\n" for line in lines))
        self.stream.flush()
        self._height = len(lines)

    def lines(self, model: Any, width: int, height: int) -> list[str]:
        """The plane in so many characters: colors, or `.` and `#` by class, `o` and `x` for the points."""
        rows = 2 * height if self.has_color else height
        shares = self.shares(model, width, rows)
        at = self._places(width, rows)
        if not self.has_color:
            field = np.where(shares > 0.5, "#", ".")
            for (row, column), kind in at.items():
                field[row, column] = "ox"[kind]
            return ["".join(row) for row in field]
        colors = _mixed(shares)
        for place, kind in at.items():
            colors[place] = _POINTS[kind]
        return ["".join(_half_block(colors[row, column], colors[row + 1, column]) for column in range(width)) + "\x1b[0m"
                for row in range(0, rows, 2)]

    def shares(self, model: Any, width: int, height: int) -> np.ndarray:
        """How sure the model is of class 1, from 0 to 1: f64[height, width], from the top left."""
        x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(1, -1, height))
        grid = np.stack([x.ravel(), y.ravel()], 1).astype(np.float32)
        with fb.no_grad():
            logits = model(fb.from_numpy(grid)).numpy().astype(np.float64)
        return 1 / (1 + np.exp(-np.clip(logits, -50, 50))).reshape(height, width)

    def _places(self, width: int, height: int) -> dict[tuple[int, int], int]:
        """The class of the point at each (row, column)."""
        columns = np.clip(((self.points[:, 0] + 1) / 2 * width).astype(int), 0, width - 1)
        rows = np.clip(((1 - self.points[:, 1]) / 2 * height).astype(int), 0, height - 1)
        return {(int(row), int(column)): int(kind) for row, column, kind in zip(rows, columns, self.classes, strict=True)}

    def picture(self, model: Any, path: Path, title: str) -> None:
        """Draw to a file, whose ending says how. Needs matplotlib."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5, 5), layout="constrained")
        axes: Any = figure.add_subplot()
        shares = self.shares(model, 200, 200)
        axes.imshow(_mixed(shares), extent=(-1, 1, -1, 1), interpolation="bilinear")
        axes.contour(np.linspace(-1, 1, 200), np.linspace(1, -1, 200), shares, levels=[0.5], colors="black", linewidths=1)
        for kind, marker in ((0, "o"), (1, "X")):
            chosen = self.points[self.classes == kind]
            axes.scatter(*chosen.T, marker=marker, color=np.array(_POINTS[kind]) / 255, edgecolors="white", s=40)
        axes.set(title=title, xticks=[-1, 0, 1], yticks=[-1, 0, 1])
        figure.savefig(path, dpi=150)


def _mixed(shares: np.ndarray) -> np.ndarray:
    """Colors, u8[..., 3], from those of class 0 through the undecided to class 1."""
    low, middle, high = np.array(_COLORS, np.float64)
    part = shares[..., None]
    return np.where(part < 0.5, low + (middle - low) * 2 * part, middle + (high - middle) * (2 * part - 1)).astype(np.uint8)


def _half_block(above: np.ndarray, below: np.ndarray) -> str:
    """One character whose upper and lower halves have these colors."""
    return f"\x1b[38;2;{above[0]};{above[1]};{above[2]};48;2;{below[0]};{below[1]};{below[2]}m\u2580"
