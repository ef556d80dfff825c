"""The demo's pictures, drawn with matplotlib: the loss curve, test digits with predictions, the graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import networkx as nx
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flambeau.demo.layout import Placement, place_in_layers, role_of_nodes
from flambeau.ir.graph import Graph, Node

__all__ = ["draw_digits", "draw_graph", "draw_losses"]

INK, PALE, RIGHT, WRONG = "#22252b", "#c9ced6", "#1b7f4d", "#c1121f"
COLOUR_OF_ROLE = {
    "input": "#e9ecef",
    "state": "#ffe8a3",
    "forward": "#8ecae6",
    "backward": "#f4a582",
    "update": "#a6d96a",
}


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, drawn off screen whatever backend the user has configured."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def draw_losses(losses: Sequence[float], steps_per_epoch: int, path: Path) -> None:
    """Training loss per step on a log scale, with its mean over each epoch."""
    figure = new_figure(7, 3.6)
    axes = figure.add_subplot()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color=PALE, linewidth=0.8, label="each step")
    whole = len(losses) // steps_per_epoch * steps_per_epoch
    means = np.asarray(losses[:whole]).reshape(-1, steps_per_epoch).mean(axis=1)
    middles = (np.arange(len(means)) + 0.5) * steps_per_epoch
    axes.plot(middles, means, color=INK, marker="o", markersize=3, linewidth=1.2, label="mean of an epoch")
    axes.set(xlabel="step", ylabel="training loss", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def draw_digits(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray, path: Path) -> None:
    """Every misread digit first, then others to fill 10 x 6. images: f32[n, 1, 8, 8]; labels, predictions: i64[n]."""
    order = np.argsort(predictions == labels, kind="stable")[:60]
    figure = new_figure(8, 5.6)
    for place, number in enumerate(order):
        axes = figure.add_subplot(6, 10, place + 1)
        axes.imshow(images[number, 0], cmap="gray_r", vmin=0, vmax=1)
        read, truth = predictions[number], labels[number]
        title = f"{read}" if read == truth else f"{read}, is {truth}"
        axes.set_title(title, fontsize=9, color=RIGHT if read == truth else WRONG, pad=2)
        axes.axis("off")
    misread = int((predictions != labels).sum())
    figure.suptitle(f"{len(labels)} held-out digits, {misread} misread", fontsize=11)
    figure.savefig(path, dpi=150)


def draw_graph(graph: Graph, path: Path, title: str, roles: Sequence[str] = tuple(COLOUR_OF_ROLE)) -> None:
    """The nodes of `graph` that play one of `roles`, and the values that flow between them, left to right."""
    role_of = role_of_nodes(graph)
    chosen = [node for node in graph.toposort() if role_of[node] in roles and node.op.name != "constant"]
    part = nx.DiGraph(graph.subgraph(chosen))
    shown = [node for node in chosen if part.degree(node)]          # inputs that only other parts read stay out
    part = nx.DiGraph(part.subgraph(shown))
    placement = place_in_layers(part, shown)
    figure = new_figure(max(6.0, 0.7 * placement.n_layers), max(3.0, 0.3 * placement.tallest + 0.8))
    axes = figure.add_subplot()
    _draw_edges(axes, part, placement)
    for node in shown:
        x, y = placement.position_of[node]
        box = {"boxstyle": "round,pad=0.25", "facecolor": COLOUR_OF_ROLE[role_of[node]], "edgecolor": INK}
        axes.text(x, y, label_of(node), ha="center", va="center", fontsize=5, bbox={**box, "linewidth": 0.4})
    present = [role for role in COLOUR_OF_ROLE if role in {role_of[node] for node in shown}]
    handles = [Patch(facecolor=COLOUR_OF_ROLE[role], edgecolor=INK, label=role) for role in present]
    axes.legend(handles=handles, loc="upper left", fontsize=7, frameon=False, ncols=len(handles))
    axes.set_title(f"{title}: {len(shown)} operations", fontsize=10)
    axes.set_xlim(-0.7, placement.n_layers - 0.3)
    axes.set_ylim(-placement.tallest / 2 - 0.5, placement.tallest / 2 + 1.5)
    axes.axis("off")
    figure.savefig(path, dpi=130)


def label_of(node: Node) -> str:
    """What to write on a node: the name of an input, or of the operation and, for a fusion, its kind."""
    if node.op.name == "input":
        return "\n".join(str(getattr(node.op, "label", "")).rsplit(".", 2)[-2:]) or "input"
    kind = getattr(node.op, "kind", "")
    return f"{node.op.name}\n{kind}" if kind else node.op.name


def _draw_edges(axes: matplotlib.axes.Axes, part: nx.DiGraph, placement: Placement) -> None:
    for producer, consumer in part.edges:
        (x0, y0), (x1, y1) = placement.position_of[producer], placement.position_of[consumer]
        middle = (x0 + x1) / 2
        curve = matplotlib.path.Path([(x0, y0), (middle, y0), (middle, y1), (x1, y1)], [1, 4, 4, 4])
        axes.add_patch(
            matplotlib.patches.PathPatch(curve, fill=False, edgecolor="#5c6470", linewidth=0.35, alpha=0.5)
        )
