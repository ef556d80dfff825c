"""`fb.signal`: what signals are looked at through."""
from flambeau.signal import windows

__all__ = ["windows"]
