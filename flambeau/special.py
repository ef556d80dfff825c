"""`fb.special`: functions of mathematics beyond the common ones, each a row of the registry. Their signatures stand in
`special.pyi`."""
from flambeau.frontend.functions.rows import SPECIAL

globals().update(SPECIAL)
__all__ = list(SPECIAL)
