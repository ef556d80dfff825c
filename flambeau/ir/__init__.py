"""The intermediate representation: types, ops, graphs and kernels, their text forms, and what they mean.

    graph = fb.ir.parse("graph @main { ... }")
    fb.ir.verify(graph)
    outputs, states = fb.ir.interpret(graph, arrays)
    print(graph)

The names below load on first use: eager programs need few of them.
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.dims import Dim
    from flambeau.ir.graph import Graph, Location, Node, Value
    from flambeau.ir.graph.draw import to_dot, to_mermaid
    from flambeau.ir.graph.hash import structural_hash
    from flambeau.ir.graph.interpreter import interpret
    from flambeau.ir.graph.parser import parse
    from flambeau.ir.graph.text import print_graph
    from flambeau.ir.graph.verifier import verify
    from flambeau.ir.kernel.text import parse_kernel, parse_kernels, print_kernel, print_kernels
    from flambeau.ir.types import TensorType, parse_type

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
    **dict.fromkeys(("parse_kernel", "parse_kernels", "print_kernel", "print_kernels"), "kernel.text"),
    **dict.fromkeys(("TensorType", "parse_type"), "types"),
    **dict.fromkeys(("to_dot", "to_mermaid"), "graph.draw"),
    "Builder": "builder",
    "Dim": "dims",
    "interpret": "graph.interpreter",
    "parse": "graph.parser",
    "print_graph": "graph.text",
    "structural_hash": "graph.hash",
    "verify": "graph.verifier",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
