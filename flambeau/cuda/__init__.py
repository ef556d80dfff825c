"""`fb.cuda`: there is no CUDA device. Programs that ask whether there is one go on on the CPU; those that need one are
told."""
from __future__ import annotations

import importlib
from typing import Any, NoReturn

from flambeau.errors import UnsupportedError
from flambeau.frontend import random
from flambeau.frontend.missing import missing


def is_available() -> bool:
    """False."""
    return False


is_initialized = is_available
_initialized = False                        # programs that keep generators' states look at it


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """False."""
    return False


def device_count() -> int:
    """0."""
    return 0


def manual_seed(seed: int) -> None:
    """Accepted: there is no generator on a device."""


manual_seed_all = manual_seed


def empty_cache() -> None:
    """Nothing to free."""


def synchronize(device: Any = None) -> None:
    """Nothing to wait for."""


reset_peak_memory_stats = synchronize
ipc_collect = empty_cache


def memory_allocated(device: Any = None) -> int:
    """0 bytes."""
    return 0


max_memory_allocated = memory_reserved = max_memory_reserved = memory_allocated


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise UnsupportedError("device 'cuda' is not available; tensors live on 'cpu'")


current_device = get_device_name = get_device_properties = get_device_capability = set_device = current_stream = _refuse
Stream = Event = stream = _refuse
get_rng_state = random.get_rng_state


def __getattr__(name: str) -> Any:
    if name == "amp":
        return importlib.import_module("flambeau.cuda.amp")
    raise missing("flambeau.cuda", name)
