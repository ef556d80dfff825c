"""Views, rearrangements, creation and conversion of complex tensors: the functions of real tensors, applied to pairs, whose
dims are those of the numbers and one more, or to each part."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.functions import creation, distributions, indexing, views
from flambeau.frontend.functions.coerce import cast, one_tensor, sizes_of, user_line, wrap_dim
from flambeau.frontend.functions.complex_parts import joined, split
from flambeau.frontend.functions.elementwise import mul
from flambeau.frontend.functions.pointwise import logical_or, ne
from flambeau.frontend.tape.moves import moved
from flambeau.frontend.tensor.complex_tensor import (
    ComplexDType,
    ComplexTensor,
    complex64,
)
from flambeau.frontend.tensor.device import place_named, place_of
from flambeau.frontend.tensor.promotion import as_dtype, get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

# -- views of the pair ------------------------------------------------------------------------------------------------


def _shape(z: ComplexTensor, sizes: tuple[Any, ...], name: str) -> tuple[int, ...]:
    """The shape with its -1 worked out."""
    shape = sizes_of(sizes, name)
    known = math.prod([size for size in shape if size != -1])
    if shape.count(-1) > 1 or (z.numel() % known if -1 in shape and known else -1 in shape or known != z.numel()):
        raise ShapeError(f"{name}: shape {shape} is invalid for {tuple(z.shape)}", where=user_line())
    return tuple([z.numel() // known if size == -1 else size for size in shape])


def reshape(z: Any, *shape: Any) -> Tensor:
    return ComplexTensor.of(views.reshape(z._pair, (*_shape(z, shape, "reshape"), 2)))


def view(z: Any, *size: Any, dtype: Any = None) -> Tensor:
    wanted = size[0] if dtype is None and size else dtype
    if isinstance(wanted, DType):
        if wanted is not z._pair.dtype:
            raise ShapeError(f"view: {z.dtype!r} as {wanted!r} is not supported", where=user_line())
        return views.flatten(z._pair, -2) if z.ndim else z._pair
    if isinstance(wanted, ComplexDType):
        return z
    return ComplexTensor.of(views.view(z._pair, (*_shape(z, size, "view"), 2)))


def reshape_as(z: Any, other: Tensor) -> Tensor:
    return reshape(z, tuple(other.shape))


def view_as(z: Any, other: Tensor) -> Tensor:
    return view(z, tuple(other.shape))


def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if not input.ndim:
        return reshape(input, (1,))
    return ComplexTensor.of(views.flatten(input._pair, wrap_dim(start_dim, input.ndim, "flatten"),
                                          wrap_dim(end_dim, input.ndim, "flatten")))


def ravel(input: Any) -> Tensor:
    return reshape(contiguous(input), (-1,))


def expand(z: Any, *size: Any) -> Tensor:
    return ComplexTensor.of(views.expand(z._pair, (*sizes_of(size, "expand"), 2)))


def expand_as(z: Any, other: Tensor) -> Tensor:
    return expand(z, tuple(other.shape))


def broadcast_to(input: Any, size: Any) -> Tensor:
    return expand(input, size)


def permute(input: Any, *dims: Any) -> Tensor:
    wanted = [wrap_dim(d, input.ndim, "permute") for d in sizes_of(dims, "permute")]
    return ComplexTensor.of(views.permute(input._pair, (*wanted, input.ndim)))


def squeeze(input: Any, dim: Any = None) -> Tensor:
    named = range(input.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple([wrap_dim(d, input.ndim, "squeeze") for d in named]) if input.ndim else ()
    return ComplexTensor.of(views.squeeze(input._pair, dims))


def reversed_dims(z: Any) -> Tensor:
    return permute(z, tuple(reversed(range(z.ndim))))


def matrix_transposed(z: Any) -> Tensor:
    return transpose(z, -1, -2)


def t(input: Any) -> Tensor:
    return reversed_dims(input)


def _at_dims(function: Callable[..., Any], *places: str | int, grows: int = 0, defaults: Sequence[Any] = ()) -> Any:
    """`function` of the pair, with the dims among its arguments counted from the front. places: which arguments they are,
    after the first. grows: how many dims the numbers get more."""
    name = function.__name__

    def on_pair(input: Any, *args: Any, **kwargs: Any) -> Any:
        given = [*args, *defaults[len(args):]] if not kwargs.keys() & {"dim", "dim0", "dim1"} else list(args)
        for place in places:
            if isinstance(place, int) and place < len(given):
                given[place] = _wrapped(given[place], input.ndim + grows, name)
            elif place in kwargs:
                kwargs[place] = _wrapped(kwargs[place], input.ndim + grows, name)
        found = function(input._pair, *given, **kwargs)
        return tuple([ComplexTensor.of(p) for p in found]) if isinstance(found, (tuple, list)) else ComplexTensor.of(found)

    return on_pair


def _wrapped(dim: Any, rank: int, name: str) -> Any:
    if isinstance(dim, (tuple, list)):
        return type(dim)([wrap_dim(d, rank, name) for d in dim])
    return wrap_dim(dim, rank, name)


transpose = _at_dims(views.transpose, 0, 1, "dim0", "dim1")
swapaxes = _at_dims(views.swapaxes, 0, 1)
movedim = _at_dims(views.movedim, 0, 1)
unsqueeze = _at_dims(views.unsqueeze, 0, "dim", grows=1)
narrow = _at_dims(views.narrow, 0, "dim")
select = _at_dims(views.select, 0, "dim")
unbind = _at_dims(views.unbind, 0, "dim", defaults=(0,))
chunk = _at_dims(views.chunk, 1, "dim")
split_ = _at_dims(views.split, 1, "dim")
tensor_split = _at_dims(views.tensor_split, 1, "dim")
unflatten = _at_dims(views.unflatten, 0, "dim")


def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    dims = [wrap_dim(d, input.ndim, "diagonal") for d in (dim1, dim2)]
    return ComplexTensor.of(views.transpose(views.diagonal(input._pair, offset, *dims), -1, -2))


def contiguous(z: Any) -> Tensor:
    return z if z.is_contiguous() else clone(z)


def clone(input: Any, **kwargs: Any) -> Tensor:
    return ComplexTensor.of(views.clone(input._pair))


def getitem(z: Any, index: Any) -> Tensor:
    return ComplexTensor.of(indexing.getitem(z._pair, _pair_index(index)))


def setitem(z: Any, index: Any, value: Any) -> None:
    indexing.setitem(z._pair, _pair_index(index), complexed(value, z)._pair)


def _pair_index(index: Any) -> Any:
    """An index into the pair: an Ellipsis leaves the last dim out."""
    if index is Ellipsis:
        return index
    parts = index if isinstance(index, tuple) else (index,)
    return (*parts, slice(None)) if any(p is Ellipsis for p in parts) else index


def complexed(value: Any, like: Any) -> ComplexTensor:
    """A value as complex numbers in the dtype of `like`."""
    component = like._pair.dtype
    re, im = (cast(p, component) if isinstance(p, Tensor) else creation.tensor(0.0 if p is None else p, dtype=component)
              for p in split(value))
    return joined(re, im)


# -- each part --------------------------------------------------------------------------------------------------------


def by_parts(function: Callable[..., Any], *values: int | str) -> Callable[..., Any]:
    """`function`, which is linear, of the real and of the imaginary parts. values: which arguments are numbers or tensors,
    or lists of tensors, that have parts; by position or name."""
    def each(*args: Any, **kwargs: Any) -> Any:
        sides = []
        if isinstance(kwargs.get("dtype"), ComplexDType):
            args = (to(args[0], kwargs.pop("dtype")), *args[1:])
        for side in (0, 1):
            given = [_part(a, side) if n in values else a for n, a in enumerate(args)]
            named = {name: _part(a, side) if name in values else a for name, a in kwargs.items()}
            sides.append(function(*given, **named))
        if isinstance(sides[0], (tuple, list)):
            return tuple([joined(*parts) for parts in zip(*sides, strict=True)])
        return joined(*sides)

    return each


def _part(value: Any, side: int) -> Any:
    if isinstance(value, (list, tuple)):
        return [_part(v, side) for v in value]
    found = split(value)[side]
    if found is not None or value is None:
        return found
    return creation.zeros_like(value) if isinstance(value, Tensor) else 0.0


# -- new ones ---------------------------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    if isinstance(data, Tensor):
        made = to(data.detach().clone(), dtype=dtype, device=device)
        return made.requires_grad_() if requires_grad else made
    array = np.asarray(data)
    if array.dtype.kind not in "cbiuf":
        raise TypeError(f"tensor: can't make numbers of {array.dtype}")
    is_numpys = isinstance(data, (np.ndarray, np.generic))
    component = dt.f64 if array.dtype in (np.complex128, np.float64) and is_numpys else get_default_dtype()
    if array.dtype == np.complex64:
        component = dt.f32
    if isinstance(dtype, ComplexDType):
        component = dtype.component
    elif dtype is not None:
        raise RuntimeError(f"tensor: complex numbers can't become {dtype!r}")
    parts = np.stack([array.real, array.imag], -1).astype(component.storage)
    return ComplexTensor.of(creation.tensor(parts, device=device, requires_grad=requires_grad))


def from_numpy(array: np.ndarray) -> Tensor:
    real = np.float32 if array.dtype == np.complex64 else np.float64
    if array.dtype not in (np.complex64, np.complex128):
        raise TypeError(f"from_numpy: takes complex64 or complex128, got {array.dtype}")
    return ComplexTensor.of(creation.from_numpy(array[..., None].view(real)))


def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    found = data if isinstance(data, Tensor) else from_numpy(data) if isinstance(data, np.ndarray) else tensor(data)
    return to(found, dtype=dtype, device=device if isinstance(data, Tensor) else place_of(device) or "cpu")


def _sized(function: Callable[..., Tensor], scale: float = 1.0, with_imaginary: bool = True) -> Callable[..., Tensor]:
    def make(*size: Any, dtype: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
        shape, component = sizes_of(size, function.__name__), dtype.component
        if not with_imaginary:
            real = function(shape, dtype=component, **kwargs)
            made = joined(real, creation.zeros_like(real))
        else:
            pair = function((*shape, 2), dtype=component, **kwargs)
            made = ComplexTensor.of(pair if scale == 1.0 else mul(pair, scale))
        return made.requires_grad_() if requires_grad else made

    return make


zeros, empty, rand = (_sized(f) for f in (creation.zeros, creation.empty, distributions.rand))
randn = _sized(distributions.randn, scale=math.sqrt(0.5))               # |z|^2 is 1 on average
ones = _sized(creation.ones, with_imaginary=False)


def full(size: Any, fill_value: Any, *, dtype: Any = None, requires_grad: bool = False, **kwargs: Any) -> Tensor:
    component = dtype.component if isinstance(dtype, ComplexDType) else get_default_dtype()
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    parts = complex(fill_value).real, complex(fill_value).imag
    made = joined(*[creation.full(size, part, dtype=component, **kwargs) for part in parts])
    return made.requires_grad_() if requires_grad else made


def _like(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def make(input: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        shape, wanted = tuple(input.shape), input.dtype if dtype is None else dtype
        plain = _PLAIN[function.__name__]
        kwargs.setdefault("device", input.device)
        return (function if isinstance(wanted, ComplexDType) else plain)(shape, *args, dtype=wanted, **kwargs)

    return make


def _new(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def make(z: Any, *args: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
        wanted = z.dtype if dtype is None else dtype
        kwargs.setdefault("device", z.device)
        if isinstance(wanted, ComplexDType):
            return function(*args, dtype=wanted, **kwargs)
        return _PLAIN[function.__name__](*args, dtype=wanted, **kwargs)

    return make


_PLAIN: dict[str, Any] = {}
for _name, _made, _plain in (
        ("zeros", zeros, creation.zeros), ("ones", ones, creation.ones), ("empty", empty, creation.empty),
        ("full", full, creation.full), ("rand", rand, distributions.rand), ("randn", randn, distributions.randn)):
    _made.__name__ = _name
    _PLAIN[_name] = _plain
zeros_like, ones_like, empty_like, full_like, rand_like, randn_like = (
    _like(f) for f in (zeros, ones, empty, full, rand, randn))
new_zeros, new_ones, new_empty, new_full = (_new(f) for f in (zeros, ones, empty, full))


# -- other dtypes -----------------------------------------------------------------------------------------------------


def to(z: Any, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False, copy: bool = False,
       memory_format: Any = None) -> Tensor:
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif isinstance(arg, (DType, ComplexDType, type)):
            dtype = arg
        elif not isinstance(arg, bool):
            device = arg
    there = None if device is None else place_named(device) or "cpu"
    if there is not None and z.device != there:
        z = ComplexTensor.of(moved(z._pair, there, non_blocking)) if isinstance(z, ComplexTensor) else moved(z, there)
        copy = False
    wanted = dtype if isinstance(dtype, ComplexDType) else as_dtype(dtype, "to")
    if wanted is None or wanted is z.dtype:
        return clone(z) if copy else z
    if not isinstance(wanted, ComplexDType):
        if wanted is dt.bool_:
            return logical_or(*[ne(p, 0) for p in split(z)])
        return cast(split(z)[0], wanted)                    # the imaginary part is dropped, as in PyTorch
    if isinstance(z, ComplexTensor):
        return ComplexTensor.of(cast(z._pair, wanted.component))
    x = cast(one_tensor("to", z), wanted.component)
    return joined(x, creation.zeros_like(x))


def type_as(z: Any, tensor: Tensor) -> Tensor:
    return to(z, tensor.dtype, tensor.device)


def type_of(z: Any, dtype: Any = None, non_blocking: bool = False) -> Any:
    if dtype is None:
        return f"flambeau.Complex{'Float' if z.dtype is complex64 else 'Double'}Tensor"
    return to(z, dtype)


def converted(dtype: Any) -> Callable[[Any], Tensor]:
    return lambda z: to(z, dtype)


def copy_(z: Any, src: Any, non_blocking: bool = False) -> Tensor:
    z._pair.copy_(complexed(src, z)._pair)
    return z


def zero_(z: Any) -> Tensor:
    z._pair.zero_()
    return z


def fill_(z: Any, value: Any) -> Tensor:
    return copy_(z, value.item() if isinstance(value, Tensor) else value)


