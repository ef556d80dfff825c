"""`fb.utils.checkpoint`: parts of the forward that are computed again in the backward."""
from typing import Any

from flambeau.frontend.functions.calls import called
from flambeau.frontend.functions.checkpointing import checkpoint as _checkpoint
from flambeau.frontend.functions.checkpointing import checkpoint_sequential as _checkpoint_sequential
from flambeau.frontend.functions.checkpointing import noop_context_fn
from flambeau.frontend.missing import refusing
from flambeau.frontend.tensor.tensor import Tensor

checkpoint, checkpoint_sequential = called(_checkpoint), called(_checkpoint_sequential)


def get_device_states(*args: Any) -> tuple[list[int], list[Tensor]]:
    """The devices of the arguments, and the states of their generators: none of either, as all lie on the CPU."""
    return [], []


def set_device_states(devices: Any, states: Any, *, device_type: str | None = None) -> None:
    """Nothing to set: no device has a generator of its own."""


__all__ = ["checkpoint", "checkpoint_sequential", "get_device_states", "noop_context_fn",
           "set_device_states"]
__getattr__ = refusing(__name__)
