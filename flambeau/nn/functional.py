"""`import flambeau.nn.functional as F`: layers, activations and losses as functions."""
from typing import TYPE_CHECKING

from flambeau.frontend.functions import (
    activations,
    adaptive_pooling,
    attention,
    convolution,
    embeddings,
    grids,
    local_response,
    losses,
    margin_losses,
    noise,
    normalization,
    padding,
    pooling,
    resampling,
    shuffles,
    unpooling,
    windows,
)
from flambeau.frontend.functions.activations import *  # noqa: F403
from flambeau.frontend.functions.adaptive_pooling import *  # noqa: F403
from flambeau.frontend.functions.attention import *  # noqa: F403
from flambeau.frontend.functions.convolution import *  # noqa: F403
from flambeau.frontend.functions.ctc import ctc_loss
from flambeau.frontend.functions.distances import cosine_similarity, pairwise_distance, pdist
from flambeau.frontend.functions.embeddings import *  # noqa: F403
from flambeau.frontend.functions.gathering import one_hot
from flambeau.frontend.functions.grids import *  # noqa: F403
from flambeau.frontend.functions.inplace import celu_, elu_, hardtanh_, leaky_relu_, relu_, selu_, threshold_
from flambeau.frontend.functions.local_response import *  # noqa: F403
from flambeau.frontend.functions.losses import *  # noqa: F403
from flambeau.frontend.functions.margin_losses import *  # noqa: F403
from flambeau.frontend.functions.noise import *  # noqa: F403
from flambeau.frontend.functions.normalization import *  # noqa: F403
from flambeau.frontend.functions.padding import *  # noqa: F403
from flambeau.frontend.functions.pooling import *  # noqa: F403
from flambeau.frontend.functions.products import bilinear, linear
from flambeau.frontend.functions.resampling import *  # noqa: F403
from flambeau.frontend.functions.shuffles import *  # noqa: F403
from flambeau.frontend.functions.unpooling import *  # noqa: F403
from flambeau.frontend.functions.windows import *  # noqa: F403
from flambeau.frontend.missing import refusing

_FILES = (activations, adaptive_pooling, attention, convolution, embeddings, grids, local_response, losses, margin_losses,
          noise, normalization, padding, pooling, resampling, shuffles, unpooling, windows)
if not TYPE_CHECKING:               # to type checkers the star imports say the same
    __all__ = ["bilinear", "celu_", "cosine_similarity", "ctc_loss", "elu_", "hardtanh_", "leaky_relu_", "linear",
               "one_hot", "pairwise_distance", "pdist", "relu_", "selu_", "threshold_"]
    for _file in _FILES:
        __all__ += _file.__all__
    __getattr__ = refusing(__name__)
