"""Sequences of different lengths: packed, padded, and back."""
from flambeau.frontend.nn.sequences import *  # noqa: F403
from flambeau.frontend.nn.sequences import __all__ as __all__
