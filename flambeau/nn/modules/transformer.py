"""Transformers, their layers and stacks."""
from flambeau.frontend.nn.transformer import *  # noqa: F403
from flambeau.frontend.nn.transformer import _get_activation_fn as _get_activation_fn
from flambeau.frontend.nn.transformer import _get_clones as _get_clones
