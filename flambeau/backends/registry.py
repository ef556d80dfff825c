"""Which backends there are: by name, and by the device whose tensors they compute with."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

from flambeau.backends.base import Backend
from flambeau.backends.cpu import CpuBackend
from flambeau.backends.interpret import InterpretBackend
from flambeau.errors import UnsupportedError
from flambeau.ir.outside import note

__all__ = ["backend_of", "backend_on", "device_of", "register_backend"]

_BACKENDS: Final[dict[str, Backend]] = {"cpu": CpuBackend(), "interpret": InterpretBackend()}
_LATER: Final = {name: ("flambeau.backends.cuda.backend", kind)                     # loaded when asked for
                 for name, kind in (("cuda", "NvidiaBackend"), ("cuda-emulator", "EmulatedCudaBackend"))}
_NAME_ON: Final[dict[str, str]] = {"cpu": "cpu"}            # what compiles for a device where nothing else is asked for


def register_backend(name: str, backend: Backend, device: str | None = None) -> None:
    """Let `fb.compile(f, backend=name)` find `backend`. device: where tensors lie that it compiles for unasked, such as
    "cuda", which stands for "cuda:0", "cuda:1" as well. A name can be taken over, so that a notebook cell runs twice, and
    a device too; functions compiled before keep theirs."""
    _BACKENDS[name] = _checked(backend)
    if "cpu" in (name, device):
        note("backend cpu")
    if device is not None:
        _NAME_ON[device] = name


def backend_of(backend: str | Backend) -> Backend:
    """The backend of that name; an object is taken as it is. Raises ValueError naming those there are, TypeError for
    what is no backend."""
    if not isinstance(backend, str):
        return _checked(backend)
    if backend not in _BACKENDS and backend in _LATER:
        module, name = _LATER[backend]
        _BACKENDS[backend] = getattr(import_module(module), name)()
    if backend not in _BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; choose from {', '.join(sorted({*_BACKENDS, *_LATER}))}, or add "
                         "one with register_backend(name, backend)")
    return _BACKENDS[backend]


def backend_on(device: str, where: str | None = None) -> Backend:
    """What compiles for tensors on `device`. Raises UnsupportedError naming the devices there are."""
    kind, _, number = device.partition(":")
    name = _NAME_ON.get(device) or _NAME_ON.get(kind)
    if name is None and kind == "cuda":
        return import_module("flambeau.backends.cuda.backend").backend_of_device(int(number or 0))
    if name is None:
        known = ", ".join(sorted({*_NAME_ON, "cuda"}))
        raise UnsupportedError(f"no backend computes on device {device!r}; devices are {known}",
                               where=where, hint=f"register_backend(name, backend, device={device!r}), or say backend=")
    return backend_of(name)


def device_of(tensors: Sequence[tuple[str, str]], where: Callable[[int], str | None]) -> str:
    """The one device of tensors given as (what they are called, their device); "cpu" where there are none. Raises
    UnsupportedError naming the first that lies elsewhere than those before it. where: a line of the user's that has to do
    with the tensor of that number."""
    for number, (name, device) in enumerate(tensors):
        first, wanted = tensors[0]
        if device != wanted:
            raise UnsupportedError(f"{name} lies on {device!r}, but {first} on {wanted!r}: a compiled function computes on "
                                   "one device", where=where(number), hint=f"move {name} there with to({wanted!r})")
    return tensors[0][1] if tensors else "cpu"


def _checked(backend: Backend) -> Backend:
    if not isinstance(backend, Backend):
        raise TypeError(f"backend: expected a name or a flambeau.backends.Backend, got {backend!r}")
    return backend
