"""The machine we run on, as a Target: LLVM tells its instruction set, the operating system its cores and caches."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import llvmlite.binding as llvm

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

__all__ = ["TARGET_VARIABLE", "host_target"]

TARGET_VARIABLE: Final = "FLAMBEAU_TARGET"


def host_target() -> Target:
    """The machine we run on, or the one FLAMBEAU_TARGET names ("native", "x86-64", "avx2", "aarch64")."""
    return _named_target(os.environ.get(TARGET_VARIABLE, "") or "native")


@cache
def _named_target(name: str) -> Target:
    if name not in _NAMED:
        raise FlambeauError(f"{TARGET_VARIABLE}={name!r} names no target; known: {', '.join(sorted(_NAMED))}")
    return _NAMED[name]()


def _native() -> Target:
    flags: dict[str, bool] = dict(llvm.get_host_cpu_features())
    triple = llvm.get_default_triple()
    is_arm = triple.startswith(("aarch64", "arm64"))
    vector_bytes = 64 if flags.get("avx512f") else 32 if flags.get("avx2") else 16
    l1, l2, l3 = _cache_sizes()
    return Target(
        triple=triple,
        cpu=llvm.get_host_cpu_name(),
        features=",".join(("+" if on else "-") + flag for flag, on in sorted(flags.items())),
        vector_bytes=vector_bytes,
        has_fma=is_arm or flags.get("fma", False),
        n_vector_registers=32 if is_arm or vector_bytes == 64 else 16,
        l1_bytes=l1,
        l2_bytes=l2,
        l3_bytes=l3,
        cores=_usable_cores(),
    )


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
