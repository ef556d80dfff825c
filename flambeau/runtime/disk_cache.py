"""Object code on disk, by content hash: what one process compiled, the next one loads.

A damaged, half-written or foreign file is a miss, and a directory that cannot be written is no error: the cache
only ever saves time. The key must name everything that the bytes depend on: the IR, the compiler's version, the
instruction set. A machine that lacks an instruction then asks for another key.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from pathlib import Path

from flambeau import config

__all__ = ["DiskCache", "cache_dir", "disk_cache"]

_MAGIC = b"FLMB\x00\x01\r\n"
_DIGEST_BYTES = 32


def cache_dir() -> Path | None:
    """Where cached files live: FLAMBEAU_CACHE_DIR, or the user's cache folder; None if there is no home."""
    if config.cache_dir is not None:
        return config.cache_dir
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "")
    else:
        base = os.environ.get("XDG_CACHE_HOME", "")
    try:
        home = Path.home()
    except RuntimeError:
        return Path(base) / "flambeau" if base else None
    default = home / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return (Path(base) if base else default) / "flambeau"


def disk_cache() -> DiskCache:
    """The cache in `cache_dir()` as the settings are now."""
    return DiskCache(cache_dir())


class DiskCache:
    """Bytes by key in `directory`; without a directory nothing is found and nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self._objects = None if directory is None else directory / "objects"

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None if they are not there whole."""
        if self._objects is None:
            return None
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        data = content[start:]
        return data if content[:start] == _MAGIC + hashlib.sha256(data).digest() else None

    def put(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`. Readers see the old file or the new one, never a part."""
        if self._objects is None:
            return
        path = self._path(key)
        try:
            # Only the user may write here: what lies here is run.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        except OSError:
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(data).digest() + data)
            os.replace(name, path)
        except OSError:
            Path(name).unlink(missing_ok=True)

    def size(self) -> tuple[int, int]:
        """How many files, and how many bytes they have."""
        files = [] if self._objects is None else [path for path in self._objects.rglob("*") if path.is_file()]
        return len(files), sum(path.stat().st_size for path in files)

    def clear(self) -> None:
        """Remove all files."""
        if self._objects is not None:
            shutil.rmtree(self._objects, ignore_errors=True)

    def _path(self, key: str) -> Path:
        assert self._objects is not None, "a cache without a directory has no paths"
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._objects / name[:2] / name[2:]
