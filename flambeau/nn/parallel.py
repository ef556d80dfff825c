"""`nn.parallel`: models on several devices, of which there are none: DataParallel runs its module."""
from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.frontend.nn.containers import DataParallel
from flambeau.frontend.nn.module import Module


class DistributedDataParallel(Module):
    """Raises UnsupportedError where one is made: there is one process. `isinstance` may ask for it."""

    def __init__(self, module: Module, *args: Any, **kwargs: Any):
        raise UnsupportedError("DistributedDataParallel: there is one process, which trains the module itself",
                               hint="wrap the module only if distributed.is_initialized(), which is False here")


__all__ = ["DataParallel", "DistributedDataParallel"]
