"""`fb.safetensors`: named tensors in the safetensors format, as the library of that name has it for PyTorch."""
from flambeau.frontend.exchange.safetensors import *  # noqa: F403
from flambeau.frontend.exchange.safetensors import __all__ as __all__
