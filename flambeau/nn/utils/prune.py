"""Weights with a mask: what was pruned is 0."""
from flambeau.frontend.nn.utils.prune import *  # noqa: F403
from flambeau.frontend.nn.utils.prune import __all__ as __all__
