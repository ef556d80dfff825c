"""Upsampling."""
from flambeau.frontend.nn.resampling import *  # noqa: F403
