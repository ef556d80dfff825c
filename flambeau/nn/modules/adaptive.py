"""The softmax over many classes."""
from flambeau.frontend.nn.adaptive_softmax import *  # noqa: F403
