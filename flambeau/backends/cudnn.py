"""`fb.backends.cudnn`, for programs that set its flags: there is no cuDNN, and they do nothing. Convolutions of float32 on
GPUs ask `fb.backends.cuda.matmul.allow_tf32`, as products do, so that they have the CPU's numbers by default."""
from __future__ import annotations

benchmark = deterministic = allow_tf32 = False
enabled = True


def is_available() -> bool:
    """False."""
    return False


def version() -> None:
    """None: there is none."""
