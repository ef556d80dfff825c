"""Random programs for the checks of the compiler's chapters, made with the learner's own graphs."""
from __future__ import annotations

import random
from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, expect, of_ember

SHAPES = ((), (3,), (2, 3), (3, 2), (1, 3), (2, 1), (2, 3, 2))


def random_graph(seed: int, length: int = 14, scalar: bool = False) -> Any:
    """Inputs of some shapes and `length` ops over them; outputs are what nobody reads, or their sum if `scalar`. Numbers stay
    near 1, so that every op has a finite result."""
    rng, graph = random.Random(seed), of_ember("graph").Graph(f"random{seed}")
    b = of_ember("graph").Builder(graph)
    values = [graph.input(f"x{i}", shape) for i, shape in enumerate(rng.sample(SHAPES, 3))]

    def tamed(node: Any) -> Any:
        """About as large as the operands were."""
        return b.mul(node, b.full(0.5, node.shape))

    for _ in range(length):
        x = rng.choice(values)
        rank = len(x.shape)
        like = [v for v in values if v.shape == x.shape]
        match rng.choice(("add", "sub", "mul", "div", "neg", "exp", "log", "relu", "sign", "broadcast", "permute", "sum",
                          "matmul", "same")):
            case "add" | "sub" | "mul" as op:
                made = tamed(getattr(b, op)(x, rng.choice(like)))
            case "div":
                y = rng.choice(like)
                made = b.div(x, b.add(b.mul(y, y), b.full(1.0, x.shape)))
            case "exp":
                made = b.exp(b.neg(b.mul(x, x)))
            case "log":
                made = b.log(b.add(b.mul(x, x), b.full(1.0, x.shape)))
            case "neg" | "relu" | "sign" as op:
                made = getattr(b, op)(x)
            case "permute":
                made = b.permute(x, dims=tuple(rng.sample(range(rank), rank)))
            case "sum" if rank:
                made = tamed(b.sum(x, dims=tuple(sorted(rng.sample(range(rank), rng.randint(1, rank))))))
            case "broadcast" if rank < 3:
                at = rng.randint(0, rank)
                dims = tuple(d if d < at else d + 1 for d in range(rank))
                shape = [2] * (rank + 1)
                for d, n in zip(dims, x.shape, strict=True):
                    shape[d] = n if n > 1 or rng.random() < 0.5 else 3
                made = b.broadcast(x, shape=tuple(shape), dims=dims)
            case "matmul" if rank == 2:
                made = tamed(b.matmul(x, b.permute(rng.choice(like), dims=(1, 0))))
            case _:
                made = b.add(b.mul(x, b.full(1.0, x.shape)), b.neg(b.neg(x)))
        values.append(made)
    users = graph.users_of()
    graph.outputs = [v for v in dict.fromkeys(values[3:]) if not users[v]][-3:] or [values[-1]]
    if scalar:
        sums = [b.sum(v, dims=tuple(range(len(v.shape)))) if v.shape else v for v in graph.outputs]
        while len(sums) > 1:
            sums.append(b.add(sums.pop(0), sums.pop(0)))
        graph.outputs = sums
    return graph


def arrays_for(graph: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.5, 1.5, node.shape) for node in graph.nodes if node.op == "input"]


def text_of(graph: Any) -> str:
    return str(of_ember("text").print_graph(graph))


def same_meaning(what: str, before: Any, after: Any, hint: str = "") -> None:
    """Raise Wrong unless both graphs give the same outputs, and `after` keeps the rules."""
    try:
        of_ember("verifier").verify(after)
    except of_ember("verifier").GraphError as error:
        raise Wrong(f"{what} leaves a graph that breaks a rule: {error}\n\nof\n{text_of(before)}", hint) from None
    arrays = arrays_for(before)
    wanted = of_ember("interpret").interpret(before, arrays)
    found = of_ember("interpret").interpret(after, arrays)
    expect(f"how many outputs {what} leaves", len(found), len(wanted), hint)
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        if one.shape != other.shape or not np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise Wrong(f"{what} changes output {number} of\n{text_of(before)}\ninto that of\n{text_of(after)}", hint)


def parsed(text: str) -> Any:
    """A graph of a few lines, for one case: `parsed("%0 = input arg "x" : f64[3]\\n ... return %1")`."""
    return of_ember("parser").parse("graph @case {\n" + text.strip() + "\n}")


def ops_of(graph: Any) -> list[str]:
    return [node.op for node in graph.nodes if node.op != "input"]
