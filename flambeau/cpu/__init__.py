"""`fb.cpu`: the one device, for programs that ask for it by its name as they ask for `fb.cuda`."""
from __future__ import annotations

import importlib
from typing import Any

from flambeau.frontend.missing import missing


def is_available() -> bool:
    """True."""
    return True


is_initialized = is_available


def device_count() -> int:
    """1."""
    return 1


def current_device() -> str:
    """'cpu'."""
    return "cpu"


def synchronize(device: Any = None) -> None:
    """Nothing to wait for."""


set_device = synchronize


def __getattr__(name: str) -> Any:
    if name == "amp":
        return importlib.import_module("flambeau.cpu.amp")
    raise missing("flambeau.cpu", name)
