"""Convolution layers, and the classes that they share."""
from flambeau.frontend.nn.conv import *  # noqa: F403
from flambeau.frontend.nn.conv import _ConvNd as _ConvNd
from flambeau.frontend.nn.conv import _ConvTransposeNd as _ConvTransposeNd
from flambeau.frontend.nn.lazy import LazyConv1d as LazyConv1d
from flambeau.frontend.nn.lazy import LazyConv2d as LazyConv2d
from flambeau.frontend.nn.lazy import LazyConv3d as LazyConv3d
from flambeau.frontend.nn.lazy import LazyConvTranspose1d as LazyConvTranspose1d
from flambeau.frontend.nn.lazy import LazyConvTranspose2d as LazyConvTranspose2d
from flambeau.frontend.nn.lazy import LazyConvTranspose3d as LazyConvTranspose3d
