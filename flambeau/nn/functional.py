"""`import flambeau.nn.functional as F`: layers, activations and losses as functions."""
from flambeau.frontend.functions.activations import *  # noqa: F403
from flambeau.frontend.functions.activations import __all__ as _activations
from flambeau.frontend.functions.convolution import *  # noqa: F403
from flambeau.frontend.functions.convolution import __all__ as _convolution
from flambeau.frontend.functions.indexing import one_hot
from flambeau.frontend.functions.layers import *  # noqa: F403
from flambeau.frontend.functions.layers import __all__ as _layers
from flambeau.frontend.functions.losses import *  # noqa: F403
from flambeau.frontend.functions.losses import __all__ as _losses
from flambeau.frontend.functions.normalization import *  # noqa: F403
from flambeau.frontend.functions.normalization import __all__ as _normalization
from flambeau.frontend.functions.products import linear

__all__ = ["linear", "one_hot"]
__all__ += list(_activations) + list(_convolution) + list(_layers) + list(_losses) + list(_normalization)
