"""Initial values of parameters: `nn.init.kaiming_uniform_(weight)`."""
from flambeau.frontend.nn.init import *  # noqa: F403
from flambeau.frontend.nn.init import __all__ as __all__
