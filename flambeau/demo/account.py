"""What the compiler did, in a few lines that a person reads with pleasure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Stats(Protocol):
    """What `train_step.stats()` tells, as far as the account needs it."""

    n_ops_traced: int
    n_kernels: int
    compile_seconds: float
    trace_seconds: float
    passes_seconds: float
    codegen_seconds: float
    arena_bytes: int
    state_bytes: int
    recompiles: int
    load_seconds: float
    from_disk: bool


@dataclass(frozen=True)
class Comparison:
    """One training step, median seconds, compiled and eager, and how far their losses were apart."""

    compiled_seconds: float
    eager_seconds: float
    n_compared: int
    largest_difference: float


def account_of(
    stats: Stats, comparison: Comparison, n_steps: int, written: Sequence[tuple[Path, str]]
) -> str:
    """The closing account. written: (path, what it shows) for each thing on disk."""
    speedup = comparison.eager_seconds / comparison.compiled_seconds
    rows = [
        ("traced", f"{stats.n_ops_traced} operations: forward, backward and Adam in one graph"),
        ("fused", f"into {stats.n_kernels} kernels"),
        (
            "compiled",
            f"by an earlier run, and found on disk in {seconds(stats.load_seconds)} (trace {seconds(stats.trace_seconds)})"
            if stats.from_disk else
            f"once, in {seconds(stats.compile_seconds)} (trace {seconds(stats.trace_seconds)}, "
            f"passes {seconds(stats.passes_seconds)}, machine code {seconds(stats.codegen_seconds)})",
        ),
        ("ran", f"{n_steps} steps, each with another learning rate: {recompiled(stats.recompiles)}"),
        (
            "a step",
            f"{seconds(comparison.compiled_seconds)} compiled, {seconds(comparison.eager_seconds)} eagerly: "
            f"{speedup:.1f}x",
        ),
        (
            "numbers",
            f"the first {comparison.n_compared} losses agree with eager ones to "
            f"{comparison.largest_difference:.0e}",
        ),
        (
            "memory",
            f"{size(stats.arena_bytes)} of intermediates, planned before the first step and reused by each; "
            f"{size(stats.state_bytes)} of parameters and optimizer state, updated in place",
        ),
    ]
    told = ["What the compiler did", *(f"  {name:<9} {what}" for name, what in rows)]
    width = max((len(str(path)) for path, _ in written), default=0)
    return "\n".join([*told, "\nWritten", *(f"  {path!s:<{width}}  {what}" for path, what in written)])


def recompiled(times: int) -> str:
    return "never compiled again" if times == 0 else f"compiled again {times} time{'s' * (times > 1)}"


def seconds(value: float) -> str:
    """0.00042 -> 420 us, 0.042 -> 42.0 ms, 4.2 -> 4.20 s."""
    if value < 1e-3:
        return f"{value * 1e6:.0f} us"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def size(n_bytes: int) -> str:
    """1536 -> 1.5 KiB."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    return f"{n_bytes / 1024:.1f} KiB" if n_bytes < 1 << 20 else f"{n_bytes / (1 << 20):.1f} MiB"
