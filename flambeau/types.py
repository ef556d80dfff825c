"""`fb.types`: names for annotations."""
from __future__ import annotations

import builtins

from flambeau.frontend.tensor.device import Device as _device
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir.dtypes import DType as _dtype

Number = builtins.int | builtins.float | builtins.bool
Device = _device | str | builtins.int | None
_size = Size | list[builtins.int] | tuple[builtins.int, ...]
_TensorOrTensors = Tensor | tuple[Tensor, ...]
_int, _float, _bool = builtins.int, builtins.float, builtins.bool

__all__ = ["Device", "Number", "_TensorOrTensors", "_bool", "_device", "_dtype", "_float", "_int", "_size"]
