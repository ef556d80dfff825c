"""python -m benchmarks: Flambeau beside torch eager, torch.compile and JAX, in one run. Markdown to stdout.

Exits 1 when peers disagree about a workload's values or Flambeau fails one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks import driver, report
from benchmarks.peers import PEERS
from benchmarks.workloads import BY_NAME, KERNELS, STEPS


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.workloads) - set(BY_NAME)):
        parser.error(f"unknown workload {', '.join(unknown)}; workloads are {', '.join(BY_NAME)}")
    settings = driver.Settings(
        threads=options.threads,
        rounds=3 if options.quick else options.rounds,
        budget_seconds=15 if options.quick else options.budget,
        cold_repeats=1 if options.quick else 3,
    )
    peers, missing = driver.available(options.peers)
    about = report.machine()
    print(report.heading(about, settings, missing), flush=True)
    results = []
    for name in _chosen(options):
        results.append(driver.measure(BY_NAME[name], peers, settings))
        print(report.section(results[-1]), flush=True)
        if options.json:  # after each workload, so that an interrupted run leaves what it has
            data = report.plain(about, settings, missing, results)
            options.json.write_text(json.dumps(data, indent=1, default=str) + "\n")
    ours_failed = any(r.peers[report.OURS].error for r in results if report.OURS in r.peers)
    return int(ours_failed or not all(report.agreement(r)[0] for r in results))


def _chosen(options: argparse.Namespace) -> list[str]:
    if options.workloads:
        return options.workloads
    return [workload.name for workload in (KERNELS if options.kernels else STEPS)]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--kernels", action="store_true", help="kernel by kernel in place of whole steps")
    parser.add_argument(
        "--peers", type=_names, default=list(PEERS), help=f"comma-separated, of {', '.join(PEERS)}"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15, help="quiet rounds wanted")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds of rounds a workload")
    parser.add_argument("--quick", action="store_true", help="3 rounds, one cold process")
    parser.add_argument("--json", type=Path, help="write everything measured there")
    return parser


def _names(text: str) -> list[str]:
    names = text.split(",")
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown peer {', '.join(unknown)}; peers are {', '.join(PEERS)}")
    return names


if __name__ == "__main__":
    raise SystemExit(main())
