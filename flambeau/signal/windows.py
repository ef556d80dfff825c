"""`fb.signal.windows`, in PyTorch's names."""
from flambeau.frontend.functions.signal_windows import *  # noqa: F403
