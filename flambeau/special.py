"""`fb.special`: functions of mathematics beyond the common ones: rows of the registry, and what is no single row. Their
signatures stand in `special.pyi`."""
from flambeau.frontend.functions import rows, special_functions

SPECIAL = rows.SPECIAL | special_functions.SPECIAL
globals().update(SPECIAL)
__all__ = list(SPECIAL)
