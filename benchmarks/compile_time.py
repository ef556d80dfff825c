"""python -m benchmarks.compile_time: how long first calls take as programs grow, beside torch.compile and JAX.

Each number is of a fresh process: cold with empty caches, warm with the caches that the cold one left. Imports are
not in it. Markdown to stdout; --json and --plot write everything measured, and a picture.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import driver, quiet, report
from benchmarks.peers import PEERS
from benchmarks.workloads import Workload, find
from benchmarks.workloads.growing import FAMILIES, Family

COMPILERS = ("flambeau", "torch.compile", "jax")
STAGES = ("trace", "passes", "lower", "codegen", "load")
QUICK = 2  # sizes of each family, the smallest


@dataclass
class Timing:
    """Seconds of a first call: the clock's, and of CPU with all processes that were started for it."""

    wall: float
    cpu: float
    disturbed: bool


@dataclass
class Point:
    """One peer at one size. stages: seconds of Flambeau's, `ops`: what it traced, derivatives included."""

    peer: str
    size: int
    cold: Timing | None = None
    warm: Timing | None = None
    ops: int = 0
    stages: dict[str, float] = field(default_factory=dict)
    value: float = float("nan")
    error: str | None = None


def main(arguments: list[str] | None = None) -> int:
    """Exits 1 where Flambeau fails, or peers disagree about a value."""
    options = _parser().parse_args(arguments)
    settings = driver.Settings(threads=options.threads, timeout_seconds=options.timeout)
    peers, missing = available(options.peers)
    about = report.machine()
    print(heading(about, settings, missing), flush=True)
    found: dict[str, list[Point]] = {}
    for name in options.families:
        sizes = options.sizes or (FAMILIES[name].sizes[:QUICK] if options.quick else FAMILIES[name].sizes)
        found[name] = list(measure(FAMILIES[name], sizes, peers, settings))
        print(section(FAMILIES[name], found[name]), flush=True)
        if options.json:  # after each family, so that an interrupted run leaves what it has
            data = {"machine": about, "settings": asdict(settings), "missing": missing}
            data["families"] = {key: [asdict(point) for point in points] for key, points in found.items()}
            options.json.write_text(json.dumps(data, indent=1) + "\n")
    if options.plot:
        plot(found, options.plot)
    failed = any(point.error for points in found.values() for point in points if point.peer == report.OURS)
    return int(failed or any(disagreements(FAMILIES[name], points) for name, points in found.items()))


def available(peers: list[str]) -> tuple[list[str], dict[str, str]]:
    """-> (those that can run here, why not for the others)."""
    installed, absent = driver.available(peers)
    missing = dict.fromkeys(absent, "not installed")
    if "torch.compile" in installed and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
        installed.remove("torch.compile")
        missing["torch.compile"] = "it needs a C++ compiler"
    return installed, missing


# ---- measuring -------------------------------------------------------------------------------------------


def measure(
    family: Family, sizes: tuple[int, ...], peers: list[str], settings: driver.Settings
) -> Iterator[Point]:
    """Sizes in order; a peer that fails at one, or takes too long, is not asked for the larger ones."""
    given_up: dict[str, str] = {}
    for size in sizes:
        workload = find(f"{family.name}{size}")
        with tempfile.TemporaryDirectory(prefix="compile-time-") as folder:
            arrays = Path(folder) / "arrays.npz"
            driver.store(workload, arrays)
            for peer in peers:
                point = Point(peer, size, error=given_up.get(peer))
                if point.error is None:
                    _measure(workload, point, arrays, Path(folder) / peer.replace(" ", "-"), settings)
                print(f"{workload.name}, {peer}: {point.error or _told(point.cold)}", file=sys.stderr, flush=True)
                if point.error:
                    given_up.setdefault(peer, f"not tried: at {size}, {point.error}")
                yield point


def _measure(workload: Workload, to: Point, arrays: Path, cache: Path, settings: driver.Settings) -> None:
    try:
        with driver.Process(to.peer, settings, cache) as process:
            to.cold = _first_call(process, workload, arrays)
            (to.value,) = process.ask("values", n=1)
            stats = process.ask("stats")
            to.ops = stats.get("n_ops_traced", 0)
            to.stages = {stage: stats[f"{stage}_seconds"] for stage in STAGES if f"{stage}_seconds" in stats}
        with driver.Process(to.peer, settings, cache) as process:
            to.warm = _first_call(process, workload, arrays)
    except driver.PeerFailed as failure:
        to.error = str(failure)


def _first_call(process: driver.Process, workload: Workload, arrays: Path) -> Timing:
    process.ask("import")
    process.ask("setup", workload=workload.name, arrays=str(arrays), dropout=False)
    quiet.wait_for_quiet(1)
    before = process.ask("cpu")
    with quiet.Watch(process.popen.pid) as watch:
        wall = process.ask("cold")
    return Timing(wall, process.ask("cpu") - before, not watch.interval.is_quiet)


# ---- telling ---------------------------------------------------------------------------------------------


def heading(about: dict[str, Any], settings: driver.Settings, missing: dict[str, str]) -> str:
    lines = [
        f"# Compile times: {about['cpu']}, {about['cores']} cores, {settings.threads} threads",
        f"{about['system']}, Python {about['python']}, load average {about['load_average_at_start']:.2f} at the "
        "start. First calls of fresh processes, imports not included: cold with empty caches, warm with those that the "
        "cold process left. Times are of the clock; where another process disturbed one (~), of CPU.",
    ]
    lines += [f"Skipped: {peer}, {why}." for peer, why in missing.items()]
    return "\n\n".join(lines) + "\n"


def section(family: Family, points: list[Point]) -> str:
    """A row per size: ours with its stages, then each peer and how many times longer it took."""
    peers = [peer for peer in dict.fromkeys(point.peer for point in points) if peer != report.OURS]
    header = [family.grows_in, "ops", "flambeau", "an op", "warm", *STAGES]
    header += [title for peer in peers for title in (peer, f"{peer} warm")]
    at = {(point.peer, point.size): point for point in points}
    lines = [f"## {family.title}", "", _row(header), _row(["---"] * len(header))]
    for size in dict.fromkeys(point.size for point in points):
        ours = at.get((report.OURS, size), Point(report.OURS, size))
        cells = [str(size), str(ours.ops or "-"), _told(ours.cold), _per_op(ours), _told(ours.warm)]
        cells += [report.seconds(ours.stages[stage]) if ours.stages else "-" for stage in STAGES]
        for peer in peers:
            other = at[peer, size]
            cells += [_beside(other.cold, ours.cold), _beside(other.warm, ours.warm)]
        lines.append(_row(cells))
    lines += ["", *disagreements(family, points)]
    lines += [f"- {point.peer} at {point.size}: {point.error}" for point in points if point.error]
    return "\n".join(lines) + "\n"


def seconds_of(timing: Timing) -> float:
    """The clock tells nothing where others ran; what several threads do at once counts double then."""
    return timing.cpu if timing.disturbed else timing.wall


def _told(timing: Timing | None) -> str:
    return "-" if timing is None else f"{'~' * timing.disturbed}{report.seconds(seconds_of(timing))}"


def _per_op(point: Point) -> str:
    return report.seconds(seconds_of(point.cold) / point.ops) if point.cold and point.ops else "-"


def _beside(other: Timing | None, ours: Timing | None) -> str:
    if other is None or ours is None:
        return _told(other)
    if other.disturbed or ours.disturbed:
        return f"{_told(other)} ({other.cpu / ours.cpu:.1f}x)"
    return f"{_told(other)} ({other.wall / ours.wall:.1f}x)"


def disagreements(family: Family, points: list[Point]) -> list[str]:
    """Sizes at which the first values of two peers differ by more than the workload allows."""
    found = []
    for size in dict.fromkeys(point.size for point in points):
        values = {point.peer: point.value for point in points if point.size == size and point.cold}
        rtol = find(f"{family.name}{size}").rtol
        low, high = min(values.values(), default=0.0), max(values.values(), default=0.0)
        finite = all(map(math.isfinite, values.values()))
        if not finite or high - low > rtol * max(abs(low), abs(high)):
            told = ", ".join(f"{peer} {value:.7g}" for peer, value in values.items())
            found.append(f"- DISAGREE at {size}: {told}")
    return found


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def plot(found: dict[str, list[Point]], path: Path) -> None:
    """First calls over size, both logarithmic: a panel per family, a colour per peer, warm ones dashed."""
    import matplotlib  # an extra, like the peers

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "compile times"})  # small, the same each time
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(3.4 * len(found), 3.2), squeeze=False, sharey=True)
    for axes, (name, points) in zip(panels[0], found.items(), strict=True):
        for colour, peer in enumerate(dict.fromkeys(point.peer for point in points)):
            for kind, style in (("cold", "o-"), ("warm", "o--")):
                timed = [(p.size, getattr(p, kind)) for p in points if p.peer == peer and getattr(p, kind)]
                label = peer if kind == "cold" else f"{peer}, warm"
                xs, ys = [size for size, _ in timed], [seconds_of(timing) for _, timing in timed]
                axes.plot(xs, ys, style, color=f"C{colour}", label=label, markersize=3)
        axes.set(title=FAMILIES[name].title, xlabel=FAMILIES[name].grows_in, xscale="log", yscale="log")
        axes.minorticks_off()
        sizes = sorted({point.size for point in points})
        axes.set_xticks(sizes, labels=map(str, sizes), fontsize=7)
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g} s")
    panels[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.compile_time", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=list(FAMILIES), type=_family)
    parser.add_argument("--sizes", type=_numbers, help="comma-separated, in place of each family's own")
    parser.add_argument(
        "--peers", type=_names, default=list(COMPILERS), help=f"comma-separated, of {', '.join(COMPILERS)}"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a first call may take")
    parser.add_argument("--quick", action="store_true", help=f"the {QUICK} smallest sizes of each family")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    parser.add_argument("--plot", type=Path, help="draw it there (needs matplotlib)")
    return parser


def _family(text: str) -> str:
    if text not in FAMILIES:
        raise argparse.ArgumentTypeError(f"no family {text!r}; families are {', '.join(FAMILIES)}")
    return text


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := sorted(set(names) - set(PEERS)):
        raise argparse.ArgumentTypeError(f"unknown peer {', '.join(unknown)}; peers are {', '.join(PEERS)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
