"""What one process compiled, on disk for the next: bytes by key.

A damaged, half-written or foreign file is a miss, and a directory that cannot be written is no error: the cache
only ever saves time. The key must name everything that the bytes depend on: the input, the compiler (`sources.py`), the
instruction set. A machine that lacks an instruction then asks for another key, and a folder that was filled on one machine
serves another of the same kind.

    DIR/objects/ab/cdef...      magic, SHA-256 of the rest, length of the label, label, bytes
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flambeau import config
from flambeau.ir.records import dataclass

__all__ = ["DiskCache", "Entry", "cache_dir", "disk_cache"]

_MAGIC = b"FLMB\x00\x02\r\n"
_DIGEST_BYTES = 32
_LABEL_LENGTH_BYTES = 2
_DAY = 86400.0
_BINARY = getattr(os, "O_BINARY", 0)        # Windows would write other line ends
_LOOKS_PER_FILL = 64                # a full cache is looked through about that often while it is filled once
_ABANDONED_AFTER = 3600.0           # seconds: a file that somebody began to write and did not end


def cache_dir() -> Path | None:
    """Where cached files live: FLAMBEAU_CACHE_DIR, or the user's cache folder; None if there is no home, or FLAMBEAU_CACHE
    is 0."""
    if not config.cache:
        return None
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
    return DiskCache(cache_dir(), config.cache_bytes)


@dataclass(frozen=True)
class Entry:
    """A file of the cache. label: what it holds, in words; None where the file is damaged. used: when it was last found or
    put, in seconds since 1970, to the day."""

    path: Path
    nbytes: int
    used: float
    label: str | None


class DiskCache:
    """Bytes by key in `directory`; without a directory nothing is found and nothing is kept. most_bytes: what was used
    least recently goes, some time after there is more."""

    def __init__(self, directory: Path | None, most_bytes: int | None = None) -> None:
        self._objects = None if directory is None else directory / "objects"
        self._most_bytes = most_bytes

    @property
    def is_there(self) -> bool:
        """Whether there is a directory."""
        return self._objects is not None

    def get(self, key: str) -> bytes | None:
        """The bytes under `key`, or None if they are not there whole, or were put there by somebody else."""
        if self._objects is None:
            return None
        path = self._path(key)
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                if hasattr(os, "geteuid") and facts.st_uid != os.geteuid():         # what lies here is run
                    return None
                content = file.read()
            if time.time() - facts.st_mtime > _DAY:
                os.utime(path)
        except OSError:
            return None
        parts = _parts(content)
        return None if parts is None else parts[1]

    def put(self, key: str, data: bytes, label: str = "") -> None:
        """Keep `data` under `key`. Readers see the old file or the new one, never a part. label: for people."""
        if self._objects is None:
            return
        path = self._path(key)
        words = label.encode()[:1000]
        content = len(words).to_bytes(_LABEL_LENGTH_BYTES, "little") + words + data
        try:
            # Only the user may write here: what lies here is run.
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished = path.parent / f"{os.urandom(8).hex()}.tmp"
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        except OSError:
            return
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC + hashlib.sha256(content).digest() + content)
            os.replace(unfinished, path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            return
        most = self._most_bytes
        if most is not None and int.from_bytes(os.urandom(4), "little") / 2**32 * most < len(content) * _LOOKS_PER_FILL:
            self.evict()

    def entries(self) -> Iterator[Entry]:
        """Every file, whole or not."""
        for path, facts in self._files():
            try:
                parts = _parts(path.read_bytes())
            except OSError:
                continue
            yield Entry(path, facts.st_size, facts.st_mtime, None if parts is None else parts[0])

    def evict(self) -> int:
        """Remove what was used least recently, until a little less is left than may be; how many bytes went."""
        gone, found = 0, []
        for path, facts in self._files(with_unfinished=True):
            if path.suffix != ".tmp":
                found.append((facts.st_mtime, facts.st_size, path))
            elif time.time() - facts.st_mtime > _ABANDONED_AFTER:
                gone += _remove(path, facts.st_size)
        total = sum(size for _, size, _ in found)
        if self._most_bytes is not None and total > self._most_bytes:
            for _, size, path in sorted(found):
                if total - gone <= self._most_bytes * 0.9:
                    break
                gone += _remove(path, size)
        return gone

    def size(self) -> tuple[int, int]:
        """How many files, and how many bytes they have."""
        sizes = [facts.st_size for _, facts in self._files()]
        return len(sizes), sum(sizes)

    def clear(self) -> None:
        """Remove all files."""
        if self._objects is not None:
            for path, facts in self._files(with_unfinished=True):
                _remove(path, facts.st_size)
            for folder in (*self._objects.glob("*"), self._objects):
                with suppress(OSError):         # somebody else removed it, or put something there
                    folder.rmdir()

    def _files(self, with_unfinished: bool = False) -> Iterator[tuple[Path, os.stat_result]]:
        if self._objects is None:
            return
        for path in self._objects.rglob("*"):
            try:
                if path.is_file() and (with_unfinished or path.suffix != ".tmp"):
                    yield path, path.stat()
            except OSError:                 # somebody else removed it
                continue

    def _path(self, key: str) -> Path:
        assert self._objects is not None, "a cache without a directory has no paths"
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._objects / name[:2] / name[2:]


def _parts(content: bytes) -> tuple[str, bytes] | None:
    """(label, bytes) of a file's content; None if it isn't whole."""
    start = len(_MAGIC) + _DIGEST_BYTES
    rest = content[start:]
    if len(rest) < _LABEL_LENGTH_BYTES or content[:start] != _MAGIC + hashlib.sha256(rest).digest():
        return None
    begin = _LABEL_LENGTH_BYTES + int.from_bytes(rest[:_LABEL_LENGTH_BYTES], "little")
    return rest[_LABEL_LENGTH_BYTES:begin].decode(errors="replace"), rest[begin:]


def _remove(path: Path, nbytes: int) -> int:
    """How many bytes are gone."""
    try:
        path.unlink()
    except OSError:
        return 0
    return nbytes
