"""Containers of modules and parameters."""
from flambeau.frontend.nn.containers import *  # noqa: F403
from flambeau.frontend.nn.parameter_containers import *  # noqa: F403
