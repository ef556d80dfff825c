"""Which implementation of attention runs: `from flambeau.nn.attention import SDPBackend, sdpa_kernel`."""
from flambeau.frontend.nn.attention_backends import *  # noqa: F403
from flambeau.frontend.nn.attention_backends import __all__ as __all__
