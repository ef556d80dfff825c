"""`fb.profiler`: PyTorch's names for `fb.profile` and what goes with it. docs/inspect.md tells what a profile shows."""
from __future__ import annotations

import enum

from flambeau.frontend.missing import refusing
from flambeau.frontend.profile.session import profile, record_function

__all__ = ["ProfilerActivity", "profile", "record_function"]


class ProfilerActivity(enum.Enum):
    """What `profile(activities=...)` may be asked for: it always shows the CPU."""

    CPU = 0
    CUDA = 2


__getattr__ = refusing(__name__)
