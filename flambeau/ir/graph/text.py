"""Graph -> text, and through `flambeau.ir.graph.parser` back: `parse(print_graph(g))` is g, by text and by hash.

    graph @main {
      %0 = input arg "x" : f32[B,4]
      %1 = input state "fc.weight" : f32[4,10]
      %2 = matmul(%0, %1) : f32[B,10]  loc(#0)
      %3 = constant(value=f32[] 2.0) : f32[]  loc(#1)
      %4 = mul(%2, %3) : f32[B,10]  loc(#1)
      %5 = sum(%4, dims=(0,)) : f32[10]  backward loc(#1)
      %6 = fusion(%5, kind="loop") : f32[10]  loc(#1) {
        graph @region {
          %0 = input arg "in0" : f32[10]
          %1 = exp(%0) : f32[10]
          return %1
        }
      }
      write %6 to %1
      return %4
    }
    #0 = loc "train.py":12 "forward" in "net.fc" calls "Linear"
    #1 = loc "train.py":13 "forward" in "net" calls "sum"

A graph that knows something of the names of its sizes says so at its head: what each is in the traced call and may be at
all, then the conditions, each with the user's line that asked.

    graph @main {
      sizes B = 32 from 1 to 512, T = 10 from 1
      given B+-17 >= 0 "train.py:14"
      %0 = input arg "x" : f32[B,T]
      ...

Values are numbered in the order of the nodes, anew in each region. An array of more than 16 elements, or whose bits
no number shows, stands at the end as `#c0 = f32[100] "base64 of its bytes"`. Inputs are those of the graph in the
order of their lines; where the graph has another order it follows the name: `graph @main(%3, %0) {`.
"""
from __future__ import annotations

import base64
import json
import math
import os
import re
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flambeau.ir.attributes import spelt_attributes
from flambeau.ir.dims import Dim
from flambeau.ir.dtypes import DTYPES, DType, to_compute
from flambeau.ir.facts import LARGEST
from flambeau.ir.literal import Literal, literal
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.facts import Facts
    from flambeau.ir.graph import Graph, Location, Node, Value

__all__ = ["RESERVED", "format_attribute", "print_graph", "print_node", "sizes_lines"]

RESERVED: Final = frozenset({"true", "false", "none", "nan", "inf", *DTYPES})
"""Words that are no Dim where an attribute starts; after a `*` or a `+` they are."""

_INLINE_ELEMENTS: Final = 16
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_USUAL_NAN: Final = struct.pack("<d", math.nan)


def print_graph(graph: Graph) -> str:
    """The text of `graph`, ending in a newline. An invalid graph prints too, as long as it has no cycle."""
    tables = _Tables()
    body = list(_graph_lines(graph, "", tables))
    return "\n".join([*body, *tables.lines()]) + "\n"


def print_node(node: Node, number_of: dict[Value, int] | None = None) -> str:
    """One line, `%5 = add(%3, %4) : f32[8]`, without its regions and location."""
    return _head(node, number_of if number_of is not None else _numbers([node]), _Tables())


class _Tables:
    """Locations and long constants, each with the alias under which the text refers to it."""

    def __init__(self) -> None:
        self.locations: dict[Location, str] = {}
        self.constants: dict[Literal, str] = {}

    def location(self, loc: Location) -> str:
        alias = self.locations.get(loc)
        if alias is None:
            alias = self.locations[loc] = f"#{len(self.locations)}"
        return alias

    def constant(self, value: Literal) -> str:
        return self.constants.setdefault(value, f"#c{len(self.constants)}")

    def lines(self) -> Iterator[str]:
        for loc, alias in self.locations.items():
            function = f" {json.dumps(loc.function)}" if loc.function else ""
            module = f" in {json.dumps(loc.module)}" if loc.module else ""
            called = f" calls {json.dumps(loc.called)}" if loc.called else ""
            yield f"{alias} = loc {json.dumps(_relative(loc.file))}:{loc.line}{function}{module}{called}"
        for value, alias in self.constants.items():
            stored = value.array.astype(value.dtype.storage.newbyteorder("<"))
            yield f'{alias} = {value.type} "{base64.b64encode(stored.tobytes()).decode()}"'


@lru_cache(maxsize=1024)
def _relative(file: str) -> str:
    """A path below the working directory, else the file's name: text is the same on every machine."""
    if not os.path.isabs(file):
        return file
    relative = os.path.relpath(file)
    return os.path.basename(file) if relative.startswith(os.pardir) else relative


def _numbers(nodes: Sequence[Node]) -> dict[Value, int]:
    values = (value for node in nodes for value in node.results)
    return {value: number for number, value in enumerate(values)}


def _graph_lines(graph: Graph, indent: str, tables: _Tables) -> Iterator[str]:
    nodes = graph.toposort()
    number_of = _numbers(nodes)
    by_line = [node.results[0] for node in nodes if node.op.name == "input"]
    order = "" if by_line == graph.inputs else f"({_listed(graph.inputs, number_of)})"
    yield f"{indent}graph @{_name(graph.name)}{order} {{"
    if graph.facts is not None and not indent:
        yield from [f"  {line}" for line in sizes_lines(graph.facts)]
    for node in nodes:
        yield from _node_lines(node, number_of, indent + "  ", tables)
    for state, value in graph.writes.items():
        yield f"{indent}  write {_ref(value, number_of)} to {_ref(state, number_of)}"
    yield f"{indent}  return {_listed(graph.outputs, number_of)}".rstrip()
    yield indent + "}"


def sizes_lines(facts: Facts) -> Iterator[str]:
    """What is known of the names of sizes."""
    parts = [f"{name} = {size} from {low}" + ("" if high >= LARGEST else f" to {high}")
             for (name, size), (low, high) in zip(facts.sizes.items(), facts.given.values(), strict=True)]
    if parts:
        yield f"sizes {', '.join(parts)}"
    for condition in facts.conditions:
        where = "" if condition.where is None else f" {json.dumps(condition.where)}"
        yield f"given {format_attribute(condition.size)} {condition.relation} 0{where}"


def _node_lines(node: Node, number_of: dict[Value, int], indent: str, tables: _Tables) -> Iterator[str]:
    line = indent + _head(node, number_of, tables)
    if node.phase != "forward" or node.loc is not None:
        words = [] if node.phase == "forward" else [node.phase]
        if node.loc is not None:
            words.append(f"loc({tables.location(node.loc)})")
        line += "  " + " ".join(words)
    if not node.regions:
        yield line
        return
    yield line + " {"
    for region in node.regions:
        yield from _graph_lines(region, indent + "  ", tables)
    yield indent + "}"


def _head(node: Node, number_of: dict[Value, int], tables: _Tables) -> str:
    op = node.op
    if op.name == "input":
        call = f"input {op.kind} {json.dumps(op.label)}"  # type: ignore[attr-defined]
    else:
        parts = [_ref(value, number_of) for value in node.operands]
        parts += [f"{name}={_attribute(value, tables)}" for name, value in spelt_attributes(op)]
        call = f"{op.name}({', '.join(parts)})"
    if not node.results:
        return call
    types = ", ".join([str(value.type) for value in node.results])
    return f"{_listed(node.results, number_of)} = {call} : {types}"


def _ref(value: Value, number_of: dict[Value, int]) -> str:
    number = number_of.get(value)
    return f"%{number}" if number is not None else f"<{value.node.op.name} of another graph>"


def _listed(values: Sequence[Value], number_of: dict[Value, int]) -> str:
    return ", ".join([_ref(value, number_of) for value in values])


def _name(name: str) -> str:
    return name if _IDENTIFIER.match(name) else json.dumps(name)


# -- attributes -------------------------------------------------------------------------------------------------------


def format_attribute(value: Any) -> str:
    """The spelling of an attribute value; a long array shows as an alias only."""
    return _attribute(value, _Tables())


def _attribute(value: Any, tables: _Tables) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return json.dumps(value)
        case None:
            return "none"
        case tuple():
            parts = [_attribute(part, tables) for part in value]
            return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"
        case Dim():
            text = str(value)
            return f"1*{text}" if re.split(r"[*+]", text, maxsplit=1)[0] in RESERVED else text
        case DType() | TensorType():
            return str(value)
        case Literal():
            return _literal(value, tables)
        case np.generic():
            return _attribute(value.item(), tables)
    raise TypeError(f"{value!r} of type {type(value).__name__} can't be an attribute of an op")


def _float(value: float) -> str:
    """Python's shortest text that reads back the same; a NaN other than the usual one shows its bits."""
    if value == value:
        return repr(value)
    bits = struct.pack("<d", value)
    return "nan" if bits == _USUAL_NAN else f"nan(0x{int.from_bytes(bits, 'little'):016x})"


def _literal(value: Literal, tables: _Tables) -> str:
    if value.array.size <= _INLINE_ELEMENTS:
        numbers = to_compute(value.array, value.dtype)
        if _reads_back(numbers, value):
            return f"{value.type} {_nested(numbers)}"
    return f"{value.type} {tables.constant(value)}"


def _reads_back(numbers: np.ndarray, value: Literal) -> bool:
    """Whether decimal numbers give the bits back: not so for a NaN other than the usual one."""
    if value.dtype.kind != "float":
        return True
    decimals = np.array([float(_number(number)) for number in numbers.ravel()])
    return literal(decimals, value.dtype).array.tobytes() == value.array.tobytes()


def _nested(numbers: np.ndarray) -> str:
    if not numbers.size:
        return "[]"
    if not numbers.ndim:
        return _number(numbers[()])
    return f"[{', '.join([_nested(np.asarray(part)) for part in numbers])}]"


def _number(number: Any) -> str:
    return ("true" if number else "false") if number.dtype.kind == "b" else str(number)
