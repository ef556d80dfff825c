"""Checks of chapter 6: the IR."""
from __future__ import annotations

from typing import Any

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses, returns
from flambeau.course.checks.programs import random_graph
from flambeau.ir import parse as flambeau_parse

FUSED = """graph @f {
  %0 = input arg "x" : f64[2,3]
  %1 = constant(value=f64[] 2.0) : f64[]
  %2 = fusion(%0, %1) : f64[2] {
    graph @inner {
      %0 = input arg "in0" : f64[2,3]
      %1 = input arg "in1" : f64[]
      %2 = broadcast(%1, shape=(2, 3), dims=()) : f64[2,3]
      %3 = mul(%0, %2) : f64[2,3]
      %4 = sum(%3, dims=(1,)) : f64[2]
      return %4
    }
  }
  return %2, %0
}
"""
PLAIN = """graph @case {
  %0 = input arg "x" : f64[2,3]
  %1 = constant(value=f64[] 0.5) : f64[]
  %2 = broadcast(%1, shape=(2, 3), dims=()) : f64[2,3]
  %3 = mul(%0, %2) : f64[2,3]
  %4 = sum(%3, dims=(0, 1)) : f64[]
  return %4, %3
}
"""


def graph_of(text: str) -> Any:
    """What the text says, built by hand: no parser of the learner's is needed."""
    g = of_ember("graph")
    graph = g.Graph("case")
    b = g.Builder(graph)
    x = graph.input("x", (2, 3))
    y = b.mul(x, b.full(0.5, (2, 3)))
    graph.outputs = [b.sum(y, dims=(0, 1)), y]
    if text == PLAIN:
        return graph
    region, graph = g.Graph("inner"), g.Graph("f")
    b = g.Builder(region)
    a, c = region.input("in0", (2, 3)), region.input("in1", ())
    region.outputs = [b.sum(b.mul(a, b.broadcast(c, shape=(2, 3), dims=())), dims=(1,))]
    x = graph.input("x", (2, 3))
    graph.outputs = [graph.append("fusion", x, graph.append("constant", value=2.0), region=region), x]
    return graph


@check("6.1", "types")
def _(m: Any) -> None:
    for shape, text in (((), "f64[]"), ((3,), "f64[3]"), ((2, 3), "f64[2,3]")):
        returns(m.type_text, shape, wanted=text, hint="a tuple of one prints with a comma that is not wanted here")


def compare(found: str, wanted: str) -> None:
    for number, (a, b) in enumerate(zip([*found.splitlines(), None], [*wanted.splitlines(), None], strict=False), 1):
        if a != b:
            raise Wrong(f"line {number} is {a!r}, not {b!r}", "compare them from the left, spaces too")
    expect("the text", found, wanted, "the text ends with a newline")


@check("6.1", "a graph, line by line")
def _(m: Any) -> None:
    compare(m.print_graph(graph_of(PLAIN)), PLAIN)


@check("6.1", "a region, further in; and an indent before every line")
def _(m: Any) -> None:
    compare(m.print_graph(graph_of(FUSED)), FUSED)
    compare(m.print_graph(graph_of(PLAIN), "  "), "".join(f"  {line}\n" for line in PLAIN.splitlines()))


@check("6.1", "Flambeau reads it")
def _(m: Any) -> None:
    for seed in range(5):
        graph = random_graph(seed)
        found = flambeau_parse(m.print_graph(graph))
        expect(f"how many nodes Flambeau finds in random graph {seed}", len(found.nodes), len(graph.nodes))


@check("6.2", "what was printed is read back")
def _(m: Any) -> None:
    for text in (PLAIN, FUSED):
        expect("the text, read and printed again", of_ember("text").print_graph(m.parse(text)), text)
    for seed in range(15):
        text = of_ember("text").print_graph(random_graph(seed))
        expect(f"random graph {seed}, read and printed again", of_ember("text").print_graph(m.parse(text)), text)


@check("6.2", "numbers may be any, spaces and blank lines too")
def _(m: Any) -> None:
    text = 'graph @g {\n\n  %7 = input arg "x" : f64[2]\n%3 = exp(%7) : f64[2]\n      return %3\n}\n\n'
    expect("the ops", [n.op for n in m.parse(text).nodes], ["input", "exp"])


@check("6.2", "mistakes are refused with their line")
def _(m: Any) -> None:
    cases = (
        ("a line that is none", PLAIN.replace("mul(%0, %2)", "mul %0 %2"), 5),
        ("a number that is not defined", PLAIN.replace("mul(%0, %2)", "mul(%0, %9)"), 5),
        ("a number that is defined below", PLAIN.replace("mul(%0, %2)", "mul(%0, %4)"), 5),
        ("a number that is defined twice", PLAIN.replace("%3 = mul", "%2 = mul"), 5),
        ("an op that is not there", PLAIN.replace("mul(", "mull("), 5),
        ("operands that the op refuses", PLAIN.replace("mul(%0, %2)", "mul(%0, %1)"), 5),
        ("an attribute that the op does not have", PLAIN.replace("dims=(0, 1)", "axes=(0, 1)"), 6),
        ("a type that is not the one inferred", PLAIN.replace("dims=(0, 1)) : f64[]", "dims=(0, 1)) : f64[3]"), 6),
        ("an output that is not defined", PLAIN.replace("return %4", "return %8"), 7),
        ("lines after the end", PLAIN + "graph @again {\n", 9),
        ("no head", PLAIN.replace("graph @case {", "graph case"), 1),
        ("a mistake in a region", FUSED.replace("mul(%0, %2)", "mul(%0, %7)"), 9),
    )
    for what, text, line in cases:
        try:
            m.parse(text)
        except m.ParseError as error:
            if not str(error).startswith(f"line {line}: "):
                raise Wrong(f"{what}: the message is {str(error)!r}, and should begin with 'line {line}: '") from None
            continue
        raise Wrong(f"{what} is read without an error:\n{text}")
    for what, text in (("no end", PLAIN.replace("}\n", "")), ("no return", PLAIN.replace("  return %4, %3\n", "")), ("nothing", "")):
        refuses(m.parse, text, error=m.ParseError, naming="line", hint=what)


def broken(change: Any) -> Any:
    graph = graph_of(FUSED)
    change(graph)
    return graph


@check("6.3", "graphs that keep the rules pass")
def _(m: Any) -> None:
    for graph in (graph_of(PLAIN), graph_of(FUSED), *map(random_graph, range(10))):
        m.verify(graph)


@check("6.3", "each rule that is broken is found")
def _(m: Any) -> None:
    g = of_ember("graph")
    stranger = g.Graph().input("stranger", (2, 3))
    cases = (
        ("a node before its operand", lambda graph: graph.nodes.reverse()),
        ("an operand of another graph", lambda graph: setattr(graph.nodes[2], "operands", (stranger, graph.nodes[1]))),
        ("a shape that the op does not give", lambda graph: setattr(graph.nodes[2], "shape", (7,))),
        ("an op that is not there", lambda graph: setattr(graph.nodes[1], "op", "konstant")),
        ("too few operands, in a region", lambda graph: setattr(graph.nodes[2].region.nodes[3], "operands", graph.nodes[2].region.nodes[:1])),
        ("what an op refuses, in a region", lambda graph: graph.nodes[2].region.nodes[4].attributes.update(dims=(5,))),
        ("a node twice", lambda graph: graph.nodes.append(graph.nodes[1])),
        ("no output", lambda graph: graph.outputs.clear()),
        ("an output of another graph", lambda graph: graph.outputs.append(stranger)),
        ("two inputs of one name", lambda graph: graph.input("x", (2, 3))),
        ("a region that does not fit its operands", lambda graph: setattr(graph.nodes[2], "operands", graph.nodes[:1])),
        ("a region with two outputs", lambda graph: graph.nodes[2].region.outputs.append(graph.nodes[2].region.nodes[3])),
        ("a region that breaks a rule", lambda graph: setattr(graph.nodes[2].region.nodes[3], "shape", (9, 9))),
    )
    for what, change in cases:
        graph = broken(change)
        try:
            m.verify(graph)
        except m.GraphError:
            continue
        raise Wrong(f"not found: {what}", "the rules of a graph hold in regions too" if "region" in what else "")


@check("6.3", "a long chain")
def _(m: Any) -> None:
    graph = of_ember("graph").Graph()
    x = graph.input("x", ())
    for _ in range(3000):
        x = graph.append("neg", x)
    graph.outputs = [x]
    m.verify(graph)
    graph.nodes[1500].shape = (1,)
    refuses(m.verify, graph, error=m.GraphError)


@check("6.4", "names do not matter, nor the order, nor what nobody needs")
def _(m: Any) -> None:
    g = of_ember("graph")

    def program(swapped: bool, name: str, waste: bool) -> Any:
        graph = g.Graph(name)
        x, y = graph.input(name + "x", (2,)), graph.input(name + "y", (2,))
        if waste:
            graph.append("neg", graph.append("exp", x))
        first = graph.append("log" if swapped else "exp", y if swapped else x)
        second = graph.append("exp" if swapped else "log", x if swapped else y)
        a, b = (second, first) if swapped else (first, second)
        graph.outputs = [graph.append("sub", a, b)]
        return graph

    wanted = m.structural_hash(program(False, "a", False))
    for arguments in ((False, "b", False), (True, "a", False), (False, "a", True)):
        expect(f"equal hashes of programs that compute the same ({arguments})",
               m.structural_hash(program(*arguments)) == wanted, True,
               "let a node's key be made of its op, its attributes and its operands' keys, and the graph's of its outputs'")


@check("6.4", "what computes something else has another hash")
def _(m: Any) -> None:
    variants = (
        PLAIN, FUSED, PLAIN.replace("0.5", "0.25"), PLAIN.replace("mul(%0, %2)", "mul(%2, %0)"),
        PLAIN.replace("mul", "add"), PLAIN.replace("return %4, %3", "return %3, %4"), PLAIN.replace("return %4, %3", "return %4"),
        PLAIN.replace("2,3", "3,2").replace("2, 3", "3, 2"), PLAIN.replace("0.5", "-0.0"), PLAIN.replace("0.5", "0.0"),
        FUSED.replace("mul", "div"),
        PLAIN.replace('"x" : f64[2,3]\n', '"x" : f64[2,3]\n  %9 = input arg "y" : f64[2,3]\n').replace("mul(%0", "mul(%9"),
        PLAIN.replace('"x" : f64[2,3]\n', '"x" : f64[2,3]\n  %9 = input arg "y" : f64[2,3]\n'),
    )
    seen: dict[str, str] = {}
    for text in variants:
        key = m.structural_hash(of_ember("parser").parse(text))
        if key in seen:
            raise Wrong(f"one hash for\n{seen[key]}\nand\n{text}", "ops, attributes (0.0 and -0.0 are equal to ==), operands in "
                        "order, which input, outputs in order, regions")
        seen[key] = text


@check("6.4", "long chains and shared values")
def _(m: Any) -> None:
    graph = of_ember("graph").Graph()
    x = graph.input("x", ())
    for _ in range(3000):
        x = graph.append("neg", x)
    for _ in range(60):
        x = graph.append("add", x, x)
    graph.outputs = [x]
    expect("the hash, taken twice, is the same", m.structural_hash(graph) == m.structural_hash(graph), True)
