"""Every module there is, as users may make them."""
from typing import TYPE_CHECKING

from flambeau.frontend.functions.calls import constructors
from flambeau.frontend.nn.activations import *  # noqa: F403
from flambeau.frontend.nn.adaptive_softmax import *  # noqa: F403
from flambeau.frontend.nn.attention import *  # noqa: F403
from flambeau.frontend.nn.batchnorm import *  # noqa: F403
from flambeau.frontend.nn.containers import *  # noqa: F403
from flambeau.frontend.nn.conv import *  # noqa: F403
from flambeau.frontend.nn.dropout import *  # noqa: F403
from flambeau.frontend.nn.embedding import *  # noqa: F403
from flambeau.frontend.nn.instancenorm import *  # noqa: F403
from flambeau.frontend.nn.lazy import *  # noqa: F403
from flambeau.frontend.nn.linear import *  # noqa: F403
from flambeau.frontend.nn.losses import *  # noqa: F403
from flambeau.frontend.nn.margin_losses import *  # noqa: F403
from flambeau.frontend.nn.module import Module as Module
from flambeau.frontend.nn.normalization import *  # noqa: F403
from flambeau.frontend.nn.padding import *  # noqa: F403
from flambeau.frontend.nn.parameter import *  # noqa: F403
from flambeau.frontend.nn.parameter_containers import *  # noqa: F403
from flambeau.frontend.nn.pooling import *  # noqa: F403
from flambeau.frontend.nn.rectifiers import *  # noqa: F403
from flambeau.frontend.nn.recurrent import *  # noqa: F403
from flambeau.frontend.nn.recurrent_cells import *  # noqa: F403
from flambeau.frontend.nn.resampling import *  # noqa: F403
from flambeau.frontend.nn.softmax import *  # noqa: F403
from flambeau.frontend.nn.transformer import *  # noqa: F403

_CLASSES = [name for name, value in globals().items() if isinstance(value, type)]
constructors(globals(), [name for name in _CLASSES if not name.endswith(("Buffer", "Module", "Parameter"))])
if not TYPE_CHECKING:               # to type checkers the star imports say the same
    __all__ = list(_CLASSES)
