"""Checks of chapter 7: passes."""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses
from flambeau.course.checks.programs import arrays_for, ops_of, parsed, random_graph, same_meaning, text_of


def rule_agrees(m: Any, op: str, *shapes: tuple[int, ...], hint: str = "", **attributes: Any) -> None:
    """The rule of `op` beside differences, for a random cotangent."""
    g, interpret = of_ember("graph"), of_ember("interpret").interpret
    graph = g.Graph(op)
    operands = [graph.input(f"x{i}", shape) for i, shape in enumerate(shapes)]
    node = graph.append(op, *operands, **attributes)
    d = graph.input("d", node.shape)
    found = m.RULES[op](g.Builder(graph), node, d)
    if not isinstance(found, tuple) or len(found) != len(operands):
        raise Wrong(f"the rule of {op} gives {found!r}", "a tuple with a cotangent for each operand; (x,) for one")
    for operand, one in zip(operands, found, strict=True):
        expect(f"{op}{attributes or ''} of {shapes}: the shape of the cotangent of {operand.attributes['name']}", one.shape,
               operand.shape, hint or "a cotangent has its operand's shape")
    graph.outputs = [node, *found]
    rng = np.random.default_rng(len(shapes))
    arrays = [rng.uniform(0.5, 1.5, shape) for shape in shapes]
    weights = rng.normal(size=node.shape)
    cotangents = interpret(graph, [*arrays, weights])[1:]
    for number, array in enumerate(arrays):
        wanted = np.zeros(array.shape)
        for index in np.ndindex(*array.shape):
            results = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in arrays]
                moved[number][index] += step
                results.append(float((interpret(graph, [*moved, weights])[0] * weights).sum()))
            wanted[index] = (results[0] - results[1]) / 2e-5
        expect(f"{op}{attributes or ''} of {shapes}: the cotangent of operand {number}", cotangents[number], wanted, hint, 1e-4)


@check("7.1", "arithmetic")
def _(m: Any) -> None:
    for op in ("add", "sub", "mul", "div"):
        rule_agrees(m, op, (2, 3), (2, 3))
        rule_agrees(m, op, (), ())


@check("7.1", "functions of one number")
def _(m: Any) -> None:
    for op in ("neg", "exp", "log", "relu"):
        rule_agrees(m, op, (2, 3))
    g = of_ember("graph")
    graph = g.Graph()
    x, d = graph.input("x", (3,)), graph.input("d", (3,))
    node = graph.append("relu", x)
    graph.outputs = list(m.RULES["relu"](g.Builder(graph), node, d))
    found = of_ember("interpret").interpret(graph, [np.array([-2.0, 0.0, 2.0]), np.array([5.0, 5.0, 5.0])])
    expect("relu's cotangent at -2, 0 and 2", found[0], np.array([0.0, 0.0, 5.0]), "nothing passes where the result is 0")


@check("7.1", "sum and broadcast are each other's")
def _(m: Any) -> None:
    for shape, dims in (((2, 3), (0,)), ((2, 3), (1,)), ((2, 3), (0, 1)), ((2, 3, 2), (0, 2)), ((3,), (0,))):
        rule_agrees(m, "sum", shape, dims=dims, hint="what was summed is repeated: which dims of x are left in d?")
    cases: tuple[tuple[tuple[int, ...], ...], ...] = (
                                ((3,), (2, 3), (1,)), ((2,), (2, 3), (0,)), ((), (2, 2), ()), ((1, 3), (4, 3), (0, 1)),
                                ((2, 1), (2, 3, 4), (0, 2)), ((1,), (1,), (0,)), ((1, 1), (2, 2), (0, 1)), ((2, 3), (2, 3), (0, 1)))
    for given, wanted, places in cases:
        rule_agrees(m, "broadcast", given, shape=wanted, dims=places,
                    hint="what was repeated is summed; a dim that was 1 is summed too, and brought back as 1")


@check("7.1", "permute and matmul")
def _(m: Any) -> None:
    for dims in ((1, 2, 0), (2, 0, 1), (0, 2, 1)):
        rule_agrees(m, "permute", (2, 3, 4), dims=dims, hint="back to where it was: the order that undoes dims")
    rule_agrees(m, "matmul", (2, 3), (3, 4))


def differences(graph: Any, arrays: list[np.ndarray], number: int) -> np.ndarray:
    interpret = of_ember("interpret").interpret
    wanted = np.zeros(arrays[number].shape)
    for index in np.ndindex(*wanted.shape):
        results = []
        for step in (1e-5, -1e-5):
            moved = [a.copy() for a in arrays]
            moved[number][index] += step
            results.append(float(interpret(graph, moved)[0]))
        wanted[index] = (results[0] - results[1]) / 2e-5
    return wanted


def agrees(m: Any, graph: Any, what: str, hint: str = "") -> None:
    """All derivatives of a graph beside differences."""
    found = m.gradient(graph)
    of_ember("verifier").verify(found)
    arrays = arrays_for(graph)
    outputs = of_ember("interpret").interpret(found, arrays)
    expect(f"how many outputs the gradient of {what} has", len(outputs), 1 + len(arrays))
    expect(f"the first output of the gradient of {what}", outputs[0], of_ember("interpret").interpret(graph, arrays)[0])
    for number in range(len(arrays)):
        wanted = differences(graph, arrays, number)
        if outputs[1 + number].shape != wanted.shape or not np.allclose(outputs[1 + number], wanted, 1e-3, 1e-4):
            raise Wrong(f"the derivative by input {number} of\n{text_of(graph)}is {outputs[1 + number].tolist()}, not "
                        f"{wanted.round(5).tolist()}", hint)


SQUARE = '%0 = input arg "x" : f64[3]\n%1 = mul(%0, %0) : f64[3]\n%2 = sum(%1, dims=(0,)) : f64[]\nreturn %2'
SHARED = ('%0 = input arg "x" : f64[]\n%1 = exp(%0) : f64[]\n%2 = mul(%1, %0) : f64[]\n%3 = add(%2, %1) : f64[]\n'
          '%4 = mul(%3, %1) : f64[]\nreturn %4')


@check("7.2", "one op after another, and values that are used twice")
def _(m: Any) -> None:
    agrees(m, parsed(SQUARE), "sum(x * x)", "both operands of mul are x: what they send adds up")
    agrees(m, parsed(SHARED), "(exp(x) x + exp(x)) exp(x)", "go on from a node when all who read it have sent")


@check("7.2", "random programs")
def _(m: Any) -> None:
    for seed in range(12):
        graph = random_graph(seed, 10, scalar=True)
        if "sign" not in ops_of(graph) and "relu" not in ops_of(graph):     # differences do not like steps
            agrees(m, graph, f"random graph {seed}")


@check("7.2", "inputs that have no part, and those that nobody asks for")
def _(m: Any) -> None:
    graph = parsed('%0 = input arg "x" : f64[2]\n%1 = input arg "y" : f64[3]\n%2 = sum(%0, dims=(0,)) : f64[]\nreturn %2')
    found = of_ember("interpret").interpret(m.gradient(graph), [np.ones(2), np.ones(3)])
    expect("the derivative by an input that is not used", found[2], np.zeros(3), "a constant 0, broadcast to its shape")
    product = parsed('%0 = input arg "x" : f64[]\n%1 = input arg "y" : f64[]\n%2 = exp(%1) : f64[]\n%3 = exp(%2) : f64[]\n'
                     '%4 = mul(%0, %3) : f64[]\nreturn %4')
    found = m.gradient(product, [0])
    expect("how many outputs there are for wrt=[0]", len(found.outputs), 2)
    expect("its value", of_ember("interpret").interpret(found, [np.array(2.0), np.array(0.0)])[1], np.array(np.e))
    extra = len(found.nodes) - len(product.nodes)
    if extra > 4:
        raise Wrong(f"{extra} nodes were appended to find the derivative by x of x exp(exp(y))",
                    "y does not lead to what is asked for: send nothing on from values that no input in wrt leads to")
    before = text_of(product)
    m.gradient(product)
    expect("the graph it was given, afterwards", text_of(product), before, "work on a copy")


@check("7.2", "only of one number; and derivatives have derivatives")
def _(m: Any) -> None:
    refuses(m.gradient, parsed('%0 = input arg "x" : f64[3]\n%1 = exp(%0) : f64[3]\nreturn %1'), error=ValueError, naming="(3,)")
    graph = parsed('%0 = input arg "x" : f64[]\n%1 = mul(%0, %0) : f64[]\n%2 = mul(%1, %0) : f64[]\nreturn %2')
    for order, wanted in ((1, 12.0), (2, 12.0), (3, 6.0)):
        graph = m.gradient(graph)
        graph.outputs = graph.outputs[1:]
        expect(f"derivative {order} of x**3 at 2", of_ember("interpret").interpret(graph, [np.array(2.0)])[0], np.array(wanted))


@check("7.2", "a chain of 3,000")
def _(m: Any) -> None:
    graph = of_ember("graph").Graph()
    x = graph.input("x", ())
    for _ in range(3001):
        x = graph.append("neg", x)
    graph.outputs = [x]
    expect("its derivative", of_ember("interpret").interpret(m.gradient(graph), [np.array(1.0)])[1], np.array(-1.0))


WASTE = ('%0 = input arg "x" : f64[2]\n%1 = input arg "y" : f64[2]\n%2 = exp(%0) : f64[2]\n%3 = log(%2) : f64[2]\n'
         '%4 = neg(%0) : f64[2]\nreturn %4')


@check("7.3", "what nobody needs goes, with all that only it needed")
def _(m: Any) -> None:
    found = m.dce(parsed(WASTE))
    expect("the ops that are left", ops_of(found), ["neg"], "exp is read by log only, and log by nobody")
    expect("the inputs", [n.attributes["name"] for n in found.inputs], ["x", "y"], "inputs stay, used or not")


@check("7.3", "nothing else changes")
def _(m: Any) -> None:
    for seed in range(20):
        graph = random_graph(seed)
        found = m.dce(graph)
        same_meaning("dce", graph, found)
        expect("the ops after a second time", ops_of(m.dce(found)), ops_of(found))
        users = found.users_of()
        idle = [n for n in found.nodes if not users[n] and n not in found.outputs and n.op != "input"]
        expect("nodes that nobody reads", idle, [])


@check("7.3", "a chain of 3,000 that nobody needs, and the graph that was given")
def _(m: Any) -> None:
    graph = of_ember("graph").Graph()
    x = graph.input("x", ())
    graph.outputs = [graph.append("exp", x)]
    for _ in range(3000):
        x = graph.append("neg", x)
    expect("the ops that are left", ops_of(m.dce(graph)), ["exp"])
    expect("the nodes of the graph that was given", len(graph.nodes), 3002, "a pass gives a new graph")


TWICE = ('%0 = input arg "x" : f64[2]\n%1 = input arg "y" : f64[2]\n%2 = exp(%0) : f64[2]\n%3 = exp(%0) : f64[2]\n'
         '%4 = add(%2, %1) : f64[2]\n%5 = add(%3, %1) : f64[2]\n%6 = mul(%4, %5) : f64[2]\nreturn %6, %3')


@check("7.4", "the same is computed once, and so is what follows from it")
def _(m: Any) -> None:
    found = m.cse(parsed(TWICE))
    expect("the ops that are left", ops_of(found), ["exp", "add", "mul"],
           "compare by the operands that took the old ones' place: then the two adds are the same too")
    same_meaning("cse", parsed(TWICE), found)


@check("7.4", "only what is the same")
def _(m: Any) -> None:
    different = ('%0 = input arg "x" : f64[2,2]\n%1 = input arg "y" : f64[2,2]\n%2 = sum(%0, dims=(0,)) : f64[2]\n'
                 '%3 = sum(%0, dims=(1,)) : f64[2]\n%4 = sub(%2, %3) : f64[2]\n%5 = sub(%3, %2) : f64[2]\n'
                 '%6 = constant(value=f64[] 0.0) : f64[]\n%7 = constant(value=f64[] -0.0) : f64[]\nreturn %4, %5, %6, %7, %1')
    found = m.cse(parsed(different))
    expect("the ops that are left", len(ops_of(found)), 6, "attributes and the order of operands count; and repr tells 0.0 from -0.0")
    zeros = [n.attributes["value"] for n in found.nodes if n.op == "constant"]
    expect("the signs of the zeros", [str(z) for z in zeros], ["0.0", "-0.0"])
    expect("the inputs", len(found.inputs), 2, "two inputs of one shape are two values")


@check("7.4", "random programs keep their meaning, and gain")
def _(m: Any) -> None:
    fewer = 0
    for seed in range(20):
        graph = random_graph(seed)
        found = m.cse(graph)
        same_meaning("cse", graph, found)
        fewer += len(graph.nodes) - len(found.nodes)
    if fewer < 20:
        raise Wrong(f"{fewer} nodes fewer in 20 random graphs", "constants and their broadcasts are there many times")


def simplified(m: Any, lines: str, shape: str = "f64[2,3]") -> list[str]:
    graph = parsed(f'%0 = input arg "x" : {shape}\n{lines}')
    found = m.simplify(graph)
    same_meaning("simplify", graph, found)
    return ops_of(found)


ONE = "%1 = constant(value=f64[] 1.0) : f64[]\n%2 = broadcast(%1, shape=(2, 3), dims=()) : f64[2,3]\n"


@check("7.5", "multiplied by one, divided by one")
def _(m: Any) -> None:
    for line in ("mul(%0, %2)", "mul(%2, %0)", "div(%0, %2)"):
        expect(f"the ops that are left of {line} with %2 all ones", simplified(m, f"{ONE}%3 = {line} : f64[2,3]\nreturn %3"), [],
               "a constant may come through a broadcast; and what is dead then goes")
    expect("the ops of 1 / x", simplified(m, f"{ONE}%3 = div(%2, %0) : f64[2,3]\nreturn %3"), ["constant", "broadcast", "div"])


@check("7.5", "neg of neg, permutes and broadcasts in a row")
def _(m: Any) -> None:
    expect("-(-x)", simplified(m, "%1 = neg(%0) : f64[2,3]\n%2 = neg(%1) : f64[2,3]\nreturn %2"), [])
    expect("-(-(-x))", simplified(m, "%1 = neg(%0) : f64[2,3]\n%2 = neg(%1) : f64[2,3]\n%3 = neg(%2) : f64[2,3]\nreturn %3"), ["neg"])
    expect("a permute back and forth", simplified(m, "%1 = permute(%0, dims=(1, 0)) : f64[3,2]\n"
                                                     "%2 = permute(%1, dims=(1, 0)) : f64[2,3]\nreturn %2"), [])
    three = ("%1 = permute(%0, dims=(1, 2, 0)) : f64[3,4,2]\n%2 = permute(%1, dims=(0, 2, 1)) : f64[3,2,4]\nreturn %2")
    expect("two permutes", simplified(m, three, "f64[2,3,4]"), ["permute"], "dim i of the second is dim dims[i] of the first")
    expect("a permute that changes nothing", simplified(m, "%1 = permute(%0, dims=(0, 1)) : f64[2,3]\nreturn %1"), [])
    two = "%1 = broadcast(%0, shape=(2, 3), dims=(1,)) : f64[2,3]\n%2 = broadcast(%1, shape=(4, 2, 3), dims=(1, 2)) : f64[4,2,3]\nreturn %2"
    expect("two broadcasts", simplified(m, two, "f64[3]"), ["broadcast"])
    expect("a broadcast to its own shape", simplified(m, "%1 = broadcast(%0, shape=(2, 3), dims=(0, 1)) : f64[2,3]\nreturn %1"), [])


@check("7.5", "until nothing holds any more")
def _(m: Any) -> None:
    chain = "".join(f"%{n} = neg(%{n - 1}) : f64[2,3]\n" for n in range(1, 41)) + "return %40"
    expect("forty times -x", simplified(m, chain), [])
    inner = (f"{ONE}%3 = neg(%0) : f64[2,3]\n%4 = mul(%3, %2) : f64[2,3]\n%5 = neg(%4) : f64[2,3]\nreturn %5")
    expect("-(1 * -x)", simplified(m, inner), [], "one rule makes room for the next")


@check("7.5", "not a bit changes: NaN, infinity and -0.0")
def _(m: Any) -> None:
    special = np.array([[np.nan, np.inf, -np.inf], [0.0, -0.0, 1.0]])
    for value in ("0.0", "-0.0", "1.0", "-1.0"):
        for op in ("add", "sub", "mul", "div"):
            for operands in ("%0, %2", "%2, %0", "%0, %0"):
                graph = parsed(f'%0 = input arg "x" : f64[2,3]\n{ONE.replace("1.0", value)}%3 = {op}({operands}) : f64[2,3]\nreturn %3')
                interpret = of_ember("interpret").interpret
                with np.errstate(all="ignore"):
                    wanted, found = (interpret(g, [special])[0] for g in (graph, m.simplify(graph)))
                bits = [np.where(np.isnan(a), np.nan, a).tobytes() for a in (wanted, found)]
                expect(f"the bits of {op}({operands}) with %2 = {value}, at NaN, infinities and zeros", bits[1] == bits[0], True,
                       "x * 0 is NaN at NaN, x - x is NaN at infinity, and -0.0 + 0.0 is 0.0: these are no rules")


@check("7.5", "random programs, with their derivatives")
def _(m: Any) -> None:
    for seed in range(15):
        graph = of_ember("gradient").gradient(random_graph(seed, scalar=True))
        found = m.simplify(graph)
        same_meaning("simplify", graph, found)
        if len(found.nodes) >= len(graph.nodes):
            raise Wrong(f"simplify leaves all {len(graph.nodes)} nodes of\n{text_of(graph)}", "1 * x is in it, for one")
