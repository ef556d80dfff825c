"""A compiled function -> what the explorer shows, as plain data."""
from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from flambeau.frontend.where import source_file
from flambeau.ir.attributes import op_key, spelt_attributes
from flambeau.ir.graph import Graph, Location, Node, Value
from flambeau.ir.graph.text import format_attribute
from flambeau.ir.kernel.hash import kernel_key
from flambeau.ir.kernel.text import print_kernel
from flambeau.ir.kernel.work import work_of
from flambeau.passes.memory.timeline import lives
from flambeau.passes.pipeline import run

__all__ = ["program"]

_LONGEST = 96                       # characters of an attribute
_LONGEST_TEXT = 150_000             # characters of a kernel's code at one level
_LINES_AROUND = 2_000               # of a file of the user's, at most
_MOST_ORIGINS = 40                  # traced ops that a node is told to stand for


def program(name: str, compiled: Any, signature: Any, number: int, explained: str) -> dict[str, Any]:
    """One `Compiled`, the part `number` of a signature."""
    return _Program(name, compiled, signature, number).data() | {"explain": explained}


class _Program:
    def __init__(self, name: str, compiled: Any, signature: Any, number: int):
        self.name, self.compiled, self.signature, self.number = name, compiled, signature, number
        self.provenance = compiled.provenance
        self.locations: dict[Location, int] = {}
        self.keys: dict[Hashable, int] = {}
        self.paths: dict[tuple[str, ...], int] = {}

    def data(self) -> dict[str, Any]:
        levels = list(self._levels())
        return {
            "name": self.name, "levels": levels, "calls": self._calls(), "texts": self._texts(), "rules": self._rules(),
            "memory": self._memory(), "times": self._times(),
            "locs": [[loc.file, loc.line, loc.function, loc.module, loc.called] for loc in self.locations],
            "files": self._files(), "unfused": [list(pair) for pair in self.compiled.unfused],
            "paths": [list(path) for path in self.paths]}

    # -- graphs ---------------------------------------------------------------------------------------------------------

    def _levels(self) -> Iterator[dict[str, Any]]:
        """The traced graph, then the graph after each pass that changed it."""
        levels = [self._level("graph", self.compiled.numbered)]
        run(self.compiled.numbered.copy(), self.compiled.passes[:-1],
            on_pass=lambda step, graph: levels.append(self._level(step.name, graph)))
        levels.append(self._level(self.compiled.passes[-1].name, self.compiled.fused))      # whose fusions the kernels are
        before: list[int] | None = None
        for level in levels:
            keys = [node["k"] for node in level["nodes"]]
            if keys != before or level is levels[-1]:
                yield level
            before = keys

    def _level(self, name: str, graph: Graph) -> dict[str, Any]:
        listed = list(_flat(graph, {}))
        index_of = {node: number for number, (node, _, _) in enumerate(listed)}
        nodes: list[dict[str, Any]] = []
        for node, fusion, outer_of in listed:
            read = [outer_of.get(value, value) for value in node.operands]
            stands_for = [index_of[node]] if node.origin is None else sorted(node.origin.numbers())
            read_nodes = [index_of[value.node] for value in read if value.node in index_of]
            number = fusion[0] if fusion is not None else -1
            spelt = [f"{a}={format_attribute(v)}" for a, v in spelt_attributes(node.op)] if node.op.name != "input" else []
            nodes.append({"n": _title(node), "a": ", ".join(map(_shortened, spelt)),
                          "t": ", ".join(str(value.type) for value in node.results), "p": _phase(node), "o": read_nodes,
                          "l": self._location(node.loc), "k": self._key(node, stands_for), "f": number,
                          "g": self.paths.setdefault(_path(node, fusion), len(self.paths)),
                          "s": stands_for[:_MOST_ORIGINS]})
        return {"name": name, "nodes": nodes}

    def _key(self, node: Node, stands_for: Sequence[int]) -> int:
        """A number that nodes of two levels share if they are the same op for the same traced op (the first of those that
        became one), whatever they read."""
        key = (op_key(node.op), *[str(value.type) for value in node.results], *stands_for[:1])
        return self.keys.setdefault(key, len(self.keys))

    def _location(self, loc: Location | None) -> int:
        return -1 if loc is None else self.locations.setdefault(loc, len(self.locations))

    # -- kernels --------------------------------------------------------------------------------------------------------

    def _calls(self) -> list[dict[str, Any]]:
        memory, provenance, measured = self.compiled.memory, self.provenance, self.signature.measured.get(self.number, {})
        places = {node: n for n, node in enumerate(n for n in self.compiled.fused.toposort() if n.op.name == "fusion")}
        found = []
        for number, call in enumerate(memory.calls):
            work = work_of(call.kernel, dict(zip(call.kernel.sizes, call.sizes, strict=False)))
            fusion = provenance.fusion_of(number)
            found.append({
                "words": provenance.words(number), "kind": call.kernel.keyword, "phase": call.phase,
                "space": " x ".join(str(e) for e in (call.sizes or call.kernel.extents)) or "1", "flops": work.flops,
                "bytes": work.bytes, "us": 1e6 * measured[number] if number in measured else None,
                "lines": list(call.kernel.locations), "modules": provenance.modules_of(number),
                "text": kernel_key(call.kernel), "fusion": places.get(fusion, -1)})
        return found

    def _texts(self) -> dict[str, dict[str, str]]:
        """Of each kernel that differs, at each level that the backend has."""
        found: dict[str, dict[str, str]] = {}
        for call in self.compiled.memory.calls:
            key = kernel_key(call.kernel)
            if key not in found:
                found[key] = {"loops": print_kernel(call.kernel)} | {
                    level: self._code(call.kernel, level) for level in self.compiled.code_levels}
        return found

    def _code(self, kernel: Any, level: str) -> str:
        text = self.compiled.backend.text(kernel, self.compiled.target, level)
        more = len(text) - _LONGEST_TEXT
        return text if more <= 0 else f"{text[:_LONGEST_TEXT]}\n... {more} characters more"

    # -- the rest -------------------------------------------------------------------------------------------------------

    def _rules(self) -> list[list[Any]]:
        """[pass, rule, traced ops] of each rule that was applied."""
        return [[record.name, rewrite.rule, sorted(rewrite.origin.numbers())[:40] if rewrite.origin is not None else []]
                for record in self.compiled.report.records for rewrite in record.rewrites]

    def _memory(self) -> dict[str, Any]:
        memory, words = self.compiled.memory, self.provenance.words
        return {"bytes": memory.arena_bytes, "unshared": memory.unshared_bytes, "steps": len(memory.calls), "lives": [
            [life.first, life.last, life.offset, life.nbytes,
             f"{life.values[-1].type} of {words(life.first, 1)}" if life.values else "a kernel's own memory"]
            for life in lives(memory)]}

    def _times(self) -> list[list[Any]]:
        """[stage, seconds, how deep] in order."""
        times, records = self.compiled.times, self.compiled.report.records
        traced = [["trace", self.signature.trace_seconds, 0]] if self.number == 0 else []
        passes = [[record.name, record.seconds, 1] for record in records]
        return [*traced, ["passes", sum(record.seconds for record in records), 0], *passes, ["lowering", times.lower, 0],
                ["machine code", times.codegen, 0], ["planning and loading", times.load, 0]]

    def _files(self) -> dict[str, str]:
        """The user's files that are named, as far as they can be read."""
        found = {}
        for loc in self.locations:
            if loc.file not in found:
                try:
                    lines = Path(source_file(loc)).read_text(encoding="utf-8", errors="replace").splitlines()
                except OSError:
                    lines = []
                found[loc.file] = "\n".join(lines[:_LINES_AROUND])
        return found


Fusion = tuple[int, str]
Listed = tuple[Node, Fusion | None, dict[Value, Value]]


def _flat(graph: Graph, outer_of: dict[Value, Value]) -> Iterator[Listed]:
    """(node, its fusion, what the inputs of its region and the results of fusions stand for): fusions opened up."""
    number = 0
    for node in graph.toposort():
        if node.op.name != "fusion":
            yield node, None, outer_of
            continue
        (region,) = node.regions
        outer_of.update({inner: outer_of.get(v, v) for inner, v in zip(region.inputs, node.operands, strict=True)})
        for inner in region.toposort():
            if inner.op.name != "input":
                yield inner, (number, node.op.kind), outer_of                               # type: ignore[attr-defined]
        outer_of.update(zip(node.results, [outer_of.get(v, v) for v in region.outputs], strict=True))
        number += 1


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _title(node: Node) -> str:
    op: Any = node.op
    return f"{op.kind} {op.label}" if op.name == "input" else op.name


def _phase(node: Node) -> int:
    return 0 if node.op.name == "input" else 2 if node.phase == "backward" else 1


def _path(node: Node, fusion: Fusion | None) -> tuple[str, ...]:
    """The groups around a node: forward, backward or the optimizer, Modules from the outermost in, the kernel."""
    if node.op.name == "input":
        return ("inputs",)
    loc = node.loc
    inner = (f"{fusion[1]} {fusion[0]}",) if fusion is not None else ()
    if loc is None or not loc.module:
        called = loc.called if loc is not None else ""
        if called in ("optimizer step", "backward"):
            return (called, *inner)
        return (node.phase, *([called] if called else []), *inner)
    names = loc.module.split(".")
    return (node.phase, *[".".join(names[:n + 1]) for n in range(len(names))], *inner)
