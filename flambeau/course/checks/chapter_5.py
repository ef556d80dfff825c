"""Checks of chapter 5: tracing."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses, returns
from flambeau.course.checks.programs import arrays_for, random_graph


@check("5.1", "elementwise ops take operands of one shape")
def _(m: Any) -> None:
    returns(m.same_shapes, "add", ((2, 3), (2, 3)), wanted=(2, 3))
    returns(m.same_shapes, "exp", ((),), wanted=())
    for wrong in (((2, 3), (3,)), ((2,), ()), ((1,), (2,))):
        refuses(m.same_shapes, "add", wrong, error=m.InferenceError, naming="add",
                hint="nothing is broadcast here; the message says which op, and which shapes")


@check("5.1", "broadcast says where each dim goes")
def _(m: Any) -> None:
    for given, shape, dims in (((3,), (2, 3), (1,)), ((2,), (2, 3), (0,)), ((), (2, 2), ()), ((1, 3), (4, 3), (0, 1)),
                               ((2, 3), (2, 5, 3), (0, 2)), ((1,), (1,), (0,))):
        returns(m.broadcast_type, "broadcast", (given,), shape, dims, wanted=shape)
    for given, shape, dims in (((3,), (2, 3), (0,)), ((3,), (2, 3), ()), ((2, 3), (3, 2), (1, 0)), ((3,), (3,), (1,)),
                               ((2, 2), (2, 2), (0, 0)), ((3,), (2, 3), (-1,))):
        refuses(m.broadcast_type, "broadcast", (given,), shape, dims, error=m.InferenceError, naming=str(given),
                hint="one dim for each of the operand's, rising, all there, and as long as in the result unless it is 1")


@check("5.1", "sum, permute and matmul")
def _(m: Any) -> None:
    for given, dims, wanted in (((2, 3), (0,), (3,)), ((2, 3), (0, 1), ()), ((2, 3, 4), (1,), (2, 4)), ((2,), (), (2,))):
        returns(m.sum_type, "sum", (given,), dims, wanted=wanted)
    for given, dims in (((2, 3), (2,)), ((2, 3), (0, 0)), ((2, 3), (-1,))):
        refuses(m.sum_type, "sum", (given,), dims, error=m.InferenceError, naming="sum")
    returns(m.permute_type, "permute", ((2, 3, 4),), (2, 0, 1), wanted=(4, 2, 3))
    for order in ((0,), (0, 0, 1), (0, 1, 3)):
        refuses(m.permute_type, "permute", ((2, 3, 4),), order, error=m.InferenceError)
    returns(m.matmul_type, "matmul", ((2, 3), (3, 4)), wanted=(2, 4))
    for shapes in (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 2, 2), (2, 2))):
        refuses(m.matmul_type, "matmul", shapes, error=m.InferenceError, naming=str(shapes[1]))


@check("5.1", "what each op gives has the shape that it says")
def _(m: Any) -> None:
    x = np.ones((2, 3))
    for op, arrays, attributes in (("broadcast", [x], {"shape": (2, 4, 3), "dims": (0, 2)}), ("sum", [x], {"dims": (1,)}),
                                   ("permute", [x], {"dims": (1, 0)}), ("matmul", [x, x.T], {}), ("mul", [x, x], {})):
        inferred = m.OPS[op].infer(op, tuple(a.shape for a in arrays), **attributes)
        expect(f"the shape of {op}", tuple(m.OPS[op].evaluate(*arrays, **attributes).shape), inferred)


@check("5.2", "append infers, and stands at the end")
def _(m: Any) -> None:
    g = m.Graph()
    x = g.input("x", (2, 3))
    y = g.append("sum", x, dims=(0,))
    z = g.append("exp", y)
    expect("the shape of the sum", y.shape, (3,))
    expect("the ops in order", [node.op for node in g.nodes], ["input", "sum", "exp"])
    expect("its operands", z.operands == (y,), True)
    expect("its attributes", y.attributes, {"dims": (0,)})
    region = m.Graph()
    region.outputs = [region.append("exp", region.input("in0", (3,)))]
    expect("the shape of a fusion", g.append("fusion", z, region=region).shape, (3,), "that of its region's output")


@check("5.2", "append refuses what is no program")
def _(m: Any) -> None:
    error = of_ember("ops").InferenceError
    g, other = m.Graph(), m.Graph("other")
    x, stranger = g.input("x", (2,)), other.input("x", (2,))
    refuses(g.append, "exq", x, error=error, naming="exq")
    refuses(g.append, "add", x, error=error, naming="add", hint="how many operands an op takes, OPS tells")
    refuses(g.append, "add", x, g.input("y", (3,)), error=error)
    refuses(g.append, "exp", stranger, error=error, hint="each node knows its graph")
    expect("nodes after what was refused", len(g.nodes), 2, "check first, append then")


@check("5.2", "users_of lists readers, twice if they read twice")
def _(m: Any) -> None:
    g = m.Graph()
    x = g.input("x", (2,))
    y = g.append("mul", x, x)
    z = g.append("add", y, x)
    users = g.users_of()
    expect("the users of x", [u.op for u in users[x]], ["mul", "mul", "add"])
    expect("the users of x * x, and of the sum", [[u.op for u in users[y]], users[z]], [["add"], []])


@check("5.2", "rebuilt without a change is a copy; with one, readers follow")
def _(m: Any) -> None:
    for seed in range(20):
        graph = random_graph(seed)
        copy = m.rebuilt(graph)
        expect("the copy's ops", [n.op for n in copy.nodes], [n.op for n in graph.nodes])
        expect("nodes that it shares with the original", len(set(copy.nodes) & set(graph.nodes)), 0)
        expect("its operands", [[copy.nodes.index(o) for o in n.operands] for n in copy.nodes],
               [[graph.nodes.index(o) for o in n.operands] for n in graph.nodes])
        expect("its outputs", [copy.nodes.index(o) for o in copy.outputs], [graph.nodes.index(o) for o in graph.outputs])
    g = m.Graph()
    x = g.input("x", (2,))
    y = g.append("neg", g.append("neg", x))
    g.outputs = [g.append("exp", y), y]

    def without_neg(new: Any, node: Any, operands: Any) -> Any:
        return operands[0] if node.op == "neg" else m.copied(new, node, operands)

    found = m.rebuilt(g, without_neg)
    expect("the ops without neg", [n.op for n in found.nodes], ["input", "exp"])
    expect("the second output is the input", found.outputs[1] is found.nodes[0], True, "outputs follow what took their place")


def traced(m: Any, f: Any, *shapes: tuple[int, ...]) -> Any:
    graph = m.trace(f, *shapes)
    for node in graph.nodes:
        if node.is_elementwise and any(o.shape != node.shape for o in node.operands):
            raise Wrong(f"{node} has operands of shapes {[o.shape for o in node.operands]}", "put a broadcast before it")
    return graph


@check("5.3", "a function becomes its ops")
def _(m: Any) -> None:
    graph = traced(m, lambda x, y: (x * y).exp() @ y.T, (2, 3), (2, 3))
    expect("the ops", [n.op for n in graph.nodes], ["input", "input", "mul", "exp", "permute", "matmul"])
    expect("the inputs' names", [n.attributes["name"] for n in graph.inputs], ["x0", "x1"])
    expect("the output", [graph.nodes.index(o) for o in graph.outputs], [5])
    expect("names that are given", [n.attributes["name"] for n in m.trace(lambda w: -w, (2,), names=["weight"]).inputs], ["weight"])


@check("5.3", "numbers become constants, and shapes are made equal by broadcasts")
def _(m: Any) -> None:
    graph = traced(m, lambda x: 2 * x + 1.0, (3,))
    expect("the ops of 2 * x + 1", sorted(n.op for n in graph.nodes),
           ["add", "broadcast", "broadcast", "constant", "constant", "input", "mul"])
    for a, b in (((3, 1), (4,)), ((2, 3), (3,)), ((), (2,)), ((2,), (2,)), ((1, 3), (2, 1, 1))):
        graph = traced(m, lambda x, y: x - y, a, b)
        arrays = [np.random.default_rng(i).normal(size=s) for i, s in enumerate((a, b))]
        values: dict[Any, Any] = {}
        for node in graph.nodes:
            values[node] = arrays[len(values)] if node.op == "input" else \
                of_ember("ops").OPS[node.op].evaluate(*(values[o] for o in node.operands), **node.attributes)
        expect(f"x - y of shapes {a} and {b}", values[graph.outputs[0]], arrays[0] - arrays[1])
    expect("broadcasts where shapes are equal", [n.op for n in m.trace(lambda x, y: x * y, (2,), (2,)).nodes].count("broadcast"), 0)


@check("5.3", "several outputs, and an argument given back")
def _(m: Any) -> None:
    graph = m.trace(lambda x: (x, x + x), (2,))
    expect("the outputs", [n.op for n in graph.outputs], ["input", "add"])


@check("5.3", "a branch on a value is refused, and says why")
def _(m: Any) -> None:
    def branching(x: Any) -> Any:
        return x if x.sum() else -x

    refuses(m.trace, branching, (2,), error=m.TraceError, naming="value",
            hint="an object is True unless it says otherwise, and one way would be taken silently for all arrays")
    refuses(m.trace, lambda x: 3.0, (2,), error=m.TraceError, naming="3.0", hint="what is no tracer was not computed here")
    refuses(m.trace, lambda x: (x, None), (2,), error=m.TraceError, naming="None")


@check("5.4", "a graph means what NumPy says")
def _(m: Any) -> None:
    t = of_ember("trace")
    x, w, b = (np.random.default_rng(i).normal(size=s) for i, s in enumerate(((4, 3), (3, 2), (2,))))
    graph = t.trace(lambda x, w, b: ((x @ w + b).relu(), x.exp().sum(1)), (4, 3), (3, 2), (2,))
    found = m.interpret(graph, [x, w, b])
    expect("relu(x w + b)", found[0], np.maximum(x @ w + b, 0))
    expect("sums of exp(x)", found[1], np.exp(x).sum(1))
    expect("an input that is an output", m.interpret(t.trace(lambda x: (x, -x), (3,)), [np.ones(3)])[0], np.ones(3))


@check("5.4", "arrays that do not fit are refused by name")
def _(m: Any) -> None:
    graph = of_ember("trace").trace(lambda x, y: x + y, (2,), (2,), names=["left", "right"])
    refuses(m.interpret, graph, [np.ones(2), np.ones(3)], error=ValueError, naming="right")
    refuses(m.interpret, graph, [np.ones(2)], error=ValueError, hint="count them first")


@check("5.4", "a fusion means what its region means")
def _(m: Any) -> None:
    g = of_ember("graph")
    graph, region = g.Graph(), g.Graph()
    a, b = region.input("in0", (2,)), region.input("in1", (2,))
    region.outputs = [region.append("sub", a, b)]
    x, y = graph.input("x", (2,)), graph.input("y", (2,))
    graph.outputs = [graph.append("neg", graph.append("fusion", y, x, region=region))]
    expect("-(y - x)", m.interpret(graph, [np.array([1.0, 2]), np.array([10.0, 20])])[0], np.array([-9.0, -18]))


@check("5.4", "a chain of 3,000")
def _(m: Any) -> None:
    graph = of_ember("graph").Graph()
    x = graph.input("x", ())
    for _ in range(3000):
        x = graph.append("neg", x)
    graph.outputs = [x]
    expect("3,000 times -x", m.interpret(graph, [np.float64(2)])[0], np.array(2.0))
    for seed in range(10):
        graph = random_graph(seed)
        for found in m.interpret(graph, arrays_for(graph)):
            if not np.isfinite(found).all():
                raise Wrong(f"random graph {seed} gives {found}")


def counted(m: Any, f: Any) -> tuple[Any, list[int]]:
    traces: list[int] = []

    def g(*arguments: Any) -> Any:
        traces.append(1)
        return f(*arguments)

    return m.Jitted(g), traces


@check("5.5", "signatures: shapes, that it is a number, and the rest as it is")
def _(m: Any) -> None:
    same = (((np.ones(2), 1.0), (np.zeros(2), 5.0)), ((1,), (2.5,)), (("sum",), ("sum",)))
    for a, b in same:
        expect(f"the signatures of {a} and {b} are equal", m.signature(a) == m.signature(b), True,
               "other values, same program: what comes in at each call is no part of it")
    others: tuple[tuple[Any, Any], ...] = (
                 ((np.ones(2),), (np.ones(3),)), ((np.ones(2),), (np.ones((2, 1)),)), ((True,), (1,)), (("sum",), ("mean",)),
                 ((np.ones(()),), (1.0,)), ((True,), (False,)), ((None,), ()))
    for a, b in others:
        expect(f"the signatures of {a} and {b} are equal", m.signature(a) == m.signature(b), False, "True == 1 in Python")
    hash(m.signature((np.ones(2), 1.0, True, "x", None)))


@check("5.5", "traced once for a signature, and right each time")
def _(m: Any) -> None:
    f, traces = counted(m, lambda x, y: (x * y).sum())
    for n in (3, 3, 4, 3, 4):
        x, y = np.arange(float(n)), np.full(n, float(len(traces)))
        expect(f"sum(x y) for {n} numbers", f(x, y), (x * y).sum())
    expect("how often it was traced", len(traces), 2, "look for the signature before tracing")
    expect("how many programs there are", len(f.programs), 2)


@check("5.5", "a number is an input, and a flag is part of the program")
def _(m: Any) -> None:
    def f(x: Any, scale: Any, negative: Any) -> Any:
        return -(x * scale) if negative else x * scale

    g, traces = counted(m, f)
    for scale, negative in ((2.0, False), (3.0, False), (5.0, True), (7.0, True)):
        wanted = np.ones(2) * scale * (-1 if negative else 1)
        expect(f"f(ones, {scale}, {negative})", g(np.ones(2), scale, negative), wanted,
               "a number that is traced as a constant is yesterday's")
    expect("how often it was traced", len(traces), 2)


@check("5.5", "several results, and the compiler that was given")
def _(m: Any) -> None:
    f = m.Jitted(lambda x: (x + x, x * x))
    expect("(x + x, x * x) of 3", f(np.array([3.0])), (np.array([6.0]), np.array([9.0])))
    compiled = []

    def compiler(graph: Any) -> Any:
        compiled.append(graph)
        return lambda arrays: [arrays[0] * 100]

    f = m.Jitted(lambda x: -x, compiler)
    expect("what the compiler's program gives", [float(f(np.array(2.0))), float(f(np.array(3.0)))], [200.0, 300.0])
    expect("how often the compiler ran", len(compiled), 1)
