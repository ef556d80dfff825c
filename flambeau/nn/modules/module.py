"""Module, and hooks of all modules."""
from typing import TYPE_CHECKING

from flambeau.frontend.nn import hooks as _hooks
from flambeau.frontend.nn.hooks import *  # noqa: F403
from flambeau.frontend.nn.hooks import RemovableHandle as RemovableHandle
from flambeau.frontend.nn.module import Module as Module

if not TYPE_CHECKING:               # to type checkers the star import says the same
    __all__ = ["Module"]
    __all__ += _hooks.__all__
