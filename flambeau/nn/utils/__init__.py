"""Gradient clipping, parameters as one vector, weights that are computed, fused batch normalization, and sequences of
different lengths."""
from typing import TYPE_CHECKING

from flambeau.frontend.missing import refusing
from flambeau.frontend.nn import fusion as _fusion
from flambeau.frontend.nn import utils as _utils
from flambeau.frontend.nn.fusion import *  # noqa: F403
from flambeau.frontend.nn.utils import *  # noqa: F403

if TYPE_CHECKING:
    from flambeau.nn.utils import (
        clip_grad,
        convert_parameters,
        fusion,
        parametrizations,
        parametrize,
        prune,
        rnn,
        stateless,
    )
else:                               # to type checkers the star imports say the same
    __all__ = ["clip_grad", "convert_parameters", "fusion", "parametrizations", "parametrize", "prune", "rnn", "stateless"]
    __getattr__ = refusing(__name__, loading=tuple(__all__))
    __all__ += _fusion.__all__ + _utils.__all__
