"""How many threads of a kernel a multiprocessor has at once, of those that it could have.

A multiprocessor takes whole blocks, as many as its threads, registers, shared memory and places for blocks allow:

    by threads      target.threads // (warps * 32)                      warps = ceil(threads / 32)
    by registers    64 K registers in four parts, of which a warp takes ceil(32 * registers / 256) * 256
    by memory       (target.shared_bytes + 1 KiB) // (shared + 1 KiB)   rounded up to 128 bytes; 1 KiB is the system's
    by places       32

The smallest of these blocks, times warps, of target.threads / 32: CUDA's own calculator counts alike for the compute
capabilities 8.0 and 9.0.
"""
from __future__ import annotations

from typing import Final

from flambeau.codegen.cuda.text import Assembled
from flambeau.ir.gpu import GpuTarget

__all__ = ["blocks_at_once", "occupancy"]

WARP: Final = 32
_REGISTERS: Final = 1 << 16
_PARTS: Final = 4
_REGISTER_UNIT: Final = 256
_SHARED_UNIT: Final = 128
_RESERVED: Final = 1024
_PLACES: Final = 32


def blocks_at_once(code: Assembled, threads: int, target: GpuTarget) -> int:
    """Blocks that a multiprocessor has at once; 0 where it can't have one."""
    warps = -(-threads // WARP)
    of_warp = -(-code.registers * WARP // _REGISTER_UNIT) * _REGISTER_UNIT
    by_registers = _REGISTERS // _PARTS // max(1, of_warp) * _PARTS // warps if code.registers else _PLACES
    shared = -(-code.shared_bytes // _SHARED_UNIT) * _SHARED_UNIT + _RESERVED
    return min(_PLACES, target.threads // (warps * WARP), by_registers, (target.shared_bytes + _RESERVED) // shared)


def occupancy(code: Assembled, threads: int, target: GpuTarget) -> float:
    """Between 0 and 1."""
    return blocks_at_once(code, threads, target) * -(-threads // WARP) * WARP / target.threads
