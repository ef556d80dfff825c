"""Relocatable object bytes -> addresses of their functions.

Objects for Linux on x86-64 are placed by `elf.py`, others by LLVM, with one LLJIT per process. What is loaded stays loaded
as long as its `Library` is alive.
"""

from __future__ import annotations

import ctypes
import itertools
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from flambeau.runtime.elf import Damaged, Foreign, place
from flambeau.runtime.forking import ForkSafeLock

if TYPE_CHECKING:
    import llvmlite.binding as llvm

__all__ = ["Library", "LoadError", "binding", "load"]


class LoadError(Exception):
    """Object bytes that do not load: damaged, for another machine, or naming a symbol that nobody has."""


class Library:
    """Loaded code. addresses: symbol -> address, valid while this object lives."""

    __slots__ = ("__weakref__", "_tracker", "addresses")

    def __init__(self, tracker: Any, addresses: Mapping[str, int]) -> None:
        self._tracker = tracker
        self.addresses = addresses

    def __getitem__(self, symbol: str) -> int:
        return self.addresses[symbol]


def load(
    objects: Iterable[bytes], symbols: Iterable[str], *, imports: Mapping[str, int] | None = None
) -> Library:
    """Link `objects` together, resolve what they need, and find `symbols` among what they define.

    imports: addresses for names that the objects refer to; all other names (memcpy, expf...) are looked up in
    this process. Raises LoadError; nothing stays loaded then.
    """
    images, wanted, given = list(objects), list(dict.fromkeys(symbols)), imports or {}
    if _PLACES:
        try:
            image = place(images, wanted, given, _outside)
            return Library(image, image.addresses)
        except Foreign:
            pass
        except Damaged as error:
            raise LoadError(f"object code does not load: {error}") from error
        except KeyError as error:
            raise LoadError(f"object code does not load: nobody has {error}, of what {', '.join(wanted)} need") from None
    return _linked_by_llvm(images, wanted, given)


def _linked_by_llvm(images: Sequence[bytes], wanted: Sequence[str], imports: Mapping[str, int]) -> Library:
    llvm = binding()
    builder = llvm.JITLibraryBuilder().add_current_process()
    for image in images:
        builder.add_object_img(image)
    for name, address in imports.items():
        builder.import_symbol(name, address)
    for name in wanted:
        builder.export_symbol(name)
    with _lock:
        compiler = _engine.get(llvm)
        try:
            tracker = builder.link(compiler, f"flambeau.{next(_engine.numbers)}")
        except RuntimeError as error:
            raise LoadError(f"object code does not load: {error}") from error
    return Library(tracker, {name: tracker[name] for name in wanted})


def binding() -> Any:
    """llvmlite.binding with the native target ready. Imported at first use: `import flambeau` stays quick."""
    global _binding
    if _binding is None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _load_helper_libraries(llvm)
        _binding = llvm
    return _binding


class _Engine:
    """The process's LLJIT, made at first use and never disposed of: daemon threads may be inside its code."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self._compiler: llvm.LLJIT | None = None

    def get(self, llvm: Any) -> llvm.LLJIT:
        if self._compiler is None:
            target = llvm.Target.from_default_triple()
            machine = target.create_target_machine(codemodel="jitdefault", jit=True)
            self._compiler = llvm.create_lljit_compiler(machine)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._compiler))
        return self._compiler


def _load_helper_libraries(llvm: Any) -> None:
    """Make libm and the compiler's helper routines (half floats, wide division) visible to the linker."""
    if sys.platform == "win32":
        return
    for name in ("m", "gcc_s"):
        path = import_module("ctypes.util").find_library(name) if sys.platform != "linux" else _LINUX_NAMES[name]
        try:
            llvm.load_library_permanently(path)
        except (RuntimeError, TypeError):
            continue  # Not there (musl has no libm, macOS no libgcc_s): the process itself has these symbols.


@cache
def _libraries() -> list[Any]:
    """The process, and what compiled code may call beside it (see `_load_helper_libraries`)."""
    found = [ctypes.CDLL(None)]
    for name in _LINUX_NAMES.values():
        try:
            found.append(ctypes.CDLL(name))
        except OSError:
            continue
    return found


def _outside(name: str) -> int | None:
    """The address of a function of the process."""
    for library in _libraries():
        if hasattr(library, name):
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    return None


_PLACES = sys.platform == "linux" and platform.machine() == "x86_64"
_LINUX_NAMES = {"m": "libm.so.6", "gcc_s": "libgcc_s.so.1"}
_binding: Any = None
_engine = _Engine()
_lock = ForkSafeLock()
