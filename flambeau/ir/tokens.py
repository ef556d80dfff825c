"""Text -> tokens of the IR's text forms, and a cursor over them whose errors name line and column."""
from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final, NamedTuple, NoReturn, TypeVar

from flambeau.errors import ParseError

__all__ = ["CANONICAL_NAN_BITS", "LARGEST", "Cursor"]

T = TypeVar("T")

CANONICAL_NAN_BITS: Final = 0x7FF8 << 48
DEEPEST: Final = 64                 # brackets within brackets; what a program means never needs a tenth of it
LARGEST: Final = 1 << 128           # no integer of the IR needs half the bits

_TOKEN: Final = re.compile(
    r"""(?P<skip>\s+|//[^\n]*)
      | (?P<dim>%i\d+)
      | (?P<value>%\d+)
      | (?P<word>[A-Za-z_][A-Za-z0-9_.]*)
      | (?P<number>0x[0-9a-fA-F]+ | \d+(?:\.\d*)?(?:e[+-]?\d+)?)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<punctuation>[][{}()=,:*+\-\#@])
      | (?P<unknown>.)""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """kind: dim, value, word, number, string, punctuation, unknown or end; position: of its first character."""

    kind: str
    text: str
    position: int


class Cursor:
    """A place in the tokens of `text`. Methods step over what they return; all raise ParseError at what is there."""

    pattern: ClassVar[re.Pattern[str]] = _TOKEN         # whose groups name the kinds

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = [Token(str(m.lastgroup), m.group(), m.start()) for m in self.pattern.finditer(text)
                       if m.lastgroup != "skip"]
        self.tokens.append(Token("end", "", len(text)))
        self.at = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self.tokens[self.at]

    def fail(self, wanted: str, token: Token | None = None) -> NoReturn:
        """Raise ParseError: `wanted` was expected at `token`, by default the next one."""
        token = token or self.token
        found = "the end of the text" if token.kind == "end" else repr(token.text[:80])
        self.error(f"expected {wanted}, found {found}", token)

    def error(self, message: str, token: Token | None = None) -> NoReturn:
        """Raise ParseError about `token`, by default the next one."""
        token = token or self.token
        line = self.text.count("\n", 0, token.position) + 1
        column = token.position - self.text.rfind("\n", 0, token.position)
        raise ParseError(f"line {line}, column {column}: {message}")

    def is_next(self, text: str) -> bool:
        return self.token.text == text and self.token.kind in ("word", "punctuation")

    def accept(self, text: str) -> bool:
        """Step over `text` if it comes next, and say whether it did."""
        found = self.is_next(text)
        self.at += found
        return found

    def require(self, *texts: str) -> None:
        """Step over each of `texts`, in order."""
        for text in texts:
            if not self.accept(text):
                self.fail(repr(text))

    def expect(self, kind: str, wanted: str) -> str:
        """The text of the next token, which is of `kind`."""
        if self.token.kind != kind:
            self.fail(wanted)
        self.at += 1
        return self.tokens[self.at - 1].text

    def choice(self, wanted: str, options: Collection[str]) -> str:
        """The next word, one of `options`."""
        if self.token.text not in options:
            self.fail(wanted)
        return self.expect("word", wanted)

    def listed(self, item: Callable[[], T]) -> tuple[T, ...]:
        """One or more items, commas between."""
        items = [item()]
        while self.accept(","):
            items.append(item())
        return tuple(items)

    def optional(self, keyword: str, items: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
        """`items` if `keyword` comes next, else nothing."""
        return items() if self.accept(keyword) else ()

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Around what may stand within itself: text can be nested deeper than Python's stack."""
        self.depth += 1
        if self.depth > DEEPEST:
            self.error(f"nested more than {DEEPEST} deep")
        yield
        self.depth -= 1

    # Leaves

    def name(self, wanted: str) -> str:
        """An identifier, or any string in quotes."""
        if self.token.kind == "string":
            return self.string(wanted)
        return self.expect("word", wanted)

    def string(self, wanted: str) -> str:
        token = self.token
        try:
            text = str(json.loads(self.expect("string", wanted)))
            text.encode()
        except (json.JSONDecodeError, UnicodeEncodeError):      # half a surrogate pair can't be written
            self.fail(f"{wanted}, quoted as in JSON", token)
        return text

    def dim(self) -> int:
        token = self.token
        return self.parsed(self.expect("dim", "a dim such as %i0")[2:], token)

    def value(self) -> int:
        token = self.token
        return self.parsed(self.expect("value", "a value such as %0")[1:], token)

    def integer(self) -> int:
        """A number without point, exponent or sign."""
        token = self.token
        text = self.expect("number", "an integer")
        if not text.isdecimal():
            self.fail("an integer", token)
        return self.parsed(text, token)

    def parsed(self, digits: str, token: Token) -> int:
        """The number of these digits, decimal or after 0x hexadecimal; at most 128 bits."""
        number = int(digits, 16 if digits.startswith("0x") else 10) if len(digits) <= 40 else LARGEST
        if number >= LARGEST:
            self.error(f"an integer of {len(digits)} digits; it may have 128 bits", token)
        return number

    def literal(self) -> float | int | bool | str | None | tuple[object, ...]:
        """none, true, false, an int, a float, a quoted string, or a tuple of such."""
        if self.token.kind == "string":
            return self.string("a string")
        if self.accept("("):
            with self.nested():
                items = () if self.is_next(")") else self.listed(self.literal)
                self.require(")")
            return items
        for word, value in (("none", None), ("true", True), ("false", False)):
            if self.accept(word):
                return value
        return self.number()

    def number(self) -> float | int:
        if self.accept("nan"):
            return self.nan_bits() if self.is_next("(") else math.nan
        sign = -1 if self.accept("-") else 1
        if self.accept("inf"):
            return sign * math.inf
        token = self.token
        text = self.expect("number", "a number, true, false or none")
        return sign * (self.parsed(text, token) if _is_integer(text) else float(text))

    def nan_bits(self) -> float:
        """The NaN of the bits in parentheses."""
        self.require("(")
        token = self.token
        text = self.expect("number", "the 64 bits of a NaN")
        bits = self.parsed(text, token) if text.startswith("0x") else 0
        value = struct.unpack("<d", struct.pack("<Q", bits))[0] if bits < 1 << 64 else 0.0
        if not math.isnan(value):
            self.fail("the 64 bits of a NaN, in hex", token)
        self.require(")")
        return float(value)


def _is_integer(text: str) -> bool:
    return text.isdecimal() or text.startswith("0x")
