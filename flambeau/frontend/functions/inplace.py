"""Methods that end in `_`: the out-of-place result, written over the tensor."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flambeau.errors import ShapeError
from flambeau.frontend.functions import (
    activations,
    arithmetic,
    compound_products,
    elementwise,
    gathering,
    pointwise,
    products,
    reductions,
    scattering,
    special_functions,
    views,
)
from flambeau.frontend.functions.calls import called
from flambeau.frontend.functions.coerce import (
    Number,
    cast,
    category,
    expanded,
    one_tensor,
    stored,
    user_line,
)
from flambeau.frontend.functions.marks import in_place_of
from flambeau.frontend.tape.writes import assign_, before, update_
from flambeau.frontend.tensor.tensor import Tensor


def overwrite(target: Tensor, value: Tensor, name: str) -> Tensor:
    """Make target's elements those of `value`, which must have its shape (or broadcast to it) and convert to its
    dtype without changing category. Raises RuntimeError otherwise."""
    return assign_(target, _fitted(target, value, name))


def _fitted(target: Tensor, value: Tensor, name: str) -> Tensor:
    wanted, found = target._type, value._type
    if found.dtype is not wanted.dtype:
        if category(found.dtype) > category(wanted.dtype):
            raise RuntimeError(f"{name}: result type {found.dtype!r} can't be cast to the tensor's dtype "
                               f"{wanted.dtype!r}")
        value = cast(value, wanted.dtype)
    if found.shape != wanted.shape:
        if len(found.shape) > len(wanted.shape) or any(
                a not in (1, b) for a, b in zip(reversed(found.shape), reversed(wanted.shape), strict=False)):
            raise ShapeError(f"{name}: the result has shape {tuple(found.shape)}, the tensor {tuple(wanted.shape)}; "
                             "an in-place op can't change it", where=user_line())
        value = expanded(value, wanted.static_shape)
    return value


def inplace(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """`function` as a method of that name, which overwrites its first argument by the result."""
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        given = (*args, *kwargs.values())
        old = before(self, given)
        new = function(old, *args, **kwargs)
        is_fresh = new is not old and not any(new is t for t in given)
        return (update_ if is_fresh else assign_)(self, _fitted(self, new, name))

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"{function.__name__}(), in place. Returns the tensor."
    method.__wrapped__ = function           # type: ignore[attr-defined]
    return method


_MARKED: Final = (                          # modules whose functions say so themselves
    activations, arithmetic, compound_products, elementwise, pointwise, scattering, special_functions)
_NAMES: Final = {
    gathering: ("index_add", "index_copy", "index_fill", "index_put", "masked_fill", "scatter", "scatter_add"),
    products: ("addmm", "addmv", "addr", "baddbmm"),
    reductions: ("cumprod", "cumsum"),
    views: ("tril", "triu"),
}
_FUNCTIONS: Final = {name: function for module in _MARKED for name, function in in_place_of(vars(module)).items()} | {
    name: getattr(module, name) for module, names in _NAMES.items() for name in names} | {
    "fill_diagonal": scattering.filled_diagonal, "float_power": elementwise.float_power,
    "polygamma": special_functions.polygamma_of}
METHODS: Final[dict[str, Callable[..., Tensor]]] = {
    f"{name}_": inplace(function, f"{name}_") for name, function in _FUNCTIONS.items()}


def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """The elements of src, broadcast and cast to this tensor's shape and dtype."""
    return overwrite(self, cast(one_tensor("copy_", src), self._type.dtype), "copy_")


def fill_(self: Tensor, value: Number | Tensor) -> Tensor:
    """`value` everywhere."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"fill_: takes a number or a 0-d tensor, got {value._type}")
        return overwrite(self, cast(value, self._type.dtype), "fill_")
    return overwrite(self, stored("fill_", value, self._type.dtype), "fill_")


def zero_(self: Tensor) -> Tensor:
    """0 everywhere."""
    return fill_(self, 0)



def overwriting(function: Callable[..., Tensor], name: str) -> Callable[..., Tensor]:
    """`function` as one of that name, which overwrites its first argument by the result."""
    method = inplace(called(function), name)

    def overwrite_first(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return method(one_tensor(name, input), *args, **kwargs)

    overwrite_first.__name__ = overwrite_first.__qualname__ = name
    overwrite_first.__doc__ = method.__doc__
    overwrite_first.__wrapped__ = function  # type: ignore[attr-defined]
    return overwrite_first


celu_, elu_, hardtanh_, leaky_relu_, relu_, selu_, threshold_ = (
    overwriting(getattr(activations, name), f"{name}_")
    for name in ("celu", "elu", "hardtanh", "leaky_relu", "relu", "selu", "threshold"))
METHODS.update({"copy_": called(copy_), "fill_": called(fill_), "zero_": zero_})
