"""Normalized and orthogonal weights, as parametrizations."""
from flambeau.frontend.nn.utils.parametrizations import *  # noqa: F403
from flambeau.frontend.nn.utils.parametrizations import __all__ as __all__
