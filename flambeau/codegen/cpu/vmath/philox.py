"""Philox-4x32-10 on vectors: the LLVM form of `flambeau.ir.philox`, bit for bit.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.3.
"""

from __future__ import annotations

from flambeau.codegen.cpu.llvm.emitter import I32
from flambeau.codegen.cpu.vmath.vec import Vec
from flambeau.ir.philox import KEY_STEPS, MULTIPLIERS, ROUNDS

_LOW_WORD = 0xFFFFFFFF


def philox(counter_lo: Vec, counter_hi: Vec, key: Vec) -> tuple[Vec, Vec, Vec, Vec]:
    """Four i32 vectors (u32 words) from i64 vectors: the 128-bit counter and the 64-bit key of each lane.

    Words stay in 64-bit lanes, whose low halves the vector unit multiplies to 64 bits in one instruction.
    """
    (c0, c1), (c2, c3), (k0, k1) = (_halves(word) for word in (counter_lo, counter_hi, key))
    for number in range(ROUNDS):
        if number:
            k0, k1 = ((k + step) & _LOW_WORD for k, step in zip((k0, k1), KEY_STEPS, strict=True))
        (low0, high0), (low1, high1) = _halves(c0 * MULTIPLIERS[0]), _halves(c2 * MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return c0.to(I32), c1.to(I32), c2.to(I32), c3.to(I32)


def _halves(word: Vec) -> tuple[Vec, Vec]:
    return word & _LOW_WORD, word.logical_right(32)
