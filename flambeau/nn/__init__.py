"""Modules, losses and their functional forms: `from flambeau import nn`."""
from typing import TYPE_CHECKING

from flambeau.frontend import nn as _nn
from flambeau.frontend.nn import *  # noqa: F403
from flambeau.nn import functional, init, utils

if not TYPE_CHECKING:               # to type checkers the star import says the same
    __all__ = ["functional", "init", "utils"]
    __all__ += _nn.__all__
