"""What has to be seen on a real GPU, in a few minutes, written down as it goes.

    python -m benchmarks.gpu_check [--seconds 300] [--out DIR] [--backend cuda-emulator]

Training against the CPU, a few kernels as they are scheduled (bandwidth of a copy and an elementwise one, products of f32),
and every op's samples against their meaning. Other libraries are not compared with yet. Results are lines of
`DIR/gpu_check.md`; a part that fails does not keep the others from running.
"""
from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau import nn, optim
from flambeau.backends.cuda.backend import CudaBackend, kernel_text
from flambeau.backends.registry import backend_of
from flambeau.compiler import compile_graph
from flambeau.ir import dtypes as dt
from flambeau.ir.graph import Graph
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.kernel import ContractionKernel, LoopKernel
from flambeau.ir.kinds import kind_of
from flambeau.ir.op import OPS, Sample
from flambeau.runtime.cuda.memory import CudaMemory

SKIPPED = ("input", "fusion", "custom", "cond", "while_loop")
BATCH = 24


class Report:
    """Lines, on the terminal and in a file at once."""

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file = path.open("w", encoding="utf-8")

    def line(self, text: str) -> None:
        print(text, flush=True)
        print(text, file=self.file, flush=True)


def batches() -> Iterator[tuple[str, list[Sample]]]:
    for name, entry in OPS.items():
        samples = [] if name in SKIPPED else list(entry.samples())
        for first in range(0, len(samples), BATCH):
            yield name, samples[first:first + BATCH]


def samples_agree(backend: CudaBackend, report: Report, until: float) -> None:
    """Every op's samples, compiled for the device, within the roundings that the tests of the CPU allow, doubled: the
    device's functions are others."""
    wrong: dict[str, str] = {}
    done = 0
    for name, samples in batches():
        if time.monotonic() > until:
            report.line(f"- samples: out of time after {done} batches")
            break
        graph, arrays = Graph(name=name), []
        for sample in samples:
            operands = [graph.add_input(t, f"x{len(arrays) + i}") for i, t in enumerate(sample.types)]
            graph.outputs += graph.append(sample.op, operands).results
            arrays += sample.operands
        try:
            mistake = mistake_of(backend, graph, arrays, 16.0)
        except Exception as error:
            mistake = f"{type(error).__name__}: {str(error)[:200]}"
        if mistake:
            wrong.setdefault(name, mistake)
        done += 1
    report.line(f"- samples: {done} batches, {len(wrong)} ops wrong")
    for name, mistake in wrong.items():
        report.line(f"  - {name}: {mistake}")


def mistake_of(backend: CudaBackend, graph: Graph, arrays: list[np.ndarray], roundings: float) -> str:
    """Where the results of a graph are further off than so many roundings of the largest number beside them; or ""."""
    compiled = compile_graph(graph, backend=backend)
    given = [np.ascontiguousarray(a) for a in arrays]
    outs = [np.zeros(v.type.static_shape, v.dtype.storage) for v in graph.outputs]
    compiled.executable.fast_call(*[a.ctypes.data for a in given], *[o.ctypes.data for o in outs])
    for number, (found, value, wanted) in enumerate(zip(outs, graph.outputs, interpret(graph, arrays)[0], strict=True)):
        ours, theirs = dt.to_compute(found, value.dtype), dt.to_compute(wanted, value.dtype)
        if not value.dtype.is_floating_point:
            if not np.array_equal(ours, theirs):
                return f"result {number} differs in {int((ours != theirs).sum())} of {ours.size}"
            continue
        ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
        eps = 2.0**-7 if value.dtype is dt.bf16 else float(np.finfo(value.dtype.compute).eps)
        scale = np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0)
        longest = max([a.size for a in arrays], default=1)
        with np.errstate(invalid="ignore"):
            off = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs))) & ~(
                np.abs(ours - theirs) <= roundings * np.sqrt(longest) * eps * scale + 1e-37)
        if off.any():
            at = tuple(int(i) for i in np.argwhere(off)[0])
            return f"result {number} is {ours[at]} for {theirs[at]} at {at}, {int(off.sum())} of {ours.size} off"
    return ""


def training_agrees(name: str, report: Report, until: float) -> None:
    """A small transformer block with AdamW and dropout, some steps on the CPU and on the device."""
    tokens = fb.randint(0, 50, (4, 16))

    def losses(backend: str, steps: int) -> list[float]:
        fb.manual_seed(0)
        model = nn.Sequential(nn.Embedding(50, 32), nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True),
                              nn.Linear(32, 50))
        opt = optim.AdamW(model.parameters(), lr=1e-2)

        @fb.compile(backend=backend)
        def step(x: fb.Tensor) -> fb.Tensor:
            opt.zero_grad()
            loss = F.cross_entropy(model(x).flatten(0, 1), x.flatten())
            loss.backward()
            opt.step()
            return loss

        found = []
        while len(found) < steps and (backend == "cpu" or time.monotonic() < until or len(found) < 2):
            found.append(float(step(tokens)))
        return found

    there = losses(name, 20)
    here = losses("cpu", len(there))
    report.line(f"- training, {len(there)} steps: loss {there[0]:.4f} -> {there[-1]:.4f}, furthest from the CPU's "
                f"{max(abs(a - b) / abs(b) for a, b in zip(there, here, strict=True)):.1e}")


def kernels_run(backend: CudaBackend, report: Report) -> None:
    """Bandwidth of a copy and of an elementwise kernel, and products of f32, each scheduled as a program's would be."""
    n = 1 << 26
    text = {"copy": "  %0 = load a[%i0] : f32\n    store %0 to b[%i0]",
            "gelu": "  %0 = load a[%i0] : f32\n    %1 = const 0.7 : f32\n    %2 = mul %0, %1 : f32\n    %3 = erf %2 : f32\n"
                    "    %4 = mul %0, %3 : f32\n    store %4 to b[%i0]"}
    for name, body in text.items():
        kernel = parse_loop(f"loop @{name} {{\n  in a: f32[{n}]\n  out b: f32[{n}]\n  parallel %i0 = {n}\n  stage () {{\n"
                            f"  {body}\n  }}\n}}\n")
        seconds = timed(backend, kernel, [4 * n, 4 * n])
        report.line(f"- {name} of {n} f32: {8 * n / seconds / 1e12:.2f} TB/s")
    for size in (1024, 4096):
        kernel = product(size)
        seconds = timed(backend, kernel, [4 * size * size] * 3)
        report.line(f"- product of {size} x {size} f32: {2 * size**3 / seconds / 1e12:.1f} TFLOP/s")


def parse_loop(text: str) -> LoopKernel:
    kernel = fb.ir.parse_kernel(text)
    assert isinstance(kernel, LoopKernel)
    return kernel


def product(size: int) -> ContractionKernel:
    kernel = fb.ir.parse_kernel(
        f"contraction @product {{\n  in a: f32[{size * size}]\n  in b: f32[{size * size}]\n  out c: f32[{size * size}]\n"
        f"  dims %i0 = {size}, %i1 = {size}, %i2 = {size}\n  m %i0\n  n %i1\n  k %i2\n"
        f"  sum a[%i0*{size} + %i2] * b[%i1 + %i2*{size}] : f32\n  epilogue () {{\n    %0 = acc : f32\n"
        f"    store %0 to c[%i0*{size} + %i1]\n  }}\n}}\n")
    assert isinstance(kernel, ContractionKernel)
    return kernel


def timed(backend: CudaBackend, kernel: LoopKernel | ContractionKernel, nbytes: list[int], repeats: int = 50) -> float:
    """Seconds of one launch, among many in a row: the best of five turns."""
    schedule = kind_of(kernel).implementation("cuda").schedule
    assert schedule is not None, f"{kernel.keyword} has no schedule"
    device, text = backend.device, kernel_text(schedule(kernel, backend.host()))
    (code,) = backend.assemble([text], backend.host())
    function, memory = device.load(code, text.name), CudaMemory(device)
    buffers = [memory.zeros(size) for size in (16, *nbytes)]
    pointers = [buffer.ptr for buffer in buffers]
    first, last, best = device.event(timing=True), device.event(timing=True), float("inf")
    for _ in range(5):
        device.synchronize()
        first.record(device.default_stream)
        for _ in range(repeats):
            device.launch(function, text.blocks(), text.threads, pointers)
        last.record(device.default_stream)
        last.synchronize()
        best = min(best, first.milliseconds_to(last) / 1000 / repeats)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300.0, help="for all of it")
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--backend", default="cuda", help="cuda-emulator tries the script out, without kernels_run")
    args = parser.parse_args()
    report, started = Report(args.out / "gpu_check.md"), time.monotonic()
    backend = backend_of(args.backend)
    assert isinstance(backend, CudaBackend), f"{args.backend} has no kernels for GPUs"
    report.line(f"# {args.backend}: {backend.host()}")
    parts: list[tuple[str, Callable[[], None]]] = [
        ("training", lambda: training_agrees(args.backend, report, started + 0.3 * args.seconds)),
        ("kernels", lambda: kernels_run(backend, report) if args.backend == "cuda" else None),
        ("samples", lambda: samples_agree(backend, report, started + args.seconds))]
    failed = False
    for name, part in parts:
        before = time.monotonic()
        try:
            part()
        except Exception:
            failed = True
            report.line(f"- {name} failed:\n\n```\n{traceback.format_exc()}```")
        report.line(f"  ({name}: {time.monotonic() - before:.0f} s)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
