"""What this is a version of, as programs ask for it: there is no CUDA and no HIP in it."""
from flambeau import torch_version

__version__ = str(torch_version.__version__)
cuda = hip = git_version = None
debug = False
