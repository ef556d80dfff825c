"""Normalization over layers and groups."""
from flambeau.frontend.nn.normalization import *  # noqa: F403
