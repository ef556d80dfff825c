"""Gradient clipping, and parameters as one vector."""
from flambeau.frontend.nn.utils import *  # noqa: F403
from flambeau.frontend.nn.utils import __all__ as __all__
