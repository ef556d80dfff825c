"""Graph -> something to call. The one file that names every stage: passes, codegen, runtime.

    graph --passes--> fused graph --lower--> kernel calls --codegen--> artifacts --plan--> program --runtime--> executable
"""
from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from flambeau import config
from flambeau.codegen.cpu.artifact import Artifact
from flambeau.codegen.cpu.backend import compile_kernels
from flambeau.ir.graph import Graph, Value, clone
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel_hash import kernel_key
from flambeau.ir.kernel_text import print_kernel
from flambeau.ir.target import Target, host_target
from flambeau.ir.text import print_graph
from flambeau.passes.lower import Call, lower
from flambeau.passes.pipeline import GRAPH_PASSES, PassReport, run
from flambeau.passes.plan import Home, MemoryPlan, plan
from flambeau.passes.schedule import schedule
from flambeau.runtime.cache import Cache
from flambeau.runtime.executable import Executable
from flambeau.runtime.loader import load
from flambeau.runtime.program import Launch, Program, Slot


@dataclass(frozen=True)
class CompileTimes:
    """Seconds spent, by stage."""

    passes: float
    lower: float
    codegen: float
    load: float

    @property
    def total(self) -> float:
        return self.passes + self.lower + self.codegen + self.load


@dataclass
class LoadedKernel:
    """An artifact whose code is in memory."""

    artifact: Artifact
    addresses: dict[str, int]
    keep: object


@dataclass
class Compiled:
    """One graph, compiled. `executable` takes args, scalars and outs in the order of the graph's inputs and outputs;
    its states are yet to be bound."""

    source: Graph
    fused: Graph
    memory: MemoryPlan
    loaded: list[LoadedKernel]              # of each call, in execution order
    program: Program
    executable: Executable
    report: PassReport
    times: CompileTimes
    new_kernels: int                        # compiled now; the others were known from before
    launch_calls: list[int] = field(default_factory=list)       # which call each launch belongs to

    @property
    def kernels(self) -> list[Kernel]:
        """Every kernel that differs from the others, in order of first use."""
        return list({kernel_key(call.kernel): call.kernel for call in self.memory.calls}.values())

    def text(self, level: str) -> str:
        """The program at one level: "graph", "fused", "kernels", "llvm", "asm", or after a pass, by its name."""
        match level:
            case "graph":
                return print_graph(self.source)
            case "fused":
                return print_graph(self.fused)
            case "kernels":
                return "\n".join(print_kernel(kernel) for kernel in self.kernels)
            case "llvm":
                return "\n".join(artifact.llvm_ir() for artifact in self._artifacts())
            case "asm":
                return "\n".join(artifact.assembly() for artifact in self._artifacts())
            case _:
                return self.after(level)

    def after(self, name: str) -> str:
        """The graph after the pass called `name`, the passes run again on a copy. Raises ValueError if there is none."""
        names = [p.name for p in GRAPH_PASSES]
        if name not in names:
            levels = ["graph", "autodiff", "fused", "kernels", "llvm", "asm", *dict.fromkeys(names)]
            raise ValueError(f"there is no IR level or pass called {name!r}; choose from {', '.join(levels)}")
        last = len(names) - 1 - names[::-1].index(name)
        graph, _ = run(clone(self.source)[0], GRAPH_PASSES[:last + 1])
        return print_graph(graph)

    def _artifacts(self) -> list[Artifact]:
        return list({id(k.artifact): k.artifact for k in self.loaded}.values())


_loaded: Cache[LoadedKernel] = Cache()


def compile_graph(graph: Graph, *, target: Target | None = None, verify: bool = False) -> Compiled:
    """Compile `graph`, which is left as it was. verify: check the graph after every pass (slow; tests do)."""
    target = target or host_target()
    started = time.perf_counter()
    dump_dir = _new_dump_dir(graph)
    fused, report = run(clone(graph)[0], GRAPH_PASSES, verify=verify, dump_dir=dump_dir)
    passed = time.perf_counter()
    calls = [_scheduled(call, target) for call in lower(fused)]
    lowered = time.perf_counter()
    codegen_before = _codegen_seconds[0]
    kernels, new_kernels = _kernels_of(calls, target)
    memory = plan(fused, calls, [k.artifact.scratch_bytes for k in kernels])
    # the plan reorders calls and adds copies
    memory.calls = [_scheduled(call, target) for call in memory.calls]
    loaded, more = _kernels_of(memory.calls, target)
    program, launch_calls = _program(fused, memory, loaded)
    addresses = {symbol: address for k in loaded for symbol, address in k.addresses.items()}
    executable = Executable(program, addresses, keep=[k.keep for k in loaded])
    finished = time.perf_counter()
    codegen = _codegen_seconds[0] - codegen_before
    times = CompileTimes(passed - started, lowered - passed, codegen, finished - lowered - codegen)
    compiled = Compiled(graph, fused, memory, loaded, program, executable, report, times, new_kernels + more,
                        launch_calls)
    if dump_dir is not None:
        _dump_kernels(compiled, dump_dir, len(report.records) + 1)
    return compiled


_dumps = itertools.count()


def _new_dump_dir(graph: Graph) -> Path | None:
    """A folder of its own for each graph compiled while FLAMBEAU_DUMP is set: DIR/000-train_step."""
    return config.dump_dir / f"{next(_dumps):03}-{graph.name}" if config.dump_dir is not None else None


def _dump_kernels(compiled: Compiled, directory: Path, number: int) -> None:
    """After the passes' own files: the kernels, their LLVM IR and assembly."""
    directory.mkdir(parents=True, exist_ok=True)
    for level, suffix in (("kernels", "txt"), ("llvm", "ll"), ("asm", "s")):
        (directory / f"{number:02}-{level}.{suffix}").write_text(compiled.text(level), encoding="utf-8")
        number += 1


def _scheduled(call: Call, target: Target) -> Call:
    """The call with its kernel scheduled; kernels that compute the same get one schedule, worked out once."""
    key = f"{kernel_key(call.kernel)} {target.cache_key}"
    chosen = _schedules.get_or_make(key, lambda: schedule(call.kernel, target))
    return replace(call, kernel=replace(chosen, locations=call.kernel.locations))


_schedules: Cache[Kernel] = Cache()


_codegen_seconds = [0.0]


def _kernels_of(calls: Sequence[Call], target: Target) -> tuple[list[LoadedKernel], int]:
    """The loaded kernel of each call, and how many had to be compiled."""
    keys = [f"{kernel_key(call.kernel)} {target.cache_key}" for call in calls]
    missing = {key: call.kernel for key, call in zip(keys, calls, strict=True) if key not in _loaded}
    if missing:
        started = time.perf_counter()
        for key, artifact in zip(missing, compile_kernels(list(missing.values()), target), strict=True):
            symbols = [phase.symbol for phase in artifact.phases]
            library = load([artifact.object], symbols)
            _loaded.put(key, LoadedKernel(artifact, {s: library[s] for s in symbols}, library))
        _codegen_seconds[0] += time.perf_counter() - started
    found = [_loaded.get(key) for key in keys]
    return [k for k in found if k is not None], len(missing)


def _program(graph: Graph, memory: MemoryPlan, loaded: Sequence[LoadedKernel]) -> tuple[Program, list[int]]:
    """The plan as data for the runtime, and the call behind each launch."""
    slots: dict[tuple[str, int, int], int] = {}

    def slot(home: Home) -> int:
        return slots.setdefault((home.kind, home.index, home.nbytes), len(slots))

    launches: list[Launch] = []
    launch_calls: list[int] = []
    for number, (call, kernel, scratch) in enumerate(zip(memory.calls, loaded, memory.scratch, strict=True)):
        buffers = [slot(memory.home_of[v]) for v in call.buffers] + [slot(home) for home in scratch]
        for phase in kernel.artifact.phases:
            tasks = phase.task_count(call.sizes)
            errors = tuple([(status, _located(message, call.kernel)) for status, message in phase.errors])
            launches.append(Launch(phase.symbol, tasks, phase.grain, phase.parallel and tasks > phase.grain,
                                   tuple([buffers[p] for p in phase.params]), call.sizes, errors))
            launch_calls.append(number)
    kinds = [v.node.op.kind for v in graph.inputs]              # type: ignore[attr-defined]
    program = Program(
        tuple([Slot(kind, index, nbytes) for kind, index, nbytes in slots]),      # type: ignore[arg-type]
        tuple(launches), memory.arena_bytes, kinds.count("arg"), kinds.count("state"), kinds.count("scalar"),
        tuple([v.type.nbytes for v in graph.outputs]), tuple([_bytes(v) for v in memory.constants]),
        writes_state=bool(graph.writes))
    program.check()
    return program, launch_calls


def _located(message: str, kernel: Kernel) -> str:
    where = ", ".join(kernel.locations[:3])
    return f"{message} (in the kernel of {where})" if where else message


def _bytes(constant: Value) -> bytes:
    return bytes(constant.node.op.value.array.tobytes())       # type: ignore[attr-defined]
