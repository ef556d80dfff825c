"""`fb.profiler`: programs may name their parts, to no effect. docs/inspect.md tells what compiled functions do."""
from __future__ import annotations

import contextlib

from flambeau.frontend.missing import refusing


class record_function(contextlib.ContextDecorator):
    """A part of a program, with a name: a context, or a decorator. It does nothing."""

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args

    def __enter__(self) -> record_function:
        return self

    def __exit__(self, *raised: object) -> None:
        pass


__getattr__ = refusing(__name__)
