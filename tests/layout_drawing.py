"""Writes docs/architecture.svg: which part of the package imports which, read from the imports themselves.

    python tests/layout_drawing.py

An arrow that follows from others (frontend imports compiler, compiler imports ir) is left out.
"""

from __future__ import annotations

from pathlib import Path

import networkx as nx
from test_layout import FACE, GROUND, PACKAGE, imports_of, module_of, part_of

PICTURE = PACKAGE.parent / "docs" / "architecture.svg"
WIDTH, ROW, BOX_WIDTH, BOX_HEIGHT, MARGIN = 760, 68, 108, 36, 16
NAMES = {FACE: "flambeau: nn, optim, ...", "ground": "errors, warned, config"}
HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">
<title>Which part of the package imports which</title>
<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0,0 L8,4 L0,8 z" fill="#7a7f87"/></marker></defs>
<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>
"""


def imports_between_parts(package: Path) -> nx.DiGraph:
    """An edge for each part that imports another at least once; the ground is one node."""
    graph = nx.DiGraph()
    for path in sorted(package.rglob("*.py")):
        importer = _node(part_of(module_of(path, package)))
        graph.add_edges_from((importer, other) for _, module in imports_of(path, package)
                             if (other := _node(part_of(module))) not in (importer, FACE))
    return graph


def _node(part: str) -> str:
    return "ground" if part in GROUND else part


def levels_of(graph: nx.DiGraph) -> list[list[str]]:
    """Parts by how long a way they are from the ground, ordered so that arrows lie near what they join."""
    level: dict[str, int] = {}
    for part in reversed(list(nx.lexicographical_topological_sort(graph))):
        level[part] = 1 + max((level[other] for other in graph.successors(part)), default=-1)
    rows = [sorted(part for part in level if level[part] == n) for n in range(max(level.values()) + 1)]
    place: dict[str, float] = {}
    for row in rows:
        near = {part: [place[other] for other in graph.successors(part)] or [0.0] for part in row}
        row.sort(key=lambda part: (round(sum(near[part]) / len(near[part]), 6), part))
        place.update({part: (n + 0.5) / len(row) for n, part in enumerate(row)})
    return rows


def drawing(package: Path) -> str:
    """The picture as SVG, the ground at the bottom."""
    graph = nx.transitive_reduction(imports_between_parts(package))
    rows = levels_of(graph)
    height = len(rows) * ROW + 2 * MARGIN - (ROW - BOX_HEIGHT)
    centre = {part: (WIDTH * (n + 0.5) / len(row), height - MARGIN - BOX_HEIGHT / 2 - depth * ROW)
              for depth, row in enumerate(rows) for n, part in enumerate(row)}
    text = HEAD.format(width=WIDTH, height=height)
    for importer, other in sorted(graph.edges):
        text += (f'<path d="{_curve(*centre[importer], *centre[other])}" fill="none" stroke="#7a7f87" '
                 f'marker-end="url(#tip)"><title>{importer} imports {other}</title></path>\n')
    for part, (x, y) in centre.items():
        label = NAMES.get(part, part)
        width = max(BOX_WIDTH, 8 * len(label) + 24)
        text += (f'<rect x="{x - width / 2:.0f}" y="{y - BOX_HEIGHT / 2:.0f}" width="{width}" height="{BOX_HEIGHT}" rx="6" '
                 f'fill="#eef3fb" stroke="#3b6fb5"/>\n<text x="{x:.0f}" y="{y + 5:.0f}" font-family="sans-serif" '
                 f'font-size="14" text-anchor="middle" fill="#1b2430">{label}</text>\n')
    return text + "</svg>\n"


def _curve(x1: float, y1: float, x2: float, y2: float) -> str:
    """From under one box to above another; past the rows between them where it has to."""
    end = y2 - BOX_HEIGHT / 2 - 1
    if y2 - y1 > 1.5 * ROW and x1 != x2:
        side = x1 + (BOX_WIDTH if x2 > x1 else -BOX_WIDTH) / 2
        return f"M{side:.0f},{y1:.0f} C{x2:.0f},{y1:.0f} {x2:.0f},{y1:.0f} {x2:.0f},{end:.0f}"
    start = y1 + BOX_HEIGHT / 2
    middle = (start + end) / 2
    return f"M{x1:.0f},{start:.0f} C{x1:.0f},{middle:.0f} {x2:.0f},{middle:.0f} {x2:.0f},{end:.0f}"


if __name__ == "__main__":
    PICTURE.write_text(drawing(PACKAGE), encoding="utf-8")
