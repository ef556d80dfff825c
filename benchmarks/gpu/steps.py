"""Whole train steps beside torch, eager and compiled, and JAX, where these have the GPU; and where our time goes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

import flambeau as fb
from benchmarks.gpu.kernels import torch_on_gpu
from benchmarks.peers.flambeau_peer import Peer
from benchmarks.workloads import BY_NAME, Train
from benchmarks.workloads.base import initial, labelled_batches
from flambeau.provenance import Provenance

TINY = (16, 32, 4)


def tiny_mlp() -> Train:
    """16-32-4, batch 32: a step that is nothing but the cost of calling."""

    def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
        return nn.Sequential(nn.Linear(*TINY[:2]), nn.ReLU(), nn.Linear(*TINY[1:]))

    shapes: dict[str, tuple[int, ...]] = {"0.weight": (32, 16), "0.bias": (32,), "2.weight": (4, 32), "2.bias": (4,)}
    return replace(
        BY_NAME["mlp"],
        name="tiny mlp",
        module=module,
        weights=lambda rng: initial(rng, shapes),
        data=lambda rng: labelled_batches(rng, (32, 16), 4),
    )


def resnet() -> Train:
    """A ResNet of four basic blocks on images of 32 x 32, batch 64."""

    def module(nn: Any, F: Any, lib: Any, dropout: float) -> Any:
        class Block(nn.Module):
            def __init__(self, before: int, after: int, stride: int) -> None:
                super().__init__()
                self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
                self.bn1 = nn.BatchNorm2d(after)
                self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
                self.bn2 = nn.BatchNorm2d(after)
                self.short = nn.Conv2d(before, after, 1, stride, bias=False) if stride > 1 else nn.Identity()

            def forward(self, x: Any) -> Any:
                y = F.relu(self.bn1(self.conv1(x)))
                return F.relu(self.bn2(self.conv2(y)) + self.short(x))

        blocks = Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Block(64, 128, 2)
        ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)
        return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), *blocks, *ends)

    return replace(
        BY_NAME["mlp"],
        name="resnet",
        module=module,
        weights=lambda rng: {},
        data=lambda rng: labelled_batches(rng, (64, 3, 32, 32), 10),
        optimizer="SGD",
        hyper={"lr": 0.05, "momentum": 0.9},
    )


WORKLOADS: tuple[Callable[[], Any], ...] = (
    tiny_mlp,
    *(lambda name=name: BY_NAME[name] for name in ("mlp", "lenet", "digits")),
    resnet,
    lambda: BY_NAME["gpt4"],
)


def section(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Seconds of a step, and of the host alone until it has asked for it; losses after five steps are compared."""
    for make in WORKLOADS[:1] if small else WORKLOADS:
        workload = make()
        for peer in ("flambeau", "flambeau bf16", "torch", "torch.compile", "jax"):
            if time.monotonic() > until:
                return
            try:
                result = _timed(workload, peer, 3 if small else 30)
            except Exception as error:
                result = {"failed": f"{type(error).__name__}: {str(error)[:300]}"}
            if result:
                yield {"name": f"{workload.name}: {peer}", **result}


def _timed(workload: Any, peer: str, steps: int) -> dict[str, Any]:
    """Empty where a peer is not there."""
    rng = np.random.default_rng(0)
    arrays, weights = workload.data(rng), workload.weights(rng)
    if peer.startswith("flambeau"):
        step, batches = _ours(workload, arrays, weights, half=peer.endswith("bf16"))
        wait: Callable[[Any], object] = lambda loss: fb.cuda.synchronize()
    elif peer == "jax":
        try:
            jax = import_module("jax")
        except ImportError:
            return {}
        if not weights or workload.name == "tiny mlp" or jax.default_backend() != "gpu":
            return {}
        other = import_module("benchmarks.peers.jax_peer").Peer(1, "")
        step, batches = other.build(workload, weights, False), [other.batch(b) for b in arrays]
        wait = lambda loss: loss.block_until_ready()
    else:
        torch = torch_on_gpu()
        if torch is None:
            return {}
        torch.set_default_device("cuda")
        other = import_module("benchmarks.peers.torch_peer").Peer(1, "compile" if peer.endswith("compile") else "")
        if not weights:
            torch.manual_seed(0)
            workload = replace(workload, module=_with_own_weights(workload.module))
        step = other.build(workload, weights, False)
        batches = [tuple(torch.from_numpy(a).cuda() for a in b) for b in arrays]
        wait = lambda loss: torch.cuda.synchronize()
    return _measured(step, batches, wait, steps)


def _ours(workload: Any, arrays: Any, weights: Any, half: bool) -> tuple[Callable[..., Any], list[Any]]:
    fb.manual_seed(0)
    batches = [tuple(fb.from_numpy(a).to("cuda") for a in b) for b in arrays]
    if not weights:
        workload = replace(workload, module=_with_own_weights(workload.module))
    with fb.device("cuda"):
        step = Peer(1, "").build(workload, weights, False)

    def under_autocast(*batch: Any) -> Any:
        with fb.autocast("cuda", dtype=fb.bfloat16):
            return step(*batch)

    return (under_autocast if half else step), batches


def _with_own_weights(module: Callable[..., Any]) -> Callable[..., Any]:
    """A model that is left as it was made: the peers load no weights into it."""

    def made(*libraries: Any) -> Any:
        model = module(*libraries)
        model.load_state_dict = lambda state: None
        return model

    return made


def _measured(step: Callable[..., Any], batches: list[Any], wait: Callable[[Any], object], steps: int) -> dict[str, Any]:
    started = time.perf_counter()
    wait(loss := step(*batches[0]))
    first_call = time.perf_counter() - started
    losses = [float(loss)]
    losses += [float(step(*batches[number % len(batches)])) for number in range(1, 5)]
    whole, host = [], []
    for _ in range(5):
        wait(step(*batches[0]))
        started = time.perf_counter()
        for number in range(steps):
            loss = step(*batches[number % len(batches)])
        asked = time.perf_counter() - started
        wait(loss)
        whole.append((time.perf_counter() - started) / steps)
        host.append(asked / steps)
    return {
        "us": round(1e6 * statistics.median(whole), 1),
        "host us": round(1e6 * statistics.median(host), 1),
        "first call s": round(first_call, 2),
        "losses": [round(loss, 5) for loss in losses],
    }


def profile(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """Where a step's time goes, kernel by kernel: the longest ten, with what they take of the device."""
    for make in WORKLOADS[:1] if small else WORKLOADS:
        workload = make()
        rng = np.random.default_rng(0)
        step, batches = _ours(workload, workload.data(rng), workload.weights(rng), half=False)
        for _ in range(3):
            step(*batches[0])
        if time.monotonic() > until:
            return
        newest = step.signatures[-1]  # type: ignore[attr-defined]
        compiled, plan, batch = newest.compiled, newest.traced.plan, batches[0]
        given = [batch[argument.leaf] for argument in plan.arguments]
        outs = [fb.empty(max(1, nbytes), dtype=fb.uint8, device="cuda") for nbytes in compiled.program.out_bytes]
        fb.cuda.synchronize()
        seconds = newest.entry.bound.executable.profile(
            [x.data_ptr() for x in given],
            [float(number.read(batch)) for number in plan.numbers],
            [out.data_ptr() for out in outs],
            repeats=2 if small else 10,
        )
        yield {"name": workload.name, "launches": len(seconds), "us": round(1e6 * sum(seconds), 1)}
        order = sorted(range(len(seconds)), key=lambda number: -seconds[number])
        provenance: Provenance = compiled.provenance
        for number in order[:10]:
            call = compiled.launch_calls[number]
            kernel = compiled.memory.calls[call].kernel
            yield {
                "name": f"{workload.name}: launch {number}",
                "us": round(1e6 * seconds[number], 1),
                "kernel": f"{kernel.keyword} over {' x '.join(map(str, kernel.extents))}",
                "takes": compiled.backend.note(kernel, compiled.target),
                "ops": sorted({node.op.name for node in provenance.ops_of(call)}),
            }
