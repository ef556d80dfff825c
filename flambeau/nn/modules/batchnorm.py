"""Batch normalization, and the classes that they share."""
from flambeau.frontend.nn.batchnorm import *  # noqa: F403
from flambeau.frontend.nn.batchnorm import _BatchNorm as _BatchNorm
from flambeau.frontend.nn.batchnorm import _NormBase as _NormBase
from flambeau.frontend.nn.lazy import LazyBatchNorm1d as LazyBatchNorm1d
from flambeau.frontend.nn.lazy import LazyBatchNorm2d as LazyBatchNorm2d
from flambeau.frontend.nn.lazy import LazyBatchNorm3d as LazyBatchNorm3d
