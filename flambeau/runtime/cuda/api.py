"""The driver's functions, NVIDIA's through cuda-bindings or the simulated ones, and its answers as values or errors."""
from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

from flambeau import config
from flambeau.errors import AcceleratorError, OutOfMemoryError
from flambeau.runtime.cuda.simulated import SimulatedDriver

__all__ = ["INSTALL", "OLDEST_DRIVER", "checked", "count_devices", "emulated_api", "nvidia_api", "why_unavailable"]

INSTALL: Final = 'pip install "flambeau[cuda]"'
OLDEST_DRIVER: Final = 13000            # 13.0, as cuDriverGetVersion says it: what the code that we make needs
_EMULATED: Final = SimulatedDriver()


def emulated_api() -> SimulatedDriver:
    """Whose kernels the emulator runs: `kernels` gets them."""
    _EMULATED.cuInit(0)
    return _EMULATED


def nvidia_api() -> Any:
    """`cuda.bindings.driver`, initialised. Raises AcceleratorError with one sentence of what is missing, and what to do."""
    if "api" not in _found:
        if find_spec("cuda") is None or find_spec("cuda.bindings") is None:
            raise AcceleratorError("CUDA needs the package cuda-bindings, which is not installed", hint=INSTALL)
        _found["api"] = _initialised(import_module("cuda.bindings.driver"))
    return _found["api"]


def _initialised(cu: Any) -> Any:
    try:
        status, *_ = cu.cuInit(0)
    except Exception as error:              # the package finds no driver: its errors have no base of their own
        raise AcceleratorError(f"Found no NVIDIA driver on your system: {error}",
                               hint="install the driver of the GPU, from https://www.nvidia.com/drivers") from None
    if status:
        raise AcceleratorError(f"CUDA can't be used: {said(cu, status)}")
    version = checked(cu, cu.cuDriverGetVersion())
    if version < OLDEST_DRIVER:
        raise AcceleratorError(f"The NVIDIA driver on your system is too old: it is for CUDA {_shown(version)}, and "
                               f"{_shown(OLDEST_DRIVER)} is needed", hint="update it, from https://www.nvidia.com/drivers")
    return cu


def why_unavailable() -> AcceleratorError | None:
    """None where a device can be used; else the error that using one raises."""
    try:
        if not count_devices():
            return AcceleratorError("No CUDA GPUs are available")
    except AcceleratorError as error:
        return error
    return None


def count_devices() -> int:
    """Raises AcceleratorError where the driver can't be used."""
    cu: Any = emulated_api() if config.cuda == "emulator" else nvidia_api()
    return int(checked(cu, cu.cuDeviceGetCount()))


def checked(cu: Any, answer: tuple[Any, ...]) -> Any:
    """What a function of the driver gave: nothing, a value, or a tuple. Raises AcceleratorError with the driver's words,
    OutOfMemoryError where memory ends."""
    status = answer[0]
    if status:
        kind = OutOfMemoryError if status == cu.CUresult.CUDA_ERROR_OUT_OF_MEMORY else AcceleratorError
        raise kind(f"CUDA error: {said(cu, status)}")
    return answer[1] if len(answer) == 2 else answer[1:] or None


def said(cu: Any, status: Any) -> str:
    """A status in the driver's words."""
    try:
        name, words = cu.cuGetErrorName(status)[1], cu.cuGetErrorString(status)[1]
        return f"{words.decode()} ({name.decode()})"
    except Exception:                       # a driver older than the package may not know the status
        return str(status)


def _shown(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


_found: dict[str, Any] = {}
