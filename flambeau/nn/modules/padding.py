"""Padding."""
from flambeau.frontend.nn.padding import *  # noqa: F403
