"""Tensors of a module as functions of others."""
from flambeau.frontend.nn.utils.parametrize import *  # noqa: F403
from flambeau.frontend.nn.utils.parametrize import __all__ as __all__
