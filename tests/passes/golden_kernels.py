"""Golden files that hold kernels, made for a named target, so that they are the same on every machine.

    // passes: fuse, lower                      // passes: schedule
    // target: avx2                             // target: avx512

    graph @name { ... }                         loop @name { ... }
    // becomes                                  // becomes
    // k0(in0 = "x", out0 = v0)                 loop @name { ... schedule ... }
    loop @k0 { ... }
    // return v0

`lower` starts from the graph before `fuse`, which is much shorter than the fused one and says the same; a comment over
each kernel names the buffers of its params, and one at the end says where results lie. What `split_reductions` decides
shows as several kernels, `k0_parts` and `k0_combined`. A schedule is chosen for kernels as `lower` leaves them.
"""
from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from flambeau.errors import KernelError
from flambeau.ir.dtypes import to_compute
from flambeau.ir.graph import Graph, Value
from flambeau.ir.graph.parser import parse
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.text import parse_kernels, print_kernel, print_kernels
from flambeau.ir.target import Target
from flambeau.passes.cpu.pipeline import CPU_PASSES
from flambeau.passes.cpu.prepare import in_parts
from flambeau.passes.cpu.schedule import schedule
from flambeau.passes.lowering.lower import Call, finish, lower
from flambeau.passes.pipeline import run
from tests.passes.golden import GoldenFile

_TRIPLE: Final = "x86_64-unknown-linux-gnu"
TARGETS: Final = {
    "plain": Target(_TRIPLE, "x86-64", "+sse2", 16, False, 16, cores=1),
    "avx2": Target(_TRIPLE, "x86-64-v3", "+avx,+avx2,+fma,+f16c", 32, True, 16, 32 << 10, 512 << 10, 32 << 20, 8),
    "avx512": Target(_TRIPLE, "x86-64-v4", "+avx,+avx2,+avx512f,+fma,+f16c", 64, True, 32, 48 << 10, 2 << 20, 32 << 20,
                     2),
}


def target_of(file: GoldenFile) -> Target:
    (name,) = re.findall(r"^// target: (.*)$", file.head, re.MULTILINE)
    return TARGETS[name]


def starts_from_kernels(file: GoldenFile) -> bool:
    return "// passes: schedule\n" in file.head


def unfinished(text: str) -> tuple[Graph, list[Call]]:
    """The graph, fused, and its kernel calls before a device has decided anything."""
    (fuse,) = [p for p in CPU_PASSES if p.name == "fuse"]
    fused, _ = run(parse(text), [fuse], verify=True)
    return fused, lower(fused)


def lowered(text: str, target: Target) -> tuple[Graph, list[Call]]:
    """The graph, fused, and its kernel calls."""
    fused, calls = unfinished(text)
    return fused, [finish(part) for call in calls for part in in_parts(call, target)]


def print_calls(graph: Graph, calls: Sequence[Call]) -> str:
    """Every kernel under the buffers of its params, and then where the results lie. What kernels make is v0, v1, ..."""
    names = {id(v): json.dumps(v.node.op.label) for v in graph.inputs}                      # type: ignore[attr-defined]
    made = itertools.count()

    def name(value: Value) -> str:
        if id(value) not in names:
            is_constant = value.node.op.name == "constant"
            names[id(value)] = f"constant {value.type}" if is_constant else f"v{next(made)}"
        return names[id(value)]

    lines = []
    for call in calls:
        params = [f"{p.name} = {name(v)}" for p, v in zip(call.kernel.params, call.buffers, strict=True)]
        params += [f"{size} = {number}" for size, number in zip(call.kernel.sizes, call.sizes, strict=True)]
        lines.append(f"// {call.kernel.name}({', '.join(params)})\n{print_kernel(call.kernel)}")
    lines += [f"// write {name(value)} to {name(state)}\n" for state, value in graph.writes.items()]
    return "".join([*lines, f"// return {', '.join(name(v) for v in graph.outputs)}".rstrip() + "\n"])


def scheduled(text: str, target: Target) -> str:
    return print_kernels(schedule(kernel, target) for kernel in parse_kernels(text))


def without_schedules(text: str) -> str:
    return print_kernels(replace(kernel, schedule=None) for kernel in parse_kernels(text))


def kernel_results(graph: Graph, calls: Sequence[Call], inputs: Sequence[np.ndarray]) -> list[np.ndarray] | None:
    """What the calls give for the graph's outputs and writes, in the compute dtype; None where a check fails."""
    memory = {id(v): np.array(a).reshape(-1) for v, a in zip(graph.inputs, inputs, strict=True)}

    def buffer(value: Value) -> np.ndarray:
        if id(value) not in memory:
            op = value.node.op
            memory[id(value)] = (op.value.array.reshape(-1).copy() if op.name == "constant"     # type: ignore[attr-defined]
                                 else np.full(value.type.numel, 85, value.dtype.storage))
        return memory[id(value)]

    try:
        for call in calls:
            interpret(call.kernel, [buffer(v) for v in call.buffers], call.sizes)
    except KernelError:
        return None
    return [to_compute(buffer(v).reshape(v.type.static_shape), v.dtype) for v in graph.roots()]
