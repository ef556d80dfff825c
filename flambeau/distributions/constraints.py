"""`fb.distributions.constraints`: which values parameters and samples may have."""
from flambeau.frontend.distributions.constraints import *  # noqa: F403
from flambeau.frontend.distributions.constraints import __all__ as __all__
