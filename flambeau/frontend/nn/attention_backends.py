"""nn.attention: which implementations of attention PyTorch may choose from. Accepted: there is one here."""
from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class SDPBackend(enum.IntEnum):
    """PyTorch's implementations of scaled_dot_product_attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


@contextmanager
def sdpa_kernel(backends: SDPBackend | Sequence[SDPBackend], set_priority: bool = False) -> Iterator[None]:
    """`with sdpa_kernel(SDPBackend.MATH):` changes nothing. Raises AssertionError for what is no SDPBackend."""
    given = [backends] if isinstance(backends, SDPBackend) else backends
    if not isinstance(given, Sequence) or not all(isinstance(one, SDPBackend) for one in given):
        raise AssertionError(f"sdpa_kernel: takes an SDPBackend or a list of them, got {backends!r}")
    yield


__all__ = ["SDPBackend", "sdpa_kernel"]
