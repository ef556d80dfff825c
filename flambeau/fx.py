"""`fb.fx`: what PyTorch programs mark for symbolic tracing. Nothing is traced so: `fb.compile` looks into all of it."""
from __future__ import annotations

from typing import TypeVar

from flambeau.frontend.missing import refusing

T = TypeVar("T")


def wrap(fn_or_name: T) -> T:
    """What is marked, as it is."""
    return fn_or_name


__getattr__ = refusing(__name__)
