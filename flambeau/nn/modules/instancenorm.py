"""Instance normalization, and the classes that they share."""
from flambeau.frontend.nn.instancenorm import *  # noqa: F403
from flambeau.frontend.nn.instancenorm import _InstanceNorm as _InstanceNorm
from flambeau.frontend.nn.lazy import LazyInstanceNorm1d as LazyInstanceNorm1d
from flambeau.frontend.nn.lazy import LazyInstanceNorm2d as LazyInstanceNorm2d
from flambeau.frontend.nn.lazy import LazyInstanceNorm3d as LazyInstanceNorm3d
