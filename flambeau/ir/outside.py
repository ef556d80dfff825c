"""Ops, kinds of kernels and the like that were declared outside of this package.

What is compiled with them is not kept on disk: nothing tells when their code changes.
"""
from __future__ import annotations

import sys
from typing import Final

__all__ = ["declared", "note"]

declared: Final[set[str]] = set()           # by name; that of a kind of kernel begins with "kind "


def note(name: str) -> None:
    """Remember `name`, if the function that called the caller of this is none of this package."""
    if not str(sys._getframe(2).f_globals.get("__name__")).startswith("flambeau."):
        declared.add(name)
