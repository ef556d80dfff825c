"""Which GPUs there are, and which one "cuda" means in this thread. Names, arguments and errors are `torch.cuda`'s."""
from __future__ import annotations

from types import TracebackType
from typing import Any

from flambeau.errors import AcceleratorError
from flambeau.frontend.tensor.device import Device as DeviceName
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.records import dataclass
from flambeau.runtime.cuda import device as runtime
from flambeau.runtime.cuda.api import count_devices, why_unavailable
from flambeau.runtime.devices import current_index, set_current_index

__all__ = ["DeviceProperties", "can_device_access_peer", "current_device", "device", "device_count", "device_of",
           "get_arch_list", "get_device_capability", "get_device_name", "get_device_properties", "init", "is_available",
           "is_bf16_supported", "is_initialized", "is_tf32_supported", "set_device", "synchronize"]


def is_available() -> bool:
    """Whether there is a GPU, and a driver and the packages to use it. `python -m flambeau doctor` says what is missing."""
    return why_unavailable() is None


def is_initialized() -> bool:
    """Whether a GPU is in use."""
    return runtime.is_in_use()


def init() -> None:
    """Start to use the current GPU. Raises AcceleratorError, a RuntimeError, where there is none."""
    runtime_device(None)


def device_count() -> int:
    """0 where there is no GPU, or no driver for it."""
    return runtime.device_count()


def current_device() -> int:
    """The number of the GPU that "cuda" means in this thread."""
    init()
    return current_index()


def set_device(device: Any) -> None:
    """Let "cuda" mean that GPU, in this thread. A negative number changes nothing."""
    number = index_of(device)
    if number >= 0:
        runtime.device_on(number)
        set_current_index(number)


def index_of(device: Any) -> int:
    """The number of a GPU that is said as a number, a name or a device; None and "cuda" are the current one. Raises
    ValueError for other kinds of device."""
    if device is None:
        return current_index()
    if isinstance(device, int) and not isinstance(device, bool):
        return device
    named = DeviceName(device)
    if named.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {named}")
    return current_index() if named.index is None else named.index


def runtime_device(device: Any) -> runtime.Device:
    """The one of the runtime. Raises AcceleratorError where there is none."""
    return runtime.device_on(index_of(device))


class device:
    """`with device(1):` lets "cuda" mean that GPU inside."""

    def __init__(self, device: Any):
        self.idx = index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = current_index()
        set_device(self.idx)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        set_current_index(self.prev_idx)


class device_of(device):
    """`with device_of(tensor):` lets "cuda" mean the GPU that the tensor lies on, if it lies on one."""

    def __init__(self, obj: Tensor):
        name = obj.device
        super().__init__(name.index if name.type == "cuda" else -1)


@dataclass(frozen=True)
class DeviceProperties:
    """What a GPU is. Sizes in bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    is_integrated: bool
    is_multi_gpu_board: bool
    max_threads_per_multi_processor: int
    max_threads_per_block: int
    regs_per_multiprocessor: int
    shared_memory_per_block: int
    shared_memory_per_block_optin: int
    shared_memory_per_multiprocessor: int
    warp_size: int
    L2_cache_size: int
    pci_bus_id: int
    pci_device_id: int
    pci_domain_id: int


def get_device_properties(device: Any = None) -> DeviceProperties:
    """Everything that is known of a GPU."""
    found = runtime_device(device)
    ask = found.attribute
    return DeviceProperties(
        found.product, *found.capability, found.memory_info()[1], found.multiprocessors, bool(ask("INTEGRATED")),
        bool(ask("MULTI_GPU_BOARD")), ask("MAX_THREADS_PER_MULTIPROCESSOR"), ask("MAX_THREADS_PER_BLOCK"),
        ask("MAX_REGISTERS_PER_MULTIPROCESSOR"), ask("MAX_SHARED_MEMORY_PER_BLOCK"),
        ask("MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"), ask("MAX_SHARED_MEMORY_PER_MULTIPROCESSOR"), ask("WARP_SIZE"),
        ask("L2_CACHE_SIZE"), ask("PCI_BUS_ID"), ask("PCI_DEVICE_ID"), ask("PCI_DOMAIN_ID"))


def get_device_name(device: Any = None) -> str:
    """The name that it is sold under."""
    return runtime_device(device).product


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """Compute capability, such as (9, 0)."""
    return runtime_device(device).capability


def get_arch_list() -> list[str]:
    """What kernels are compiled for: the GPUs that there are."""
    if not is_available():
        return []
    found = [runtime.device_on(number).capability for number in range(count_devices())]
    return sorted({f"sm_{major}{minor}" for major, minor in found})


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether one GPU copies to another without the host: the driver sees to it either way."""
    return runtime_device(device) is not runtime_device(peer_device)


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether the current GPU computes with bfloat16: from compute capability 8.0 on, and before with other numbers."""
    return is_available() and (including_emulation or get_device_capability() >= (8, 0))


def is_tf32_supported() -> bool:
    """Whether the current GPU's tensor cores take float32: from compute capability 8.0 on."""
    return is_available() and get_device_capability() >= (8, 0)


def synchronize(device: Any = None) -> None:
    """Wait for all the work on a GPU. Raises KernelError for the first kernel that found bad data; where there is no GPU
    there is nothing to wait for."""
    try:
        found = runtime_device(device)
    except AcceleratorError:
        if is_initialized():
            raise
        return
    found.synchronize()
