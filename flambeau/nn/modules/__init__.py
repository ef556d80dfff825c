"""Modules once more, where PyTorch keeps them: `from flambeau.nn.modules.module import Module`."""
from typing import TYPE_CHECKING

from flambeau.frontend import nn as _nn
from flambeau.frontend.nn import *  # noqa: F403
from flambeau.nn.modules import batchnorm, conv, instancenorm, lazy, module  # type: ignore[no-redef]

if not TYPE_CHECKING:               # to type checkers the star import says the same
    __all__ = ["batchnorm", "conv", "instancenorm", "lazy", "module"]
    __all__ += _nn.__all__
