"""`fb.cuda.amp`: the names that mixed precision had before `fb.amp`. Where there is no CUDA device both are off, with a
warning, as in PyTorch."""
from __future__ import annotations

from flambeau import amp
from flambeau.ir.dtypes import DType
from flambeau.ir.dtypes import f16 as float16


class autocast(amp.autocast):
    """`amp.autocast("cuda", ...)`."""

    def __init__(self, enabled: bool = True, dtype: DType = float16, cache_enabled: bool = True):
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(amp.GradScaler):
    """`amp.GradScaler("cuda", ...)`."""

    def __init__(self, init_scale: float = 65536.0, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True):
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)


__all__ = ["GradScaler", "autocast"]
