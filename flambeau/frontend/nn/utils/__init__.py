"""nn.utils: gradient clipping, parameters as one vector, normalized weights."""
from typing import TYPE_CHECKING

from flambeau.frontend.nn.utils import clipping, norms, vectors
from flambeau.frontend.nn.utils.clipping import *  # noqa: F403
from flambeau.frontend.nn.utils.norms import *  # noqa: F403
from flambeau.frontend.nn.utils.vectors import *  # noqa: F403

if not TYPE_CHECKING:               # to type checkers the star imports say the same
    __all__ = []
    for _file in (clipping, norms, vectors):
        __all__ += _file.__all__
