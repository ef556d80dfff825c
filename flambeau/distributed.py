"""`fb.distributed`: there is one process. Programs that ask go on; those that need more are told."""
from __future__ import annotations

from flambeau.frontend.missing import refusing


def is_available() -> bool:
    """False."""
    return False


is_initialized = is_torchelastic_launched = is_nccl_available = is_gloo_available = is_mpi_available = is_available
__getattr__ = refusing(__name__)
