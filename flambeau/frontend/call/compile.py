"""`@fb.compile`: trace once per signature, then one native call per step."""
from __future__ import annotations

import copy
import functools
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from flambeau import config
from flambeau.errors import CaptureError, FlambeauError, UnsupportedError
from flambeau.frontend.active import active
from flambeau.frontend.call import asked  # noqa: F401  what fb.compiler has under PyTorch's names
from flambeau.frontend.call.entry import Entry
from flambeau.frontend.call.family import Family
from flambeau.frontend.call.fastpath import MISS
from flambeau.frontend.call.replay import function_of
from flambeau.frontend.epoch import epoch
from flambeau.frontend.nn.hooks import RemovableHandle
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.pytree import Structure, flatten
from flambeau.frontend.tape.autograd import grad_mode
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.binder import trace_call
from flambeau.frontend.trace.call_plan import CallPlan, Traced
from flambeau.frontend.trace.guards.effects import Slot
from flambeau.frontend.trace.guards.markers import CompiledMarker
from flambeau.frontend.trace.planner import leaf_name
from flambeau.frontend.trace.sizes import NamedSizes, named_sizes, varied_dims
from flambeau.frontend.where import describe, user_location
from flambeau.ir.collector import paused_collector
from flambeau.ir.graph import Graph
from flambeau.ir.markup import folded
from flambeau.ir.records import dataclass
from flambeau.kept import Kept, find, is_on_cpu, keep, key_of
from flambeau.runtime.forking import ForkSafeLock, no_forks
from flambeau.runtime.interrupts import not_swallowed
from flambeau.warned import warn

if TYPE_CHECKING:
    from flambeau.backends import Backend, Runnable
    from flambeau.compiler import Compiled
    from flambeau.passes.pipeline import Pass
    from flambeau.provenance import Provenance

RECOMPILE_LIMIT = 64
config.watch("disable_jit", epoch.bump)         # what a fast call compares
config.watch("num_threads", epoch.bump)
config.watch("tf32", epoch.bump)
config.watch("deterministic", epoch.bump)


@dataclass(frozen=True)
class Stats:
    """What compiling took and gave, of the newest signature; counts in ops and kernels, times in seconds, sizes in
    bytes. Fields can be read as attributes or items."""

    n_signatures: int
    recompiles: int
    n_ops_traced: int
    n_backward_ops: int
    n_kernels: int                  # different pieces of machine code
    n_launches: int                 # kernel calls in one step
    n_new_kernels: int              # compiled for this signature; the others were known
    trace_seconds: float
    passes_seconds: float
    lower_seconds: float
    codegen_seconds: float
    load_seconds: float
    compile_seconds: float          # everything, trace included
    arena_bytes: int                # scratch memory of one call
    unshared_bytes: int             # what it would be without reuse
    state_bytes: int                # captured tensors
    kept_bytes: int                 # what is computed once of them, and kept
    in_place_writes: int
    calls: int
    from_disk: bool                 # an earlier process compiled all of it

    def keys(self) -> list[str]:
        """The names of all fields, so that `dict(stats)` works."""
        return list(asdict(self))

    def __getitem__(self, name: str) -> Any:
        return asdict(self)[name]


@dataclass
class Signature:
    """One compiled signature and the records of how it came to be."""

    entry: Entry
    compiled: Compiled
    traced: Traced
    trace_seconds: float
    reason: str | None              # why it was not one of the earlier signatures
    family: Family | None = None    # where it is for many sizes: `entry` and `compiled` are of those that were new last
    measured: dict[int, dict[int, float]] = field(default_factory=dict)     # by part and kernel call: seconds of a run, as
                                                                            # the newest profile found them

    @property
    def calls(self) -> int:
        """How often it was called, with any sizes; those of entries that were forgotten don't count."""
        entries = [self.entry] if self.family is None else list(self.family.entries.values())
        return sum(entry.bound.calls for entry in entries)

    @property
    def parts(self) -> list[Compiled]:
        """Everything that was compiled: the function, and the backward of its results as far as it was needed."""
        return [self.compiled, *(s.compiled for s in self.entry.segments if s.compiled is not None)]


class CompiledFunction(CompiledMarker):
    """A function that is traced at its first call with each signature, and runs as machine code after that.

    Works as a method too. Inside another compiled function it is traced as part of it."""

    def __init__(self, function: Callable[..., Any], *, verify: bool = False, recompile_limit: int = RECOMPILE_LIMIT,
                 backend: str | Backend | None = None, passes: Sequence[Pass] | None = None,
                 dynamic: bool | None = None, keep: bool = True):
        functools.update_wrapper(self, function)
        self.function, self.recompile_limit, self.dynamic = function, recompile_limit, dynamic
        self.how: dict[str, Any] = {"verify": verify, "backend": backend, "keep": keep}    # given to compile_graph
        if passes is not None:
            self.how["passes"] = tuple(passes)
        self.name = getattr(function, "__name__", type(function).__name__)
        self.signatures: list[Signature] = []
        self._entries: list[Entry | Family] = []
        self._lock = ForkSafeLock()
        self._compiling = self._has_set_up = False
        self._fast: Callable[[tuple[Any, ...]], Any] | None = None      # of the signature used last
        compiled_functions.add(self)
        for kept in _kept:
            kept.append(self)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else BoundFunction(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._fast is not None and not kwargs:
            result = self._fast(args)
            if result is not MISS:
                return result
        if active.tracer is not None or config.disable_jit:
            return self.function(*args, **kwargs)
        leaves, paths, structure = flatten((args, kwargs))
        if grad_mode.enabled:
            for leaf in leaves:
                if isinstance(leaf, Tensor):
                    up_to_date(leaf)
        entry = self._known(leaves, structure) or self._compile(leaves, paths, structure)
        return self.function(*args, **kwargs) if entry is None else entry.run(leaves, (args, kwargs))

    def _known(self, leaves: list[Any], structure: Structure | None) -> Entry | None:
        """The entry of this signature, which becomes the first to be tried. Entries are replaced as a whole: another
        thread may be going through them."""
        for position, found in enumerate(self._entries):
            entry = found.find(structure, leaves)
            if entry is not None:
                if position:
                    with self._lock:
                        self._entries = [found, *(e for e in self._entries if e is not found)]
                self._fast = entry.fast_call
                return entry
        return None

    # -- compiling --------------------------------------------------------------------------------------------------

    @contextmanager
    def _once_in_a_thread(self) -> Iterator[None]:
        """Requires: the lock. Whoever holds it and asks again was called back while compiling."""
        if self._compiling:
            raise UnsupportedError(f"{self.name} was called while this thread compiles it, by a signal handler or a "
                                   "finalizer", hint="call it once before it may be called from there")
        self._compiling = True
        try:
            yield
        finally:
            self._compiling = False

    def _compile(self, leaves: list[Any], paths: list[str], structure: Structure | None) -> Entry | None:
        """The entry of a new signature; None for a call that registers hooks of Modules, which is to run as Python. That is
        set-up, as in wrappers that record what a model computes: one call may do it, and the next is compiled."""
        with self._lock, self._once_in_a_thread(), no_forks, paused_collector(), not_swallowed():
            known = self._known(leaves, structure)          # another thread may have compiled it meanwhile
            if known is not None:
                return known
            for family in [e for e in self._entries if isinstance(e, Family)]:
                grown = family.grow(structure, leaves)
                if grown is not None:
                    signature = next(s for s in self.signatures if s.family is family)
                    signature.entry, signature.compiled = grown, family.newest_compiled
                    self._fast = grown.fast_call
                    return grown
            before = [e.newest if isinstance(e, Family) else e for e in self._entries]
            reason = self._entries[0].why_not(structure, leaves) or before[0].why_not(structure, leaves) if before else None
            if reason is not None:
                _log("recompiles", f"{self.name}: recompiles because {reason}")
            if len(self._entries) >= self.recompile_limit:
                raise UnsupportedError(
                    f"{self.name} was compiled for {len(self._entries)} signatures, which is its limit; the last time "
                    f"because {reason}", hint=f"{before[0].remedy(structure, leaves)}, or raise recompile_limit")
            where = describe(user_location())
            given = [(leaf_name(path), leaf._type.device) for path, leaf in zip(paths, leaves, strict=True)
                     if isinstance(leaf, Tensor)]
            if len({device for _, device in given}) > 1:
                _compiler().device_of(given, lambda number: where)
            started = time.perf_counter()
            moved = before[0].moved_tensors() if before else ()
            hooks = RemovableHandle.registered
            try:
                traced = self._traced(leaves, paths, structure, moved)
            except CaptureError as error:
                if RemovableHandle.registered == hooks or self._has_set_up:
                    raise
                self._has_set_up = True
                _log("recompiles", f"{self.name}: this call runs as Python, for it registers hooks ({error.message})")
                return None
            trace_seconds = time.perf_counter() - started
            # of captured tensors, too
            device = "cpu" if is_on_cpu(traced.graph) else _compiler().input_device(traced.graph, where)
            make = functools.partial(self._made, device=device, where=where)
            if traced.named is None:
                entry, compiled = make(traced.plan, traced.graph)
                self.signatures.append(Signature(entry, compiled, traced, trace_seconds, reason))
                self._entries = [entry, *self._entries]
            else:
                family = Family(traced, make, functools.partial(self._fused, plan=traced.plan, device=device))
                entry = family.at(traced.named.facts.sizes)
                compiled = family.newest_compiled
                self.signatures.append(Signature(entry, compiled, traced, trace_seconds, reason, family))
                self._entries = [family, *self._entries]
            self._fast = entry.fast_call
            self._tell(compiled)
            _log("fusion", f"{self.name}: {len(traced.graph)} ops became {len(compiled.program.launches)} launches"
                           f"{'' if isinstance(compiled, Kept) else f' of {len(compiled.kernels)} kernels'}")
            return entry

    def _traced(self, leaves: list[Any], paths: list[str], structure: Structure | None, slots: tuple[Slot, ...]) -> Traced:
        """With names for the sizes that vary, unless the function does not work with such."""
        varied = self._varied(leaves, structure)
        names: list[NamedSizes] = []

        def named(leaves: Sequence[Any]) -> NamedSizes | None:
            parameters = {number for number, leaf in enumerate(leaves) if isinstance(leaf, Parameter)}
            found = named_sizes(leaves, self.dynamic, varied, parameters, lambda: describe(user_location()))
            names[:] = [] if found is None else [found]
            return found

        trace = functools.partial(trace_call, self.function, self.name, leaves, paths, structure, slots)
        try:
            return trace(named=named)
        except Exception as error:
            if not names or (names[0].required and isinstance(error, FlambeauError)):
                raise
            why, stopped, required = f"{type(error).__name__}: {error}", error, names[0].required
        traced = trace()                    # what stops it where sizes are numbers is what stops it
        if required:
            raise UnsupportedError(f"{self.name} does not work with sizes that have names, and one is marked: {why}",
                                   hint="do this without the size, or leave the mark out") from stopped
        _log("recompiles", f"{self.name}: every size is compiled for itself, for the function does not work with sizes "
                           f"that have names ({why})")
        return traced

    def _varied(self, leaves: list[Any], structure: Structure | None) -> dict[int, set[int]]:
        """Dims whose sizes differ from those of calls that are like this one otherwise, by leaf."""
        found: dict[int, set[int]] = {}
        for known in self._entries:
            plan = known.traced.plan if isinstance(known, Family) else known.plan
            given = plan.all_leaves(leaves)
            if structure != plan.structure or len(given) != len(plan.leaves):
                continue
            dims = [varied_dims(leaf.expected, now) if leaf.kind == "tensor" else set()
                    for leaf, now in zip(plan.leaves, given, strict=True)]
            if None not in dims:
                for number, those in enumerate(dims):
                    found.setdefault(number, set()).update(those or ())
        return found

    def _made(self, plan: CallPlan, graph: Graph, sizes: Mapping[str, int] | None = None,
              fused: Callable[[], Any] = lambda: None, *, device: str, where: str | None) -> tuple[Entry, Compiled]:
        """The entry of a plan. sizes: the numbers of the graph's named sizes; fused: gives its fused graph with those, or
        None."""
        compile = functools.partial(_compiled, how={**self.how, "keep": False}, device=device, where=where)
        keeps = self.how["keep"] and may_keep(plan, graph) and device == "cpu"
        compiled = compile(graph, sizes=sizes, fused=fused, how={**self.how, "keep": keeps})
        plain = None
        if compiled.program.once is not None:
            def plain() -> Runnable:
                _log("recompiles", f"{self.name}: captured tensors change at nearly every call: nothing is kept of them")
                executable: Runnable = compile(graph, sizes=sizes).executable
                return executable

        entry = Entry(plan, compiled, compile, device, getattr(compiled.target, "tf32", None), plain=plain)
        entry.deterministic = getattr(compiled.target, "deterministic", None)
        return entry, compiled

    def _fused(self, graph: Graph, plan: CallPlan, device: str) -> Any:
        """The graph passes, on sizes with names."""
        how = {name: value for name, value in self.how.items() if name != "verify"}
        how["keep"] = self.how["keep"] and not self.how["verify"] and may_keep(plan, graph) and device == "cpu"
        return _compiler().fuse_graph(graph, device=device, rules=self.how["verify"], **how)

    def _tell(self, compiled: Compiled) -> None:
        """What the channels of FLAMBEAU_LOGS ask for that takes work to find out."""
        is_kept = isinstance(compiled, Kept)
        _log("cache", f"{self.name}: {'found on disk' if is_kept else f'{compiled.new_kernels} kernels compiled anew'}")
        for channel in ("passes", "memory", "fusion"):
            if channel in config.logs or "all" in config.logs:
                for line in import_module("flambeau.frontend.call.explain").told(channel, compiled):
                    _log(channel, f"{self.name}: {line}")

    # -- copies -----------------------------------------------------------------------------------------------------

    @property
    def _options(self) -> dict[str, Any]:
        return {"recompile_limit": self.recompile_limit, "dynamic": self.dynamic, **self.how}

    def __deepcopy__(self, memo: dict[int, Any]) -> CompiledFunction:
        """Compiled anew: a bound method's object is copied."""
        return CompiledFunction(copy.deepcopy(self.function, memo), **self._options)

    def __reduce__(self) -> Any:
        """Pickled by name where it took the place of its function, else as what it compiles."""
        found: Any = sys.modules.get(self.__module__)
        for name in getattr(self, "__qualname__", "").split("."):
            found = getattr(found, name, None)
        return self.__qualname__ if found is self else (_recompiled, (self.function, self._options))

    # -- looking in -------------------------------------------------------------------------------------------------

    def _newest(self) -> Signature:
        if not self.signatures:
            raise RuntimeError(f"{self.name} was not called yet: there is nothing compiled to look at")
        return self.signatures[-1]

    def ir(self, level: str = "graph") -> str:
        """The newest signature as text. level: "graph" (as traced), "autodiff" (up to and with the derivatives),
        "fused", "kernels", what the backend has below that ("llvm" and "asm"; "cuda", "ptx" and "sass"), the name of a
        pass, or "call": how Python ties to the graph, and the Python function that a call runs. Raises ValueError for
        anything else."""
        newest = self._newest()
        if level == "call":
            return newest.entry.text()
        if level == "autodiff":
            return str(self.graph("autodiff"))
        parts = newest.parts if level in ("kernels", *newest.compiled.code_levels) else [newest.compiled]
        return "\n".join(part.text(level) for part in parts)

    def graph(self, level: str = "graph") -> Graph:
        """The newest signature's graph: "graph", "autodiff", "fused", or after a pass, by its name. Raises ValueError for
        anything else."""
        newest = self._newest()
        match level:
            case "graph":
                return newest.traced.graph
            case "autodiff":
                return newest.traced.autodiff
            case "fused":
                return newest.compiled.fused
            case _:
                return newest.compiled.after(level)

    def diff(self, before: str, after: str, context: int = 3) -> str:
        """What changed between two levels of `graph`, as lines that went and lines that came; empty where nothing did."""
        lines: str = import_module("flambeau.ir.graph.difference").difference(
            self.graph(before), self.graph(after), (before, after), context)
        return lines

    def explain(self) -> str:
        """In words: what was traced and fused, what each kernel does and why it is one, what memory it takes, and why it
        was compiled again. Kernels that a profile timed are told with their share of what this machine can do."""
        if not self.signatures:
            return f"{self.name}: not called yet"
        words: str = import_module("flambeau.frontend.call.explain").explain(self.name, self.signatures, self.stats())
        return words

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write the explorer, one HTML file for a browser: the graph after each pass, each kernel down to its assembly,
        memory, where time went, and, for what a profile timed, a roofline. Needs no server and no network."""
        self._newest()
        write_report(path, self.name, [self])

    def provenance(self) -> Provenance:
        """Of the newest signature: which traced ops and lines each kernel computes, and what became of each op."""
        return self._newest().compiled.provenance

    def stats(self) -> Stats:
        """Numbers about the newest signature."""
        newest = self._newest()
        parts = newest.parts
        nodes = [n for p in parts for n in p.source if n.op.name != "input"]
        return Stats(
            n_signatures=len(self.signatures), recompiles=len(self.signatures) - 1, n_ops_traced=len(nodes),
            n_backward_ops=sum(n.phase == "backward" for n in nodes),
            n_kernels=sum(p.n_code for p in parts), n_launches=sum(len(p.program.launches) for p in parts),
            n_new_kernels=sum(p.new_kernels for p in parts), trace_seconds=newest.trace_seconds,
            passes_seconds=sum(p.times.passes for p in parts), lower_seconds=sum(p.times.lower for p in parts),
            codegen_seconds=sum(p.times.codegen for p in parts), load_seconds=sum(p.times.load for p in parts),
            compile_seconds=newest.trace_seconds + sum(p.times.total for p in parts),
            arena_bytes=sum(p.memory.arena_bytes for p in parts),
            unshared_bytes=sum(p.memory.unshared_bytes for p in parts),
            state_bytes=sum(state.type.nbytes for state in newest.entry.plan.states),
            kept_bytes=sum(sum(p.program.once.out_bytes) for p in parts if p.program.once is not None
                           and newest.entry.bound.prepares),
            in_place_writes=sum(p.memory.in_place_writes for p in parts), calls=newest.calls,
            from_disk=all(isinstance(p, Kept) for p in parts))

    def _repr_html_(self) -> str:
        return folded(repr(self)[1:-1], self.explain())

    def __repr__(self) -> str:
        return f"<compiled {self.name}, {len(self.signatures)} signatures>"


def write_report(path: str | os.PathLike[str], title: str, functions: Sequence[CompiledFunction]) -> None:
    """The explorer of some functions that were called, as one file."""
    is_timed = any(signature.measured for function in functions for signature in function.signatures)
    place = functions[0].signatures[-1].compiled.backend.place
    peaks = import_module("flambeau.backends.peaks").peaks_of(place) if is_timed else None
    text = import_module("flambeau.frontend.report").page(title, functions, peaks)
    Path(path).write_text(text, encoding="utf-8")


compiled_functions: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()       # all there are
_kept: list[list[CompiledFunction]] = []


@contextmanager
def keeping() -> Iterator[list[CompiledFunction]]:
    """The functions that are compiled inside the block, in order: kept, though the program lets go of them."""
    made: list[CompiledFunction] = []
    _kept.append(made)
    try:
        yield made
    finally:
        _kept.remove(made)


class BoundFunction(CompiledMarker):
    """A compiled method of one object."""

    __slots__ = ("__wrapped__", "instance")

    def __init__(self, compiled: CompiledFunction, instance: Any):
        self.__wrapped__, self.instance = compiled, instance

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(self.instance, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__wrapped__, name)


def compile(function: Any = None, *, verify: bool = False, recompile_limit: int = RECOMPILE_LIMIT,
            backend: str | Backend | None = None, passes: Sequence[Pass] | None = None, model: Any = None,
            fullgraph: bool = False, dynamic: bool | None = None, mode: str | None = None,
            options: Mapping[str, Any] | None = None, disable: bool = False, keep: bool = True) -> Any:
    """Compile a function, a method, a Module or a graph: `@fb.compile`, `@fb.compile(...)`, `fb.compile(module)`,
    `fb.compile(fb.ir.parse(text))`.

    The function is traced at its first call with each signature (argument types, and the Python state it reads) and
    from then on runs as one piece of machine code. Tensors that it changes in place, parameters, optimizer state,
    gradients, BatchNorm statistics and the random generator are part of what is compiled. Numbers passed as
    arguments, and optimizer hyperparameters, may change freely.

    verify: check the IR after every pass, and at every call hold each kernel's results against the interpreter, on the
    live data; VerificationError names the first pass or kernel that is wrong (slow). recompile_limit: how many
    signatures are allowed; one more raises UnsupportedError. backend: "cpu" (machine code), "interpret" (NumPy, slow:
    for debugging), a name given to `compiler.register_backend`, or a `Backend`; else the one of the tensors' device,
    which has to be the same for all. passes: what runs over the graph, in place of the backend's own;
    `passes=(Pass("mine", function), *CPU_PASSES)` adds one to those of the CPU.

    dynamic: which sizes of arguments have names, so that one trace serves others too. None: those of a dim of which a
    second size came (from 2 on); True: all of them from the first call on; False: none. `mark_dynamic` names more.

    keep: in a function that neither takes gradients nor changes a captured tensor, what depends on captured tensors alone
    is computed when one of them changed, not at every call: weights are packed, and statistics folded, once. The memory
    that this takes is at most `config.kept_bytes` for each signature. False: everything is computed at every call.

    The others are torch.compile's. fullgraph is always so, disable gives the function back as it is, and what means
    nothing here (mode, options, PyTorch's backends) warns.

    A Module comes back as a Module that shares everything with the original."""
    function = model if function is None else function
    backend = _without_torchs_options(backend, mode, options)
    if disable:
        return function if function is not None else lambda function: function
    how: dict[str, Any] = {"verify": verify, "recompile_limit": recompile_limit, "backend": backend, "passes": passes,
                           "dynamic": dynamic, "keep": keep}
    if function is None:
        return functools.partial(compile, **how)
    if isinstance(function, CompiledFunction):      # other options: compiled anew beside the original
        return function if how == _DEFAULTS else CompiledFunction(function.function, **how)
    if isinstance(function, Graph):
        return CompiledFunction(function_of(function), **how)
    if isinstance(function, Module):
        return _compile_module(function, how)
    if not callable(function):
        raise TypeError(f"compile: expected a function or a Module, got {type(function).__name__}")
    return CompiledFunction(function, **how)


_TORCHS_BACKENDS = ("inductor", "eager", "aot_eager", "cudagraphs")


def _without_torchs_options(backend: str | Backend | None, mode: str | None,
                            options: Mapping[str, Any] | None) -> str | Backend | None:
    """The backend to use. Warns of what torch.compile's users may pass and means nothing here."""
    idle = []
    if mode not in (None, "default"):
        idle.append(f"mode={mode!r}")
    if options:
        idle.append(f"options={dict(options)!r}")
    if isinstance(backend, str) and backend in _TORCHS_BACKENDS:
        idle.append(f"backend={backend!r}")
        backend = None
    if idle:
        warn("FB012", f"compile: {', '.join(idle)} means nothing here and is left out", stacklevel=3)
    return backend


def _recompiled(function: Any, options: dict[str, Any]) -> Any:
    return compile(function, **options)


_DEFAULTS: dict[str, Any] = {"verify": False, "recompile_limit": RECOMPILE_LIMIT, "backend": None, "passes": None,
                             "dynamic": None, "keep": True}


def _compile_module(module: Module, options: dict[str, Any]) -> Module:
    """A module of a subclass whose calls are compiled; it shares the attributes of the original."""
    kind = type(module)
    compiled_call = CompiledFunction(module.__call__, **options)
    compiled_call.name = kind.__name__

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return compiled_call(*args, **kwargs)

    def plain() -> Module:
        original = object.__new__(kind)
        object.__setattr__(original, "__dict__", module.__dict__)
        return original

    def deepcopied(self: Any, memo: dict[int, Any]) -> Any:
        made = memo[id(self)] = _compile_module(copy.deepcopy(plain(), memo), options)
        return made

    namespace = {"__call__": call, "__doc__": kind.__doc__, "__module__": kind.__module__, "_compiled": compiled_call,
                 "ir": compiled_call.ir, "explain": compiled_call.explain, "stats": compiled_call.stats,
                 "provenance": compiled_call.provenance, "diff": compiled_call.diff,
                 "report": compiled_call.report,
                 "__deepcopy__": deepcopied, "__copy__": lambda self: _compile_module(copy.copy(plain()), options),
                 "__reduce_ex__": lambda self, protocol: (_recompiled, (plain(), options))}
    subclass = type(kind.__name__, (kind,), namespace)
    compiled: Module = object.__new__(subclass)
    object.__setattr__(compiled, "__dict__", module.__dict__)
    return compiled


def _compiled(graph: Graph, how: Mapping[str, Any], device: str, where: str | None, sizes: Mapping[str, int] | None = None,
              fused: Callable[[], Any] = lambda: None) -> Compiled:
    """What compiling a traced graph gives: found on disk, or made by the compiler, which is loaded for it. sizes: the
    numbers of named sizes; fused: gives the graph after the passes with those, or None."""
    def compile_now() -> Compiled:
        compiler = _compiler()
        backend = how["backend"] or compiler.backend_on(device, where)
        made: Compiled = compiler.compile_graph(graph, device=device, sizes=sizes, fused=fused(),
                                                **{**how, "backend": backend})
        return made

    key = key_of(graph, how, sizes)
    if key is None:
        return compile_now()
    found = find(key, graph, compile_now)
    if found is not None:
        return cast("Compiled", found)
    made = compile_now()
    keep(key, graph, made.program, made.artifacts)
    return made


def may_keep(plan: CallPlan, graph: Graph) -> bool:
    """Whether calls neither take gradients, nor lead to any, nor change a captured tensor: what those hold is then the
    same from call to call until somebody else changes it."""
    if not plan.states or not config.kept_bytes or plan.segments or plan.gradients or plan.reads or graph.writes:
        return False
    return all(isinstance(state.memory, Tensor) and not state.is_written for state in plan.states)


def _compiler() -> Any:
    """`flambeau.compiler`: half of what `fb.compile` needs, and not needed for what is found on disk."""
    return import_module("flambeau.compiler")


def _log(channel: str, message: str) -> None:
    """A line on stderr when FLAMBEAU_LOGS names the channel, and always to the `flambeau` logger, if somebody loaded
    those."""
    if "logging" in sys.modules:
        sys.modules["logging"].getLogger("flambeau").debug(message)
    if channel in config.logs or "all" in config.logs:
        print(f"[flambeau {channel}] {message}", file=sys.stderr)

