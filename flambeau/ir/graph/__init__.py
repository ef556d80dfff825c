"""The graph level: typed SSA (`structure.py`), its text both ways, its rules and its meaning."""
from flambeau.ir.graph.structure import Graph, Input, Node, Value, clone, inline
from flambeau.ir.location import Location

__all__ = ["Graph", "Input", "Location", "Node", "Value", "clone", "inline"]
