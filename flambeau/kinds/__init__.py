"""The kinds of kernel there are. Each is one module with a `KIND`, which holds or ties together all that is special
about it: its kernel, how ops become one, and how every backend schedules and emits it.

Adding one is a file here and its name in `KINDS`; docs/extending.md shows the steps.
"""
from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Final

from flambeau.ir.kinds import Kind, register_kind
from flambeau.runtime.host_functions import register_host_functions

KINDS: Final = ("loop", "contraction", "scatter", "join", "sort", "library", "attention", "print", "callback")


def _register(name: str) -> None:
    @cache
    def load() -> Kind:
        kind: Kind = import_module(f"{__name__}.{name}").KIND
        return kind

    def host(symbol: str) -> int:
        found = load().implementation("cpu").host
        if found is None:
            raise LookupError(symbol)
        return found(symbol)

    register_kind(name, load)
    register_host_functions(name, host)


for _name in KINDS:
    _register(_name)
