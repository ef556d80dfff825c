"""Batch normalization folded into the layer before it: `from flambeau.nn.utils.fusion import fuse_conv_bn_eval`."""
from flambeau.frontend.nn.fusion import *  # noqa: F403
from flambeau.frontend.nn.fusion import __all__ as __all__
