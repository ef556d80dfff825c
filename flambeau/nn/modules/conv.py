"""Convolution layers, and the classes that they share."""
from flambeau.frontend.nn.conv import *  # noqa: F403
from flambeau.frontend.nn.conv import _ConvNd as _ConvNd
from flambeau.frontend.nn.conv import _ConvTransposeNd as _ConvTransposeNd
