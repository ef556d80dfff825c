"""Modules once more, where PyTorch keeps them: `from flambeau.nn.modules.module import Module`."""
from typing import TYPE_CHECKING

from flambeau.frontend.missing import refusing
from flambeau.frontend.nn import layers as _nn
from flambeau.frontend.nn.layers import *  # noqa: F403

if TYPE_CHECKING:
    from flambeau.nn.modules import (
        activation,
        adaptive,
        batchnorm,
        channelshuffle,
        container,
        conv,
        distance,
        dropout,
        flatten,
        fold,
        instancenorm,
        lazy,
        linear,
        loss,
        module,
        normalization,
        padding,
        pixelshuffle,
        pooling,
        rnn,
        sparse,
        transformer,
        upsampling,
        utils,
    )
else:                               # to type checkers the star import says the same
    __all__ = ["activation", "adaptive", "batchnorm", "channelshuffle", "container", "conv", "distance", "dropout",
               "flatten", "fold", "instancenorm", "lazy", "linear", "loss", "module", "normalization", "padding",
               "pixelshuffle", "pooling", "rnn", "sparse", "transformer", "upsampling", "utils"]
    __getattr__ = refusing(__name__, loading=tuple(__all__))
    __all__ += _nn.__all__
