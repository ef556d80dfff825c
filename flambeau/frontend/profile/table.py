"""Rows of a profile as text."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flambeau.frontend.profile.rows import Row
from flambeau.frontend.words import amount, duration

if TYPE_CHECKING:
    from flambeau.backends.peaks import Peaks

__all__ = ["table"]

_ROW = "{:>9} {:>6} {:>7} {:>9} {:>9} {:>9} {:>7} {:>6}  {:<11} {}"


def table(rows: Sequence[Row], row_limit: int, seconds: float, peaks: Mapping[str, Peaks]) -> str:
    """row_limit: -1 for all. seconds: that the whole block took."""
    total = sum(row.seconds for row in rows)
    lines = [_ROW.format("time", "share", "runs", "a run", "FLOP/s", "B/s", "FLOP/B", "peak", "kernel", "what it does")]
    shown = rows if row_limit < 0 else rows[:row_limit]
    for row in shown:
        a_second = 1 / row.seconds if row.seconds else 0.0
        where = f"  ({', '.join(row.locations[:2])}{', ...' if len(row.locations) > 2 else ''})" if row.locations else ""
        lines.append(_ROW.format(
            duration(row.seconds), f"{row.seconds / total:.1%}" if total else "", row.count,
            duration(row.seconds / row.count), amount(row.flops * a_second) if row.flops else "",
            amount(row.bytes * a_second),
            f"{row.flops / row.bytes:.2f}" if row.flops and row.bytes else "", f"{row.share_of_peak:.0%}",
            row.kind, row.key + where).rstrip())
    if len(shown) < len(rows):
        rest = sum(row.seconds for row in rows[len(shown):])
        lines.append(_ROW.format(duration(rest), f"{rest / total:.1%}" if total else "", "", "", "", "", "", "", "",
                                 f"{len(rows) - len(shown)} rows more").rstrip())
    told = "; ".join(f"{peak.by}: {amount(peak.flops)}FLOP/s, {amount(peak.bytes)}B/s" for peak in peaks.values())
    lines.append(f"{duration(total)} in kernels and ops, of {duration(seconds)} in all; peaks of {told}")
    return "\n".join(lines)
