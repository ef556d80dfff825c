"""`fb.accelerator`: there is none. Programs that ask go on on the CPU; what needs one raises RuntimeError."""
from __future__ import annotations

from typing import Any, NoReturn

from flambeau.frontend.missing import missing


def is_available() -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def current_accelerator(check_available: bool = False) -> None:
    """None."""


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise RuntimeError("Cannot access accelerator device when none is available; tensors live on 'cpu'")


current_device_index = current_device_idx = set_device_index = set_device_idx = device_index = _refuse
current_stream = set_stream = synchronize = empty_cache = get_memory_info = get_device_capability = _refuse
memory_allocated = max_memory_allocated = memory_reserved = max_memory_reserved = memory_stats = _refuse
reset_peak_memory_stats = reset_accumulated_memory_stats = _refuse


def __getattr__(name: str) -> Any:
    raise missing("flambeau.accelerator", name)
