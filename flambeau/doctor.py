"""`python -m flambeau doctor`: what this machine offers, and whether Flambeau works on it."""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import config, doctor_cuda, nn, optim
from flambeau.ir.target import Target
from flambeau.runtime.host import host_target
from flambeau.runtime.lapack import lapack

REQUIRED = ("numpy", "networkx", "llvmlite", "numba")
OPTIONAL = ("scikit-learn", "matplotlib", "scipy", "torch", "jax")


def main(arguments: Sequence[str]) -> int:
    """Print the facts, run the checks; 0 if all of them pass."""
    parser = argparse.ArgumentParser(
        prog="python -m flambeau doctor", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Say what this machine offers (processor, caches, libraries, GPUs), then compile and run small\n"
                    "programs and compare their numbers with NumPy's. What it prints belongs into a report of a fault.",
        epilog="The exit code is 0 where every check passes, else 1.")
    parser.add_argument("--json", action="store_true", help="facts and checks as JSON")
    options = parser.parse_args(list(arguments))
    known = [*facts(host_target()), *doctor_cuda.facts()]
    if options.json:
        told = io.StringIO()
        with contextlib.redirect_stdout(told):
            failed = {name: bool(report(name, check)) for name, check in (*CHECKS, *doctor_cuda.checks())}
        print(json.dumps({"facts": dict(known), "checks": {name: not bad for name, bad in failed.items()},
                          "log": told.getvalue()}, indent=1))
        return int(any(failed.values()))
    for name, fact in known:
        print(f"  {name:<14} {fact}")
    print()
    return max([report(name, check) for name, check in (*CHECKS, *doctor_cuda.checks())])


def facts(target: Target) -> Iterator[tuple[str, str]]:
    """(name, what it is) for everything about the machine that matters here."""
    theirs, ours = fb.__version__.split("+flambeau")
    yield "Flambeau", f"{ours}, with the names of PyTorch {theirs}"
    yield "Python", f"{platform.python_version()} ({platform.python_implementation()})"
    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processor", f"{target.cpu}, {target.cores} cores"
    yield "vectors", f"{8 * target.vector_bytes} bits{', fused multiply-add' if target.has_fma else ''}"
    caches = (target.l1_bytes, target.l2_bytes, target.l3_bytes)
    yield "caches", ", ".join(f"{n_bytes >> 10} KiB" for n_bytes in caches)
    yield "threads", str(fb.get_num_threads())
    for package in REQUIRED:
        yield package, version_of(package) or "MISSING"
    library = lapack()
    yield "LAPACK", f"{library.name}, {library.integer_bits}-bit integers" if library else "NumPy, by calls of Python"
    yield "optional", ", ".join(f"{p} {v}" for p in OPTIONAL if (v := version_of(p))) or "none installed"
    chosen = [f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith("FLAMBEAU_")]
    yield "settings", " ".join(chosen) or "all default"


def version_of(package: str) -> str:
    """The installed version; empty if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def report(name: str, check: Callable[[], None]) -> int:
    """Run one check and print how it went; 0 if it passed. A failed one shows its traceback, to be passed on."""
    started = time.perf_counter()
    try:
        check()
    except Exception:  # whatever is wrong on this machine is what this command is here to show
        print(f"  FAILED  {name}")
        traceback.print_exc(file=sys.stdout)
        return 1
    print(f"  ok      {name} ({time.perf_counter() - started:.2f} s)")
    return 0


def check_compiled_expression() -> None:
    """A fused elementwise chain and a reduction against NumPy."""
    values = np.linspace(-3, 3, 10_000, dtype=np.float32)

    @fb.compile
    def total(x: fb.Tensor) -> fb.Tensor:
        return (fb.exp(-x * x) + 0.5).sum()

    with config.set(disable_jit=False):
        found = total(fb.from_numpy(values)).item()
    expected = (np.exp(-(values.astype(np.float64) ** 2)) + 0.5).sum()
    # A pairwise sum of n terms errs by at most about log2(n) roundings; 64 leaves room for a plain one per lane.
    assert abs(found - expected) <= 64 * np.finfo(np.float32).eps * expected, f"{found} is not {expected}"


def check_training() -> None:
    """A compiled training step lowers the loss of a small regression to nearly nothing."""
    fb.manual_seed(0)
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((64, 4)).astype(np.float32)
    targets = inputs @ np.array([[1.0], [-2.0], [3.0], [0.5]], np.float32)
    model = nn.Linear(4, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @fb.compile
    def step(x: fb.Tensor, y: fb.Tensor) -> fb.Tensor:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = fb.from_numpy(inputs), fb.from_numpy(targets)
    with config.set(disable_jit=False):
        losses = [step(x, y).item() for _ in range(100)]
    assert losses[-1] < 1e-3 * losses[0], f"the loss went from {losses[0]} only to {losses[-1]}"


def check_library() -> None:
    """Equations solved by LAPACK in a compiled function against NumPy."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((50, 50)) + 20 * np.eye(50), rng.standard_normal((50, 2))
    with config.set(disable_jit=False):
        found = fb.compile(fb.linalg.solve)(fb.from_numpy(a), fb.from_numpy(b)).numpy()
    assert np.allclose(found, np.linalg.solve(a, b), rtol=0, atol=1e-12), "the solutions differ"


CHECKS: tuple[tuple[str, Callable[[], None]], ...] = (
    ("a compiled expression equals NumPy's", check_compiled_expression),
    ("a compiled training step learns", check_training),
    ("equations are solved by a library", check_library),
)
