"""Linear layers."""
from flambeau.frontend.nn.lazy import LazyLinear as LazyLinear
from flambeau.frontend.nn.linear import *  # noqa: F403
from flambeau.frontend.nn.linear import NonDynamicallyQuantizableLinear as NonDynamicallyQuantizableLinear
