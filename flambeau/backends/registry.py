"""Which backends there are, by name."""
from __future__ import annotations

from typing import Final

from flambeau.backends.base import Backend
from flambeau.backends.cpu import CpuBackend
from flambeau.backends.interpret import InterpretBackend

__all__ = ["backend_of", "register_backend"]

_BACKENDS: Final[dict[str, Backend]] = {"cpu": CpuBackend(), "interpret": InterpretBackend()}


def register_backend(name: str, backend: Backend) -> None:
    """Let `fb.compile(f, backend=name)` find `backend`. A name can be taken over, so that a notebook cell runs twice;
    functions compiled before keep theirs."""
    _BACKENDS[name] = _checked(backend)


def backend_of(backend: str | Backend) -> Backend:
    """The backend of that name; an object is taken as it is. Raises ValueError naming those there are, TypeError for
    what is no backend."""
    if not isinstance(backend, str):
        return _checked(backend)
    if backend not in _BACKENDS:
        raise ValueError(f"there is no backend {backend!r}; choose from {', '.join(sorted(_BACKENDS))}, or add one "
                         "with register_backend(name, backend)")
    return _BACKENDS[backend]


def _checked(backend: Backend) -> Backend:
    if not isinstance(backend, Backend):
        raise TypeError(f"backend: expected a name or a flambeau.backends.Backend, got {backend!r}")
    return backend
