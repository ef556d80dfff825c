"""`fb.distributed`: there is one process. Programs that ask go on; those that need more are told."""
from __future__ import annotations

from typing import Any, NoReturn

from flambeau.frontend.missing import refusing


def is_available() -> bool:
    """False."""
    return False


is_initialized = is_torchelastic_launched = is_nccl_available = is_gloo_available = is_mpi_available = is_available


def get_rank(group: Any = None) -> NoReturn:
    """Raises ValueError, as everywhere where there is no group of processes."""
    raise ValueError("get_rank: no process group has been initialized; there is one process here, "
                     "and is_initialized() is False")


def get_world_size(group: Any = None) -> NoReturn:
    """Raises ValueError, as everywhere where there is no group of processes."""
    raise ValueError("get_world_size: no process group has been initialized; there is one process here, "
                     "and is_initialized() is False")


__getattr__ = refusing(__name__)
