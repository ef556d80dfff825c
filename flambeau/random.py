"""`fb.random`: seeds, and the state of random numbers."""
from flambeau.frontend.missing import refusing
from flambeau.frontend.random import *  # noqa: F403
from flambeau.frontend.random import __all__ as __all__

__getattr__ = refusing(__name__)
