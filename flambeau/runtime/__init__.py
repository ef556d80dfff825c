"""Buffers, executables and threads: everything that happens after the compiler is done.

Importing this package loads neither llvmlite nor numba; the first allocation or executable does.
"""

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
from flambeau.runtime.cache import Cache, executables, objects
from flambeau.runtime.disk_cache import DiskCache, disk_cache
from flambeau.runtime.executable import Executable
from flambeau.runtime.loader import Library, LoadError, load
from flambeau.runtime.program import Launch, Program, Slot
from flambeau.runtime.threads import default_num_threads, get_num_threads, set_num_threads

__all__ = [
    "Buffer",
    "Cache",
    "DiskCache",
    "Executable",
    "Launch",
    "Library",
    "LoadError",
    "MemoryStats",
    "Program",
    "Slot",
    "allocate",
    "allocator",
    "as_ndarray",
    "default_num_threads",
    "disk_cache",
    "executables",
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
