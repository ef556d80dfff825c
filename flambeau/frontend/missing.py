"""Names of PyTorch's that are not there: asking for one raises an error that says so, and hasattr() is False."""
from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection
from typing import Any, Final

from flambeau.errors import meant


class MissingError(AttributeError, NotImplementedError):
    """What is asked for is not implemented. `hasattr` and `except NotImplementedError` both take it as what it is."""


def missing(module: str, name: str) -> MissingError:
    """The error for a name that a module has not: perhaps one of its own is meant."""
    like = meant(name, dir(sys.modules[module]), 0.75) if module in sys.modules else None
    why = "it is not implemented" if like is None else f"did you mean {like!r}?"
    return MissingError(f"module {module!r} has no attribute {name!r}: {why}")


def refusing(module: str, *, loading: Collection[str] = ()) -> Callable[[str], Any]:
    """A module's `__getattr__`, for one all of whose names are there from the start, but for those of its own modules that
    are loaded when they are asked for."""
    def __getattr__(name: str) -> Any:
        if name not in loading:
            raise missing(module, name)
        return importlib.import_module(f"{module}.{name}")

    return __getattr__


class MissingMethod:
    """A method of PyTorch's tensors that ours do not have."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        raise MissingError(f"'Tensor' object has no attribute {self.name!r}: it is not implemented")


METHODS: Final = {name: MissingMethod(name) for name in """
    as_subclass ccol_indices chalf col_indices crow_indices dequantize dim_order grad_dtype
    hash_tensor indices int_repr ipu mtia q_per_channel_axis q_per_channel_scales
    q_per_channel_zero_points q_scale q_zero_point qscheme reinforce resize_as_sparse_ row_indices smm sparse_mask
    sparse_resize_ sparse_resize_and_clear_ sspaddmm storage_type to_mkldnn to_padded_tensor to_sparse to_sparse_bsc
    to_sparse_bsr to_sparse_coo to_sparse_csc to_sparse_csr values xpu""".split()}
