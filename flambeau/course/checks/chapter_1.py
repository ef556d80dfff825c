"""Checks of chapter 1: autodiff."""
from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from flambeau.course.checking import Wrong, check, expect, of_ember

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "x * y + x": lambda x, y: x * y + x,
    "x * x * x - y": lambda x, y: x * x * x - y,
    "(x - 2 * y) / (3 - y)": lambda x, y: (x - 2 * y) / (3 - y),
    "1 / x - y / x": lambda x, y: 1 / x - y / x,
}


@check("1.1", "the derivative of x**2 is 2 x")
def _(m: Any) -> None:
    for x in (-3.0, 0.0, 0.5, 4.0):
        expect(f"central_difference(x**2) at {x}", m.central_difference(lambda x: x * x, x), 2 * x, tolerance=1e-6)


@check("1.1", "arg says which argument")
def _(m: Any) -> None:
    f = lambda x, y, z: x + 10 * y * z
    for arg, wanted in enumerate((1.0, 30.0, 20.0)):
        expect(f"central_difference(x + 10 y z, 1.0, 2.0, 3.0, arg={arg})",
               m.central_difference(f, 1.0, 2.0, 3.0, arg=arg), wanted, "only that one moves", 1e-6)


@check("1.1", "it looks to both sides: the error falls with eps**2")
def _(m: Any) -> None:
    expect("central_difference(exp, 0.0, eps=0.1)", m.central_difference(math.exp, 0.0, eps=0.1), 1.0,
           "with f(x + eps) - f(x) the error is eps / 2; half an eps to either side, it is eps**2 / 24", tolerance=1e-3)


@check("1.1", "gradients, and how far another is from them")
def _(m: Any) -> None:
    f = lambda x, y: x * y * y
    expect("gradient_by_differences(x y**2, 2, 3)", m.gradient_by_differences(f, 2.0, 3.0), [9.0, 12.0], tolerance=1e-5)
    right, wrong = (lambda x, y: [y * y, 2 * x * y]), (lambda x, y: [y * y, x * y])
    if not m.worst_difference(f, right, 2.0, 3.0) < 1e-6:
        raise Wrong("worst_difference is large for a right gradient")
    expect("worst_difference of a gradient that has 6 for 12", m.worst_difference(f, wrong, 2.0, 3.0), 0.5, tolerance=1e-5)


@check("1.2", "Scalars compute what floats do")
def _(m: Any) -> None:
    for text, f in FUNCTIONS.items():
        for x, y in ((1.5, -0.5), (-2.0, 0.25)):
            expect(f"{text} at x={x}, y={y}", f(m.Scalar(x), m.Scalar(y)).data, f(x, y))
    for x in (-1.5, 0.5):
        expect(f"Scalar({x}).exp()", m.Scalar(x).exp().data, math.exp(x))
        expect(f"Scalar({x}).relu()", m.Scalar(x).relu().data, max(x, 0.0))
    expect("Scalar(1) < 2", (m.Scalar(1.0) < 2.0).data, 1.0)


@check("1.2", "a result remembers its function and its operands")
def _(m: Any) -> None:
    x = m.Scalar(3.0)
    z = x * 2.0
    if z.record is None:
        raise Wrong("(x * 2).record is None", "apply makes a Record of the class, the operands and the context")
    expect("(x * 2).record.function", z.record.function, m.Mul)
    expect("operands[0] is x", z.record.operands[0] is x, True, "keep the very Scalars, not their numbers: the way back "
                                                              "goes through them")
    expect("operands[1].requires_grad", z.record.operands[1].requires_grad, False)


@check("1.2", "what depends on constants only has no record")
def _(m: Any) -> None:
    c = m.as_scalar(2.0) * m.as_scalar(3.0)
    expect("2 * 3 requires grad", c.requires_grad, False)
    expect("its record", c.record, None, "nothing will ever walk back through it")


@check("1.2", "each backward is d times the derivative, one for each operand")
def _(m: Any) -> None:
    rng = random.Random(1)
    for function, n in ((m.Add, 2), (m.Mul, 2), (m.Neg, 1), (m.Inv, 1), (m.Log, 1), (m.Exp, 1), (m.Sigmoid, 1)):
        for _ in range(5):
            xs = [rng.uniform(0.3, 2.0) for _ in range(n)]
            record = function.apply(*map(m.Scalar, xs)).record
            parts = function.backward(record.context, -1.5)
            if not isinstance(parts, tuple):
                raise Wrong(f"{function.__name__}.backward gives {parts!r}", "a tuple, with one operand too: (d,)")
            wanted = tuple(-1.5 * (function.forward(m.Context(), *[x + 1e-5 * (i == j) for j, x in enumerate(xs)])
                                   - function.forward(m.Context(), *[x - 1e-5 * (i == j) for j, x in enumerate(xs)]))
                           / 2e-5 for i in range(n))
            expect(f"{function.__name__}.backward at {[round(x, 3) for x in xs]} for d = -1.5", parts, wanted,
                   "compare with central differences; is each part beside its own operand?", 1e-5)


@check("1.2", "add_grad sums up")
def _(m: Any) -> None:
    x = m.Scalar(1.0)
    x.add_grad(2.0)
    x.add_grad(0.5)
    expect("grad after adding 2 and 0.5", x.grad, 2.5)


def order_is_right(order: list[Any]) -> None:
    place = {id(value): at for at, value in enumerate(order)}
    for value in order:
        for operand in value.record.operands if value.record else ():
            if operand.requires_grad and place.get(id(operand), -1) < place[id(value)]:
                raise Wrong(f"{operand} stands before {value}, which was made of it, or is missing",
                            "a value may come only when everything that uses it has come: a walk that lists values as it "
                            "meets them is not enough where one is used twice. List it when all below it is listed, and "
                            "turn the list around")


@check("1.3", "each value comes before its operands, and once")
def _(m: Any) -> None:
    s = of_ember("scalar")
    x, y = s.Scalar(2.0), s.Scalar(3.0)
    a = x * y
    b = a + x
    c = b * a
    order = m.topological_sort(c)
    expect("how many values", len(order), 5, "c, b, a, x and y, each once")
    expect("the first is the last result", order[0] is c, True)
    order_is_right(order)


@check("1.3", "the long way round: a value used first and last")
def _(m: Any) -> None:
    s = of_ember("scalar")
    for swapped in (False, True):
        x = s.Scalar(1.0)
        near = x * 2.0
        far = near.exp().log().exp()
        order_is_right(m.topological_sort(near + far if swapped else far + near))


@check("1.3", "constants are left out")
def _(m: Any) -> None:
    s = of_ember("scalar")
    order = m.topological_sort((s.Scalar(1.0) * 2.0 + 3.0) * 4.0)
    expect("how many values", len(order), 4, "2, 3 and 4 require no derivative")


@check("1.3", "random programs")
def _(m: Any) -> None:
    s, rng = of_ember("scalar"), random.Random(2)
    for _ in range(40):
        values = [s.Scalar(rng.uniform(-1, 1)) for _ in range(3)]
        for _ in range(12):
            values.append(rng.choice([s.Add, s.Mul]).apply(rng.choice(values), rng.choice(values)))
        order = m.topological_sort(values[-1])
        expect("a value twice in the order", len(order) - len({id(v) for v in order}), 0)
        order_is_right(order)


@check("1.3", "a chain of 5,000, and not a walk for every path")
def _(m: Any) -> None:
    s = of_ember("scalar")
    x = s.Scalar(1.0)
    for _ in range(5000):
        x = x + 1.0
    expect("values in the chain", len(m.topological_sort(x)), 5001)
    for _ in range(60):
        x = x + x       # 2**60 paths
    expect("values with doublings", len(m.topological_sort(x)), 5061)


def gradient(m: Any, f: Callable[..., Any], *xs: float) -> list[float]:
    leaves = [of_ember("scalar").Scalar(x) for x in xs]
    m.backward(f(*leaves))
    return [leaf.grad for leaf in leaves]


@check("1.4", "the chain rule, in a row")
def _(m: Any) -> None:
    expect("d/dx exp(2 x) at 0.5", gradient(m, lambda x: (2 * x).exp(), 0.5), [2 * math.e], tolerance=1e-7)
    expect("d/dx sigmoid(3 x) at 0", gradient(m, lambda x: (3 * x).sigmoid(), 0.0), [0.75])


@check("1.4", "uses add up")
def _(m: Any) -> None:
    for text, f in FUNCTIONS.items():
        for x, y in ((1.5, -0.5), (-2.0, 0.25)):
            wanted = of_ember("differences").gradient_by_differences(f, x, y)
            expect(f"the gradient of {text} at x={x}, y={y}", gradient(m, f, x, y), wanted,
                   "x is used more than once: what the uses send back is added up before it goes on", 1e-5)
    expect("the gradient of x * x at 3", gradient(m, lambda x: x * x, 3.0), [6.0])


@check("1.4", "a shared value goes on only once")
def _(m: Any) -> None:
    s = of_ember("scalar")
    asked = []

    class Counted(s.Function):  # type: ignore[name-defined]
        @staticmethod
        def forward(_context: Any, x: float) -> float:
            return x

        @staticmethod
        def backward(_context: Any, d: float) -> tuple[float]:
            asked.append(d)
            return (d,)

    x = s.Scalar(2.0)
    shared = Counted.apply(x)
    m.backward(shared * 3.0 + shared * shared)
    expect("grad", x.grad, 7.0)
    expect("what its backward was asked with", asked, [7.0],
           "sum what comes back in a table, by id; send it on when the value's turn comes in topological order")


@check("1.4", "grads add up over calls, and only leaves have one")
def _(m: Any) -> None:
    s = of_ember("scalar")
    x = s.Scalar(2.0)
    z = x * x
    w = z * 3.0
    m.backward(w)
    m.backward(w, 10.0)
    expect("x.grad after backward(w) and backward(w, 10)", x.grad, 12.0 * 11)
    expect("z.grad", z.grad, None, "z is no leaf")
    m.backward(leaf := s.Scalar(1.0), 4.0)
    expect("grad of a leaf that backward starts at", leaf.grad, 4.0)


@check("1.4", "random programs agree with differences")
def _(m: Any) -> None:
    rng = random.Random(3)
    for _ in range(25):
        plan = [(rng.choice("+*-s"), rng.randrange(3 + i), rng.randrange(3 + i)) for i in range(8)]

        def program(*leaves: Any, plan: list[tuple[str, int, int]] = plan) -> Any:
            values = list(leaves)
            for op, i, j in plan:
                x, y = values[i], values[j]
                values.append(x + y if op == "+" else x * y * 0.5 if op == "*" else x - y if op == "-" else
                              x.sigmoid() if hasattr(x, "sigmoid") else of_ember("operators").sigmoid(x))
            return values[-1] + values[0] + values[1] * values[2]

        xs = [rng.uniform(-1, 1) for _ in range(3)]
        expect(f"the gradient of the program {plan} at {xs}", gradient(m, program, *xs),
               of_ember("differences").gradient_by_differences(program, *xs), tolerance=1e-5)


@check("1.5", "a step goes against the derivative")
def _(m: Any) -> None:
    p = of_ember("module").Parameter(of_ember("scalar").Scalar(3.0))
    optimizer = m.SGD([p], lr=0.1)
    of_ember("backward").backward(p.value * p.value)
    optimizer.step()
    expect("3 after a step of 0.1 down x**2", p.value.data, 3.0 - 0.1 * 6.0, "minus: derivatives point uphill")
    expect("the new value is a leaf", p.value.is_leaf() and p.value.requires_grad, True,
           "made of numbers (value.data, value.grad); value - lr * grad would remember all steps before it")


@check("1.5", "zero_grad forgets; a value without grad stays")
def _(m: Any) -> None:
    p, q = (of_ember("module").Parameter(of_ember("scalar").Scalar(1.0)) for _ in range(2))
    optimizer = m.SGD([p, q], lr=0.5)
    of_ember("backward").backward(p.value * 2.0)
    optimizer.step()
    expect("values after a step that only p had a grad for", [p.value.data, q.value.data], [0.0, 1.0])
    of_ember("backward").backward(p.value * 2.0)
    optimizer.zero_grad()
    expect("grads after zero_grad", [p.value.grad, q.value.grad], [None, None])
    optimizer.step()
    expect("values", [p.value.data, q.value.data], [0.0, 1.0])


@check("1.5", "it learns a line")
def _(m: Any) -> None:
    module, scalar, back = of_ember("module"), of_ember("scalar"), of_ember("backward")
    a, b = (module.Parameter(scalar.Scalar(0.0)) for _ in range(2))
    optimizer = m.SGD((p for p in (a, b)), lr=0.1)
    points = [(x, 2.0 * x - 1.0) for x in (-1.0, 0.0, 1.0, 2.0)]
    expect("how many parameters it keeps of a generator of two, each time it is asked",
           [len(list(optimizer.parameters)) for _ in range(2)], [2, 2], "a generator gives what it has once: make a list of it")
    for _ in range(100):
        optimizer.zero_grad()
        loss = scalar.Scalar(0.0, requires_grad=False)
        for x, y in points:
            error = a.value * x + b.value - y
            loss = loss + error * error * 0.25
        back.backward(loss)
        optimizer.step()
    expect("slope and height of y = 2 x - 1", [a.value.data, b.value.data], [2.0, -1.0], tolerance=1e-3)
