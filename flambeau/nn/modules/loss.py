"""Losses, and the classes that they share."""
from flambeau.frontend.nn.losses import *  # noqa: F403
from flambeau.frontend.nn.losses import Loss as _Loss  # noqa: F401
from flambeau.frontend.nn.losses import WeightedLoss as _WeightedLoss  # noqa: F401
from flambeau.frontend.nn.margin_losses import *  # noqa: F403
