"""`fb.cuda`: GPUs of NVIDIA's, with the names of `torch.cuda`. Where there is none, `is_available()` is False, questions of
memory are answered with 0, and what needs one raises AcceleratorError, a RuntimeError that says what to do."""
from __future__ import annotations

import importlib
from typing import Any

from flambeau.cuda import devices, memory, random, streams
from flambeau.cuda.devices import *  # noqa: F403
from flambeau.cuda.memory import *  # noqa: F403
from flambeau.cuda.random import *  # noqa: F403
from flambeau.cuda.streams import *  # noqa: F403
from flambeau.errors import AcceleratorError, OutOfMemoryError
from flambeau.frontend.missing import missing

__all__ = [*devices.__all__, *memory.__all__, *random.__all__, *streams.__all__, "AcceleratorError",   # noqa: PLE0604
           "OutOfMemoryError"]


def __getattr__(name: str) -> Any:
    if name == "amp":
        return importlib.import_module("flambeau.cuda.amp")
    if name == "_initialized":              # programs that keep generators' states look at it
        return devices.is_initialized()
    raise missing("flambeau.cuda", name)
