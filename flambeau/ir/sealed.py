"""Plain data and blobs <-> bytes that say what they are: a kind, a version and a checksum come first.

    magic (8)   sha256 of the rest (32)   length of the header (8, little-endian)   header   blobs

The header is JSON: {"kind": "artifact", "version": 1, "blobs": [their lengths], "content": ...}. Nothing in it is code,
and reading it runs none. Whoever defines a kind turns its content into objects with the readers below, which give what
they are named after or raise ParseError, so that hostile bytes end with a sentence and not somewhere inside.
"""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from flambeau.errors import ParseError

__all__ = ["boolean", "integer", "integers", "items", "optional", "parts", "seal", "text", "unseal"]

T = TypeVar("T")
_MAGIC: Final = b"\x89FLMB\r\n\x1a"         # damaged by whatever takes bytes for text
_INT: Final = {int}
_START: Final = len(_MAGIC) + 32 + 8


def seal(kind: str, version: int, content: Any, blobs: Sequence[bytes] = ()) -> bytes:
    """content: dicts, lists, strings, ints, bools and None."""
    lengths = [len(blob) for blob in blobs]
    header = json.dumps({"kind": kind, "version": version, "blobs": lengths, "content": content},
                        separators=(",", ":")).encode()
    rest = b"".join([len(header).to_bytes(8, "little"), header, *blobs])
    return _MAGIC + hashlib.sha256(rest).digest() + rest


def unseal(data: bytes, kind: str, version: int) -> tuple[Any, list[bytes]]:
    """(content, blobs) of what `seal` made for this kind and version. Raises ParseError for anything else."""
    if data[:len(_MAGIC)] != _MAGIC:
        raise ParseError(f"these bytes are no {kind}: they begin with {data[:len(_MAGIC)]!r}")
    rest = data[len(_MAGIC) + 32:]
    if len(data) < _START or hashlib.sha256(rest).digest() != data[len(_MAGIC):len(_MAGIC) + 32]:
        raise ParseError(f"the bytes of a {kind} are damaged or cut short: their checksum is another")
    end = _START + int.from_bytes(rest[:8], "little")
    try:
        header = json.loads(data[_START:end])
    except (ValueError, RecursionError) as error:
        raise ParseError(f"the header of a {kind} is no JSON: {error}") from None
    match header:
        case {"kind": str(found), "version": int(number), "blobs": list(lengths), "content": content}:
            pass
        case _:
            raise ParseError(f"the header of a {kind} lacks its kind, version, blobs or content")
    if found != kind:
        raise ParseError(f"these bytes are no {kind}, but a {found}")
    if number != version:
        raise ParseError(f"this {kind} is of version {number}; this Flambeau reads version {version}")
    sizes = items(lengths, integer)
    if min(sizes, default=0) < 0 or end + sum(sizes) != len(data):
        raise ParseError(f"the blobs of a {kind} are not as long as its header says")
    blobs = []
    for size in sizes:
        blobs.append(data[end:end + size])
        end += size
    return content, blobs


def integer(value: Any) -> int:
    if type(value) is not int:
        raise ParseError(f"expected an int, found {_shown(value)}")
    return value


def boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise ParseError(f"expected true or false, found {_shown(value)}")
    return value


def text(value: Any) -> str:
    if type(value) is not str:
        raise ParseError(f"expected a string, found {_shown(value)}")
    return value


def items(value: Any, of: Callable[[Any], T]) -> tuple[T, ...]:
    """A list whose every item is read by `of`."""
    if type(value) is not list:
        raise ParseError(f"expected a list, found {_shown(value)}")
    return tuple([of(item) for item in value])


def integers(value: Any) -> tuple[int, ...]:
    """A list of ints."""
    if type(value) is list and set(map(type, value)) <= _INT:
        return tuple(value)
    return items(value, integer)


def parts(value: Any, *readers: Callable[[Any], Any]) -> tuple[Any, ...]:
    """A list of as many items as there are readers, each read by its own."""
    if type(value) is not list or len(value) != len(readers):
        raise ParseError(f"expected a list of {len(readers)} items, found {_shown(value)}")
    return tuple([reader(item) for reader, item in zip(readers, value, strict=True)])


def optional(reader: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """What `reader` reads, or None."""
    return lambda value: None if value is None else reader(value)


def _shown(value: Any) -> str:
    words = json.dumps(value)
    return words if len(words) <= 80 else words[:77] + "..."
