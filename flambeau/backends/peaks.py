"""What a device can do at most, which shares of peak are of: measured once, and kept in the cache folder."""
from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Final

from flambeau.ir.records import dataclass
from flambeau.runtime.disk_cache import disk_cache

__all__ = ["Peaks", "kept_peaks", "peaks_of"]

_VERSION: Final = 2


@dataclass(frozen=True)
class Peaks:
    """flops: operations of f32 a second, a multiply-add being two; bytes: read and written a second, by copying what no
    cache holds; by: what did it, in words."""

    flops: float
    bytes: float
    by: str

    def share(self, flops: int, nbytes: int, seconds: float) -> float:
        """How near work came to what the device can do, whichever of the two bounds it: 1.0 is all. More, where caches
        held the data, or tensor cores multiplied."""
        return max(flops / self.flops, nbytes / self.bytes) / seconds if seconds > 0.0 else 0.0

    @property
    def ridge(self) -> float:
        """The flops a byte from which on arithmetic is what bounds."""
        return self.flops / self.bytes


def peaks_of(device: str) -> Peaks:
    """Of "cpu", with as many threads as kernels may use now, or of "cuda:0" and others. Measured at the first use ever on
    it. Raises ModuleNotFoundError for a device of somebody else's backend."""
    kind, _, number = device.partition(":")
    found: Peaks = import_module(f"flambeau.backends.{kind}.peaks").peaks(int(number or 0))
    return found


def kept_peaks(key: str, measured: Callable[[], Peaks]) -> Peaks:
    """Those of what the key describes, which are measured where nobody knows them."""
    key = f"peaks {_VERSION} {key}"
    found = _known.get(key)
    if found is None:
        data = disk_cache().get(key)
        found = _known[key] = measured() if data is None else Peaks(*json.loads(data))
        if data is None:
            disk_cache().put(key, json.dumps([found.flops, found.bytes, found.by]).encode(), "peaks of the machine")
    return found


_known: dict[str, Peaks] = {}
