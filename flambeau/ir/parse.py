"""Text -> Graph: the inverse of `flambeau.ir.text`, whose docstring shows the form.

    statement  ::= [values "="] (call | "input" kind string) [":" types] ["backward"] ["loc" "(" alias ")"] [regions]
    call       ::= op "(" values "," name "=" attribute "," ... ")"
    attribute  ::= none | true | false | number | string | dtype | type | dim | type array | "(" attributes ")"

Aliases of locations and long constants stand at the end of the text. `//` starts a comment.
"""
from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

from flambeau.errors import FlambeauError
from flambeau.ir import ops  # noqa: F401  fills the registry
from flambeau.ir.attributes import attribute_names, required_attributes
from flambeau.ir.dims import Dim, Size
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.graph import Graph, Input, Location, Value
from flambeau.ir.kernel_tokens import Cursor, Token
from flambeau.ir.literal import Literal, literal
from flambeau.ir.op import OPS, Op
from flambeau.ir.text import RESERVED
from flambeau.ir.types import TensorType, parse_type
from flambeau.ir.verify import verify as verify_graph

__all__ = ["parse"]

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<value>%\d+)
      | (?P<type>[a-z]+\d*\[[^][\n]*\](?:@[\w:.]+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<number>0x[0-9a-fA-F]+ | \d+(?:\.\d*)?(?:e[+-]?\d+)?)
      | (?P<alias>\#c?\d+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<punctuation>[][{}()=,:*+\-@])
      | (?P<unknown>.)""",
    re.VERBOSE,
)
_KINDS: Final = ("arg", "state", "scalar")
_PHASES: Final = ("forward", "backward")
_ATOMS: Final[dict[str, Any]] = {"none": None, "true": True, "false": False, **DTYPES}


def parse(text: str, *, verify: bool = True) -> Graph:
    """The graph that `text` says. Raises ParseError, with line and column, where it is no such text, and (unless
    `verify` is False) GraphError where it says a graph that breaks a rule of the IR."""
    graph = _Parser(text).parse()
    if verify:
        verify_graph(graph)
    return graph


class _Cursor(Cursor):
    pattern = _TOKEN


class _Parser:
    def __init__(self, text: str) -> None:
        self.cursor = _Cursor(text)
        self.location_of: dict[str, Location] = {}
        self.constant_of: dict[str, Literal] = {}
        self.type_of: dict[str, TensorType] = {}

    def parse(self) -> Graph:
        c = self.cursor
        end = self._tables()
        graph = self._graph()
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
            self.constant_of[alias] = self._stored(self._type("the type of a constant"))
            return
        c.require("loc")
        file = c.string("a file name")
        c.require(":")
        line = c.integer()
        function = c.string("the name of a function") if c.token.kind == "string" else ""
        self.location_of[alias] = Location(file, line, function)

    def _stored(self, type: TensorType) -> Literal:
        c, token = self.cursor, self.cursor.token
        try:
            data = base64.b64decode(c.string("base64 data"), validate=True)
        except binascii.Error:
            c.error("the data of a constant is not base64", token)
        if not type.is_static or len(data) != type.nbytes:
            c.error(f"{len(data)} bytes are not the elements of {type}", token)
        stored = np.frombuffer(data, type.dtype.storage.newbyteorder("<"))
        return Literal(stored.astype(type.dtype.storage).reshape(type.static_shape), type.dtype)

    # -- graphs -----------------------------------------------------------------------------------------------------

    def _graph(self) -> Graph:
        c = self.cursor
        c.require("graph", "@")
        graph = Graph(name=c.name("the name of the graph"))
        order = self._header() if c.accept("(") else None
        c.require("{")
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
        c = self.cursor
        results = self._results(value_of)
        op, operands = self._input() if c.accept("input") else self._call(value_of)
        types = self._types() if results else []
        if len(types) != len(results):
            c.error(f"{len(results)} results, {len(types)} types", c.tokens[c.at - 1])
        if isinstance(op, Input):
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
        return list(c.listed(lambda: self._type("a type such as f32[8,4]")))

    def _type(self, wanted: str) -> TensorType:
        c, token = self.cursor, self.cursor.token
        text = c.expect("type", wanted)
        found = self.type_of.get(text)
        if found is None:
            try:
                found = self.type_of[text] = parse_type(text)
            except ValueError as error:
                c.error(str(error), token)
        return found

    # -- ops --------------------------------------------------------------------------------------------------------

    def _input(self) -> tuple[Op, list[Value]]:
        c = self.cursor
        kind = c.choice("arg, state or scalar", _KINDS)
        label = c.string("the label of an input")
        return Input(label, kind, TensorType((), DTYPES["f32"])), []  # type: ignore[arg-type]

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
        given[name] = self._attribute()

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

    # -- attributes -------------------------------------------------------------------------------------------------

    def _attribute(self) -> Any:
        c, token = self.cursor, self.cursor.token
        if token.kind == "string":
            return c.string("a string")
        if token.kind == "type":
            return self._typed()
        if token.kind == "word" and token.text in _ATOMS:
            c.at += 1
            return _ATOMS[token.text]
        return self._tuple() if c.accept("(") else self._number_or_dim()

    def _tuple(self) -> tuple[Any, ...]:
        c = self.cursor
        parts: list[Any] = []
        while not c.accept(")"):
            parts.append(self._attribute())
            if not c.is_next(")"):
                c.require(",")
        return tuple(parts)

    def _number_or_dim(self) -> Any:
        """A number, or a sum of products of ints and names: `2*B*T + 1`."""
        total = self._product()
        while self.cursor.accept("+"):
            total = self._size(total) + self._size(self._product())
        return total

    def _product(self) -> Any:
        product = self._factor()
        while self.cursor.accept("*"):
            product = self._size(product) * self._size(self._factor())
        return product

    def _factor(self) -> Any:
        c = self.cursor
        if c.token.kind != "word":
            return c.number()
        if c.tokens[c.at - 1].text not in ("*", "+") and c.token.text in RESERVED:
            return c.number()               # nan or inf; the others are atoms
        if not c.token.text.isidentifier():
            c.fail("a value of an attribute")
        return Dim(c.expect("word", "a dim"))

    def _size(self, size: Any) -> Size:
        if not isinstance(size, Dim) and type(size) is not int:
            self.cursor.error(f"{size!r} is no part of a size", self.cursor.tokens[self.cursor.at - 1])
        return size

    def _typed(self) -> TensorType | Literal:
        """A type, or an array: its type, then its elements or the alias of a long one."""
        c = self.cursor
        type = self._type("a type")
        if c.token.kind == "alias":
            return self._constant(type)
        if c.is_next("[") or c.token.kind == "number" or c.token.text in ("-", "nan", "inf", "true", "false"):
            return self._array(type)
        return type

    def _constant(self, type: TensorType) -> Literal:
        c, token = self.cursor, self.cursor.token
        alias = c.expect("alias", "an alias such as #c0")
        found = self.constant_of.get(alias)
        if found is None:
            c.error(f"the constant {alias} is not defined", token)
        if found.type != type:
            c.error(f"the constant {alias} is {found.type}, here it should be {type}", token)
        return found

    def _array(self, type: TensorType) -> Literal:
        c, token = self.cursor, self.cursor.token
        numbers, shape = self._elements()
        if shape != type.shape and not (type.is_static and type.numel == 0 and not numbers):
            c.error(f"elements of shape {list(shape)} for {type}", token)
        try:
            return literal(_numeric(numbers, type.dtype).reshape(type.static_shape), type.dtype)
        except TypeError as error:
            c.error(f"not elements of {type}: {error}", token)

    def _elements(self) -> tuple[list[Any], tuple[int, ...]]:
        """Numbers in nested brackets, flat, and the shape that the brackets say."""
        c = self.cursor
        if not c.accept("["):
            return [c.literal()], ()
        parts: list[tuple[list[Any], tuple[int, ...]]] = []
        while not c.accept("]"):
            token = c.token
            parts.append(self._elements())
            if parts[0][1] != parts[-1][1]:
                c.error("rows of an array differ in length", token)
            if not c.is_next("]"):
                c.require(",")
        inner = parts[0][1] if parts else ()
        return [number for numbers, _ in parts for number in numbers], (len(parts), *inner)


def _numeric(numbers: list[Any], dtype: DType) -> np.ndarray:
    """The numbers, none of which lies outside what `dtype` writes."""
    wanted = {"float": (float, int), "bool": (bool,)}.get(dtype.kind, (int,))
    for number in numbers:
        if type(number) not in wanted:
            raise TypeError(f"{number!r} is no {dtype}")
        if dtype.is_integer and not np.iinfo(dtype.storage).min <= number <= np.iinfo(dtype.storage).max:
            raise TypeError(f"{number} is outside the range of {dtype}")
    return np.array(numbers, np.float64 if dtype.is_floating_point else object)


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]!r}?" if close else ""
