"""Modules, losses and their functional forms: `from flambeau import nn`."""
from typing import TYPE_CHECKING, Any

import flambeau
from flambeau.frontend.missing import refusing
from flambeau.frontend.nn import layers as _layers
from flambeau.frontend.nn.layers import *  # noqa: F403
from flambeau.nn import functional, init, parameter, utils

if TYPE_CHECKING:
    from flambeau.nn import attention, modules, parallel


def _compiled(function: Any, *args: Any, **kwargs: Any) -> Any:
    return flambeau.compile(function, *args, **kwargs)


_layers.Module.compiler = staticmethod(_compiled)

if not TYPE_CHECKING:               # to type checkers the star import says the same
    __all__ = ["attention", "functional", "init", "modules", "parallel", "parameter", "utils"]
    __all__ += _layers.__all__
    __getattr__ = refusing("flambeau.nn", loading=("attention", "modules", "parallel"))
