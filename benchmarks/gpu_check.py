"""What has to be seen on a real GPU, in six minutes, written down as it goes.

    python -m benchmarks.gpu_check [--seconds 360] [--out FILE] [--only SECTION ...] [--again]

Each section runs in a process of its own for its share of the time, so that one that fails, hangs or ends the process does
not keep the others from running. Results are JSON lines in FILE; a section that is done there is not run again, unless
--again says so. Where torch or JAX have the GPU, they are measured beside us.

`FLAMBEAU_CUDA=emulator` tries the whole out on the emulated device, with sizes that it can bear: its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import flambeau as fb
from benchmarks.gpu import kernels, op_matrix, steps, training
from flambeau import config

Section = Callable[[bool, float], Iterator[dict[str, Any]]]
GRACE = 20.0  # seconds for a section that is over its time to write down where it was


def device(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Which GPU, and with what."""
    names = ("numba-cuda", "cuda-bindings", "nvidia-nvjitlink", "torch", "jax")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not here"
    found = fb.cuda.get_device_properties(0)
    yield {"name": found.name, "capability": list(fb.cuda.get_device_capability(0)), "versions": versions}


def sanitizer(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """A training step under NVIDIA's compute-sanitizer, where it is: accesses out of bounds, and races in shared memory."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        yield {"name": "compute-sanitizer", "skipped": "not here"}
        return
    program = "from benchmarks.gpu import training as t; print(t.losses(t.transformer, 'AdamW', 'cuda', 3, False))"
    for check in ("memcheck", "racecheck"):
        limit = max(1.0, until - time.monotonic())
        done = subprocess.run(
            [tool, "--tool", check, sys.executable, "-c", program], capture_output=True, text=True, timeout=limit
        )
        said = [line for line in done.stdout.splitlines() if "=====" in line]
        yield {"name": check, "status": done.returncode, "said": said[-5:]}


SECTIONS: dict[str, tuple[float, Section]] = {  # name -> (share of the time, what it does)
    "device": (0.02, device),
    "training": (0.15, training.section),
    "bandwidth": (0.12, kernels.bandwidth),
    "products": (0.10, kernels.products),
    "steps": (0.28, steps.section),
    "profile": (0.08, steps.profile),
    "ops": (0.20, op_matrix.section),
    "sanitizer": (0.05, sanitizer),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=360.0, help="for all of it")
    parser.add_argument("--out", type=Path, default=Path("demo-out/gpu_check.jsonl"))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--again", action="store_true", help="sections that are done already, too")
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    if args.section:
        return run(args.section, args.seconds, args.out)
    if not fb.cuda.is_available():
        print("there is no GPU here: python -m flambeau doctor says what is missing", file=sys.stderr)
        return 2
    done = set() if args.again else finished(args.out)
    share = sum(SECTIONS[name][0] for name in args.only if name not in done)
    for name in args.only:
        if name not in done:
            begin(name, args.seconds * SECTIONS[name][0] / share, args.out)
    failed = [line for line in lines_of(args.out) if "failed" in line or "wrong" in line]
    print(f"{len(failed)} results failed or were wrong; all of them are in {args.out}")
    return int(bool(failed))


def begin(name: str, seconds: float, out: Path) -> None:
    """A section in its own process; what became of it is written down."""
    started = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu_check", "--section", name]
    command += ["--seconds", f"{seconds:.1f}", "--out", str(out)]
    try:
        status = subprocess.run(command, timeout=seconds + GRACE).returncode
        end = {"done": True} if status == 0 else {"failed": f"the process ended with status {status}"}
    except subprocess.TimeoutExpired:
        end = {"failed": f"still at work after {seconds + GRACE:.0f} s"}
    write(out, {"section": name, "name": "end", **end, "s": round(time.monotonic() - started, 1)})


def run(name: str, seconds: float, out: Path) -> int:
    """The results of a section, as they come."""
    try:
        for result in SECTIONS[name][1](config.cuda == "emulator", time.monotonic() + seconds):
            write(out, {"section": name, **result})
    except Exception:
        write(out, {"section": name, "name": "error", "failed": traceback.format_exc()[-2000:]})
    return 0


def write(out: Path, result: dict[str, Any]) -> None:
    """A line, on the terminal and in the file, at once on the disk."""
    line = json.dumps(result)
    print(line, flush=True)
    with out.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def lines_of(out: Path) -> list[dict[str, Any]]:
    """What is written down; a line that was cut off is no line."""
    found = []
    for line in out.read_text(encoding="utf-8").splitlines() if out.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def finished(out: Path) -> set[str]:
    return {line["section"] for line in lines_of(out) if line.get("done")}


if __name__ == "__main__":
    sys.exit(main())
