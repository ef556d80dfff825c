"""Transformers, their layers and stacks."""
from flambeau.frontend.nn.transformer import *  # noqa: F403
