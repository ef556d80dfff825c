"""WorkloadResult -> Markdown tables, and -> plain data for --json."""

from __future__ import annotations

import dataclasses
import math
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from benchmarks import quiet
from benchmarks.driver import PeerResult, Settings, WorkloadResult

OURS = "flambeau"


def machine() -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in _lines(cpuinfo) if line.startswith("model name")]
    flags = next((set(line.split()) for line in _lines(cpuinfo) if line.startswith("flags")), set())
    isa = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_tile") if flag in flags]
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "isa": isa,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_average_at_start": quiet.load_average(),
    }


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def heading(about: dict[str, Any], settings: Settings, missing: list[str]) -> str:
    lines = [
        f"# Benchmarks: {about['cpu']}, {about['cores']} cores ({', '.join(about['isa'])}), {settings.threads} threads",
        f"{about['system']}, Python {about['python']}, load average {about['load_average_at_start']:.2f} at the start. "
        f"Rounds of {settings.slice_seconds} s a peer, interleaved; "
        "rounds that another process disturbed are rejected.",
    ]
    lines += [f"Skipped, not installed: {', '.join(missing)}."] if missing else []
    return "\n\n".join(lines) + "\n"


def section(result: WorkloadResult) -> str:
    """One workload: a row per peer, then what a reader must know before believing it."""
    header = [
        "",
        "step",
        "fastest",
        "IQR",
        "against best",
        "first call",
        "second process",
        "import",
        "peak RSS",
        "kernels",
    ]
    rows = [_row(name, peer, result) for name, peer in result.peers.items()]
    lines = [f"## {result.title}", "", _table_row(header), _table_row(["---"] * len(header))]
    lines += [_table_row(row) for row in rows]
    return "\n".join([*lines, "", *_notes(result), ""])


def _row(name: str, peer: PeerResult, result: WorkloadResult) -> list[str]:
    if not peer.steps:
        return [name, *["-"] * 9]
    quartiles = statistics.quantiles(peer.steps, n=4) if len(peer.steps) > 1 else [0.0, 0.0, 0.0]
    return [
        f"{name} {peer.version}",
        seconds(statistics.median(peer.steps)),
        seconds(min(peer.steps)),
        f"{(quartiles[2] - quartiles[0]) / statistics.median(peer.steps):.0%}",
        f"{ratio(peer, best_other(result)):.2f}x" if name == OURS and best_other(result) else "",
        seconds(statistics.median(peer.cold)),
        seconds(peer.warm or 0.0),
        seconds(peer.import_seconds),
        f"{peer.rss_mib:.0f} MiB",
        str(peer.stats.get("kernels", "")),
    ]


def best_other(result: WorkloadResult) -> PeerResult | None:
    """The fastest peer that is not ours."""
    others = [peer for name, peer in result.peers.items() if name != OURS and peer.steps]
    return min(others, key=lambda peer: statistics.median(peer.steps), default=None)


def ratio(peer: PeerResult, other: PeerResult | None) -> float:
    """How many times faster `peer` is than `other`: the median over rounds of the ratio within the round."""
    assert other is not None, "callers look for the other first"
    return statistics.median(b / a for a, b in zip(peer.steps, other.steps, strict=False))


def _notes(result: WorkloadResult) -> list[str]:
    kept = max((len(peer.steps) for peer in result.peers.values()), default=0)
    notes = [f"{kept} rounds kept, {result.rejected} rejected."]
    if result.noisy:
        notes = [
            f"NOISY: {kept} rounds, {result.rejected} of them disturbed by other processes; do not quote."
        ]
    if result.cold_noisy:
        notes.append("A first call was disturbed by other processes.")
    notes.append(agreement(result)[1])
    notes += [f"{name} failed: {peer.error}" for name, peer in result.peers.items() if peer.error]
    return [f"- {note}" for note in notes]


def agreement(result: WorkloadResult) -> tuple[bool, str]:
    """Do the peers' first values agree within rtol, every step and pair? -> (verdict, sentence)."""
    values = {name: peer.values for name, peer in result.peers.items() if peer.values}
    bad = [name for name, steps in values.items() if not all(map(math.isfinite, steps))]
    if bad:
        return False, f"NOT FINITE: {', '.join(bad)}"
    if len(values) < 2:
        return True, "Values not cross-checked: fewer than two peers ran."
    worst = max(
        (max(at) - min(at)) / max(map(abs, at), default=1.0) if any(at) else 0.0
        for at in zip(*values.values(), strict=True)
    )
    steps = len(next(iter(values.values())))
    sentence = f"values of the first {steps} steps differ by {worst:.1e} at most, {result.rtol:.0e} allowed."
    return worst <= result.rtol, ("Agreed: " if worst <= result.rtol else "DISAGREE: ") + sentence


def seconds(t: float) -> str:
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if t >= scale:
            return f"{t / scale:.3g} {unit}"
    return f"{t * 1e9:.3g} ns"


def _table_row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plain(
    about: dict[str, Any], settings: Settings, missing: list[str], results: list[WorkloadResult]
) -> dict[str, Any]:
    """Everything measured, seconds throughout."""
    return {
        "machine": about,
        "settings": dataclasses.asdict(settings),
        "missing": missing,
        "workloads": [dataclasses.asdict(r) | {"agreed": agreement(r)[0]} for r in results],
    }
