"""Text -> the attributes of ops: numbers, strings, dtypes, types, symbolic sizes, arrays, and tuples of these."""
from __future__ import annotations

import base64
import re
from typing import Any, Final

import numpy as np

from flambeau.ir.dims import Dim, Size, quotient
from flambeau.ir.dtypes import DTYPES, DType
from flambeau.ir.graph.text import RESERVED
from flambeau.ir.literal import Literal, literal
from flambeau.ir.tokens import LARGEST, Cursor
from flambeau.ir.types import TensorType, parse_type

__all__ = ["AttributeReader", "GraphCursor"]

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<value>%\d+)
      | (?P<type>[a-z]+\d*\[[^][\n]*\](?:@[\w:.]+)?)
      | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<number>0x[0-9a-fA-F]+ | \d+(?:\.\d*)?(?:e[+-]?\d+)?)
      | (?P<alias>\#c?\d+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<relation>[=!>]=)
      | (?P<punctuation>[][{}()=,:*+/\-@])
      | (?P<unknown>.)""",
    re.VERBOSE,
)
LONGEST_TYPE: Final = 1000                  # characters
_ATOMS: Final[dict[str, Any]] = {"none": None, "true": True, "false": False, **DTYPES}


class GraphCursor(Cursor):
    """A place in the tokens of a graph's text."""

    pattern = _TOKEN


class AttributeReader:
    """Reads types and attributes at a cursor. `constant_of` holds the arrays that stand elsewhere, by alias."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.constant_of: dict[str, Literal] = {}
        self._type_of: dict[str, TensorType] = {}

    def type(self, wanted: str) -> TensorType:
        """A type; `wanted` says in an error what it is of."""
        c, token = self.cursor, self.cursor.token
        text = c.expect("type", wanted)
        if len(text) > LONGEST_TYPE:
            c.error(f"a type of {len(text)} characters", token)
        found = self._type_of.get(text)
        if found is None:
            try:
                found = self._type_of[text] = parse_type(text)
            except ValueError as error:
                c.error(str(error), token)
        return found

    def stored(self, type: TensorType) -> Literal:
        """An array of `type`, whose bytes stand here as a string of base64."""
        c, token = self.cursor, self.cursor.token
        try:
            data = base64.b64decode(c.string("base64 data"), validate=True)
        except ValueError:                  # binascii.Error, or characters beyond ASCII
            c.error("the data of a constant is not base64", token)
        if not type.is_static or len(data) != type.nbytes or (type.dtype.kind == "bool" and max(data, default=0) > 1):
            c.error(f"{len(data)} bytes are not the elements of {type}", token)
        stored = np.frombuffer(data, type.dtype.storage.newbyteorder("<"))
        try:
            return Literal(stored.astype(type.dtype.storage).reshape(type.static_shape), type.dtype)
        except ValueError:                  # no elements, and sizes that NumPy does not take
            c.error(f"an array of {type} can't be made", token)

    def attribute(self) -> Any:
        """The value of one attribute."""
        c, token = self.cursor, self.cursor.token
        if token.kind == "string":
            return c.string("a string")
        if token.kind == "type":
            return self._typed()
        if token.kind == "word" and token.text in _ATOMS:
            c.at += 1
            return _ATOMS[token.text]
        if not c.is_next("("):
            return self._number_or_dim()
        found = self._tuple()
        return self._rest(found) if isinstance(found, Dim) else found

    def _tuple(self) -> tuple[Any, ...] | Size:
        """A tuple, or a quotient of sizes: `(B/2)`, `((B+1)/2)`."""
        c = self.cursor
        c.require("(")
        parts: list[Any] = []
        with c.nested():
            while not c.accept(")"):
                parts.append(self.attribute())
                if len(parts) == 1 and c.accept("/"):
                    return self._quotient(parts[0])
                if not c.is_next(")"):
                    c.require(",")
        return tuple(parts)

    def _quotient(self, numerator: Any) -> Size:
        c, token = self.cursor, self.cursor.token
        numerator, denominator = [part[0] if isinstance(part, tuple) and len(part) == 1 else part
                                  for part in (numerator, self.attribute())]
        c.require(")")
        numerator, denominator = self._size(numerator), self._size(denominator)
        if isinstance(denominator, int) and denominator < 1:
            c.error(f"a size is divided by {denominator}", token)
        return self._bounded(quotient(numerator, denominator))

    def _number_or_dim(self) -> Any:
        """A number, or a sum of products of ints, names and quotients: `2*B*T + ((T+1)/2) + 1`."""
        return self._rest(self._factor())

    def _rest(self, first: Any) -> Any:
        """What follows the first factor of a sum."""
        total = self._product(first)
        while self.cursor.accept("+"):
            total = self._bounded(self._size(total) + self._size(self._product(self._factor())))
        return total

    def _product(self, product: Any) -> Any:
        while self.cursor.accept("*"):
            product = self._bounded(self._size(product) * self._size(self._factor()))
        return product

    def _bounded(self, size: Size) -> Size:
        """A size that is no longer than a type can be."""
        if (abs(size) >= LARGEST) if isinstance(size, int) else (len(str(size)) > LONGEST_TYPE):
            self.cursor.error("a size beyond all bounds", self.cursor.tokens[self.cursor.at - 1])
        return size

    def _factor(self) -> Any:
        c = self.cursor
        if c.is_next("("):
            return self._size(self._tuple())
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
        type = self.type("a type")
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
        except (TypeError, ValueError) as error:
            c.error(f"not elements of {type}: {error}", token)

    def _elements(self) -> tuple[list[Any], tuple[int, ...]]:
        """Numbers in nested brackets, flat, and the shape that the brackets say."""
        c = self.cursor
        if not c.accept("["):
            return [c.literal()], ()
        parts: list[tuple[list[Any], tuple[int, ...]]] = []
        with c.nested():
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
