"""Pictures for the pages, with matplotlib: graphs, rows of numbers and what lies where, decision boundaries."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

INK, PAPER, LINE = "#22252b", "#ffffff", "#8a909c"
FILLS = {"leaf": "#fde8c8", "op": "#dbe7f7", "constant": "#ececec", "backward": "#f9d9d5", "output": "#d8efd9"}
PAIR = ("#d1495b", "#2e6f9e")


@dataclass(frozen=True)
class Box:
    """A node of a drawn graph: its lines of text and what it is (a key of FILLS)."""

    text: str
    kind: str = "op"


def graph(boxes: Mapping[Any, Box], edges: Iterable[tuple[Any, Any]], title: str = "",
          groups: Iterable[tuple[str, Sequence[Any]]] = (), across: bool = True) -> Any:
    """A figure of an acyclic graph, drawn in layers: each box stands after all it reads. edges: (from, to) by key."""
    edges = list(edges)
    layer_of = layers(list(boxes), edges)
    rows = ordered(layer_of, edges)
    place: dict[Any, tuple[float, float]] = {
        key: (float(layer), at - (len(row) - 1) / 2) for layer, row in enumerate(rows) for at, key in enumerate(row)}
    place = {key: (x, -y) if across else (y, -x) for key, (x, y) in place.items()}
    longest = max(len(line) for box in boxes.values() for line in box.text.split("\n"))
    step = (max(1.15, 0.088 * longest + 0.55), 0.8) if across else (max(1.2, 0.088 * longest + 0.35), 0.85)
    xs, ys = zip(*place.values(), strict=True)
    size = ((max(xs) - min(xs) + 1.1) * step[0], (max(ys) - min(ys) + 1.2) * step[1] + 0.3 * bool(title))
    figure, axes = plt.subplots(figsize=size)
    lines_of = {key: box.text.count("\n") + 1 for key, box in boxes.items()}
    for name, keys in groups:
        spots = np.array([place[key] for key in keys]) * step
        margin = np.array((step[0] * 0.46, step[1] * 0.44))
        low, high = spots.min(0) - margin, spots.max(0) + margin + np.array((0, 0.13))      # room for the name
        axes.add_patch(plt.Rectangle(low, *(high - low), facecolor="#f5f7ee", edgecolor="#7a8c3c", lw=1.2, ls="--",
                                     zorder=0))
        axes.text(low[0] + 0.06, high[1] - 0.05, name, fontsize=7, color="#5c6b2c", va="top", zorder=1)
    for start, end in edges:
        a, b = np.array(place[start]) * step, np.array(place[end]) * step
        far = abs(layer_of[end] - layer_of[start])
        axes.annotate("", b, a, zorder=2, arrowprops={
            "arrowstyle": "-|>", "color": LINE, "lw": 1, "shrinkA": 14, "shrinkB": 16,
            "connectionstyle": f"arc3,rad={min(0.22, 0.9 / far) if far > 1 else 0}"})      # not deeper if they are longer
    for key, box in boxes.items():
        x, y = np.array(place[key]) * step
        axes.text(x, y, box.text, ha="center", va="center", fontsize=8 if lines_of[key] < 3 else 7, color=INK, zorder=3,
                  family="DejaVu Sans Mono",
                  bbox={"boxstyle": "round,pad=0.35", "facecolor": FILLS[box.kind], "edgecolor": LINE, "lw": 0.8})
    axes.set_xlim((min(xs) - 0.55) * step[0], (max(xs) + 0.55) * step[0])
    axes.set_ylim((min(ys) - 0.6) * step[1], (max(ys) + 0.6) * step[1])
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10, color=INK)
    figure.tight_layout(pad=0.2)
    return figure


def layers(keys: Sequence[Any], edges: Sequence[tuple[Any, Any]]) -> dict[Any, int]:
    """The length of the longest way to each key; what is read by one layer only stands right before it."""
    before: dict[Any, list[Any]] = {key: [] for key in keys}
    after: dict[Any, list[Any]] = {key: [] for key in keys}
    for start, end in edges:
        before[end].append(start)
        after[start].append(end)
    layer_of: dict[Any, int] = {}
    waiting = {key: len(before[key]) for key in keys}
    ready = [key for key in keys if not waiting[key]]
    while ready:
        key = ready.pop(0)
        layer_of[key] = max((layer_of[start] + 1 for start in before[key]), default=0)
        for end in after[key]:
            waiting[end] -= 1
            if not waiting[end]:
                ready.append(end)
    for key in keys:
        if not before[key] and after[key]:
            layer_of[key] = min(layer_of[end] for end in after[key]) - 1
    return layer_of


def ordered(layer_of: Mapping[Any, int], edges: Sequence[tuple[Any, Any]]) -> list[list[Any]]:
    """Each layer in the order of the middles of its neighbours, there and back a few times: few edges cross then."""
    rows: list[list[Any]] = [[] for _ in range(max(layer_of.values(), default=0) + 1)]
    for key, layer in layer_of.items():
        rows[layer].append(key)
    beside: dict[Any, list[Any]] = {key: [] for key in layer_of}
    for start, end in edges:
        beside[start].append(end)
        beside[end].append(start)
    for sweep in range(6):
        place = {key: at - len(row) / 2 for row in rows for at, key in enumerate(row)}
        for row in rows if sweep % 2 else reversed(rows):
            row.sort(key=lambda key: sum(place[k] for k in beside[key]) / max(1, len(beside[key])))
            place.update({key: at - len(row) / 2 for at, key in enumerate(row)})
    return rows


def expression(last: Any, names: Mapping[str, Any] | None = None, grads: bool = False, title: str = "") -> Any:
    """A Scalar or Tensor of ember and all that it was made of, leaves named as in `names`."""
    called = {id(value): name for name, value in (names or {}).items()}
    boxes: dict[int, Box] = {}
    edges: list[tuple[int, int]] = []
    waiting = [last]
    while waiting:
        value = waiting.pop()
        if id(value) in boxes:
            continue
        if value.record is None:
            kind, head = ("leaf", called.get(id(value), "leaf")) if value.requires_grad else ("constant", "")
        else:
            kind, head = ("output" if value is last else "op"), value.record.function.__name__
            edges += [(id(operand), id(value)) for operand in value.record.operands]
            waiting += value.record.operands
        shown = f"{value.data:.4g}" if isinstance(value.data, float) else f"{value.shape}"
        grad = f"\ngrad {value.grad:.4g}" if grads and isinstance(value.grad, float) else ""
        boxes[id(value)] = Box(f"{head}\n{shown}{grad}".strip(), kind)
    return graph(boxes, edges, title)


def program(made: Any, title: str = "", kinds: Mapping[Any, str] | None = None, roots: Mapping[Any, Any] | None = None,
            across: bool = True) -> Any:
    """A graph of ember's compiler. Constants are drawn into whoever reads them. kinds: keys of FILLS by node; roots: as
    groups.root_of gives: kernels of several ops get a frame."""
    value_of: dict[Any, str] = {}
    for node in made.nodes:
        if node.op == "constant":
            value_of[node] = f"{node.attributes['value']:g}"
        elif node.op == "broadcast" and node.operands[0] in value_of:
            value_of[node] = value_of[node.operands[0]]
    shown = [node for node in made.nodes if node not in value_of or node in made.outputs]
    boxes, edges = {}, []
    for node in shown:
        words = [node.attributes["name"] if node.op == "input" else node.op]
        words += [value_of[o] for o in node.operands if o in value_of]
        if node.op in ("sum", "permute"):
            words.append(str(node.attributes["dims"]).replace(" ", ""))
        kind = (kinds or {}).get(node) or ("leaf" if node.op == "input" else "output" if node in made.outputs else "op")
        boxes[node] = Box(" ".join(words) + "\n" + ("x".join(map(str, node.shape)) or "()"), kind)
        edges += [(o, node) for o in dict.fromkeys(node.operands) if o in boxes]
    groups: dict[Any, list[Any]] = {}
    for node, root in (roots or {}).items():
        if node in boxes:
            groups.setdefault(root, []).append(node)
    frames = [(f"kernel {n}", keys) for n, keys in enumerate(reversed(list(groups.values())))]
    return graph(boxes, edges, title, frames if roots else (), across)


def storage(view: Any, title: str = "", names: Sequence[str] = ()) -> Any:
    """A view of one or two dims (more: the first ones are drawn as blocks): above its row of numbers, below its elements,
    each in the colour of the number it reads."""
    shape = view.shape if len(view.shape) > 1 else (1, *view.shape)
    strides = view.strides if len(view.strides) > 1 else (0, *view.strides)
    blocks = list(np.ndindex(*shape[:-2]))
    rows, columns = shape[-2:]
    n = len(view.numbers)
    colour = plt.get_cmap("viridis")
    wide = max(n, len(blocks) * (columns + 1) - 1)
    figure, axes = plt.subplots(figsize=(0.44 * wide + 0.4, 0.44 * (rows + 2.6) + 0.3 * bool(title)))

    def cell(x: float, y: float, at: int) -> None:
        shade = 0.12 + 0.8 * at / max(1, n - 1)
        axes.add_patch(plt.Rectangle((x, y), 0.94, 0.94, facecolor=colour(shade), edgecolor=PAPER))
        axes.text(x + 0.47, y + 0.47, f"{view.numbers[at]:g}", ha="center", va="center", fontsize=8,
                  color=PAPER if shade < 0.6 else INK)

    for at in range(n):
        cell(at, rows + 1.0, at)
        axes.text(at + 0.47, rows + 2.1, str(at), ha="center", va="bottom", fontsize=6, color=LINE)
    for number, block in enumerate(blocks):
        left = number * (columns + 1)
        for i in range(rows):
            for j in range(columns):
                at = sum(k * stride for k, stride in zip((*block, i, j), strides, strict=True))
                cell(left + j, rows - 1 - i, at)
    axes.text(0, -0.3, f"shape {view.shape}, strides {view.strides}", fontsize=8, color=INK, va="top")
    axes.set_xlim(-0.2, wide + 0.2)
    axes.set_ylim(-1.0, rows + 2.7)
    axes.set_aspect("equal")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=9, color=INK, loc="left")
    figure.tight_layout(pad=0.2)
    return figure


def boundary(axes: Any, probability: Callable[[np.ndarray], np.ndarray], points: np.ndarray, labels: np.ndarray,
             title: str = "", n: int = 40) -> None:
    """Where f64[n,2] -> f64[n] says yes (blue) and no (red), and the points with the right answers. It
    is asked at n x n points."""
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, n)] * 2), -1).reshape(-1, 2)
    axes.imshow(probability(grid).reshape(n, n), origin="lower", extent=(0, 1, 0, 1), cmap="RdBu", vmin=0, vmax=1,
                alpha=0.65, interpolation="bilinear")
    for label, colour in enumerate(PAIR):
        mine = points[labels == label]
        axes.scatter(mine[:, 0], mine[:, 1], s=14, color=colour, edgecolor=PAPER, linewidth=0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=9, color=INK)
