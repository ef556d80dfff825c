"""Text -> Graph: the inverse of `flambeau.ir.graph.text`, whose docstring shows the form.

    statement  ::= [values "="] (call | "input" kind string) [":" types] ["backward"] ["loc" "(" alias ")"] [regions]
    call       ::= op "(" values "," name "=" attribute "," ... ")"
    sizes      ::= "sizes" name "=" int "from" int ["to" int] "," ... ("given" dim ("==" | "!=" | ">=") 0 [string])...
    attribute  ::= none | true | false | number | string | dtype | type | dim | type array | "(" attributes ")"

Aliases of locations and long constants stand at the end of the text. `//` starts a comment.
"""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, get_args

from flambeau.errors import FlambeauError, meant
from flambeau.ir import ops  # noqa: F401  fills the registry
from flambeau.ir.answers import assuming
from flambeau.ir.attributes import attribute_names, has_type, required_attributes, type_of_attribute
from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import f32
from flambeau.ir.facts import LARGEST, Condition, Facts
from flambeau.ir.graph import Graph, Input, Location, Value
from flambeau.ir.graph.attribute_parser import AttributeReader, GraphCursor
from flambeau.ir.graph.verifier import verify as verify_graph
from flambeau.ir.op import OPS, Op
from flambeau.ir.tokens import Token
from flambeau.ir.types import TensorType

__all__ = ["parse"]

_KINDS: Final = ("arg", "state", "scalar")
_PHASES: Final = ("forward", "backward")


def parse(text: str, *, verify: bool = True) -> Graph:
    """The graph that `text` says. Raises ParseError, with line and column, where it is no such text, and (unless
    `verify` is False) GraphError where it says a graph that breaks a rule of the IR."""
    with assuming(None):                    # sizes as they are spelt
        graph = _Parser(text).parse()
    if verify:
        verify_graph(graph)
    return graph


class _Parser(AttributeReader):
    def __init__(self, text: str) -> None:
        super().__init__(GraphCursor(text))
        self.location_of: dict[str, Location] = {}

    def parse(self) -> Graph:
        c = self.cursor
        end = self._tables()
        graph = self._graph(is_whole=True)
        if c.at != end:
            c.fail("the end of the graph" if end == len(c.tokens) - 1 else "the tables of locations and constants")
        return graph

    # -- tables -----------------------------------------------------------------------------------------------------

    def _tables(self) -> int:
        """Read the aliases, which nodes refer to, before the nodes; the place where they start."""
        c = self.cursor
        starts = [at for at, token in enumerate(c.tokens) if token.kind == "alias" and c.tokens[at + 1].text == "="]
        for at in starts:
            if starts[0] != at != c.at:
                c.fail("an alias")
            c.at = at
            self._alias()
        if starts and c.token.kind != "end":
            c.fail("an alias, or the end of the text")
        c.at = 0
        return starts[0] if starts else len(c.tokens) - 1

    def _alias(self) -> None:
        c, token = self.cursor, self.cursor.token
        alias = c.expect("alias", "an alias")
        if alias in self.location_of or alias in self.constant_of:
            c.error(f"{alias} is defined twice", token)
        c.require("=")
        if alias.startswith("#c"):
            self.constant_of[alias] = self.stored(self.type("the type of a constant"))
            return
        c.require("loc")
        file = c.string("a file name")
        c.require(":")
        line = c.integer()
        function = c.string("the name of a function") if c.token.kind == "string" else ""
        module = c.string("the name of a module") if c.accept("in") else ""
        called = c.string("what the line calls") if c.accept("calls") else ""
        self.location_of[alias] = Location(file, line, function, module, called)

    # -- graphs -----------------------------------------------------------------------------------------------------

    def _graph(self, is_whole: bool = False) -> Graph:
        c = self.cursor
        c.require("graph", "@")
        graph = Graph(name=c.name("the name of the graph"))
        order = self._header() if c.accept("(") else None
        c.require("{")
        if is_whole and c.accept("sizes"):
            graph.facts = self._facts()
        value_of: dict[str, Value] = {}
        while c.token.text not in ("return", "write", "}"):
            self._statement(graph, value_of)
        while c.accept("write"):
            value = self._value(value_of)
            c.require("to")
            self._write(graph, self._value(value_of), value)
        c.require("return")
        graph.outputs = self._values(value_of)
        graph.inputs = [value for value in value_of.values() if isinstance(value.node.op, Input)]
        if order is not None:
            graph.inputs = [self._known(value_of, token) for token in order]
        c.require("}")
        return graph

    def _facts(self) -> Facts:
        """What is known of the names of sizes."""
        c, sizes, ranges = self.cursor, dict[str, int](), dict[str, tuple[int, int]]()
        while not sizes or c.accept(","):
            token = c.token
            name = c.expect("word", "the name of a size")
            if not name.isidentifier() or name in sizes:
                c.error(f"{name} is no name of another size", token)
            c.require("=")
            sizes[name] = c.integer()
            c.require("from")
            ranges[name] = c.integer(), c.integer() if c.accept("to") else LARGEST
            if not 0 <= ranges[name][0] <= sizes[name] <= ranges[name][1] <= LARGEST:
                c.error(f"{name} does not lie in its range", token)
        facts = Facts(sizes, ranges)
        while c.accept("given"):
            token, size = c.token, self.attribute()
            relation = c.expect("relation", "==, != or >=")
            if c.integer() != 0:
                c.error("a condition compares with 0", c.tokens[c.at - 1])
            where = c.string("the line that asks") if c.token.kind == "string" else None
            if not isinstance(size, Dim):
                c.error(f"{size!r} is no size with a name", token)
            try:
                facts.require(Condition(size, relation, where))         # type: ignore[arg-type]
            except ValueError as error:
                c.error(str(error), token)
        return facts

    def _header(self) -> list[Token]:
        """The tokens of the inputs, where their order is given."""
        c = self.cursor
        tokens: list[Token] = []
        while not c.accept(")"):
            if tokens:
                c.require(",")
            tokens.append(c.token)
            c.expect("value", "an input such as %0")
        return tokens

    def _write(self, graph: Graph, state: Value, value: Value) -> None:
        if state in graph.writes:
            self.cursor.error("this state is written twice", self.cursor.tokens[self.cursor.at - 1])
        graph.writes[state] = value

    def _statement(self, graph: Graph, value_of: dict[str, Value]) -> None:
        c, start = self.cursor, self.cursor.token
        results = self._results(value_of)
        op, operands = self._input() if c.accept("input") else self._call(value_of)
        types = self._types() if results else []
        if len(types) != len(results):
            c.error(f"{len(results)} results, {len(types)} types", c.tokens[c.at - 1])
        if isinstance(op, Input):
            if len(types) != 1:
                c.error(f"an input has one result, not {len(types)}", start)
            op = Input(op.label, op.kind, types[0])
        phase = c.expect("word", "a phase") if c.token.text in _PHASES else "forward"
        loc = self._location() if c.accept("loc") else None
        regions = self._regions() if c.accept("{") else ()
        node = graph.append(op, operands, loc=loc, phase=phase, regions=regions, types=types)
        value_of.update(zip([token.text for token in results], node.results, strict=True))

    def _results(self, value_of: dict[str, Value]) -> list[Token]:
        c = self.cursor
        tokens: list[Token] = []
        while c.token.kind == "value":
            token = c.token
            if token.text in value_of or token.text in [t.text for t in tokens]:
                c.error(f"{token.text} is defined twice", token)
            tokens.append(token)
            c.at += 1
            if not c.accept(","):
                c.require("=")
                break
        return tokens

    def _location(self) -> Location:
        c = self.cursor
        c.require("(")
        token = c.token
        alias = c.expect("alias", "an alias such as #0")
        if alias not in self.location_of:
            c.error(f"the location {alias} is not defined", token)
        c.require(")")
        return self.location_of[alias]

    def _regions(self) -> tuple[Graph, ...]:
        found: list[Graph] = []
        with self.cursor.nested():
            while not self.cursor.accept("}"):
                found.append(self._graph())
        return tuple(found)

    # -- values and types -------------------------------------------------------------------------------------------

    def _value(self, value_of: dict[str, Value]) -> Value:
        token = self.cursor.token
        self.cursor.expect("value", "a value such as %0")
        return self._known(value_of, token)

    def _known(self, value_of: dict[str, Value], token: Token) -> Value:
        value = value_of.get(token.text)
        if value is None:
            self.cursor.error(f"{token.text} is not defined above this line", token)
        return value

    def _values(self, value_of: dict[str, Value]) -> list[Value]:
        """Any number of values, commas between."""
        found: list[Value] = []
        while self.cursor.token.kind == "value":
            found.append(self._value(value_of))
            if not self.cursor.accept(","):
                break
        return found

    def _types(self) -> list[TensorType]:
        c = self.cursor
        c.require(":")
        return list(c.listed(lambda: self.type("a type such as f32[8,4]")))

    # -- ops --------------------------------------------------------------------------------------------------------

    def _input(self) -> tuple[Op, list[Value]]:
        c = self.cursor
        kind = c.choice("arg, state or scalar", _KINDS)
        label = c.string("the label of an input")
        return Input(label, kind, TensorType((), f32)), []  # type: ignore[arg-type]

    def _call(self, value_of: dict[str, Value]) -> tuple[Op, list[Value]]:
        c, token = self.cursor, self.cursor.token
        name = c.expect("word", "an op")
        found = OPS.get(name)
        if found is None:
            c.error(f"there is no op {name!r}{_meant(name, OPS)}", token)
        c.require("(")
        operands = self._values(value_of)
        given: dict[str, Any] = {}
        while not c.accept(")"):
            self._attribute_of(found, given)
            if not c.is_next(")"):
                c.require(",")
        return self._made(found, given, token), operands

    def _attribute_of(self, op: Op | type[Op], given: dict[str, Any]) -> None:
        c, token = self.cursor, self.cursor.token
        name = c.expect("word", "an operand such as %0 or an attribute such as dims=(0,)")
        names = attribute_names(op) if isinstance(op, type) else ()
        if name not in names:
            c.error(f"{op.name} has no attribute {name!r}{_meant(name, names)}", token)
        if name in given:
            c.error(f"the attribute {name!r} is given twice", token)
        c.require("=")
        value = c.token
        given[name] = self.attribute()
        wanted = type_of_attribute(op, name)                # type: ignore[arg-type]
        if not has_type(given[name], wanted):
            c.error(f"{op.name}: {name} is {_shown(given[name])}, which is no {_type_name(wanted)}", value)

    def _made(self, op: Op | type[Op], given: dict[str, Any], token: Token) -> Op:
        if not isinstance(op, type):
            return op
        missing = required_attributes(op) - given.keys()
        if missing:
            self.cursor.error(f"{op.name} lacks {', '.join(sorted(missing))}", token)
        try:
            return op(**given)
        except FlambeauError as error:
            self.cursor.error(str(error), token)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _type_name(wanted: Any) -> str:
    return wanted.__name__ if isinstance(wanted, type) and not get_args(wanted) else str(wanted).replace("typing.", "")


def _meant(name: str, known: Iterable[str]) -> str:
    like = meant(name, known)
    return "" if like is None else f"; did you mean {like!r}?"
