"""The machine we run on, as a Target: LLVM tells its instruction set, the operating system its cores and caches."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, Final

from flambeau import config
from flambeau.errors import FlambeauError
from flambeau.ir.target import (
    DEFAULT_L1,
    DEFAULT_L2,
    DEFAULT_L3,
    Target,
    avx2,
    generic_aarch64,
    generic_x86_64,
)
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.loader import binding
from flambeau.runtime.sources import compiler_digest

__all__ = ["TARGET_VARIABLE", "host_target", "host_triple"]

TARGET_VARIABLE: Final = "FLAMBEAU_TARGET"


def host_target() -> Target:
    """The machine we run on, or the one FLAMBEAU_TARGET names ("native", "x86-64", "avx2", "aarch64")."""
    return _named_target(os.environ.get(TARGET_VARIABLE, "") or "native", config.current().winograd)


@cache
def host_triple() -> str:
    """LLVM's name for this kind of machine."""
    return _processor()[0]


@cache
def _named_target(name: str, winograd: bool) -> Target:
    if name not in _NAMED:
        raise FlambeauError(f"{TARGET_VARIABLE}={name!r} names no target; known: {', '.join(sorted(_NAMED))}")
    return replace(_NAMED[name](), winograd=winograd)


def _native() -> Target:
    triple, cpu, names = _processor()
    flags = frozenset(names)
    is_arm = triple.startswith(("aarch64", "arm64"))
    vector_bytes = 64 if "+avx512f" in flags else 32 if "+avx2" in flags else 16
    l1, l2, l3 = _cache_sizes()
    return Target(
        triple=triple,
        cpu=cpu,
        features=",".join(names),
        vector_bytes=vector_bytes,
        has_fma=is_arm or "+fma" in flags,
        n_vector_registers=32 if is_arm or vector_bytes == 64 else 16,
        l1_bytes=l1,
        l2_bytes=l2,
        l3_bytes=l3,
        cores=_usable_cores(),
    )


def _processor() -> tuple[str, str, list[str]]:
    """(triple, name of the CPU, features as "+avx2", "-avx512f") in LLVM's words, which are kept on disk for a processor
    that the system tells in the same words, so that LLVM is loaded for code that is not known yet, and no other."""
    told = _told_by_the_system()
    key = f"processor {told}"
    known = None if told is None else disk_cache().get(key)
    if known is None:
        llvm = binding()
        flags: dict[str, bool] = dict(llvm.get_host_cpu_features())
        names = [("+" if on else "-") + flag for flag, on in sorted(flags.items())]
        known = "\n".join([llvm.get_default_triple(), llvm.get_host_cpu_name(), *names]).encode()
        if told is not None:
            disk_cache().put(key, known, "features of the processor")
    triple, cpu, *names = known.decode().split("\n")
    return triple, cpu, names


_TELLING: Final = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags")


def _told_by_the_system(path: str = "/proc/cpuinfo") -> tuple[Any, ...] | None:
    """What decides the features of an x86 processor, and whose names they have; None where it isn't told."""
    compiler = compiler_digest()            # LLVM's version is part of it
    if compiler is None:
        return None
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            told = ""
            while "\n\n" not in told and (more := file.read(4096)):     # of the first: each is asked as it is read
                told += more
        first = told.partition("\n\n")[0]
        lines = dict(line.split("\t", 1) for line in first.splitlines() if "\t" in line)
        return (compiler, *[lines[name].strip("\t: ") for name in _TELLING])
    except (OSError, KeyError):
        return None


_NAMED: dict[str, Callable[[], Target]] = {
    "native": _native,
    "x86-64": generic_x86_64,
    "avx2": avx2,
    "aarch64": generic_aarch64,
}


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def _cache_sizes(root: str = "/sys/devices/system/cpu/cpu0/cache") -> tuple[int, int, int]:
    """L1 data, L2 and L3 bytes of one core as Linux tells them, with sane defaults where it does not."""
    found: dict[int, int] = {}
    for index in sorted(Path(root).glob("index*")):
        try:
            if (index / "type").read_text().strip() == "Instruction":
                continue
            found[int((index / "level").read_text())] = _parse_size((index / "size").read_text().strip())
        except (OSError, ValueError):
            continue
    return found.get(1, DEFAULT_L1), found.get(2, DEFAULT_L2), found.get(3, DEFAULT_L3)


def _parse_size(text: str) -> int:
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * scale
