"""Philox-4x32-10 in NumPy: counter in, four random words out. The twin of the LLVM form, bit for bit.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11, section 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:           # numpy.typing takes 20 ms to import
    from numpy.typing import ArrayLike, NDArray

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
KEY_STEPS = (0x9E3779B9, 0xBB67AE85)  # the golden ratio and sqrt(3) - 1, as Weyl increments

Words: TypeAlias = "NDArray[np.uint32]"


def philox_4x32(counter_lo: ArrayLike, counter_hi: ArrayLike, key: ArrayLike) -> tuple[Words, Words, Words, Words]:
    """Four u32 words per counter.

    counter_lo, counter_hi: the low and high 64 bits of the 128-bit counter; key: 64 bits. All are taken as u64
    and broadcast together; the words have the broadcast shape. The counter's words, lowest first, are
    (lo & 2^32-1, lo >> 32, hi & 2^32-1, hi >> 32), and the key's (key & 2^32-1, key >> 32).
    """
    lo, hi, seed = (np.asarray(part, np.uint64) for part in (counter_lo, counter_hi, key))     # ten rounds mix the shapes
    (c0, c1), (c2, c3), (k0, k1) = _halves(lo), _halves(hi), _halves(seed)
    for number in range(ROUNDS):
        if number:
            k0, k1 = ((k + np.uint64(step)) & _LOW_WORD for k, step in zip((k0, k1), KEY_STEPS, strict=True))
        product0, product1 = c0 * np.uint64(MULTIPLIERS[0]), c2 * np.uint64(MULTIPLIERS[1])
        (low0, high0), (low1, high1) = _halves(product0), _halves(product1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
    return tuple(word.astype(np.uint32) for word in (c0, c1, c2, c3))  # type: ignore[return-value]


_LOW_WORD = np.uint64(0xFFFFFFFF)


def _halves(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The low and high 32 bits of each u64, each still a u64 so products do not overflow."""
    return words & _LOW_WORD, words >> np.uint64(32)
