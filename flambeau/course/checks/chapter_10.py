"""Checks of chapter 10: in Flambeau itself."""
from __future__ import annotations

from typing import Any

import numpy as np

import flambeau as fb
from flambeau.course.checking import Wrong, check, expect
from flambeau.errors import FlambeauError

POINTS = [-3.0, -0.5, 0.0, 1.0, 2.0]


@check("10.1", "its meaning")
def _(m: Any) -> None:
    expect("bell of some points", m.bell(fb.tensor(POINTS, dtype=fb.float64)).numpy(), np.exp(-np.square(POINTS)))


@check("10.1", "compiled, it computes its meaning")
def _(m: Any) -> None:
    f = fb.compile(lambda x: m.bell(x) + 1.0)
    expect("compiled bell + 1", f(fb.tensor(POINTS, dtype=fb.float64)).numpy(), np.exp(-np.square(POINTS)) + 1,
           "one_element and meaning are two descriptions of one function: which is wrong?")
    expect("how many kernels bell + 1 is", f.stats().n_launches, 1)
    if "= bell(" not in f.ir("graph"):
        raise Wrong("the traced graph has no bell:\n" + f.ir("graph"))


@check("10.1", "its derivatives: the first, and the derivative of that")
def _(m: Any) -> None:
    x = fb.tensor(POINTS, dtype=fb.float64, requires_grad=True)
    (first,) = fb.autograd.grad(m.bell(x).sum(), x, create_graph=True)
    array, bell = np.array(POINTS), np.exp(-np.square(POINTS))
    expect("the derivative", first.detach().numpy(), -2 * array * bell, "-2 x times the result, times g")
    g = fb.autograd.grad((3 * m.bell(x)).sum(), x)[0]
    expect("the derivative of three times it", g.numpy(), -6 * array * bell, "g is what comes in: multiply by it")
    (second,) = fb.autograd.grad(first.sum(), x)
    expect("the second", second.numpy(), (4 * array**2 - 2) * bell, "use ops only, and Flambeau differentiates them")


def compiled(m: Any, f: Any, *arrays: list[float]) -> tuple[Any, str]:
    step = fb.compile(f, passes=m.passes())
    try:
        found = step(*[fb.tensor(a, dtype=fb.float64) for a in arrays])
    except FlambeauError as error:
        raise Wrong(f"Flambeau refuses the result of a pass: {error}", "passes is a tuple of Pass(name, function)") from None
    return found, step.ir("merge_exponentials")


A, B, C = [0.5, -1.0], [0.25, 2.0], [1.0, 0.0]


@check("10.2", "two become one, and so do three")
def _(m: Any) -> None:
    found, graph = compiled(m, lambda a, b: fb.exp(a) * fb.exp(b), A, B)
    expect("exp(a) * exp(b)", found.numpy(), np.exp(np.add(A, B)))
    expect("how many exps are left", graph.count("= exp("), 1)
    found, graph = compiled(m, lambda a, b, c: fb.exp(a) * fb.exp(b) * fb.exp(c), A, B, C)
    expect("exp(a) * exp(b) * exp(c)", found.numpy(), np.exp(np.sum([A, B, C], 0)))
    expect("how many exps are left of three", graph.count("= exp("), 1, "apply_rules goes on until the rule holds nowhere")


@check("10.2", "not where an exp is needed elsewhere too")
def _(m: Any) -> None:
    def both(a: Any, b: Any) -> Any:
        power = fb.exp(a)
        return power * fb.exp(b), power

    found, graph = compiled(m, both, A, B)
    expect("exp(a) * exp(b)", found[0].numpy(), np.exp(np.add(A, B)))
    expect("how many products there are", graph.count("= mul("), 1, "one of the two is an output, so nothing is saved")


@check("10.2", "and nothing else")
def _(m: Any) -> None:
    found, graph = compiled(m, lambda a, b: fb.exp(a) * b + fb.exp(a + b), A, B)
    expect("exp(a) * b + exp(a + b)", found.numpy(), np.exp(A) * B + np.exp(np.add(A, B)))
    expect("how many exps there are", graph.count("= exp("), 2)
    found, _ = compiled(m, lambda a: fb.exp(a) * fb.exp(a.sum()), A)
    expect("exp(a) * exp(sum(a))", found.numpy(), np.exp(A) * np.exp(np.sum(A)), "where shapes differ, leave it or be careful")


@check("10.3", "it computes")
def _(m: Any) -> None:
    f = fb.compile(lambda x: (fb.exp(x) * 2).sum(dim=0), backend="accountant")
    x = np.arange(6.0).reshape(2, 3)
    for scale in (1.0, 0.5):
        expect("sums of 2 exp(x)", f(fb.tensor(x * scale)).numpy(), (2 * np.exp(x * scale)).sum(0))


@check("10.3", "the books are right")
def _(m: Any) -> None:
    f = fb.compile(lambda x: x + 1.0, backend="accountant")
    x = fb.tensor(np.zeros(100))
    f(x)
    m.RUNS.clear()
    m.BYTES.clear()
    for _ in range(3):
        f(x)
    expect("runs of x + 1, called three times", list(m.RUNS.values()), [3])
    expect("bytes of 100 f64, in and out, three times", list(m.BYTES.values()), [4800])


@check("10.3", "a train step too")
def _(m: Any) -> None:
    layer = fb.nn.Linear(3, 1)
    optimizer = fb.optim.SGD(layer.parameters(), lr=0.1)

    @fb.compile(backend="accountant")
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (layer(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    m.RUNS.clear()
    losses = [step(fb.ones(4, 3)).item() for _ in range(5)]
    if not losses[-1] < losses[0]:
        raise Wrong(f"the losses are {losses}")
    expect("how often each kernel ran in five steps", set(m.RUNS.values()), {5})
