"""Bytes that say what they are: what was sealed comes back, and everything else is a ParseError."""
from __future__ import annotations

import hashlib
import json

import pytest

from flambeau.errors import ParseError
from flambeau.ir.sealed import boolean, integer, items, optional, parts, seal, text, unseal

CONTENT = {"name": "x\u00e9", "numbers": [1, -(2**70), None, True], "none": {}}


def test_content_and_blobs_come_back() -> None:
    data = seal("thing", 3, CONTENT, [b"abc", b"", b"\0" * 100])
    assert unseal(data, "thing", 3) == (CONTENT, [b"abc", b"", b"\0" * 100])
    assert data == seal("thing", 3, CONTENT, [b"abc", b"", b"\0" * 100]), "equal things have equal bytes"


def test_every_changed_byte_and_every_cut_is_noticed() -> None:
    data = seal("thing", 3, CONTENT, [b"abc"])
    for place in range(len(data)):
        with pytest.raises(ParseError):
            unseal(data[:place] + bytes([data[place] ^ 1]) + data[place + 1:], "thing", 3)
        with pytest.raises(ParseError):
            unseal(data[:place], "thing", 3)
    with pytest.raises(ParseError, match="damaged or cut short"):
        unseal(data + b"\0", "thing", 3)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"{}", b"\x89FLMB\n\x1a" + b"0" * 80])
def test_other_bytes_are_named(data: bytes) -> None:
    with pytest.raises(ParseError, match="these bytes are no thing: they begin with"):
        unseal(data, "thing", 3)


def test_another_kind_or_version_is_named() -> None:
    with pytest.raises(ParseError, match="these bytes are no thing, but a nothing"):
        unseal(seal("nothing", 3, CONTENT), "thing", 3)
    with pytest.raises(ParseError, match="this thing is of version 4; this Flambeau reads version 3"):
        unseal(seal("thing", 4, CONTENT), "thing", 3)


def with_header(header: bytes, length: int | None = None, rest: bytes = b"") -> bytes:
    """Bytes with a right checksum and a header of one's own."""
    whole = (len(header) if length is None else length).to_bytes(8, "little") + header + rest
    return seal("thing", 3, 0)[:8] + hashlib.sha256(whole).digest() + whole


def header_of(**changes: object) -> bytes:
    return json.dumps({"kind": "thing", "version": 3, "blobs": [], "content": 0} | changes).encode()


@pytest.mark.parametrize(("data", "message"), [
    (with_header(b"{"), "is no JSON"),
    (with_header(b"[" * 100_000), "is no JSON"),
    (with_header(b"\xff"), "is no JSON"),
    (with_header(b"9" * 10_000), "is no JSON"),
    (with_header(b"[]"), "lacks its kind, version, blobs or content"),
    (with_header(header_of(version="3")), "lacks its kind, version"),
    (with_header(header_of(), length=2**63), "not as long as its header says"),
    (with_header(header_of(), rest=b"more"), "not as long as its header says"),
    (with_header(header_of(blobs=[5]), rest=b"more"), "not as long as its header says"),
    (with_header(header_of(blobs=[-1, 5]), rest=b"more"), "not as long as its header says"),
    (with_header(header_of(blobs=[2**200])), "not as long as its header says"),
    (with_header(header_of(blobs=[1.5])), "expected an int, found 1.5"),
])
def test_hostile_headers_end_with_a_sentence(data: bytes, message: str) -> None:
    with pytest.raises(ParseError, match=message):
        unseal(data, "thing", 3)


def test_readers_give_what_they_are_named_after() -> None:
    assert (integer(3), boolean(False), text("a"), items([1, 2], integer)) == (3, False, "a", (1, 2))
    assert parts([1, "a"], integer, text) == (1, "a") and optional(integer)(None) is None
    refused = [(integer, True), (integer, 1.0), (integer, None), (boolean, 0), (text, 1), (text, None),
               (lambda v: items(v, integer), "12"), (lambda v: items(v, integer), [1, "2"]),
               (lambda v: parts(v, integer), [1, 2]), (lambda v: parts(v, integer), {}), (optional(text), 1)]
    for reader, value in refused:
        with pytest.raises(ParseError, match="expected"):
            reader(value)
