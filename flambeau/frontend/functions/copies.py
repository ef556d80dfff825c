"""PyTorch's further names for views: copies of them (`view_copy`), and those that promise nothing (`unsafe_split`)."""
from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any, Final

from flambeau.frontend.functions import indexing, views, windows
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, sizes_of
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.reductions import sum
from flambeau.frontend.tensor.tensor import Tensor


def _sliced(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    x = one_tensor("slice_copy", input)
    place = x._place(dim, "slice_copy")
    return indexing.getitem(x, (*[builtins.slice(None)] * place, builtins.slice(start, end, step)))


def _viewed(input: Tensor, size: Any) -> Tensor:
    return views.view(input, size)


def _detached(input: Tensor) -> Tensor:
    return one_tensor("detach_copy", input).detach()


def _itself(input: Tensor) -> Tensor:
    return one_tensor("alias_copy", input)


_COPIED: Final[dict[str, Callable[..., Any]]] = {
    "alias": _itself, "as_strided": windows.as_strided, "detach": _detached, "diagonal": views.diagonal,
    "expand": views.expand, "permute": views.permute, "select": views.select, "slice": _sliced,
    "split": views.split, "split_with_sizes": views.split, "squeeze": views.squeeze, "t": views.t,
    "transpose": views.transpose, "unbind": views.unbind, "unfold": windows.windows_along, "unsqueeze": views.unsqueeze,
    "view": _viewed}


def _copying(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def copied(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = function(input, *args, **kwargs)
        return tuple([part.clone() for part in result]) if isinstance(result, tuple) else result.clone()

    copied.__name__ = copied.__qualname__ = f"{name}_copy"
    copied.__doc__ = f"A copy of what {name}() gives."
    return copied


COPIES: Final = {f"{name}_copy": _copying(name, function) for name, function in _COPIED.items()}
globals().update(COPIES)


@method
def split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """split() into parts of the sizes given."""
    return views.split(input, list(split_sizes), dim)


@method
def unsafe_split(tensor: Tensor, split_size_or_sections: int, dim: int = 0) -> tuple[Tensor, ...]:
    """split()."""
    return views.split(tensor, split_size_or_sections, dim)


@method
def unsafe_chunk(input: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """chunk()."""
    return views.chunk(input, chunks, dim)


@method
def unsafe_split_with_sizes(input: Tensor, split_sizes: Sequence[int], dim: int = 0) -> tuple[Tensor, ...]:
    """split_with_sizes()."""
    return views.split(input, list(split_sizes), dim)


@method
def sum_to_size(input: Tensor, *size: Any) -> Tensor:
    """The sum over those dims that broadcasting from `size` to the input's shape would add or stretch.

    Raises RuntimeError where it can't be broadcast so."""
    x, shape = one_tensor("sum_to_size", input), sizes_of(size, "sum_to_size")
    found, extra = x._type.static_shape, x.ndim - len(shape)
    if extra < 0 or any(small not in (1, large) for small, large in zip(shape, found[extra:], strict=True)):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(found)}}}.")
    stretched = [extra + d for d, small in enumerate(shape) if small != found[extra + d]]
    x = sum(x, stretched, keepdim=True) if stretched else x
    return sum(x, list(range(extra))) if extra else x


@method
def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of what narrow() gives."""
    return views.narrow(input, dim, start, length).clone()


__all__ = ["narrow_copy", "split_with_sizes", "sum_to_size", "unsafe_chunk", "unsafe_split", "unsafe_split_with_sizes"]
public(globals(), __all__)
__all__ += list(COPIES)
