"""python -m benchmarks.profile_step WORKLOAD...: where the time of a compiled step goes, launch by launch.

us is the median of the launch; GB/s counts each buffer it is given once; GFLOP/s is for contractions; "model" is what
the loop scheduler takes a loop kernel to cost one core. --kernels prints each kernel before its launch.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.peers.flambeau_peer import Peer
from benchmarks.workloads import BY_NAME, Train, Workload
from flambeau.ir.kernel import ContractionKernel, Kernel, LoopKernel
from flambeau.ir.kernel.text import print_kernel
from flambeau.passes.cpu.loop_cost import Cost
from flambeau.runtime.host import host_target

_ROW = "{:>4} {:>9} {:>6} {:>8} {:>8} {:>8}  {:<11} {:<28} {:>12}  {}"


@dataclass(frozen=True)
class LaunchTime:
    """One launch of the step: its kernel, median seconds, bytes of its buffers, and tasks as 'tasks/grain'."""

    kernel: Kernel
    seconds: float
    nbytes: int
    tasks: str

    @property
    def flops(self) -> int:
        """Multiplications and additions of a contraction; 0 for loops."""
        return 2 * math.prod(self.kernel.extents) if isinstance(self.kernel, ContractionKernel) else 0


def profile(workload: Workload, threads: int, repeats: int) -> tuple[Any, list[LaunchTime]]:
    """(the compiled function, its launches in order)."""
    rng = np.random.default_rng(0)
    peer = Peer(threads, "")
    batches = [peer.batch(batch) for batch in workload.data(rng)]
    weights = workload.weights(rng) if isinstance(workload, Train) else {}
    step = peer.build(workload, weights, dropout=isinstance(workload, Train) and workload.dropout > 0)
    for batch in (batches * 3)[:3]:
        step(*batch)
    newest = step.signatures[-1]  # type: ignore[attr-defined]
    compiled, plan, batch = newest.compiled, newest.traced.plan, batches[0]
    arrays = [np.ascontiguousarray(batch[a.leaf].numpy()) for a in plan.arguments]
    scalars = [float(number.read(batch)) for number in plan.numbers]
    outs = [np.empty(nbytes, np.uint8) for nbytes in compiled.program.out_bytes]
    times = newest.entry.bound.executable.profile(
        [a.ctypes.data for a in arrays], scalars, [o.ctypes.data for o in outs], repeats=repeats
    )
    return step, list(_launches(compiled, times))


def _launches(compiled: Any, times: tuple[float, ...]) -> Iterator[LaunchTime]:
    program = compiled.program
    for launch, call, seconds in zip(program.launches, compiled.launch_calls, times, strict=True):
        nbytes = sum(program.slots[slot].nbytes for slot in set(launch.slots))
        tasks = f"{launch.tasks}/{launch.grain}" + ("" if launch.parallel else " one")
        yield LaunchTime(compiled.memory.calls[call].kernel, seconds, nbytes, tasks)


def table(launches: list[LaunchTime], show_kernels: bool = False) -> str:
    """A line a launch, and the sum."""
    total = sum(launch.seconds for launch in launches)
    lines = [_ROW.format("", "us", "share", "GB/s", "GFLOP/s", "model", "kernel", "extents", "tasks/grain", "from")]
    for number, launch in enumerate(launches):
        kernel, us = launch.kernel, 1e6 * launch.seconds
        if show_kernels:
            lines.append(print_kernel(kernel))
        lines.append(_ROW.format(
            number, f"{us:.1f}", f"{launch.seconds / total:.1%}", f"{launch.nbytes / us / 1e3:.1f}",
            f"{launch.flops / us / 1e3:.1f}" if launch.flops else "", _model(kernel),
            kernel.keyword, "x".join(map(str, kernel.extents)) or "1",
            launch.tasks, ", ".join(kernel.locations[:1]),
        ))
    return "\n".join([*lines, _ROW.format("", f"{1e6 * total:.1f}", "", "", "", "", f"{len(launches)} launches",
                                          "", "", "").rstrip()])


def _model(kernel: Kernel) -> str:
    if not isinstance(kernel, LoopKernel) or kernel.sizes or kernel.schedule is None:
        return ""
    tiled = kernel.schedule.row_dim
    tiled = tiled if tiled is not None and tiled < kernel.n_parallel else None
    return f"{Cost(kernel, host_target()).nanoseconds(kernel.schedule.vector_dim, tiled) / 1e3:.1f}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="profile_step", description=__doc__)
    parser.add_argument("workloads", nargs="+", metavar="WORKLOAD", choices=BY_NAME, help=f"of {', '.join(BY_NAME)}")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--kernels", action="store_true", help="print each kernel")
    options = parser.parse_args(arguments)
    for name in options.workloads:
        step, launches = profile(BY_NAME[name], options.threads, options.repeats)
        print(f"## {name}\n{step.explain().splitlines()[2]}\n{table(launches, options.kernels)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
