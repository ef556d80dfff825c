"""`fb.accelerator`: the GPUs of `fb.cuda` under names that ask for no kind. Where there is none, programs that ask go on on
the CPU, and what needs one raises RuntimeError."""
from __future__ import annotations

from typing import Any

from flambeau.cuda import devices, memory, streams
from flambeau.frontend.missing import missing
from flambeau.frontend.tensor.device import Device

__all__ = ["current_accelerator", "current_device_idx", "current_device_index", "current_stream", "device_count",
           "device_index", "empty_cache", "empty_host_cache", "get_device_capability", "get_memory_info", "is_available",
           "max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved", "memory_stats",
           "reset_accumulated_memory_stats", "reset_peak_memory_stats", "set_device_idx", "set_device_index", "set_stream",
           "synchronize"]


def is_available() -> bool:
    """Whether there is one."""
    return devices.is_available()


def device_count() -> int:
    """How many there are."""
    return devices.device_count()


def current_accelerator(check_available: bool = False) -> Device | None:
    """`fb.device("cuda")`, or None where there is none."""
    return Device("cuda") if is_available() else None


def _needed() -> None:
    if not is_available():
        raise RuntimeError("Cannot access accelerator device when none is available; tensors live on 'cpu'")


def current_device_index() -> int:
    """The number of the current one."""
    _needed()
    return devices.current_device()


def set_device_index(device: Any, /) -> None:
    """Make it the current one of this thread."""
    _needed()
    devices.set_device(device)


class device_index(devices.device):
    """`with device_index(1):` makes it the current one inside; None changes nothing."""

    def __init__(self, device: int | None, /):
        _needed()
        super().__init__(-1 if device is None else device)


def current_stream(device: Any = None, /) -> streams.Stream:
    """Where its work goes."""
    _needed()
    return streams.current_stream(device)


def set_stream(stream: streams.Stream) -> None:
    """Let work go there from now on."""
    _needed()
    streams.set_stream(stream)


def synchronize(device: Any = None, /) -> None:
    """Wait for all its work."""
    _needed()
    devices.synchronize(device)


def get_device_capability(device: Any = None, /) -> dict[str, Any]:
    """What it computes with."""
    _needed()
    return {"supported_dtypes": set("float16 bfloat16 float32 float64 bool uint8 int8 int16 int32 int64".split())}


def get_memory_info(device_index: Any = None, /) -> tuple[int, int]:
    """Bytes that are free, and all of them."""
    _needed()
    return memory.mem_get_info(device_index)


def empty_cache() -> None:
    """As `fb.cuda.empty_cache`."""
    _needed()
    memory.empty_cache()


empty_host_cache = empty_cache


def memory_stats(device_index: Any = None, /) -> dict[str, int]:
    """As `fb.cuda.memory_stats`."""
    _needed()
    return memory.memory_stats(device_index)


def memory_allocated(device_index: Any = None, /) -> int:
    """As `fb.cuda.memory_allocated`."""
    _needed()
    return memory.memory_allocated(device_index)


def max_memory_allocated(device_index: Any = None, /) -> int:
    """As `fb.cuda.max_memory_allocated`."""
    _needed()
    return memory.max_memory_allocated(device_index)


def memory_reserved(device_index: Any = None, /) -> int:
    """As `fb.cuda.memory_reserved`."""
    _needed()
    return memory.memory_reserved(device_index)


def max_memory_reserved(device_index: Any = None, /) -> int:
    """As `fb.cuda.max_memory_reserved`."""
    _needed()
    return memory.max_memory_reserved(device_index)


def reset_peak_memory_stats(device_index: Any = None, /) -> None:
    """As `fb.cuda.reset_peak_memory_stats`."""
    _needed()
    memory.reset_peak_memory_stats(device_index)


def reset_accumulated_memory_stats(device_index: Any = None, /) -> None:
    """As `fb.cuda.reset_accumulated_memory_stats`."""
    _needed()
    memory.reset_accumulated_memory_stats(device_index)


current_device_idx, set_device_idx = current_device_index, set_device_index


def __getattr__(name: str) -> Any:
    raise missing("flambeau.accelerator", name)
