"""Buffers, executables and threads: everything that happens after the compiler is done.

The names below load on first use, since eager code needs no more than buffers. Importing this package loads neither
llvmlite nor numba; the first allocation or executable does.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from flambeau.runtime.disk_cache import DiskCache, disk_cache

if TYPE_CHECKING:
    from flambeau.runtime.buffer import (
        Buffer,
        MemoryStats,
        allocate,
        allocator,
        as_ndarray,
        from_ndarray,
        memory_stats,
        release_kept_memory,
        reset_peak_memory,
        zeros,
    )
    from flambeau.runtime.cache import Cache, objects
    from flambeau.runtime.executable import Executable
    from flambeau.runtime.loader import Library, LoadError, load
    from flambeau.runtime.program import (
        Blocks,
        Branch,
        HostCall,
        Launch,
        Loop,
        Program,
        Signature,
        SizeOf,
        SizeSpec,
        Slot,
        TensorSpec,
    )
    from flambeau.runtime.threads import default_num_threads, get_num_threads, set_num_threads

__all__ = [
    "Blocks",
    "Branch",
    "Buffer",
    "Cache",
    "DiskCache",
    "Executable",
    "HostCall",
    "Launch",
    "Library",
    "LoadError",
    "Loop",
    "MemoryStats",
    "Program",
    "Signature",
    "SizeOf",
    "SizeSpec",
    "Slot",
    "TensorSpec",
    "allocate",
    "allocator",
    "as_ndarray",
    "default_num_threads",
    "disk_cache",
    "from_ndarray",
    "get_num_threads",
    "load",
    "memory_stats",
    "objects",
    "release_kept_memory",
    "reset_peak_memory",
    "set_num_threads",
    "zeros",
]

_HOME: Final = {
    **dict.fromkeys(("Buffer", "MemoryStats", "allocate", "allocator", "as_ndarray", "from_ndarray",
                     "memory_stats", "release_kept_memory", "reset_peak_memory", "zeros"), "buffer"),
    **dict.fromkeys(("Cache", "objects"), "cache"),
    "Executable": "executable",
    **dict.fromkeys(("Library", "LoadError", "load"), "loader"),
    **dict.fromkeys(("Blocks", "Branch", "HostCall", "Launch", "Loop", "Program", "Signature", "SizeOf", "SizeSpec",
                     "Slot", "TensorSpec"), "program"),
    **dict.fromkeys(("default_num_threads", "get_num_threads", "set_num_threads"), "threads"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
