"""What a backend may assume of a machine: instruction set, vector width, registers, caches, cores.

A `Target` is plain data, so schedules and cost models can be tested for machines that are not here.
"""

from __future__ import annotations

import platform
from functools import cached_property

from flambeau.ir.records import dataclass

DEFAULT_L1, DEFAULT_L2, DEFAULT_L3 = 32 << 10, 1 << 20, 16 << 20


@dataclass(frozen=True)
class Target:
    """A machine to compile for. `features` is LLVM's comma-separated `+name,-name` list."""

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    has_fma: bool
    n_vector_registers: int
    l1_bytes: int = DEFAULT_L1
    l2_bytes: int = DEFAULT_L2
    l3_bytes: int = DEFAULT_L3
    cores: int = 1
    winograd: bool = True           # whether f32 sums may be rounded as its products round them

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

    def multiplies_groups(self, size: int) -> bool:
        """Whether one instruction multiplies and adds vectors of 32-bit words of `size` elements: pairs of bf16
        (AVX512-BF16), fours of bytes (AVX512-VNNI)."""
        feature = {2: "avx512bf16", 4: "avx512vnni"}.get(size)
        return feature is not None and self.vector_bytes == 64 and self.has_feature(feature)

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


def _system() -> str:
    return {"Darwin": "apple-darwin", "Windows": "pc-windows-msvc"}.get(platform.system(), "unknown-linux-gnu")
