"""Recurrent layers and cells."""
from flambeau.frontend.nn.recurrent import *  # noqa: F403
from flambeau.frontend.nn.recurrent_cells import *  # noqa: F403
from flambeau.frontend.nn.sequences import PackedSequence as PackedSequence
