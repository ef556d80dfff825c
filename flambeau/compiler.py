"""Graph -> something to call. The one file that names every stage; what depends on the device, the backend decides.

    graph --passes--> fused graph --lower--> calls --prepare--> scheduled calls --arrange--> all calls, in order
    --build--> built kernels --plan--> memory --link--> program --> executable

What `fb.compile` compiles for the CPU is kept on disk (`kept.py`): the next process that traces the same graph goes through
none of these.
"""
from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from flambeau import config
from flambeau.backends import (
    Artifact,
    Backend,
    BuiltKernel,
    Runnable,
    backend_of,
    backend_on,
    device_of,
    register_backend,
)
from flambeau.errors import FlambeauError, GraphError, UnsupportedError
from flambeau.ir import ops
from flambeau.ir.collector import paused_collector
from flambeau.ir.graph import Graph, clone
from flambeau.ir.graph.erasure import erased
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.graph.text import print_graph
from flambeau.ir.kernel import Kernel
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.text import print_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.records import dataclass
from flambeau.kept import CompileTimes
from flambeau.linking import link, separate_steps
from flambeau.passes.fusion.known_numbers import settle_numbers
from flambeau.passes.fusion.limits import Limits
from flambeau.passes.fusion.reasons import reasons
from flambeau.passes.lowering.lower import Call, lower
from flambeau.passes.memory.plan import MemoryPlan, arrange, plan
from flambeau.passes.pipeline import Pass, PassReport, run
from flambeau.provenance import Provenance
from flambeau.runtime.forking import no_forks
from flambeau.runtime.program import Program
from flambeau.runtime.through_host import ThroughHost
from flambeau.verified import VerifiedExecutable

__all__ = ["CompileTimes", "Compiled", "compile_graph", "fuse_graph", "input_device", "register_backend"]


@dataclass
class Compiled:
    """One graph, compiled. `executable` takes args, scalars and outs in the order of the graph's inputs and outputs;
    its states are yet to be bound."""

    source: Graph
    fused: Graph
    memory: MemoryPlan
    built: list[BuiltKernel]                # of each call, in execution order
    program: Program
    executable: Runnable
    report: PassReport
    times: CompileTimes
    new_kernels: int                        # pieces of code made now; the others were known from before
    launch_calls: list[int]                 # which call each launch belongs to
    once_calls: list[int]                   # the same, of what runs once for each version of the states
    passes: tuple[Pass, ...]                # what was run
    backend: Backend
    target: Any                             # what it compiled for
    sizes: Mapping[str, int] | None = None  # the numbers of the source's named sizes

    @property
    def kernels(self) -> list[Kernel]:
        """Every kernel that differs from the others, in order of first use."""
        return list({kernel_key(call.kernel): call.kernel for call in self.memory.calls}.values())

    @property
    def artifacts(self) -> list[Artifact]:
        """The code of each launch, of those that run once last."""
        return [self.built[number].artifact for number in (*self.launch_calls, *self.once_calls)]

    def text(self, level: str) -> str:
        """The program at one level: "graph", "fused", "kernels", "llvm", "asm", or after a pass, by its name."""
        match level:
            case "graph":
                return print_graph(self.source)
            case "fused":
                return print_graph(self.fused)
            case "kernels":
                return "\n".join(print_kernel(kernel) for kernel in self.kernels)
            case _ if level in self.code_levels:
                texts = [self.backend.text(kernel, self.target, level) for kernel in self.kernels]
                return "\n".join(dict.fromkeys(texts))         # kernels may share code
            case _:
                return print_graph(self.after(level))

    @property
    def n_code(self) -> int:
        """How many different pieces of machine code there are: kernels may share one."""
        return len({built.artifact.symbols for built in self.built})

    @cached_property
    def provenance(self) -> Provenance:
        """Which traced ops each kernel computes, and what became of each."""
        return Provenance(self.source, self.memory.calls, self.report)

    @property
    def numbered(self) -> Graph:
        """The source, with numbers for sizes that have names."""
        return self.source if self.sizes is None else with_sizes(self.source, self.sizes)

    @cached_property
    def unfused(self) -> list[tuple[int, int, str]]:
        """(kernel call, kernel call that reads what it makes, why the two are not one kernel)."""
        before, fuse = self.passes[:-1], self.passes[-1].function
        limits = fuse.keywords.get("limits", Limits()) if isinstance(fuse, partial) else Limits()
        fusions = [node for node in self.fused.toposort() if isinstance(node.op, ops.Fusion)]
        kinds = [node.op.kind for node in fusions]                                          # type: ignore[attr-defined]
        found = reasons(run(erased(self.numbered), before)[0], limits, kinds)
        places = {node: number for number, node in enumerate(fusions)}
        calls: dict[int, list[int]] = {}
        for number in range(len(self.memory.calls)):
            fusion = self.provenance.fusion_of(number)
            if fusion in places:
                calls.setdefault(places[fusion], []).append(number)
        return [(calls[pair.producer][-1], calls[pair.consumer][0], pair.why) for pair in found
                if pair.producer in calls and pair.consumer in calls]

    @property
    def code_levels(self) -> list[str]:
        """What the backend can show below "kernels": "llvm" and "asm" on the CPU."""
        return list(self.backend.levels) if self.built else []

    def after(self, name: str) -> Graph:
        """The graph after the pass called `name`, the passes run again on a copy. Raises ValueError if there is none."""
        names = [p.name for p in self.passes]
        if name not in names:
            levels = ["graph", "autodiff", "fused", "kernels", *self.code_levels, *dict.fromkeys(names)]
            raise ValueError(f"there is no IR level or pass called {name!r}; choose from {', '.join(levels)}")
        last = len(names) - 1 - names[::-1].index(name)
        return run(erased(self.numbered), self.passes[:last + 1])[0]


@no_forks
@paused_collector()
def compile_graph(graph: Graph, *, target: Any = None, verify: bool = False, rules: bool = False,
                  backend: str | Backend | None = None, passes: Sequence[Pass] | None = None,
                  device: str | None = None, sizes: Mapping[str, int] | None = None,
                  fused: tuple[Graph, PassReport] | None = None, keep: bool = False, shrinks: bool = True) -> Compiled:
    """Compile `graph`, which is left as it was.

    rules: check the rules of the IR after every pass and of every kernel (tests do). verify: those, and make an
    executable that checks all results at every call (see `verified`; hundreds of times slower). backend: a registered
    name or a `Backend`, else the one of the inputs' device. target: what it compiles for, else the machine we run on.
    device: where it computes, else the one of its inputs. passes: what runs instead of the backend's; the rules are always
    checked after others. sizes: the numbers of the graph's named sizes; fused: what `fuse_graph` gave for it, with those.
    keep: what depends on states alone runs once, when they are bound, as far as the backend can (decision 051); the graph
    then writes no state, and whoever calls binds them again when what lies in them changed.
    shrinks: a check that fails tells the smallest program that shows the fault.
    Raises GraphError when a pass breaks a rule or changes the graph's signature, or a kernel does,
    for example by not storing its results whole, and UnsupportedError for inputs on several devices."""
    device = input_device(graph) if device is None else device
    backend = backend_on(device) if backend is None else backend_of(backend)
    place = device if device.partition(":")[0] == backend.memory else "cpu"
    if place != device and device.startswith("cuda"):
        raise UnsupportedError(f"{backend!r} computes with memory of the host, and the tensors lie on {device!r}",
                               hint="leave backend= out: it follows from where tensors lie")
    target = backend.host() if target is None else target
    target = backend.checkable(target) if verify else target
    keep = keep and not verify and passes is None and bool(backend.keeping_passes) and not graph.writes
    usual = backend.keeping_passes if keep else backend.passes
    chosen = usual if passes is None else tuple(passes)
    rules = rules or verify or chosen != usual
    dump_dir = _new_dump_dir(graph)
    laps = _Laps()

    plain = graph if sizes is None or fused and not rules else with_sizes(graph, sizes)
    plain = plain if device == "cpu" else erased(plain)
    if fused:
        settle_numbers(fused[0])
    fused_graph, report = fused or run(clone(plain)[0], chosen, verify=rules, dump_dir=dump_dir)
    if rules:
        _check_signature(plain, fused_graph)
    laps.end("passes")
    lowered = lower(fused_graph, lambda calls: backend.prepare(calls, target))
    arranged = arrange(fused_graph, lowered, lambda added: backend.prepare(added, target))
    if rules:
        _verify_kernels(arranged.calls)
    laps.end("lower")
    built, new_kernels = _build(arranged.calls, backend, target)
    laps.end("codegen")
    packings = [{n: (*phase.packs, phase.layout) for n, phase in enumerate(kernel.phases) if phase.packs}
                for kernel in built]
    memory = plan(arranged, [kernel.scratch_bytes for kernel in built], packings if keep else None, config.kept_bytes)
    lies = "cpu" if verify else place           # checks look at every value
    program, launch_calls = link(fused_graph, memory, built, lies)
    executable = backend.executable(program, [built[number] for number in launch_calls])
    if verify:
        steps = separate_steps(memory, built, backend, lies)
        shrink = import_module("flambeau.repro").shrinking(compile_graph, backend, passes, target) if shrinks else None
        executable = VerifiedExecutable(plain, fused_graph, chosen, memory, steps, program, executable, shrink=shrink)
        if place != lies:
            executable = ThroughHost(executable, program, place)
    laps.end("load")

    first = len(program.launches)
    compiled = Compiled(graph, fused_graph, memory, built, program, executable, report, CompileTimes(**laps.seconds),
                        new_kernels, launch_calls[:first], launch_calls[first:], chosen, backend, target, sizes)
    if dump_dir is not None:
        _dump_kernels(compiled, dump_dir, len(report.records) + 1)
    return compiled


def fuse_graph(graph: Graph, *, backend: str | Backend | None = None, passes: Sequence[Pass] | None = None,
               device: str | None = None, rules: bool = False, keep: bool = False) -> tuple[Graph, PassReport]:
    """The passes' part of compiling a graph, which is left as it was: for graphs whose sizes have names, within
    `answers.assuming` what is known of them. The arguments are those of `compile_graph`."""
    device = input_device(graph) if device is None else device
    chosen_backend = backend_on(device) if backend is None else backend_of(backend)
    usual = chosen_backend.keeping_passes if keep and not graph.writes else ()
    chosen = usual or chosen_backend.passes if passes is None else tuple(passes)
    plain = graph if device == "cpu" else erased(graph)
    return run(clone(plain)[0], chosen, verify=rules)


def input_device(graph: Graph, where: str | None = None) -> str:
    """The one device of all inputs but numbers, which come with the call; without such, the one that something is made on.
    Raises UnsupportedError naming an input that lies elsewhere and the line that first reads it, or what is made elsewhere
    and its line; or else `where`."""
    tensors = [value for value in graph.inputs if value.node.op.kind != "scalar"]               # type: ignore[attr-defined]

    def first_read(number: int) -> str | None:
        readers = [n for n in graph.toposort() if tensors[number] in n.operands and n.loc is not None]
        return str(readers[0].loc) if readers else where

    device = device_of([(v.node.op.label, v.type.device) for v in tensors], first_read)         # type: ignore[attr-defined]
    for value in [v for node in graph._node for v in node.results] if device == "cpu" else ():
        if value.type.device not in ("cpu", device):
            if tensors or device != "cpu":
                raise UnsupportedError(f"a tensor {value.type} is made in a function of tensors on {device!r}: a compiled "
                                       "function computes on one device", where=str(value.node.loc or where),
                                       hint="make it outside, or give the function tensors that lie there")
            device = value.type.device
    return device


def _build(calls: Sequence[Call], backend: Backend, target: Any) -> tuple[list[BuiltKernel], int]:
    """The built kernel of each call, and how many pieces of code had to be made now."""
    keys = [(kernel_key(call.kernel), target) for call in calls]
    known = _built.setdefault(backend, {})
    missing = {key: call.kernel for key, call in zip(keys, calls, strict=True) if key not in known}
    before = {artifact.symbols for (_, its), artifact in known.items() if its == target} if missing else set()
    if missing:
        for key, made in zip(missing, backend.build(list(missing.values()), target), strict=True):
            known.setdefault(key, made)
    new = {known[key].symbols for key in missing} - before
    return [BuiltKernel(call.kernel, known[key]) for key, call in zip(keys, calls, strict=True)], len(new)


# what each backend built, by kernel and target; it goes when the backend goes
_built: WeakKeyDictionary[Backend, dict[tuple[str, Any], Artifact]] = WeakKeyDictionary()


class _Laps:
    """Seconds from the end of one stage to the end of the next."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        self._last, before = time.perf_counter(), self._last
        self.seconds[stage] = self._last - before


# -- the rules --------------------------------------------------------------------------------------------------------


def _check_signature(graph: Graph, fused: Graph) -> None:
    """What a pass may not do, and lowering would not notice. Raises GraphError."""
    def signature(g: Graph) -> tuple[object, ...]:
        place = {value: number for number, value in enumerate(g.inputs)}
        writes = sorted((place.get(state, -1), value.type) for state, value in g.writes.items())
        return [v.node.op for v in g.inputs], [v.type for v in g.outputs], writes

    before, after = signature(graph), signature(fused)
    if before != after:
        raise GraphError(f"the passes changed the inputs, outputs or writes of {graph.name}: from {before} to {after}")
    loose = [n for g in _lowered_graphs(fused) for n in g.toposort()
             if not isinstance(n.op, ops.Fusion | ops.Constant | ops.Cond | ops.WhileLoop) and n.op.name != "input"]
    if loose:
        raise GraphError(f"the passes left {loose[0]!r} of {graph.name} outside any fusion, so that no kernel would "
                         "compute it", hint="the last pass must be fuse, as in passes.pipeline.graph_passes")


def _lowered_graphs(graph: Graph) -> list[Graph]:
    """`graph` and the regions in it that stay regions, not kernels."""
    found = [graph]
    for current in found:                   # grows while it is walked
        for node in current.toposort():
            if not isinstance(node.op, ops.Fusion):
                found.extend(node.regions)
    return found


def _verify_kernels(calls: Sequence[Call]) -> None:
    """Raises GraphError for a kernel that breaks a rule, such as one that does not store its results whole."""
    for kernel in {kernel_key(call.kernel): call.kernel for call in calls}.values():
        try:
            if any(instr.op == "affine" for instr in kernel.instrs()):
                raise GraphError(f"kernel {kernel.name} has an affine value: prepare has to finish every call")
            verify_kernel(kernel)
        except GraphError as error:
            raise GraphError(f"after lowering and scheduling: {error.message}", where=error.where) from error


# -- FLAMBEAU_DUMP ----------------------------------------------------------------------------------------------------


_dumps = itertools.count()


def _new_dump_dir(graph: Graph) -> Path | None:
    """A new folder for each graph compiled while FLAMBEAU_DUMP is set: DIR/000-train_step. Raises FlambeauError where
    none can be made."""
    if config.dump_dir is None:
        return None
    directory = config.dump_dir / f"{next(_dumps):03}-{re.sub(r'[^A-Za-z0-9_]+', '_', graph.name)}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FlambeauError(f"FLAMBEAU_DUMP: can't make {directory}: {error.strerror}") from None
    return directory


def _dump_kernels(compiled: Compiled, directory: Path, number: int) -> None:
    """After the passes' own files: the kernels, and what the backend made of them (LLVM IR and assembly)."""
    suffix_of = {"llvm": "ll", "asm": "s"}
    for level in ("kernels", *compiled.code_levels):
        path = directory / f"{number:02}-{level}.{suffix_of.get(level, 'txt')}"
        path.write_text(compiled.text(level), encoding="utf-8")
        number += 1


def __getattr__(name: str) -> Any:
    """What PyTorch programs ask `torch.compiler` for (frontend/call/asked.py), once the face has loaded it."""
    if not name.startswith("_") and sys.modules["flambeau"].compile:
        asked = sys.modules["flambeau.frontend.call.asked"]
        if name in asked.__all__:
            return getattr(asked, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
