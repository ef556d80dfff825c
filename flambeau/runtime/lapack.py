"""Where LAPACK and BLAS come from: the library in NumPy's wheel, else SciPy, which takes half a second to import, else
whatever library NumPy was built with. None is asked before somebody needs a routine.

SciPy gives addresses to whoever asks: its modules for Cython programs hold a capsule for each routine, with the routine's
signature as its name. NumPy gives none away, but the library that its own linear algebra is linked to can be asked for
symbols. Nothing here is called: callers get addresses of Fortran routines, all of whose arguments are pointers.
"""
from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from flambeau.ir.records import dataclass

__all__ = ["Lapack", "lapack"]

_NEEDED: Final = tuple(f"{letter}{routine}" for letter in "sd" for routine in (
    "gesv", "getrf", "laswp", "laset", "potrf", "trsm", "geqrf", "syevd", "gesdd"))
_OF_WHEELS: Final = ("scipy_{}_64_", 64)                # a symbol, and the bits of its integers
_SPELLINGS: Final = (_OF_WHEELS, ("{}_64_", 64), ("{}_", 32))


@dataclass(frozen=True)
class Lapack:
    """name: for people. integer_bits: of every integer that its routines take. address: that of a routine by its Fortran
    name, such as "dgesv"; raises LookupError."""

    name: str
    integer_bits: int
    address: Callable[[str], int]


def lapack() -> Lapack | None:
    """The first source that has the routines that Flambeau calls, if there is one."""
    return next((found for source in SOURCES if (found := source()) is not None), None)


@cache
def of_scipy() -> Lapack | None:
    """SciPy's, if it is installed and works."""
    if importlib.util.find_spec("scipy") is None:
        return None
    try:
        tables = [importlib.import_module(f"scipy.linalg.cython_{name}").__pyx_capi__ for name in ("lapack", "blas")]
    except (ImportError, AttributeError):
        return None

    def address(routine: str) -> int:
        for table in tables:
            if routine in table:
                return _in_capsule(table[routine])
        raise LookupError(routine)

    if "int *" not in _signature(tables[0].get("dgesv")):
        return None
    return _usable(Lapack(f"SciPy {importlib.metadata.version('scipy')}", 8 * ctypes.sizeof(ctypes.c_int), address))


@cache
def of_wheel() -> Lapack | None:
    """The library in NumPy's wheel, which is loaded already: its names tell how wide integers are."""
    return of_numpy(spellings=(_OF_WHEELS,))


@cache
def of_numpy(spellings: tuple[tuple[str, int], ...] = _SPELLINGS) -> Lapack | None:
    """The library that NumPy calls, if its symbols can be seen."""
    for library in _numpy_libraries():
        for spelling, bits in spellings:
            if found := _usable(Lapack(f"NumPy {np.__version__}", bits, _Symbols(library, spelling).address)):
                return found
    return None


SOURCES: Sequence[Callable[[], Lapack | None]] = (of_wheel, of_scipy, of_numpy)


def _usable(found: Lapack) -> Lapack | None:
    try:
        addresses = [found.address(routine) for routine in _NEEDED]
    except LookupError:
        return None
    return found if all(addresses) else None


def _signature(capsule: Any) -> str:
    """The name of a capsule; "" for anything else."""
    return (_capsule_name(capsule) or b"").decode() if type(capsule).__name__ == "PyCapsule" else ""


def _in_capsule(capsule: Any) -> int:
    return int(_capsule_pointer(capsule, _capsule_name(capsule)))


# prototypes of our own: those of `ctypes.pythonapi` are shared with the whole process
_capsule_name: Final = ctypes.PYFUNCTYPE(ctypes.c_char_p, ctypes.py_object)(("PyCapsule_GetName", ctypes.pythonapi))
_capsule_pointer: Final = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi))


def _numpy_libraries() -> list[ctypes.CDLL]:
    """NumPy's linear algebra, through which the system finds what it is linked to; and, where a system does not look that
    far, what lies in NumPy's folder of libraries."""
    extension = importlib.import_module("numpy.linalg._umath_linalg").__file__
    files = [Path(extension)] if extension else []
    files += sorted(Path(np.__file__).parent.parent.joinpath("numpy.libs").glob("*openblas*"))
    found = []
    for file in files:
        try:
            found.append(ctypes.CDLL(str(file)))
        except OSError:
            continue
    return found


@dataclass(frozen=True)
class _Symbols:
    """Routines of a library that spells their names so."""

    library: ctypes.CDLL
    spelling: str

    def address(self, routine: str) -> int:
        try:
            function = getattr(self.library, self.spelling.format(routine))
        except AttributeError:
            raise LookupError(routine) from None
        return ctypes.cast(function, ctypes.c_void_p).value or 0
