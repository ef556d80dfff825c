"""Graph -> a drawing as text: Graphviz's DOT, or Mermaid, which many viewers of Markdown show.

Forward nodes are blue, backward ones orange, inputs grey. A label says the op, its small attributes, the type and
the user's line; regions are boxes of their own.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flambeau.ir.attributes import spelt_attributes
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.graph.text import format_attribute

__all__ = ["to_dot", "to_mermaid"]

_LONGEST_ATTRIBUTE: Final = 24              # characters; longer ones are left out of labels
_FILL: Final = {"input": "#e8e8e8", "forward": "#d6e8fa", "backward": "#fbe3cc"}
_LINE: Final = {"input": "#888888", "forward": "#2f6fb0", "backward": "#c2661a"}


def to_dot(graph: Graph) -> str:
    """Graphviz source: `dot -Tsvg`."""
    lines = [f"digraph {_quoted(graph.name)} {{", "  rankdir=TB;",
             '  node [shape=box, style="rounded,filled", fontname="Helvetica", fontsize=11];',
             '  edge [fontname="Helvetica", fontsize=9];']
    return "\n".join([*lines, *_dot_body(graph, "n", "  "), "}"]) + "\n"


def to_mermaid(graph: Graph) -> str:
    """A Mermaid flowchart."""
    classes = [f"  classDef {kind} fill:{_FILL[kind]},stroke:{_LINE[kind]},color:#111" for kind in _FILL]
    return "\n".join(["flowchart TD", *_mermaid_body(graph, "n", "  "), *classes]) + "\n"


def _labels(node: Node) -> list[str]:
    """The lines of a node's label."""
    if node.op.name == "input":
        head = f"{node.op.kind} {node.op.label}".rstrip()  # type: ignore[attr-defined]
    else:
        spelt = [f"{name}={format_attribute(value)}" for name, value in spelt_attributes(node.op)]
        head = " ".join([node.op.name, *[s for s in spelt if len(s) <= _LONGEST_ATTRIBUTE]])
    types = ", ".join(str(value.type) for value in node.results)
    return [part for part in (head, types, str(node.loc) if node.loc else "") if part]


def _kind(node: Node) -> str:
    return "input" if node.op.name == "input" else node.phase


def _names(graph: Graph, prefix: str) -> dict[Node, str]:
    return {node: f"{prefix}{number}" for number, node in enumerate(graph.toposort())}


def _edges(graph: Graph, name_of: dict[Node, str]) -> Iterator[tuple[str, str, str]]:
    """(from, to, label): the label says which result, where there are several."""
    for node in graph.toposort():
        for value in node.operands:
            yield name_of[value.node], name_of[node], _result(value)


def _ends(graph: Graph) -> Iterator[tuple[str, Value]]:
    """What the graph gives: (name, value) of outputs and writes."""
    for position, value in enumerate(graph.outputs):
        yield f"output {position}", value
    for state, value in graph.writes.items():
        yield f"write {state.node.op.label}".rstrip(), value  # type: ignore[attr-defined]


def _result(value: Value) -> str:
    return str(value.index) if len(value.node.results) > 1 else ""


def _dot_body(graph: Graph, prefix: str, indent: str) -> Iterator[str]:
    name_of = _names(graph, prefix)
    for node, name in name_of.items():
        kind = _kind(node)
        text = _quoted("\n".join(_labels(node)))
        yield (f'{indent}{name} [label={text}, fillcolor="{_FILL[kind]}", color="{_LINE[kind]}", '
               f'class="{kind}"];')
        for number, region in enumerate(node.regions):
            yield f"{indent}subgraph cluster_{name}_{number} {{"
            yield f"{indent}  label={_quoted(f'{node.op.name}: {region.name}')};"
            yield from _dot_body(region, f"{name}_{number}_", indent + "  ")
            yield indent + "}"
    for source, target, label in _edges(graph, name_of):
        yield f"{indent}{source} -> {target}{f' [label={_quoted(label)}]' if label else ''};"
    for number, (end, value) in enumerate(_ends(graph)):
        yield f"{indent}{prefix}out{number} [label={_quoted(end)}, shape=plaintext, style=\"\"];"
        label = f" [label={_quoted(_result(value))}]" if _result(value) else ""
        yield f"{indent}{name_of[value.node]} -> {prefix}out{number}{label};"


def _mermaid_body(graph: Graph, prefix: str, indent: str) -> Iterator[str]:
    name_of = _names(graph, prefix)
    for node, name in name_of.items():
        yield f'{indent}{name}["{"<br/>".join(map(_escaped, _labels(node)))}"]:::{_kind(node)}'
        for number, region in enumerate(node.regions):
            yield f'{indent}subgraph {name}_{number}["{_escaped(f"{node.op.name}: {region.name}")}"]'
            yield from _mermaid_body(region, f"{name}_{number}_", indent + "  ")
            yield indent + "end"
    for source, target, label in _edges(graph, name_of):
        yield f"{indent}{source} -->{f'|{label}|' if label else ''} {target}"
    for number, (end, value) in enumerate(_ends(graph)):
        label = f"|{_result(value)}|" if _result(value) else ""
        yield f'{indent}{name_of[value.node]} -->{label} {prefix}out{number}(["{_escaped(end)}"])'


def _quoted(text: str) -> str:
    """A DOT string; a line break becomes a centred one."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _escaped(text: str) -> str:
    """Mermaid's entities for what would end a label or read as markup."""
    for character, entity in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("`", "#96;")):
        text = text.replace(character, entity)
    return text
