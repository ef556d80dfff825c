"""Gradients made smaller where they are too large."""
from flambeau.frontend.nn.utils.clipping import *  # noqa: F403
from flambeau.frontend.nn.utils.clipping import __all__ as __all__
