"""Instance normalization, and the classes that they share."""
from flambeau.frontend.nn.instancenorm import *  # noqa: F403
from flambeau.frontend.nn.instancenorm import _InstanceNorm as _InstanceNorm
