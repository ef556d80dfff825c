"""Text that is nearly right: mutations of valid IR, and what may come of reading it."""
from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

from flambeau.errors import GraphError, ParseError
from flambeau.ir.graph import Graph
from flambeau.ir.graph.parser import parse
from flambeau.ir.graph.text import print_graph
from flambeau.ir.graph.verifier import verify
from flambeau.ir.kernel.text import parse_kernel, parse_kernels, print_kernel
from flambeau.ir.kernel.verifier import verify_kernel

LONGEST_READ_S = 60.0           # beyond it, it hangs
_TOKEN = re.compile(r"\s+|[%#]?[A-Za-z_0-9.]+|.", re.DOTALL)
_JUNK = ["", "(", ")", "[", "]", "{", "}", ",", "=", ":", "%0", "%1", "%99", "%i0", "%i7", "#0", "#c0", "#", "@", "-",
         "*", "+",
         "nan", "inf", "none", "true", "return", "write", "to", "graph", "loop", "stage", "input", "arg", "f32", "f32[]",
         "f32[2]", "f32[-1]", "f32[99999999999999999999]", "f32[0,4611686018427387904]", "i64[B*B*2]", "bool[1] [true]",
         "f32[1] [1e999]", "0", "1", "-1", "65536", str(2**62), str(2**63), str(2**64), str(2**128), "1e308", "0x7ff8",
         "nan(0x1)", '"x"', '"\\ud800"', '"\\u0000"', "foo", "dims=(0,)", "dims=(1, 1)", "size=9223372036854775807",
         "if", "reduce", "load", "store", "store %0 to y[0]", "((((", "[[[[", "9" * 5000, "\u00b2", "\ufeff", "\0"]


def mutated(text: str, rng: random.Random, others: list[str]) -> str:
    """`text` with one to four places changed: tokens replaced, dropped, doubled, swapped, moved in from another text."""
    tokens = _TOKEN.findall(text)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        at = rng.randrange(len(tokens))
        match rng.randrange(8):
            case 0:
                tokens[at] = rng.choice(_JUNK)
            case 1:
                tokens.insert(at, rng.choice(_JUNK))
            case 2:
                del tokens[at:at + rng.randint(1, 6)]
            case 3:
                tokens[at:at] = tokens[at:at + rng.randint(1, 12)]
            case 4:
                other = rng.randrange(len(tokens))
                tokens[at], tokens[other] = tokens[other], tokens[at]
            case 5:
                piece = _TOKEN.findall(rng.choice(others))
                start = rng.randrange(len(piece))
                tokens[at:at] = piece[start:start + rng.randint(1, 20)]
            case 6:
                numbers = [n for n, token in enumerate(tokens) if token.strip("%").isdigit()]
                if numbers:
                    place = rng.choice(numbers)
                    tokens[place] = "%" * tokens[place].startswith("%") + str(rng.choice([0, 1, 2, 3, 7, 2**31, 2**63]))
            case _:
                letter = rng.randrange(len(tokens[at])) if tokens[at] else 0
                tokens[at] = tokens[at][:letter] + chr(rng.choice([0, 9, 34, 37, 92, 200, 0x1F600])) + tokens[at][letter:]
        if not tokens:
            return ""
    return "".join(tokens)


def read_graph(text: str) -> str:
    """What became of it: "refused", "invalid", or "read" (then it prints, and reads back). Anything else raises."""
    try:
        graph = parse(text, verify=False)
    except ParseError as error:
        assert re.match(r"line \d+, column \d+: .", str(error)), error
        return "refused"
    try:
        verify(graph)
    except GraphError:
        return "invalid"
    assert isinstance(parse(print_graph(graph)), Graph)
    return "read"


def read_kernel(text: str) -> str:
    try:
        kernel = parse_kernel(text)
    except ParseError as error:
        assert re.match(r"line \d+, column \d+: .", str(error)), error
        return "refused"
    try:
        verify_kernel(kernel)
    except GraphError:
        return "invalid"
    assert parse_kernel(print_kernel(kernel)) == kernel or "nan" in text
    return "read"


def truncations(text: str) -> Iterator[str]:
    """At every character."""
    for end in range(len(text)):
        yield text[:end]


NESTED: list[tuple[Callable[[str], object], str]] = [
    (parse, "graph @g {\n  %0 = broadcast(shape=" + "(" * 100_000),
    (parse, "graph @g {\n  %0 = constant(value=f32[] " + "[" * 100_000),
    (parse, "graph @g {\n  %0 = custom(label=\"x\") : f32[] {" + "graph @r { %0 = custom(label=\"x\") : f32[] {" * 5000),
    (parse, "graph @g {\n  %0 = iota(size=" + "B*" * 100_000 + "B"),
    (parse, "graph @g {\n  %0 = iota(size=" + "99999999999*" * 10_000 + "9"),
    (parse, 'graph @g {\n  %0 = input arg "x" : f32[' + "B*" * 100_000 + "B]\n  return %0\n}"),
    (parse, 'graph @g {\n  %0 = input arg "x" : f32[' + "9" * 100_000 + "]\n  return %0\n}"),
    (parse, "graph @g {\n  %0 = iota(size=" + "9" * 100_000 + ") : f32[]\n  return\n}"),
    (parse, "graph @g {\n  return\n}\n#0 = loc \"f\":" + "9" * 10_000),
    (parse, "graph @g {\n  return %" + "9" * 10_000),
    (parse_kernel, "loop @k { out y: f32[" + "9" * 10_000 + "]"),
    (parse_kernel, "loop @k { out y: f32[4] parallel %i" + "9" * 10_000),
    (parse_kernel, "loop @k { schedule vector_dim=" + "(" * 100_000),
    (parse_kernel, "loop @k { stage () { %0 = const " + "9" * 10_000 + " : i64"),
    (parse_kernel, "loop @k { stage () { %0 = const nan(0x" + "f" * 10_000 + ") : f32"),
    (parse_kernel, "loop @k { stage () { %" + "9" * 10_000 + " = const 1 : i64"),
    (parse_kernels, "loop @k { } " * 10 + "loop"),
]
