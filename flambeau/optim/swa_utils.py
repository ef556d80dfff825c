"""Averages of models over training steps, and the learning rate that goes with them."""
from flambeau.frontend.optim.swa_utils import *  # noqa: F403
from flambeau.frontend.optim.swa_utils import __all__ as __all__
