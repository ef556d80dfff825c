"""Random trees of launches, loops and branches on the simulated device: as they are interpreted on the CPU. Kernels are
their meaning; some of them run on the host in the middle of the program.

    python -m tests.runtime.test_cuda_trees 1000 [first seed]
"""
from __future__ import annotations

import ctypes
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tree_programs import ELEMENTS, Tree, outcome, random_tree

from flambeau.errors import KernelError
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.interpreter import interpret
from flambeau.runtime.cuda.copying import CopyingExecutable
from flambeau.runtime.cuda.device import Device, here
from flambeau.runtime.cuda.executable import CudaExecutable, Loaded
from flambeau.runtime.cuda.simulated import SimulatedDriver
from flambeau.runtime.steps import Branch, Loop, Step


class Meaning:
    """A kernel on the simulated device."""

    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.n_params = 1 + len(kernel.params) + len(kernel.sizes)

    def __call__(self, at: Any, blocks: int, threads: int, values: Sequence[int]) -> None:
        kernel, (status, *rest) = self.kernel, values
        sizes = dict(zip(kernel.sizes, rest[len(kernel.params):], strict=True))
        arrays = []
        for param, pointer in zip(kernel.params, rest, strict=False):
            elements = sizes[param.elements] if isinstance(param.elements, str) else param.elements
            arrays.append(at(pointer, elements * param.dtype.itemsize).view(param.dtype.storage))
        try:
            interpret(kernel, arrays, sizes)
        except KernelError as error:
            found = at(status, 16).view(np.int64)
            if not found[0]:
                found[:] = error.status, error.details[0]


class Bound:
    """Binds a program once, to a state of its own, which takes the values of those that it is given."""

    def __init__(self, executable: CopyingExecutable):
        self.program, self.state = executable.program, np.zeros(ELEMENTS, np.int64)
        self.bound = executable.bind_states([self.state.ctypes.data])

    def bind_states(self, pointers: Sequence[int]) -> Bound:
        (self.theirs,) = pointers
        return self

    def call(self, *values: Any) -> None:
        ctypes.memmove(self.state.ctypes.data, self.theirs, self.state.nbytes)
        self.bound.call(*values)
        ctypes.memmove(self.theirs, self.state.ctypes.data, self.state.nbytes)


def on_device(tree: Tree, device: Device, rng: random.Random) -> Bound:
    loaded = []
    for built in tree.built:
        assert built is not None
        on_host = rng.random() < 0.1
        loaded.append(Loaded(built.kernel, None if on_host else Meaning(built.kernel), 32,
                             not on_host and built.kernel.params[-1].role == "in"))
    kernels = iter([one.kernel for one in loaded])
    program = replace(tree.program, steps=tuple([own_sizes(step, kernels) for step in tree.program.steps]))
    return Bound(CopyingExecutable(CudaExecutable(program, loaded, device)))


def own_sizes(step: Step, kernels: Iterator[Kernel]) -> Step:
    """Without the runtime numbers that the CPU's code takes beside the sizes of the kernel."""
    match step:
        case Loop():
            return replace(step, body=tuple([own_sizes(inner, kernels) for inner in step.body]))
        case Branch():
            then = tuple([own_sizes(inner, kernels) for inner in step.then])
            return replace(step, then=then, otherwise=tuple([own_sizes(inner, kernels) for inner in step.otherwise]))
        case _:
            return replace(step, sizes=step.sizes[:len(next(kernels).sizes)])


def check(seed: int) -> SimulatedDriver:
    rng = random.Random(seed)
    cu = SimulatedDriver(devices=1, capacity=1 << 20)
    cu.cuInit(0)
    cu.queues.random.seed(seed)
    cu.queues.chance = rng.choice([0, 0.3])
    tree = random_tree(seed, calls_host=False, opens_sizes=rng.random() < 0.3)
    device = Device(0, cu)
    there, here_ = on_device(tree, device, rng), tree.interpreted()
    for call in range(4):
        if rng.random() < 0.1:                  # a call waits at its end
            here.streams[device] = device.stream()
        found, wanted = outcome(there, seed + call), outcome(here_, seed + call)
        # after an error the rest of the program has run, on what there was
        assert found == wanted if not wanted[2] else found[2] == wanted[2], f"seed {seed}, call {call}"
    here.streams.clear()
    here.entered = None
    return cu


def test_random_trees_run_on_a_device_as_they_are_interpreted() -> None:
    started, seed, graphs = time.monotonic(), 0, 0
    while time.monotonic() - started < 5 or not graphs:
        try:
            graphs += check(seed).calls["cuGraphLaunch"]
        except BaseException:
            print(f"check({seed})")
            raise
        seed += 1


if __name__ == "__main__":
    many, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    graphs = launches = 0
    for seed in range(first, first + many):
        made = check(seed).calls
        graphs, launches = graphs + made["cuGraphLaunch"], launches + made["cuLaunchKernel"]
    print(f"{many} trees, {launches} launches, {graphs} graphs")
