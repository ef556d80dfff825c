"""Dims made one, and one made several."""
from flambeau.frontend.nn.linear import Flatten as Flatten
from flambeau.frontend.nn.linear import Unflatten as Unflatten
