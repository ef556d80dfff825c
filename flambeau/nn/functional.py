"""`import flambeau.nn.functional as F`: layers, activations and losses as functions."""
from typing import TYPE_CHECKING

from flambeau.frontend.functions import activations, convolution, layers, losses, normalization
from flambeau.frontend.functions.activations import *  # noqa: F403
from flambeau.frontend.functions.convolution import *  # noqa: F403
from flambeau.frontend.functions.indexing import one_hot
from flambeau.frontend.functions.layers import *  # noqa: F403
from flambeau.frontend.functions.losses import *  # noqa: F403
from flambeau.frontend.functions.normalization import *  # noqa: F403
from flambeau.frontend.functions.products import linear

_FILES = (activations, convolution, layers, losses, normalization)
if not TYPE_CHECKING:               # to type checkers the star imports say the same
    __all__ = ["linear", "one_hot"]
    for _file in _FILES:
        __all__ += _file.__all__
