"""Kernels by themselves: bytes and products a second, beside a copy's and torch's, where torch has the GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import flambeau as fb
import flambeau.nn.functional as F


def torch_on_gpu() -> Any:
    """torch, or None where it is not installed or has no GPU."""
    try:
        torch = import_module("torch")
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def seconds_of(call: Callable[[], object], lib: Any, repeats: int) -> float:
    """Of a call, among many in a row, by the device's events: the median of five turns."""
    turns = []
    call()
    for _ in range(5):
        first, last = lib.cuda.Event(enable_timing=True), lib.cuda.Event(enable_timing=True)
        first.record()
        for _ in range(repeats):
            call()
        last.record()
        last.synchronize()
        turns.append(first.elapsed_time(last) / 1000 / repeats)
    return statistics.median(turns)


# name -> (how many arrays of the size it moves, the function of lib, functional, arrays)
ROWS: dict[str, tuple[int, Callable[..., Any]]] = {
    "copy": (2, lambda lib, f, x, y: x.clone()),
    "gelu(x + y)": (3, lambda lib, f, x, y: f.gelu(x + y)),
    "sum of all": (1, lambda lib, f, x, y: x.sum()),
    "sum of columns": (1, lambda lib, f, x, y: x.sum(0)),
    "softmax": (2, lambda lib, f, x, y: f.softmax(x, -1)),
    "layer norm": (2, lambda lib, f, x, y: f.layer_norm(x, x.shape[-1:])),
    "softmax(gelu(layer norm))": (2, lambda lib, f, x, y: f.softmax(f.gelu(f.layer_norm(x, x.shape[-1:])), -1)),
}


def bandwidth(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Of elementwise and row kernels, in GB/s of what they must move."""
    for dtype in ("float32", "bfloat16"):
        for name, (arrays, function) in ROWS.items():
            if time.monotonic() > until:
                return
            shape, repeats = ((8, 16), 1) if small else ((16384, 4096), 20)
            nbytes = arrays * shape[0] * shape[1] * (4 if dtype == "float32" else 2)
            yield {"name": f"{name} {dtype}", **_rates("GB/s", nbytes, function, shape, dtype, repeats)}


def products(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Square matrices, in TFLOP/s; torch's are cuBLAS's, without TF32."""
    for dtype in ("float32", "bfloat16"):
        for size in (8, 12) if small else (512, 1024, 2048, 4096, 8192):
            if time.monotonic() > until:
                return
            repeats = 1 if small else max(3, 20 * 1024 // size)
            rates = _rates("TFLOP/s", 2 * size**3 / 1000, _product, (size, size), dtype, repeats, compiled=False)
            yield {"name": f"{size} {dtype}", **rates}


def _product(lib: Any, f: Any, x: Any, y: Any) -> Any:
    return x @ y


def _rates(
    unit: str,
    count: float,
    function: Callable[..., Any],
    shape: tuple[int, int],
    dtype: str,
    repeats: int,
    compiled: bool = True,
) -> dict[str, float]:
    """Of a function of two arrays: ours, and torch's where it is."""
    x, y = (fb.randn(shape).to(getattr(fb, dtype)).to("cuda") for _ in range(2))
    ours = fb.compile(lambda x, y: function(fb, F, x, y))
    found = {unit: _billions(count, lambda: ours(x, y), fb, repeats)}
    if (torch := torch_on_gpu()) is None:
        return found
    a, b = (torch.randn(shape, device="cuda", dtype=getattr(torch, dtype)) for _ in range(2))
    theirs = lambda a, b: function(torch, torch.nn.functional, a, b)
    found[f"torch {unit}"] = _billions(count, lambda: theirs(a, b), torch, repeats)
    if compiled:
        fast = torch.compile(theirs)
        found[f"torch.compile {unit}"] = _billions(count, lambda: fast(a, b), torch, repeats)
    return found


def _billions(count: float, call: Callable[[], object], lib: Any, repeats: int) -> float:
    seconds = seconds_of(call, lib, repeats)
    return round(count / max(seconds, 1e-9) / 1e9, 3)
