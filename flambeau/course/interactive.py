"""Pages to play with: each one file, without a server or a network, filled with what ember computes. Two of them compute
the same once more, in the browser, and say if they disagree."""
from __future__ import annotations

import base64
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from flambeau.course.exercises import HERE
from flambeau.course.library import ember

STEPS, SIDE = 300, 32


def of_ember(name: str) -> Any:
    return importlib.import_module(f"ember.{name}")


def views() -> list[dict[str, Any]]:
    """Views of twelve numbers."""
    make, row = of_ember("storage").View.of, np.arange(12.0)
    made = {
        "3 rows of 4": make(row.reshape(3, 4)),
        "turned: 4 rows of 3": make(row.reshape(3, 4)).permute(1, 0),
        "2 x 3 x 2": make(row.reshape(2, 3, 2)),
        "2 x 3 x 2, dims turned": make(row.reshape(2, 3, 2)).permute(1, 2, 0),
        "a row of 4, read three times": make(row[:4]).broadcast_to((3, 4)),
        "a column of 3, read four times": make(row[:3].reshape(3, 1)).broadcast_to((3, 4)),
        "windows of 3 in a row of 8": of_ember("convolution").window_view(make(row[:8].reshape(1, 1, 1, 8)), 1, 3),
    }
    return [{"title": title, "shape": list(v.shape), "strides": list(v.strides), "n": len(v.numbers)}
            for title, v in made.items()]


def expressions() -> list[dict[str, Any]]:
    """Expressions with what ember's Scalars say of them at x = 2, y = 3."""
    scalar, backward = of_ember("scalar").Scalar, of_ember("backward").backward
    made: dict[str, Callable[[Any, Any], Any]] = {
        "sigmoid(x * y + x) * (x * y)": lambda x, y: (x * y + x).sigmoid() * (x * y),
        "x * x * y": lambda x, y: x * x * y,
        "relu(x - y) + relu(y - x)": lambda x, y: (x - y).relu() + (y - x).relu(),
        "exp(x) / (exp(x) + exp(y))": lambda x, y: x.exp() / (x.exp() + y.exp()),
        "1 / (1 + exp(-x * y))": lambda x, y: 1 / (1 + (-x * y).exp()),
    }
    found = []
    for text, f in made.items():
        x, y = scalar(2.0), scalar(3.0)
        result = f(x, y)
        backward(result)
        found.append({"text": text, "value": result.data, "x": x.grad, "y": y.grad})
    return found


def runs() -> list[dict[str, Any]]:
    """Trainings of a network that ember compiles, step by step."""
    return [trained(title, rule) for title, rule in (
        ("xor", lambda x, y: (x < 0.5) != (y < 0.5)),
        ("circle", lambda x, y: (x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1),
        ("waves", lambda x, y: y > 0.5 + 0.28 * np.sin(9 * x)),
    )]


def trained(title: str, rule: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    points = rng.uniform(size=(160, 2))
    labels = rule(*points.T).astype(float)[:, None]
    weights = [rng.normal(size=(2, 16)) * 1.2, np.full(16, 0.1), rng.normal(size=(16, 16)) / 3, np.zeros(16),
               rng.normal(size=(16, 1)) / 4, np.zeros(1)]

    def network(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = (((x * 4.0 - 2.0) @ w1 + b1).relu() @ w2 + b2).relu()
        return (h @ w3 + b3).sigmoid()

    def loss(x: Any, y: Any, *weights: Any) -> Any:
        p = network(x, *weights)
        return -(y * (p + 1e-6).log() + (1.0 - y) * (1.0 - p + 1e-6).log()).mean()

    graph = of_ember("gradient").gradient(of_ember("trace").trace(loss, (160, 2), (160, 1), *[w.shape for w in weights]),
                                          range(2, 8))
    b = of_ember("graph").Builder(graph)
    graph.outputs = graph.outputs[:1] + [b.sub(p, b.mul(d, b.full(0.4, d.shape)))
                                         for p, d in zip(graph.inputs[2:], graph.outputs[1:], strict=True)]
    step, evaluate = of_ember("compiler").Program(graph), of_ember("compiler").compile(network)
    grid = np.stack(np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE] * 2), -1).reshape(-1, 2)
    run: dict[str, Any] = {"title": title, "side": SIDE, "points": points.round(4).tolist(),
                           "labels": labels[:, 0].tolist(), "frames": [], "losses": [], "steps": [], "right": []}
    for number in range(STEPS + 1):
        before = weights
        value, *weights = step([points, labels, *weights])
        if number % 5 == 0:
            run["steps"].append(number)
            run["losses"].append(round(float(value), 4))
            run["right"].append(float(((evaluate(points, *before) > 0.5) == (labels > 0.5)).mean()))
            said = (evaluate(grid, *before)[:, 0] * 255).astype(np.uint8)
            run["frames"].append(base64.b64encode(said.tobytes()).decode())
    return run


def programs() -> list[dict[str, Any]]:
    """Programs before fusion, and what fusion makes of them."""
    trace, gradient = of_ember("trace").trace, of_ember("gradient").gradient

    def softmax(x: Any) -> Any:
        powers = x.exp()
        return powers * as_columns(1.0 / powers.sum(1), powers)

    def as_columns(row: Any, like: Any) -> Any:
        """(n,) read as (n, m)."""
        graph = row.node.graph
        return type(row)(graph.append("broadcast", row.node, shape=like.shape, dims=(0,)))

    def deviation(x: Any) -> Any:
        moved = x - x.mean()
        return (moved * moved).mean()

    made = {
        "softmax of rows": trace(softmax, (1000, 500)),
        "mean squared deviation": trace(deviation, (1000, 500)),
        "a chain: exp(-x * x) * log(x * x + 1)": trace(lambda x: (-(x * x)).exp() * (x * x + 1.0).log(), (1000, 500)),
        "a layer's loss, and its derivative": gradient(trace(
            lambda x, w, b: ((x @ w + b).relu() * 0.5).sum(), (1000, 64), (64, 32), (32,)), [1, 2]),
    }
    return [described(title, graph) for title, graph in made.items()]


def described(title: str, graph: Any) -> dict[str, Any]:
    for name in ("simplify", "cse", "decompose", "simplify", "cse"):
        graph = getattr(of_ember(name), name)(graph)
    roots, traffic = of_ember("groups").root_of(graph), of_ember("traffic").traffic
    free = {n for n in graph.nodes if n.op == "constant"}
    free |= {n for n in graph.nodes if n.op == "broadcast" and n.operands[0] in free}    # part of the code
    shown = [n for n in graph.nodes if n not in free]
    number = {node: n for n, node in enumerate(shown)}
    layer_of: dict[Any, int] = {}
    for node in shown:
        layer_of[node] = max((layer_of[o] + 1 for o in node.operands if o in number), default=0)
    nodes = []
    for node in shown:
        kind = "input" if node.op == "input" else "sum" if node.op == "sum" else "op" if node in roots else "view"
        constants = [o if o.op == "constant" else o.operands[0] for o in node.operands if o in free]
        words = " ".join([node.attributes["name"] if node.op == "input" else node.op,
                          *(f"{c.attributes['value']:.3g}" for c in constants)])
        grows = node.op == "broadcast" and math.prod(node.shape) > math.prod(node.operands[0].shape)
        nodes.append({"id": number[node], "op": words, "shape": list(node.shape), "kind": kind, "grows": grows,
                      "operands": [number[o] for o in node.operands if o in number], "layer": layer_of[node],
                      "output": node in graph.outputs, "root": number[roots[node]] if node in roots else None})
    return {"title": title, "nodes": nodes, "plain": traffic(graph), "fused": traffic(of_ember("fuse").fuse(graph))}


PAGES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "storage": views, "expression": expressions, "boundary": runs, "fusion": programs}


def write_all(out: Path) -> list[Path]:
    """Write every page into the folder; their paths."""
    out.mkdir(parents=True, exist_ok=True)
    folder = HERE / "interactive"
    style = (folder / "style.css").read_text(encoding="utf-8")
    written = []
    with ember():
        for name, data in PAGES.items():
            page = (folder / f"{name}.html").read_text(encoding="utf-8").replace("/*STYLE*/", style)
            path = out / f"{name}.html"
            path.write_text(page.replace("/*DATA*/[]", json.dumps(data(), separators=(",", ":"))), encoding="utf-8")
            written.append(path)
    return written
