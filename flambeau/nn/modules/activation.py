"""Activations and softmaxes."""
from flambeau.frontend.nn.activations import *  # noqa: F403
from flambeau.frontend.nn.attention import *  # noqa: F403
from flambeau.frontend.nn.rectifiers import *  # noqa: F403
from flambeau.frontend.nn.softmax import *  # noqa: F403
