"""Methods that change the shape of the tensor itself: `x.unsqueeze_(0)`, `x.t_()`, `x.resize_(2, 3)`.

A tensor's memory stays; what the tensor is of it becomes a view. Views that were taken of it before keep what they show;
writes through them that autograd or a trace would have to follow raise, since the tensor that they are views of is gone.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from flambeau.errors import ShapeError, TraceError
from flambeau.frontend.active import active
from flambeau.frontend.epoch import epoch
from flambeau.frontend.functions import views, windows
from flambeau.frontend.functions.coerce import one_tensor, sizes_of
from flambeau.frontend.tape.autograd import grad_mode, record_of
from flambeau.frontend.tape.dispatch import up_to_date
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir.types import TensorType


def become(self: Tensor, name: str, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """Let `self` be the view of itself that `function` gives. Raises RuntimeError for a leaf that requires grad,
    TraceError for a tensor from outside of a trace."""
    if active.tracer is not None and active.tracer.is_from_outside(self):
        raise TraceError(f"{name}: the shape of a tensor from outside was changed in a compiled function",
                         where=describe(user_location()), hint="use the function that gives a view, without the `_`")
    up_to_date(self)
    if self._requires_grad and self._record is None and grad_mode.enabled:
        raise RuntimeError(f"{name}: a leaf Variable that requires grad is being used in an in-place operation.")
    before = Tensor._make(self._storage, self._type, self._array, self._base, self._chain)
    before._history, before._pinned = self._history, self._pinned
    record_of(before, self._record, self._index, self._requires_grad)
    view = function(before, *args, **kwargs)
    if view is before:
        return self
    self._storage, self._type, self._array = view._storage, view._type, view._array
    self._base, self._chain, self._history, self._pinned = view._base, view._chain, view._history, view._pinned
    self._record, self._index, self._requires_grad = view._record, view._index, view._requires_grad
    epoch.bump()
    return self


def _becoming(name: str, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return become(self, name, function, *args, **kwargs)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"{name[:-1]}(), of this tensor itself: its shape changes, its memory stays. Returns the tensor."
    return method


def resize_(self: Tensor, *sizes: Any, memory_format: Any = None) -> Tensor:
    """Give the tensor another shape, over the same memory where it is as long; elements that are new are not set.

    Raises RuntimeError for a tensor that requires grad, ShapeError for sizes that no memory holds, TraceError in a
    compiled function."""
    shape = sizes_of(sizes, "resize_")
    if mistake := TensorType(shape, self.dtype).size_mistake:
        raise ShapeError(f"resize_: {mistake}")
    if active.tracer is not None:
        raise TraceError("resize_: the shape of a tensor was changed in a compiled function",
                         where=describe(user_location()), hint="make a new tensor of the shape")
    if self.requires_grad:
        raise RuntimeError("cannot resize variables that require grad")
    old, is_plain = self._data(), self.is_contiguous()
    count = int(np.prod(shape, dtype=np.int64))
    if old.size == count and is_plain:
        return become(self, "resize_", views.view, *shape)
    array = np.zeros(shape, old.dtype)
    kept = min(old.size, count)
    array.reshape(-1)[:kept] = old.reshape(-1)[:kept]
    self.data = placed(Tensor._from_array(array, self.dtype), place_like(self))
    return self


def resize_as_(self: Tensor, the_template: Tensor, memory_format: Any = None) -> Tensor:
    """resize_() to the shape of another tensor."""
    return resize_(self, *one_tensor("resize_as_", the_template).shape)


def set_(self: Tensor, source: Tensor | None = None, storage_offset: int = 0, size: Any = None,
         stride: Any = None) -> Tensor:
    """Let the tensor be over the memory of another, of its dtype; without one, empty."""
    if source is not None and not isinstance(source, Tensor):
        raise NotImplementedError("set_: takes a tensor; storages have no memory of their own to be set to")
    given = source if source is not None else placed(
        Tensor._from_array(np.empty(0, self.dtype.storage), self.dtype), place_like(self))
    if given.dtype is not self.dtype:
        raise RuntimeError(f"set_: expected a tensor of {self.dtype!r}, got {given.dtype!r}")
    if size is not None:
        given = windows.as_strided(given, size, stride, storage_offset)
    self.data = given
    return self


METHODS: Final = {f"{name}_": _becoming(f"{name}_", getattr(views, name)) for name in (
    "squeeze", "swapaxes", "swapdims", "t", "transpose", "unsqueeze")} | {
    "as_strided_": _becoming("as_strided_", windows.as_strided),
    "resize_": resize_, "resize_as_": resize_as_, "set_": set_}
