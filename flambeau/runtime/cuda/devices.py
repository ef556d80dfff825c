"""The GPUs of this machine, by number: NVIDIA's, or where `config.cuda` says so those of the emulator."""
from __future__ import annotations

from importlib import import_module

from flambeau import config
from flambeau.runtime.cuda.driver import Driver
from flambeau.runtime.cuda.emulated import EmulatedDriver

__all__ = ["driver_of", "emulated_driver"]


def driver_of(number: int) -> Driver:
    """The driver of device `number`. Raises FlambeauError in the driver's words where there is none."""
    if config.cuda == "emulator":
        return emulated_driver(number)
    if number not in _real:
        _real[number] = import_module("flambeau.runtime.cuda.bindings").CudaDriver(number)
    return _real[number]


def emulated_driver(number: int) -> EmulatedDriver:
    """The device of that number which is not there."""
    if number >= _EMULATED:
        raise RuntimeError(f"CUDA error: invalid device ordinal: there are {_EMULATED} emulated devices, not {number + 1}")
    return _emulated.setdefault(number, EmulatedDriver(number))


_EMULATED = 2
_real: dict[int, Driver] = {}
_emulated: dict[int, EmulatedDriver] = {}
