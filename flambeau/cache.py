"""`python -m flambeau cache {info,list,clear,verify}`: what compiled programs take on disk, and how to be rid of them."""
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence

from flambeau import config
from flambeau.runtime.disk_cache import DiskCache, cache_dir, disk_cache

__all__ = ["main"]


def info(cache: DiskCache) -> int:
    """Where it is, how large it is and may be."""
    files, nbytes = cache.size()
    print(f"folder   {cache_dir() or 'none: FLAMBEAU_CACHE=0, or there is no home folder'}")
    print(f"holds    {files} files, {_size(nbytes)}")
    print(f"at most  {_size(config.cache_bytes)}; what was used least recently goes (FLAMBEAU_CACHE_SIZE)")
    return 0


def list_entries(cache: DiskCache) -> int:
    """Every file, the one used last first."""
    for entry in sorted(cache.entries(), key=lambda entry: -entry.used):
        day = time.strftime("%Y-%m-%d", time.localtime(entry.used))
        print(f"{_size(entry.nbytes):>10}  {day}  {'damaged' if entry.label is None else entry.label or '-'}")
    return 0


def clear(cache: DiskCache) -> int:
    """Remove everything."""
    files, nbytes = cache.size()
    cache.clear()
    print(f"removed {files} files, {_size(nbytes)}")
    return 0


def verify(cache: DiskCache) -> int:
    """Read everything and remove what is damaged; 1 where there was such."""
    checked, damaged = cache.size()[0], [entry for entry in cache.entries() if entry.label is None]
    for entry in damaged:
        entry.path.unlink(missing_ok=True)
        print(f"removed {entry.path}: damaged")
    print(f"{checked} files, {len(damaged)} damaged")
    return 1 if damaged else 0


def _info(cache: DiskCache) -> object:
    files, nbytes = cache.size()
    folder = cache_dir()
    return {"folder": None if folder is None else str(folder), "files": files, "bytes": nbytes, "most": config.cache_bytes}


def _entries(cache: DiskCache) -> object:
    return [{"path": str(entry.path), "bytes": entry.nbytes, "used": entry.used, "label": entry.label,
             "damaged": entry.label is None} for entry in cache.entries()]


_AS_JSON: dict[str, Callable[[DiskCache], object]] = {"info": _info, "list": _entries}
_COMMANDS: dict[str, Callable[[DiskCache], int]] = {"info": info, "list": list_entries, "clear": clear, "verify": verify}


def main(arguments: Sequence[str]) -> int:
    """Run one of the commands; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flambeau cache",
        description="Compiled programs and kernels are kept on disk, so that the next process does not compile them.",
        epilog="FLAMBEAU_CACHE_DIR=DIR chooses the folder, FLAMBEAU_CACHE_SIZE=500M bounds it, FLAMBEAU_CACHE=0 switches "
               "it off.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, command in _COMMANDS.items():
        added = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        if name in _AS_JSON:
            added.add_argument("--json", action="store_true", help="as JSON")
    asked = parser.parse_args(list(arguments))
    if getattr(asked, "json", False):
        print(json.dumps(_AS_JSON[asked.command](disk_cache()), indent=1))
        return 0
    return _COMMANDS[asked.command](disk_cache())


def _size(nbytes: int) -> str:
    amount, unit = float(nbytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
