"""The NumPy Philox against the known answers published with Random123 (kat_vectors, philox4x32 10)."""

from __future__ import annotations

import numpy as np
import pytest

from flambeau.ir.philox import philox_4x32

ONES = 0xFFFFFFFFFFFFFFFF
KNOWN_ANSWERS = [
    # counter low, counter high, key, words
    (0, 0, 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (ONES, ONES, ONES, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        0x85A308D3_243F6A88,
        0x03707344_13198A2E,
        0x299F31D0_A4093822,
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("lo", "hi", "key", "words"), KNOWN_ANSWERS)
def test_known_answers(lo, hi, key, words):
    assert tuple(int(word) for word in philox_4x32(lo, hi, key)) == words


def test_arrays_give_what_their_elements_give():
    lo = np.arange(6, dtype="u8").reshape(2, 3) + np.uint64(1 << 40)
    many = philox_4x32(lo, 7, 9)
    assert all(word.shape == (2, 3) and word.dtype == np.uint32 for word in many)
    for index in np.ndindex(2, 3):
        assert [word[index] for word in many] == [int(word) for word in philox_4x32(lo[index], 7, 9)]
