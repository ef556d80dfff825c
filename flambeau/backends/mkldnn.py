"""`fb.backends.mkldnn`, for programs that ask whether it is there."""
from __future__ import annotations


def is_available() -> bool:
    """False."""
    return False


def is_built() -> bool:
    """False."""
    return False
