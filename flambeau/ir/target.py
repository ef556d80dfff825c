"""What a backend may assume of a machine: instruction set, vector width, registers, caches, cores.

A `Target` is plain data, so schedules and cost models can be tested for machines that are not here.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from flambeau.errors import FlambeauError

TARGET_VARIABLE = "FLAMBEAU_TARGET"

_DEFAULT_L1, _DEFAULT_L2, _DEFAULT_L3 = 32 << 10, 1 << 20, 16 << 20


@dataclass(frozen=True)
class Target:
    """A machine to compile for. `features` is LLVM's comma-separated `+name,-name` list."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    has_fma: bool
    n_vector_registers: int
    l1_bytes: int = _DEFAULT_L1
    l2_bytes: int = _DEFAULT_L2
    l3_bytes: int = _DEFAULT_L3
    cores: int = 1

    @property
    def is_x86(self) -> bool:
        """Whether the target runs x86-64 instructions."""
        return self.triple.startswith(("x86_64", "amd64"))

    @property
    def is_aarch64(self) -> bool:
        """Whether the target runs 64-bit Arm instructions."""
        return self.triple.startswith(("aarch64", "arm64"))

    def has_feature(self, name: str) -> bool:
        """Whether LLVM feature `name` (`"avx2"`, `"f16c"`) is switched on."""
        return f"+{name}" in self.features.split(",")

    def lanes(self, dtype_bytes: int) -> int:
        """How many elements of `dtype_bytes` bytes fill one vector register."""
        return max(1, self.vector_bytes // dtype_bytes)

    @property
    def cache_key(self) -> str:
        """The text that decides the machine code of a scheduled kernel: two targets with one key share objects."""
        return "|".join((self.triple, self.cpu, self.features, str(self.vector_bytes), str(self.has_fma)))

    @cached_property
    def schedule_key(self) -> str:
        """The text that decides the schedule of a kernel: cores, caches and registers too."""
        return repr(self)


def generic_x86_64() -> Target:
    """Any 64-bit x86: SSE2 only, no FMA."""
    return Target(f"x86_64-{_system()}", "x86-64", "+sse2", 16, False, 16)


def avx2() -> Target:
    """x86-64-v3: AVX2, FMA and F16C, as every x86 server of the last decade has."""
    features = "+sse4.2,+popcnt,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+movbe"
    return Target(f"x86_64-{_system()}", "x86-64-v3", features, 32, True, 16)


def generic_aarch64() -> Target:
    """Any 64-bit Arm: NEON, which has fused multiply-add and half-precision conversions."""
    return Target(f"aarch64-{_system()}", "generic", "+neon,+fp-armv8", 16, True, 32, l1_bytes=64 << 10)


def host_target() -> Target:
    """The machine we run on, or the one FLAMBEAU_TARGET names ("native", "x86-64", "avx2", "aarch64")."""
    return _named_target(os.environ.get(TARGET_VARIABLE, "") or "native")


@cache
def _named_target(name: str) -> Target:
    if name not in _NAMED:
        raise FlambeauError(f"{TARGET_VARIABLE}={name!r} names no target; known: {', '.join(sorted(_NAMED))}")
    return _NAMED[name]()


def _native() -> Target:
    import llvmlite.binding as llvm  # lazy: planning for a named target needs no LLVM

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


def _system() -> str:
    return {"Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}.get(platform.system(), "unknown-linux-gnu")


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
    return found.get(1, _DEFAULT_L1), found.get(2, _DEFAULT_L2), found.get(3, _DEFAULT_L3)


def _parse_size(text: str) -> int:
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
    return int(text.rstrip("KMG")) * scale
