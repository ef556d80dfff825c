"""The intermediate representation: types, ops, graphs and kernels, their text forms, and what they mean.

    graph = fb.ir.parse("graph @main { ... }")
    fb.ir.verify(graph)
    outputs, states = fb.ir.interpret(graph, arrays)
    print(graph)

The names below load on first use, since most of them load networkx.
"""
from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.dims import Dim
    from flambeau.ir.draw import to_dot, to_mermaid
    from flambeau.ir.graph import Graph, Location, Node, Value
    from flambeau.ir.hash import structural_hash
    from flambeau.ir.interpret import interpret
    from flambeau.ir.kernel_text import parse_kernel, parse_kernels, print_kernel, print_kernels
    from flambeau.ir.parse import parse
    from flambeau.ir.text import print_graph
    from flambeau.ir.types import TensorType, parse_type
    from flambeau.ir.verify import verify

__all__ = [
    "Builder",
    "Dim",
    "Graph",
    "Location",
    "Node",
    "TensorType",
    "Value",
    "interpret",
    "parse",
    "parse_kernel",
    "parse_kernels",
    "parse_type",
    "print_graph",
    "print_kernel",
    "print_kernels",
    "structural_hash",
    "to_dot",
    "to_mermaid",
    "verify",
]

_HOME: Final = {
    **dict.fromkeys(("Graph", "Location", "Node", "Value"), "graph"),
    **dict.fromkeys(("parse_kernel", "parse_kernels", "print_kernel", "print_kernels"), "kernel_text"),
    **dict.fromkeys(("TensorType", "parse_type"), "types"),
    **dict.fromkeys(("to_dot", "to_mermaid"), "draw"),
    "Builder": "builder",
    "Dim": "dims",
    "interpret": "interpret",
    "parse": "parse",
    "print_graph": "text",
    "structural_hash": "hash",
    "verify": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Face(ModuleType):
    """Importing the submodule `parse` must not hide the function `parse`."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
