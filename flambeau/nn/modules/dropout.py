"""Dropout, and the class that all its forms share."""
from flambeau.frontend.nn.dropout import *  # noqa: F403
from flambeau.frontend.nn.dropout import _Dropout as _DropoutNd  # noqa: F401
