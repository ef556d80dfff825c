"""What this is a version of, as programs ask for it: there is no CUDA and no HIP in it."""
from importlib import metadata

__version__ = metadata.version("flambeau")
cuda = hip = git_version = None
debug = False
