"""One trace for many sizes: a function whose sizes have names, and an entry for each set of numbers that came.

The graph is traced and goes through the passes with names: once, and again for sizes by which a pass decides otherwise
(whether attention is worth a kernel of its own). The numbers of a call are put in the fused graph and in the plan of calls;
lowering, memory and linking follow, without tracing, passes, or machine code that is there already. So each entry is as one
of a fixed signature, and as fast to call.
"""
from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from flambeau.frontend.call.entry import Entry
from flambeau.frontend.call.leaf_guard import LeafGuard
from flambeau.frontend.pytree import Structure
from flambeau.frontend.trace.call_plan import CallPlan, Traced
from flambeau.ir.answers import assuming
from flambeau.ir.facts import Facts
from flambeau.ir.graph import Graph
from flambeau.ir.graph.sizes import with_sizes
from flambeau.ir.records import dataclass

if TYPE_CHECKING:
    from flambeau.compiler import Compiled
    from flambeau.passes.pipeline import PassReport

__all__ = ["Family"]

VARIANTS: Final = 8                     # of the graph after the passes, by what those decide by sizes
KEPT: Final = 256                       # entries that are kept, of the sizes used last
KEPT_BYTES: Final = 1 << 30             # of scratch memory that they hold, unless one alone holds more

Fuse = Callable[[Graph], "tuple[Graph, PassReport]"]
Make = Callable[[CallPlan, Graph, Mapping[str, int], Callable[[], Any]], "tuple[Entry, Compiled]"]


@dataclass(frozen=True, eq=False)
class _Variant:
    """What the passes made of a graph with names, and what they depend on besides."""

    graph: Graph
    report: PassReport
    facts: Facts


class Family:
    """The entries of one trace. make: an entry, and what it is compiled to, of a plan with numbers, a graph with names,
    those numbers, and what gives the fused graph with numbers (None: the passes run on the graph with numbers). fuse: the
    passes. Requires: the lock of the compiled function, but for `find`."""

    def __init__(self, traced: Traced, make: Make, fuse: Fuse):
        assert traced.named is not None, "a family has names"
        self.traced, self.named = traced, traced.named
        self._make, self._fuse = make, fuse
        self._variants: list[_Variant] = []             # what the passes gave
        self._variant_of: dict[tuple[int, ...], _Variant] = {}
        self.why_separate: str | None = None            # what kept them from working with names
        self.entries: dict[tuple[int, ...], Entry] = {}
        self._used: dict[tuple[int, ...], int] = {}     # when, by a count
        self._count = itertools.count()
        self.compiled: dict[tuple[int, ...], Compiled] = {}

    @property
    def newest(self) -> Entry:
        """The entry that was used last."""
        return self.entries[self._newest_key()]

    @property
    def newest_compiled(self) -> Compiled:
        """What the newest entry was compiled to."""
        return self.compiled[self._newest_key()]

    @property
    def named_graph(self) -> Graph | None:
        """The newest entry's graph after the passes, with names; None where they did not run on such, or not yet."""
        variant = self._variant_of.get(self._newest_key())
        return None if variant is None else variant.graph

    def _newest_key(self) -> tuple[int, ...]:
        return max(list(self.entries), key=lambda key: self._used.get(key, -1))

    def find(self, structure: Structure | None, leaves: Sequence[Any]) -> Entry | None:
        """The entry of a call, if there is one."""
        if structure != self.traced.plan.structure:
            return None
        sizes = self._sizes(leaves)
        key = None if sizes is None else tuple(sizes.values())
        entry = None if key is None else self.entries.get(key)
        if key is None or entry is None or not entry.matches(structure, leaves):
            return None
        self._used[key] = next(self._count)
        return entry

    def grow(self, structure: Structure | None, leaves: Sequence[Any]) -> Entry | None:
        """A new entry for the sizes of a call; None where the call differs in more than those, or the trace is not for
        them."""
        newest = self.newest
        if self.why_not(structure, leaves) is not None:
            return None
        sizes = self._sizes(leaves)
        assert sizes is not None, "why_not looked"
        plan = self.traced.plan.at(sizes)
        guards = [LeafGuard(leaf) for leaf in plan.leaves]
        if not newest.would_match(structure, newest.all_leaves(leaves), guards):
            return None
        entry = self.at(sizes, plan)
        return entry if entry.matches(structure, leaves) else None

    def why_not(self, structure: Structure | None, leaves: Sequence[Any]) -> str | None:
        """Why the trace is not for the sizes of a call, in words; None where it is."""
        if structure != self.traced.plan.structure:
            return "the arguments nest differently"
        sizes = self._sizes(leaves)
        return "sizes without a name differ" if sizes is None else self.named.facts.broken(sizes)

    def _sizes(self, leaves: Sequence[Any]) -> dict[str, int] | None:
        """What the names are in a call; None where ranks or sizes without a name differ."""
        plan = self.traced.plan
        leaves = plan.all_leaves(leaves)
        return self.named.sizes(leaves) if len(leaves) == len(plan.leaves) else None

    def at(self, sizes: Mapping[str, int], plan: CallPlan | None = None) -> Entry:
        """A new entry for numbers that the trace is for. plan: with those numbers, if it is there."""
        key = tuple(sizes.values())
        plan = self.traced.plan.at(sizes) if plan is None else plan
        entry, compiled = self._make(plan, self.traced.graph, sizes, lambda: self._fused_at(sizes))
        self.entries[key], self.compiled[key], self._used[key] = entry, compiled, next(self._count)
        self._forget()
        return entry

    def _fused_at(self, sizes: Mapping[str, int]) -> tuple[Graph, PassReport] | None:
        """The fused graph with numbers; None where the passes do not work with names, or decide otherwise too often."""
        variant = next((v for v in self._variants if v.facts.broken(sizes) is None), None)
        if variant is None and self.why_separate is None and len(self._variants) < VARIANTS:
            facts = self.named.facts.copy()
            facts.sizes = {name: sizes[name] for name in facts.sizes}       # which decide
            try:
                with assuming(facts):
                    variant = _Variant(*self._fuse(self.traced.graph), facts)
            except Exception as error:      # the passes on numbers are right in any case
                self.why_separate = f"{type(error).__name__}: {error}"
            else:
                self._variants.append(variant)
        if variant is None:
            return None
        self._variant_of[tuple(sizes.values())] = variant
        return with_sizes(variant.graph, sizes), variant.report

    def _forget(self) -> None:
        """Entries that were not used for longest go, once they are many or hold much memory."""
        held = sum(compiled.program.arena_bytes for compiled in self.compiled.values())
        while len(self.entries) > KEPT or held > KEPT_BYTES and len(self.entries) > 1:
            key = min(self.entries, key=lambda key: self._used.get(key, -1))
            del self.entries[key]
            self._used.pop(key, None)
            self._variant_of.pop(key, None)
            held -= self.compiled.pop(key).program.arena_bytes
