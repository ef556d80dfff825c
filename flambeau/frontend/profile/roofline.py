"""Kernels by their flops a byte and flops a second, under what the machine can do. Loads matplotlib when it draws."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from flambeau.frontend.profile.rows import Row
from flambeau.frontend.words import amount

if TYPE_CHECKING:
    from flambeau.backends.peaks import Peaks

__all__ = ["draw"]

_COLORS = {"contraction": "#d1495b", "attention": "#8f2d56", "loop": "#2e86ab", "scatter": "#3b8132", "op": "#8d99ae"}
_LABELED = 8                            # those that take longest


def draw(rows: Sequence[Row], peaks: Mapping[str, Peaks], path: Path) -> None:
    """A point for each row that computes, its area the time it took; a roof for each device."""
    points = [row for row in rows if row.flops and row.bytes and row.seconds]
    figure = import_module("matplotlib.figure").Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.add_subplot()
    total = sum(row.seconds for row in rows) or 1.0
    intensities = [row.flops / row.bytes for row in points] or [1.0]
    ridges = [peak.ridge for peak in peaks.values()]
    low, high = min([*intensities, *ridges]) / 3, max([*intensities, *ridges]) * 3
    for peak, style in zip(peaks.values(), cycle(("-", "--", ":"))):
        axes.plot([low, peak.ridge, high], [low * peak.bytes, peak.flops, peak.flops], style, color="#555", linewidth=1.5)
    for kind in dict.fromkeys(row.kind for row in points):
        those = [row for row in points if row.kind == kind]
        axes.scatter([row.flops / row.bytes for row in those], [row.flops / row.seconds for row in those],
                     [20 + 1500 * row.seconds / total for row in those], color=_COLORS.get(kind, "#777"), alpha=0.6,
                     label=kind, edgecolor="white", linewidth=0.5)
    for row in sorted(points, key=lambda row: -row.seconds)[:_LABELED]:
        axes.annotate(row.key[:44], (row.flops / row.bytes, row.flops / row.seconds), fontsize=7, xytext=(5, 4),
                      textcoords="offset points")
    axes.set(xscale="log", yscale="log", xlabel="FLOP / byte", ylabel="FLOP / s",
             title="\n".join(f"{peak.by}: {amount(peak.flops)}FLOP/s, {amount(peak.bytes)}B/s" for peak in peaks.values()))
    axes.grid(alpha=0.25, which="both")
    if points:
        axes.legend(loc="lower right")
    figure.savefig(path)
