"""Graph -> Graph, in place. Applies the rewrite rules until none holds, and erases what is then read by nothing.

    %1 = mul(%0, 1); %2 = permute(%1, dims=(1, 0)); %3 = permute(%2, dims=(1, 0))  ->  %0

Rules keep every bit of every number, except that sums may be regrouped. They stand in tables by subject, in `rules/`. Runs
after autodiff: it removes stop_gradient.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from flambeau.ir.graph import Graph
from flambeau.passes.graph.rewrite import Rewriter, Rule, graphs_within
from flambeau.passes.graph.rules import arithmetic as rules_arithmetic
from flambeau.passes.graph.rules import choices as rules_choices
from flambeau.passes.graph.rules import gathers as rules_gathers
from flambeau.passes.graph.rules import reductions as rules_reductions
from flambeau.passes.graph.rules import views as rules_views

__all__ = ["RULES", "apply_rules", "simplify"]

RULES: Final[tuple[Rule, ...]] = (
    *rules_arithmetic.RULES, *rules_choices.RULES, *rules_views.RULES, *rules_reductions.RULES,
    *rules_gathers.RULES)


def _by_op(rules: Sequence[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        for name in rule.ops:
            found.setdefault(name, []).append(rule)
    return found


_RULES_OF: Final[Mapping[str, Sequence[Rule]]] = _by_op(RULES)


def simplify(graph: Graph) -> Graph:
    """Simplify `graph` and the regions in it, in place; the same graph."""
    apply_rules(graph)
    return graph


def apply_rules(graph: Graph, rules_of: Mapping[str, Sequence[Rule]] = _RULES_OF) -> Counter[str]:
    """What `simplify` does; how often each rewrite was made."""
    times: Counter[str] = Counter()
    for current in reversed(graphs_within(graph)):
        times += Rewriter(current).apply(rules_of, current.toposort())
    return times
