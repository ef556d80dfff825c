"""Tensors that Modules register: `from flambeau.nn.parameter import Parameter`."""
from flambeau.frontend.nn.parameter import *  # noqa: F403
from flambeau.frontend.nn.parameter import __all__ as __all__
