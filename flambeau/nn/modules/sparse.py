"""Tables of rows."""
from flambeau.frontend.nn.embedding import *  # noqa: F403
