"""The compiler itself, as a digest: what is kept on disk is only found by the code that made it.

Reading all files takes 10 ms, so the digest is kept on disk too, by their sizes and times.
"""
from __future__ import annotations

import hashlib
import os
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np

from flambeau.runtime.disk_cache import DiskCache, disk_cache

__all__ = ["compiler_digest"]

_PACKAGE: Final = Path(__file__).parent.parent
_PARTS: Final = ("backends", "codegen", "ir", "kinds", "passes", "runtime")     # and the files beside them
_SUFFIXES: Final = (".py", ".ll")


@cache
def compiler_digest() -> str | None:
    """64 hex digits for the files from the traced graph to machine code, and for the versions of Python, NumPy and
    llvmlite, as they were when this process asked first; None where the files can't be read."""
    return digest_of(_PACKAGE, disk_cache())


def digest_of(package: Path, kept: DiskCache) -> str | None:
    """The same for the files of `package`. kept: where the digest may be found."""
    try:
        facts = _facts(package)
        key = f"sources {package} {facts}"
        if (known := kept.get(key)) is not None:
            return known.decode()
        whole = hashlib.sha256(repr((sys.version_info[:3], np.__version__)).encode())
        for path, _, _ in facts:
            # where the package lies does not count: a folder of the cache serves other machines
            name = os.path.relpath(path, package) if path.startswith(str(package)) else os.path.basename(path)
            whole.update(name.encode())
            whole.update(hashlib.sha256(Path(path).read_bytes()).digest())
    except OSError:
        return None
    digest = whole.hexdigest()
    kept.put(key, digest.encode(), "digest of the compiler's files")
    return digest


def _facts(package: Path) -> list[tuple[str, int, int]]:
    """(path, size, time of the last change) of every file, in order."""
    found: list[tuple[str, int, int]] = []
    folders = [str(package / part) for part in _PARTS]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(_SUFFIXES):
                    found.append(_fact(entry.path, entry.stat()))
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
    found += [_fact(str(path), path.stat()) for path in package.glob("*.py")]
    compiler = find_spec("llvmlite")        # found, not loaded
    if compiler is not None and compiler.origin is not None:
        version = Path(compiler.origin).parent / "_version.py"
        found.append(_fact(str(version), version.stat()))
    return sorted(found)


def _fact(path: str, facts: os.stat_result) -> tuple[str, int, int]:
    return path, facts.st_size, facts.st_mtime_ns
