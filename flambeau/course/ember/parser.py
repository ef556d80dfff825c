"""Text -> graph. Errors name the line."""
import ast
import re

from ember.graph import Graph

HEAD = re.compile(r"graph @(\w+) \{")
INPUT = re.compile(r'%(\d+) = input arg "([^"]*)" : f64\[([\d,]*)\]')
NODE = re.compile(r"%(\d+) = (\w+)\((.*)\) : f64\[([\d,]*)\]( \{)?")
RETURN = re.compile(r"return (.*)")


class ParseError(Exception):
    """The message begins with "line N: "."""


def parse_shape(text):
    """"2,3" becomes (2, 3)."""
    return tuple(int(n) for n in text.split(",") if n)


def split_arguments(text):
    """"%0, %1, shape=(2, 3)" becomes (["0", "1"], {"shape": (2, 3)}): numbers of operands, and attributes."""
    operands = re.findall(r"%(\d+)", text)
    attributes = {name: ast.literal_eval(value) for name, value in
                  re.findall(r"(\w+)=(?:f64\[\] )?(\([^)]*\)|[^,]+)", text)}
    return operands, attributes


def parse(text):
    """The graph that print_graph wrote. Blank lines and spaces around lines do not matter. Raises ParseError, with the number of
    the line, counted from 1, for: a line that is none of the above; a number that is not defined above it, or is defined twice;
    what an op refuses; a type that is not the one inferred; a graph without return, or lines after its end."""
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    graph, rest = parse_lines(lines)
    if rest:
        raise ParseError(f"line {rest[0][0]}: the graph has ended, and here is {rest[0][1]!r}")
    return graph


def parse_lines(lines):
    """lines: [(number, stripped line), ...], the first of them a HEAD. Gives the graph and the lines after its "}". Where a NODE
    line ends in "{", a region follows, for which this function is called again, and a line "}"."""
    # <solution>
    if not lines:
        raise ParseError("line 1: there is no graph")
    head = HEAD.fullmatch(lines[0][1])
    if not head:
        raise ParseError(f"line {lines[0][0]}: not the head of a graph: {lines[0][1]!r}")
    graph, defined, at = Graph(head[1]), {}, 1

    def value(number, line_number):
        if number not in defined:
            raise ParseError(f"line {line_number}: %{number} is not defined")
        return defined[number]

    while at < len(lines):
        line_number, line = lines[at]
        at += 1
        if found := RETURN.fullmatch(line):
            graph.outputs = [value(number, line_number) for number in re.findall(r"%(\d+)", found[1])]
            if at == len(lines) or lines[at][1] != "}":
                raise ParseError(f"line {line_number}: after return the graph must end")
            return graph, lines[at + 1:]
        found = INPUT.fullmatch(line) or NODE.fullmatch(line)
        if not found:
            raise ParseError(f"line {line_number}: not a node: {line!r}")
        if found[1] in defined:
            raise ParseError(f"line {line_number}: %{found[1]} is defined twice")
        if found.re is INPUT:
            defined[found[1]] = graph.input(found[2], parse_shape(found[3]))
            continue
        numbers, attributes = split_arguments(found[3])
        operands, region = [value(number, line_number) for number in numbers], None
        if found[5]:
            region, rest = parse_lines(lines[at:])
            if not rest or rest[0][1] != "}":
                raise ParseError(f"line {line_number}: the fusion does not end")
            at = len(lines) - len(rest) + 1
        try:
            node = graph.append(found[2], *operands, region=region, **attributes)
        except TypeError as error:      # InferenceError is one, and so are attributes that an op does not have
            raise ParseError(f"line {line_number}: {error}") from None
        if node.shape != parse_shape(found[4]):
            raise ParseError(f"line {line_number}: the type is f64{list(node.shape)}, not f64[{found[4]}]")
        defined[found[1]] = node
    raise ParseError(f"line {lines[-1][0]}: the graph does not end")
    # </solution>
