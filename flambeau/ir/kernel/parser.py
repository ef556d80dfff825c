"""Text -> Kernel, the inverse of `print_kernel`; the grammar is shown in `text`.

Recursive descent, one method per rule. It checks the grammar and that names are known, not the meaning: a value
used before its definition is for `verify_kernel`.
"""
from __future__ import annotations

from dataclasses import MISSING, fields, replace
from typing import Any, Final, get_args

from flambeau.ir.attributes import has_type, type_of_attribute
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import (
    Address,
    Attr,
    Combiner,
    Extent,
    Instr,
    Param,
    Reduction,
    Role,
    Stage,
    Store,
)
from flambeau.ir.kernel.scalar import SCALAR_OPS
from flambeau.ir.kinds import kernel_classes, kernel_named
from flambeau.ir.tokens import Cursor

__all__ = ["Parser", "parse_kernel", "parse_kernels"]

_ROLES: Final = get_args(Role)
_COMBINERS: Final = get_args(Combiner)


def parse_kernel(text: str) -> Kernel:
    """The one kernel in `text`. Raises ParseError, with line and column, if there is not exactly one."""
    cursor = Cursor(text)
    kernel = Parser(cursor).kernel()
    cursor.expect("end", "the end of the text")
    return kernel


def parse_kernels(text: str) -> tuple[Kernel, ...]:
    """All kernels in `text`. Raises ParseError, with line and column."""
    cursor, kernels = Cursor(text), []
    while cursor.token.kind != "end":
        kernels.append(Parser(cursor).kernel())
    return tuple(kernels)


class Parser:
    """Reads one kernel from `cursor`; knows the params read so far."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.params: list[Param] = []

    def kernel(self) -> Kernel:
        cursor = self.cursor
        kind = kernel_named(cursor.token.text) if cursor.token.kind == "word" else None
        if kind is None:
            *others, last = [f"'{keyword}'" for keyword in kernel_classes()]
            cursor.fail(" or ".join(filter(None, [", ".join(others), last])))
        cursor.require(kind.keyword, "@")
        name = cursor.name("the kernel's name")
        cursor.require("{")
        while cursor.token.text in _ROLES:
            self.params.append(self.param())
        kernel = kind.read(self, name)
        residues = self.cursor.optional("residues", lambda: self.cursor.listed(self.residue))
        found = kind.schedules.get(self.cursor.token.text)
        schedule = None if found is None else self.schedule(found)
        return replace(kernel, residues=residues, schedule=schedule, locations=self.end())

    def residue(self) -> tuple[str, int, int]:
        name = self.cursor.name("a runtime number")
        self.cursor.require("=")
        residue = self.cursor.integer()
        self.cursor.require("mod")
        return name, self.cursor.integer(), residue

    def param(self) -> Param:
        role: Any = self.cursor.expect("word", "a role")
        name = self.cursor.name("the param's name")
        self.cursor.require(":")
        dtype = self.dtype()
        self.cursor.require("[")
        elements = self.extent()
        self.cursor.require("]")
        first = self.extent() if self.cursor.accept("from") else 0
        return Param(name, dtype, elements, role, first)

    def extents(self, first: int, static: bool = False) -> tuple[Extent, ...]:
        """`%i0 = 4, %i1 = n`, the dims counted from `first`."""
        expected = iter(range(first, 1 << 30))

        def extent() -> Extent:
            token, wanted = self.cursor.token, next(expected)
            if self.cursor.dim() != wanted:
                self.cursor.fail(f"%i{wanted}", token)
            self.cursor.require("=")
            return self.cursor.integer() if static else self.extent()

        return self.cursor.listed(extent)

    def extent(self) -> Extent:
        return self.cursor.integer() if self.cursor.token.kind == "number" else self.cursor.name("an extent")

    def dtype(self) -> DType:
        return DTYPES[self.cursor.choice(f"a dtype ({', '.join(DTYPES)})", DTYPES)]

    def result_dtype(self) -> DType:
        self.cursor.require(":")
        return self.dtype()

    # Stages

    def stage(self, keyword: str) -> Stage:
        cursor = self.cursor
        cursor.require(keyword, "(")
        dims = () if cursor.is_next(")") else cursor.listed(cursor.dim)
        cursor.require(")", "{")
        body: list[Instr] = []
        reductions: list[Reduction] = []
        stores: list[Store] = []
        while cursor.token.kind == "value":
            start, defined = cursor.token, self.definition()
            if isinstance(defined, Reduction):
                reductions.append(defined)
            elif reductions:
                cursor.fail("another reduction, a store or '}'", start)
            else:
                body.append(defined)
        while not cursor.accept("}"):
            stores.append(self.store())
        return Stage(dims, tuple(body), tuple(reductions), tuple(stores))

    def definition(self) -> Instr | Reduction:
        cursor = self.cursor
        id = cursor.value()
        cursor.require("=")
        if cursor.accept("reduce"):
            combiner: Any = cursor.choice(f"a combiner ({', '.join(_COMBINERS)})", _COMBINERS)
            return Reduction(id, combiner, cursor.value(), self.result_dtype())
        op = cursor.choice("a scalar op", SCALAR_OPS)
        operands: list[int] = []
        attr: Attr = None
        while not cursor.is_next(":"):
            if cursor.token.kind == "value":
                operands.append(cursor.value())
            else:
                attr = self.attr()
                break                                   # an attr comes last
            if not cursor.accept(","):
                break
        return Instr(id, op, self.result_dtype(), tuple(operands), attr)

    def attr(self) -> Any:
        cursor = self.cursor
        if cursor.token.kind == "dim":
            return cursor.dim()
        after = cursor.tokens[cursor.at + 1].text if cursor.token.kind != "end" else ""
        return self.address() if cursor.is_next("#") or cursor.is_next("[") or after == "[" else cursor.literal()

    def store(self) -> Store:
        verb = self.cursor.choice("a definition, 'store', 'accumulate' or '}'", ("store", "accumulate"))
        value = self.cursor.value()
        self.cursor.require("to")
        return Store(self.address(), value, "set" if verb == "store" else "add")

    # Addresses

    def address(self) -> Address:
        cursor = self.cursor
        buffer = self.buffer()
        cursor.require("[")
        strides: list[tuple[int, Extent]] = []
        dynamic: list[tuple[int, int]] = []
        offset = 0
        negative = cursor.accept("-")
        while True:
            sign = -1 if negative else 1
            if cursor.token.kind == "dim":
                dim = cursor.dim()
                strides.append((dim, self.stride(sign)))
            elif cursor.token.kind == "value":
                dynamic.append((cursor.value(), sign * self.factor()))
            else:
                offset += sign * cursor.integer()
            if cursor.accept("]"):
                break
            negative = cursor.accept("-")
            if not negative:
                cursor.require("+")
        guard = cursor.value() if cursor.accept("if") else None
        return Address(buffer, offset, tuple(strides), tuple(dynamic), guard)

    def stride(self, sign: int) -> Extent:
        """What is after a dim: its stride, which may be the name of a runtime number."""
        if sign == 1 and self.cursor.is_next("*") and self.cursor.tokens[self.cursor.at + 1].kind != "number":
            self.cursor.require("*")
            return self.cursor.name("a stride")
        return sign * self.factor()

    def factor(self) -> int:
        return self.cursor.integer() if self.cursor.accept("*") else 1

    def buffer(self) -> int:
        """A param by name, or `#number`; -1 where there is none."""
        if self.cursor.is_next("["):
            return -1
        if self.cursor.accept("#"):
            return self.cursor.integer()
        token = self.cursor.token
        name = self.cursor.name("a param's name")
        found = [number for number, param in enumerate(self.params) if param.name == name]
        if len(found) != 1:
            self.cursor.fail(f"one of the params {', '.join(p.name for p in self.params)}", token)
        return found[0]

    # Schedule and locations

    def schedule(self, kind: type) -> Any:
        """A schedule of this class, after the word that it begins with; fields that are not given keep their defaults."""
        cursor = self.cursor
        start = cursor.token
        cursor.require(start.text)
        known = {f.name: f for f in fields(kind)}
        given: dict[str, object] = {}

        def setting() -> None:
            name = cursor.choice(f"one of {', '.join(n for n in known if n not in given)}", known.keys() - given)
            cursor.require("=")
            token = cursor.token
            given[name] = cursor.literal()
            if not has_type(given[name], wanted := type_of_attribute(kind, name)):
                cursor.fail(f"a value of type {getattr(wanted, '__name__', wanted)} for {name}", token)

        cursor.listed(setting)
        missing = [name for name, f in known.items() if f.default is MISSING and name not in given]
        if missing:
            cursor.fail(f"a schedule with {', '.join(missing)}", start)
        return kind(**given)

    def end(self) -> tuple[str, ...]:
        locations = []
        while self.cursor.accept("loc"):
            locations.append(self.cursor.string("a source location in quotes"))
        self.cursor.require("}")
        return tuple(locations)
