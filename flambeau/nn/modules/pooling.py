"""Pooling."""
from flambeau.frontend.nn.pooling import *  # noqa: F403
