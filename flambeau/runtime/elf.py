"""x86-64 ELF objects into memory, as a linker would: without LLVM, which takes 20 ms to load, and in half of its time.

Code and constants lie first, then what is written to, on pages of their own; calls to functions of the process go through
stubs in between. What an object may hold is what our compiler emits, `System V ABI, AMD64 supplement` section 4.4:

    R_X86_64_64             S + A       an address                  R_X86_64_PC32, PLT32, PC64    S + A - P     from here
    R_X86_64_GOTPCREL(X)    G + A - P   where an address lies

Anything else is refused with `Foreign`, and the caller leaves the object to LLVM.
"""
from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

__all__ = ["Damaged", "Foreign", "Image", "place"]

_HEADER: Final = struct.Struct("<4s5B7xHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_RELOCATION: Final = struct.Struct("<QIIq")
_SHORT, _LONG = struct.Struct("<i"), struct.Struct("<Q")    # what relocations write
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATABLE, _X86_64, _ELF = 1, 62, b"\x7fELF"
_SYMBOLS, _RELOCATIONS, _RELOCATIONS_IMPLICIT, _NO_BITS, _UNWIND = 2, 4, 9, 8, 0x70000001       # types of sections
_WRITABLE, _ALLOCATED = 1, 2                                                                    # flags of sections
_UNDEFINED, _FIRST_RESERVED = 0, 0xFF00                                                         # numbers of sections
_ABSOLUTE, _RELATIVE, _RELATIVE_LONG, _THROUGH_TABLE = (1,), (2, 4), (24,), (9, 41, 42)         # kinds of relocations
_STUB: Final = bytes.fromhex("ff2500000000")                # jmp *(%rip): to the address behind it
_MAP_FAILED: Final = 2**64 - 1
_MOST_BYTES: Final = 2**30
_STUB_BYTES, _ADDRESS_AT = 16, 6                            # a stub, and where in it the address lies


class Foreign(Exception):
    """An object for another system, or with something in it that `place` does not know."""


class Damaged(Exception):
    """An object that refers to what is not in it."""


class Image:
    """Objects in memory, ready to run. addresses: of the symbols that were asked for, valid while this object lives. When
    Python ends the memory stays: other threads may be running in it."""

    __slots__ = ("_nbytes", "addresses", "start")

    def __init__(self, nbytes: int) -> None:
        self.start, self._nbytes = 0, nbytes
        self.addresses: dict[str, int] = {}
        start = _system().mmap(None, nbytes, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
        if start == _MAP_FAILED:
            raise MemoryError(f"no {nbytes} bytes for code")
        self.start = start

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if self.start and not is_finalizing():
            _system().munmap(self.start, self._nbytes)

    def fill(self, content: bytearray) -> None:
        """Write all of it."""
        ctypes.memmove(self.start, (ctypes.c_char * len(content)).from_buffer(content), len(content))

    def make_executable(self, nbytes: int) -> None:
        """The first nbytes, a multiple of pages, can be run and not written from now on. Raises Foreign where the system
        does not allow it."""
        if nbytes and _system().mprotect(self.start, nbytes, mmap.PROT_READ | mmap.PROT_EXEC):
            raise Foreign("this system runs no code from memory that was written")


class _Section(NamedTuple):
    type: int
    flags: int
    align: int
    link: int
    info: int
    size: int
    data: memoryview

    @property
    def is_loaded(self) -> bool:
        return bool(self.flags & _ALLOCATED) and self.type != _UNWIND and self.size > 0


class _Symbol(NamedTuple):
    """name: where it lies in the table of names. section: its number, 0 for what lies elsewhere."""

    name: int
    info: int
    other: int
    section: int
    value: int
    size: int


class _Relocation(NamedTuple):
    """A place in a section that gets the address of a symbol, in a way that its kind says."""

    offset: int
    kind: int
    symbol: int
    addend: int


class _Object:
    """The sections and symbols of one object. starts: where each section comes to lie, once that is decided; else -1."""

    def __init__(self, image: bytes) -> None:
        self.sections = _sections(image)
        self.starts = [-1] * len(self.sections)
        tables = [s for s in self.sections if s.type == _SYMBOLS]
        if len(tables) > 1 or any(s.type == _RELOCATIONS_IMPLICIT for s in self.sections):
            raise Foreign("tables of another kind")
        self.symbols: list[_Symbol] = []
        self.names = b""
        for table in tables:
            _check_rows(table.data, _SYMBOL.size)
            self.symbols = [_Symbol(*row) for row in _SYMBOL.iter_unpack(table.data)]
            self.names = _section(self.sections, table.link).data.tobytes()

    def name(self, symbol: _Symbol) -> str:
        end = self.names.find(b"\0", symbol.name)
        if end < 0:
            raise Damaged("a symbol has no name")
        return self.names[symbol.name:end].decode(errors="replace")

    def through_stubs(self) -> Iterator[str]:
        """What lies elsewhere, or is looked up by where its address lies."""
        for symbol in self.symbols[1:]:
            if symbol.section == _UNDEFINED:
                yield self.name(symbol)
        for _, table in self.relocations():
            for n in {row.symbol for row in table if row.kind in _THROUGH_TABLE}:
                symbol = self.symbol(n)
                if not symbol.info >> 4:
                    raise Foreign("the address of a local symbol")
                yield self.name(symbol)

    def symbol(self, number: int) -> _Symbol:
        if number >= len(self.symbols):
            raise Damaged("a symbol that is not there")
        return self.symbols[number]

    def defined(self) -> Iterator[tuple[str, int]]:
        """Global symbols and their places."""
        for symbol in self.symbols:
            if symbol.info >> 4 and _UNDEFINED < symbol.section < _FIRST_RESERVED:
                yield self.name(symbol), self.place_of(symbol)

    def place_of(self, symbol: _Symbol) -> int:
        """Where a symbol of this object lies."""
        if not 0 < symbol.section < len(self.sections) or self.starts[symbol.section] < 0:
            raise Foreign("a symbol of a section that is not loaded")
        if symbol.value > self.sections[symbol.section].size:
            raise Damaged("a symbol outside of its section")
        return self.starts[symbol.section] + symbol.value

    def relocations(self) -> Iterator[tuple[int, list[_Relocation]]]:
        """(section that is to be patched, how)."""
        for section in self.sections:
            if section.type == _RELOCATIONS and _section(self.sections, section.info).is_loaded:
                _check_rows(section.data, _RELOCATION.size)
                yield section.info, [_Relocation(*row) for row in _RELOCATION.iter_unpack(section.data)]


def place(images: Sequence[bytes], symbols: Iterable[str], imports: Mapping[str, int],
          outside: Callable[[str], int | None]) -> Image:
    """Objects, linked together. outside: the address of a function of the process. Raises Foreign for what is to be left
    to another linker, Damaged for objects that contradict themselves, KeyError for a name that nobody has."""
    objects = [_Object(image) for image in images]
    end = _lay_out(objects, 0, is_writable=False)
    wanted = {name for made in objects for name in made.through_stubs()}
    stubs = {name: _aligned(end, _STUB_BYTES) + _STUB_BYTES * n for n, name in enumerate(sorted(wanted))}
    end = max(end, *[at + _STUB_BYTES for at in stubs.values()]) if stubs else end
    code_end = _aligned(end, mmap.PAGESIZE)
    end = _lay_out(objects, code_end, is_writable=True)

    image = Image(max(_aligned(end, mmap.PAGESIZE), mmap.PAGESIZE))
    memory, base = bytearray(end), image.start
    here = {name: at for made in objects for name, at in made.defined()}
    for name, at in stubs.items():
        address = base + here[name] if name in here else imports.get(name) or outside(name)
        if not address:
            raise KeyError(name)
        memory[at:at + _STUB_BYTES] = _STUB + struct.pack("<Qxx", address)
    for made in objects:
        for section, start in zip(made.sections, made.starts, strict=True):
            if start >= 0 and section.type != _NO_BITS:
                memory[start:start + section.size] = section.data
        for number, table in made.relocations():
            _relocate(memory, base, made, number, table, stubs)
    image.fill(memory)
    image.make_executable(code_end)
    image.addresses = {name: base + here[name] for name in symbols}
    return image


# -- reading ----------------------------------------------------------------------------------------------------------


def _sections(image: bytes) -> list[_Section]:
    if len(image) < _HEADER.size or image[:4] != _ELF:
        raise Foreign("no ELF")
    _, bits, order, _, _, _, kind, machine, _, _, _, table, _, _, _, _, size, count, _ = _HEADER.unpack_from(image)
    if (bits, order, kind, machine, size) != (2, 1, _RELOCATABLE, _X86_64, _SECTION.size):
        raise Foreign("no relocatable object for x86-64")
    if table + count * size > len(image):
        raise Damaged("the table of sections is cut off")
    view, found = memoryview(image), []
    for number in range(count):
        _, type_, flags, _, offset, length, link, info, align, _ = _SECTION.unpack_from(image, table + number * size)
        data = view[0:0] if type_ == _NO_BITS else view[offset:offset + length]
        if length > _MOST_BYTES:
            raise Damaged("a section of more than 1 GiB")
        if type_ != _NO_BITS and len(data) != length or align & (align - 1) or align > mmap.PAGESIZE:
            raise Damaged("a section lies outside of the object")
        found.append(_Section(type_, flags, max(1, align), link, info, length, data))
    return found


def _section(sections: Sequence[_Section], number: int) -> _Section:
    if not 0 < number < len(sections):
        raise Damaged("a section that is not there")
    return sections[number]


def _check_rows(data: memoryview, nbytes: int) -> None:
    if len(data) % nbytes:
        raise Damaged("a table is cut off")


# -- writing ----------------------------------------------------------------------------------------------------------


def _aligned(offset: int, align: int) -> int:
    return offset + -offset % align


def _lay_out(objects: Sequence[_Object], end: int, is_writable: bool) -> int:
    """Give the sections of this sort their places from `end` on; where they end."""
    for made in objects:
        for number, section in enumerate(made.sections):
            if section.is_loaded and bool(section.flags & _WRITABLE) is is_writable:
                made.starts[number] = _aligned(end, section.align)
                end = made.starts[number] + section.size
    return end


def _relocate(memory: bytearray, base: int, made: _Object, number: int, table: Sequence[_Relocation],
              stubs: Mapping[str, int]) -> None:
    """Patch one section of an object."""
    start, size = made.starts[number], made.sections[number].size
    for offset, kind, wanted, addend in table:
        symbol, at = made.symbol(wanted), start + offset
        is_outside = symbol.section == _UNDEFINED
        through = is_outside or kind in _THROUGH_TABLE
        target = (stubs[made.name(symbol)] if through else made.place_of(symbol)) + addend
        value, form = target - at, _SHORT
        if kind in _THROUGH_TABLE:
            value += _ADDRESS_AT
        elif kind in _ABSOLUTE:             # of something outside: the address itself, not that of the stub
            address = target + base
            if is_outside:
                address = _LONG.unpack_from(memory, target - addend + _ADDRESS_AT)[0] + addend
            value, form = address % 2**64, _LONG
        elif kind in _RELATIVE_LONG:
            value, form = value % 2**64, _LONG
        elif kind not in _RELATIVE:
            raise Foreign(f"relocation {kind}")
        if offset + form.size > size:
            raise Damaged("a relocation outside of its section")
        if form is _SHORT and abs(value) >= 2**31:
            raise Foreign("a distance of more than 2 GiB")
        form.pack_into(memory, at, value)


@cache
def _system() -> Any:
    """The C library, with the types of what is called."""
    library: Any = ctypes.CDLL(None)
    pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    library.mmap.restype, library.mmap.argtypes = pointer, (pointer, size, number, number, number, ctypes.c_long)
    library.munmap.argtypes, library.mprotect.argtypes = (pointer, size), (pointer, size, number)
    return library
