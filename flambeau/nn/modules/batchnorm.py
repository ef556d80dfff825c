"""Batch normalization, and the classes that they share."""
from flambeau.frontend.nn.batchnorm import *  # noqa: F403
from flambeau.frontend.nn.batchnorm import _BatchNorm as _BatchNorm
from flambeau.frontend.nn.batchnorm import _NormBase as _NormBase
