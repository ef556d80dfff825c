"""What memory of a GPU is in use, as `torch.cuda` tells it. Where no GPU is in use there is none."""
from __future__ import annotations

from typing import Any

from flambeau.cuda.devices import index_of, is_initialized, runtime_device
from flambeau.runtime.cuda.allocator import Allocator

__all__ = ["empty_cache", "get_allocator_backend", "get_per_process_memory_fraction", "host_memory_stats", "ipc_collect",
           "max_memory_allocated", "max_memory_cached", "max_memory_reserved", "mem_get_info", "memory_allocated",
           "memory_cached", "memory_reserved", "memory_stats", "memory_summary", "reset_accumulated_memory_stats",
           "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_memory_stats",
           "set_per_process_memory_fraction"]


def _allocator(device: Any) -> Allocator | None:
    return runtime_device(device).allocator if is_initialized() else None


def memory_stats(device: Any = None) -> dict[str, int]:
    """Counts and bytes by name: "allocated_bytes.all.current", ".peak", ".allocated", ".freed"; the same of
    "requested_bytes", "reserved_bytes", "allocation", "segment"; "num_alloc_retries", "num_ooms"."""
    allocator = _allocator(device)
    return {} if allocator is None else allocator.stats()


def memory_allocated(device: Any = None) -> int:
    """Bytes of tensors and of the scratch memory of programs, each rounded up to 512."""
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: Any = None) -> int:
    """The most of them at any time since the start or `reset_peak_memory_stats`."""
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device: Any = None) -> int:
    """Bytes that the driver gave: those in use, and those kept for what comes."""
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: Any = None) -> int:
    """The most of them."""
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved


def reset_peak_memory_stats(device: Any = None) -> None:
    """Count what was the most from now on."""
    allocator = _allocator(device)
    if allocator is not None:
        allocator.restart()


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Count what came and went from now on."""
    allocator = _allocator(device)
    if allocator is not None:
        allocator.restart(peaks=False)


def empty_cache() -> None:
    """Give memory that is kept back to the driver, so that other programs can have it. Waits."""
    allocator = _allocator(None)
    if allocator is not None:
        allocator.release()
        allocator.device.pinned.release()


def ipc_collect() -> None:
    """Memory is not shared with other processes: nothing to collect."""


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of the GPU that are free, and all of them."""
    return runtime_device(device).memory_info()


def get_allocator_backend() -> str:
    """Whose memory is kept: the driver's pool's."""
    return "cudaMallocAsync"


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """No more than this share of the GPU's memory is asked of the driver: beyond it is OutOfMemoryError."""
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    found = runtime_device(device)
    found.allocator.limit = int(fraction * found.memory_info()[1])


def get_per_process_memory_fraction(device: Any = None) -> float:
    """As it was set; 1 before."""
    found = runtime_device(device)
    return 1.0 if found.allocator.limit is None else found.allocator.limit / found.memory_info()[1]


def host_memory_stats() -> dict[str, int]:
    """Bytes of pinned memory that the driver gave."""
    allocator = _allocator(None)
    return {} if allocator is None else {"allocated_bytes.current": sum(allocator.device.pinned.sizes.values())}


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """`memory_stats` as a table."""
    found = memory_stats(device)
    lines = [f"CUDA memory of device {index_of(device)}: {found.get('num_ooms', 0)} times too little, "
             f"{found.get('num_alloc_retries', 0)} times only after what was kept was given back", ""]
    columns = ("current", "peak", "allocated", "freed")
    lines.append(f"{'':<18}" + "".join([f"{column:>16}" for column in columns]))
    names = ("allocated_bytes", "requested_bytes", "reserved_bytes", "allocation", "segment")
    for name in names[:3] if abbreviated else names:
        values = [found.get(f"{name}.all.{column}", 0) for column in columns]
        lines.append(f"{name:<18}" + "".join([f"{value:>16,}" for value in values]))
    return "\n".join(lines) + "\n"
