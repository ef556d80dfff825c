"""Modules, losses and their functional forms: `from flambeau import nn`."""
from flambeau.frontend.nn import *  # noqa: F403
from flambeau.frontend.nn import __all__ as _modules
from flambeau.nn import functional, init, utils

__all__ = list(_modules)
__all__ += ["functional", "init", "utils"]
