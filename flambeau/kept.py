"""Compiled programs on disk: what one process compiled, the next one loads, without the compiler.

A program of the CPU is found by its traced graph as it prints, the target, and the compiler's own files
(`runtime.sources`). What depends on anything else is not kept: graphs with ops, or kinds of kernels, that were declared
outside of this package, other passes, other backends. This module loads neither passes nor code generation nor LLVM.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from flambeau import config
from flambeau.codegen.artifact import Artifact
from flambeau.errors import FlambeauError
from flambeau.ir import outside
from flambeau.ir.graph import Graph
from flambeau.ir.graph.hash import text_key
from flambeau.ir.records import dataclass
from flambeau.ir.sealed import integer, items, seal, unseal
from flambeau.runtime.cache import Cache
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.executable import Executable
from flambeau.runtime.host import host_target
from flambeau.runtime.loader import Library, LoadError, load
from flambeau.runtime.program import Program
from flambeau.runtime.sources import compiler_digest

__all__ = ["CompileTimes", "Kept", "executable_of", "find", "is_on_cpu", "keep", "key_of"]

_VERSION: Final = 1


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


class Kept:
    """A compiled graph that was found on disk: `source`, `executable`, `program`, `times`, `target`, and whatever else a
    `compiler.Compiled` has, for which `again` compiles the graph when it is asked for."""

    def __init__(self, source: Graph, program: Program, executable: Executable, times: CompileTimes,
                 again: Callable[[], Any]):
        self.source, self.program, self.executable, self.times, self._again = source, program, executable, times, again
        self.new_kernels, self.target = 0, host_target()
        self._compiled: Any = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if self._compiled is None:
            self._compiled = self._again()
        return getattr(self._compiled, name)


def key_of(graph: Graph, how: Mapping[str, Any], sizes: Mapping[str, int] | None = None) -> str | None:
    """What the program of `graph` is kept under; None where it is not. how: what `compile_graph` would be told. sizes: the
    numbers of named sizes."""
    if how.get("verify") or how.get("passes") is not None or how.get("backend") not in (None, "cpu"):
        return None
    if not disk_cache().is_there or config.dump_dir is not None or not is_on_cpu(graph):
        return None
    names = _op_names(graph)
    if "callback" in names:                     # of a function of this process
        return None
    if outside.declared and (any(name.startswith(("kind ", "backend ")) for name in outside.declared)
                             or not outside.declared.isdisjoint(names)):
        return None
    compiler = compiler_digest()
    numbers = "" if sizes is None else f" {dict(sizes)}"
    keeps = f" keep {config.kept_bytes}" if how.get("keep") else ""
    return None if compiler is None else f"program {compiler} {host_target()!r} {text_key(graph)}{numbers}{keeps}"


def find(key: str, graph: Graph, again: Callable[[], Any]) -> Kept | None:
    """The program of `graph` that another process, or this one, kept under `key`. again: compiles it."""
    started = time.perf_counter()
    data = disk_cache().get(key)
    if data is None:
        return None
    try:
        content, blobs = unseal(data, "compiled program", _VERSION)
        program, artifacts = Program.from_bytes(blobs[0]), [Artifact.from_bytes(blob) for blob in blobs[1:]]
        executable = executable_of(program, [artifacts[number] for number in items(content, integer)])
    except (FlambeauError, LoadError, IndexError):      # of another version, or damaged in a way that checksums don't
        return None                                     # show: compile anew, which says what is wrong
    return Kept(graph, program, executable, CompileTimes(0.0, 0.0, 0.0, load=time.perf_counter() - started), again)


def keep(key: str, graph: Graph, program: Program, artifacts: Sequence[Artifact]) -> None:
    """artifacts: behind each of the program's launches."""
    distinct = {artifact.symbols: artifact for artifact in artifacts}           # the program knows their numbers
    number_of = {known: number for number, known in enumerate(distinct)}
    content = [number_of[artifact.symbols] for artifact in artifacts]
    blobs = [program.to_bytes(), *[artifact.to_bytes() for artifact in distinct.values()]]
    disk_cache().put(key, seal("compiled program", _VERSION, content, blobs),
                     f"program {graph.name}, {len(content)} launches of {len(distinct)} kernels")


def is_on_cpu(graph: Graph) -> bool:
    """Whether everything in it is."""
    return all(value.type.device == "cpu" for node in graph.toposort() for value in node.results)


def executable_of(program: Program, artifacts: Sequence[Artifact]) -> Executable:
    """A program of the CPU over the code of its launches."""
    libraries = [_library(artifact) for artifact in artifacts if not all(phase.host for phase in artifact.phases)]
    addresses = {symbol: address for library in libraries for symbol, address in library.addresses.items()}
    return Executable(program, addresses, keep=libraries)


def _library(artifact: Artifact) -> Library:
    """The artifact's code, loaded once: symbols tell kernels and targets apart."""
    symbols = [phase.symbol for phase in artifact.phases if not phase.host]
    return _libraries.get_or_make(symbols[0], lambda: load([artifact.object], symbols))


def _op_names(graph: Graph) -> set[str]:
    names = {node.op.name for node in graph.toposort()}
    for node in graph.toposort():
        for region in node.regions:
            names |= _op_names(region)
    return names


_libraries: Cache[Library] = Cache()        # by symbol
