"""`fb.exp` and its like: a function for each elementwise op of the registry that has a surface (`ir.ops.surface`). Their
names and signatures stand in `pointwise.pyi`, for type checkers and editors."""
from flambeau.frontend.functions.rows import FUNCTIONS

globals().update(FUNCTIONS)
__all__ = list(FUNCTIONS)
