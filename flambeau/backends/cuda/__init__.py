"""`fb.backends.cuda`, for programs that set its flags. `matmul.allow_tf32` counts, on GPUs; the others do nothing."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flambeau import config


class _Matmul:
    """Sums of 16-bit products are float32 whatever the other two say."""

    allow_fp16_reduced_precision_reduction = allow_bf16_reduced_precision_reduction = True

    @property
    def allow_tf32(self) -> bool:
        """Whether products and convolutions of float32 may round their operands to TF32, on tensor cores. False unless it
        is set, here or by fb.set_float32_matmul_precision()."""
        return config.tf32

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        config.set(tf32=bool(allowed))


matmul = _Matmul()


def is_built() -> bool:
    """False."""
    return False


def enable_flash_sdp(enabled: Any) -> None:
    """Accepted: there is one attention, the compiler's."""


@contextmanager
def sdp_kernel(enable_flash: bool = True, enable_math: bool = True, enable_mem_efficient: bool = True,
               enable_cudnn: bool = True) -> Iterator[None]:
    """Accepted: there is one attention, the compiler's."""
    yield


enable_math_sdp = enable_mem_efficient_sdp = enable_cudnn_sdp = enable_flash_sdp
