"""The kinds of kernel there are. Each is one module with a `KIND`, which holds or ties together all that is special
about it: its kernel, how ops become one, and how every backend schedules and emits it.

Adding one is a file here and its name in `KINDS`; docs/extending.md shows the steps.
"""
from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from flambeau.ir.kinds import Kind, register_kind

KINDS: Final = ("loop", "contraction", "scatter", "sort", "library")


def _register(name: str) -> None:
    @cache
    def load() -> Kind:
        kind: Kind = import_module(f"{__name__}.{name}").KIND
        return kind

    register_kind(name, load)


for _name in KINDS:
    _register(_name)
