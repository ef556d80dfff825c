"""Tensors from Python data, from NumPy, and from nothing."""
from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    Number,
    Shape,
    TensorLike,
    cast,
    check_held,
    dtype_of,
    full_of,
    one_tensor,
    result_type,
    sizes_of,
    spread,
    stored,
    tensor_of,
)
from flambeau.frontend.scalars import Scalar, forced
from flambeau.frontend.tape.dispatch import constant, dispatch
from flambeau.frontend.tape.moves import moved, place_like, placed
from flambeau.frontend.tensor.device import place_of
from flambeau.frontend.tensor.promotion import as_dtype, get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, as_size, same_shape
from flambeau.ir.dtypes import DType, from_numpy_dtype
from flambeau.ir.quiet import quietly
from flambeau.ir.types import TensorType


def holding(array: np.ndarray, dtype: DType, like: Tensor | None = None) -> Tensor:
    """A tensor over an array that nobody else holds; under trace, a constant of the program. like: it lies where that does,
    else on the CPU."""
    made = Tensor._from_array(array, dtype) if active.tracer is None else constant(array, dtype)
    return made if like is None else placed(made, place_like(like))


def finished(t: Tensor, requires_grad: bool, place: str | None = None) -> Tensor:
    """What a factory made, where it is wanted (None: on the CPU), and a leaf of the tape if it is to be."""
    if place is not None:
        t = moved(t, place)
    return t.requires_grad_() if requires_grad else t


# -- from data --------------------------------------------------------------------------------------------------------


def tensor(data: Any, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`: numbers, nested sequences of them, an ndarray, or a Tensor.

    dtype: by default that of an array or a Tensor; else int64, bool, or the default float dtype. Under trace the
    data is a constant of the compiled function. Raises TypeError for data that are no numbers, ValueError for
    sequences of unequal lengths, TypeInferenceError for Python integers that the dtype does not hold."""
    place = place_of(device)
    if isinstance(data, Tensor):
        made = dispatch(ops.stop_gradient, data)
        return finished(made if dtype is None else cast(made.detach(), dtype), requires_grad,
                        None if device is None else place or "cpu")
    if isinstance(data, (Scalar, Dim)):
        return finished(tensor_of(data, dtype or dtype_of(data)), requires_grad, place)
    if isinstance(data, (list, tuple)) and _holds_sizes(data):
        return finished(_of_sizes(data, dtype), requires_grad, place)
    array, found = _array_of(data)
    if not isinstance(data, (np.ndarray, np.generic)):
        array, found = _of_python(data, array, found)
        _check_fits(array, dtype or found)
    return finished(_converted(array, found, dtype or found), requires_grad, place)


def _holds_sizes(data: Any) -> bool:
    """Whether there are sizes with names among nested numbers."""
    if isinstance(data, (list, tuple)):
        return known() is not None and any(map(_holds_sizes, data))
    return isinstance(data, Dim)


def _of_sizes(data: Sequence[Any], dtype: DType | None) -> Tensor:
    """Numbers that the program finds as it runs, among others."""
    array = np.array(data, dtype=object)
    found = dtype or result_type(*array.flat)
    parts = [dispatch(ops.Reshape((1,)), tensor_of(number, found)) for number in array.flat]
    return dispatch(ops.Reshape(array.shape), dispatch(ops.Concat(0), *parts))


def _of_python(data: Any, array: np.ndarray, found: DType) -> tuple[np.ndarray, DType]:
    """The array and dtype of Python numbers: NumPy makes floats of integers that no integer dtype of its own holds,
    and u64 of those that i64 does not."""
    if array.dtype.kind == "f" and np.abs(array).max(initial=0) >= 2.0**53:
        exact = np.array(data, dtype=object)
        if all(isinstance(n, (int, np.integer)) for n in exact.flat):
            return exact, dt.i64
    return array, dt.i64 if found is dt.u64 else found


def _check_fits(numbers: np.ndarray, wanted: DType) -> None:
    """Raise TypeInferenceError for Python numbers that an integer dtype does not hold."""
    if not wanted.is_integer or numbers.dtype.kind not in "iufO" or not numbers.size:
        return
    for value in (numbers.min(), numbers.max()):                # of NaN, if there is one
        check_held("tensor", value.item() if isinstance(value, np.generic) else value, wanted)


def _fetched(data: Any) -> Any:
    """Sequences with copies on the CPU of the tensors of devices in them; itself where there are none."""
    if isinstance(data, Tensor):
        return data if data._type.device == "cpu" else data.detach().cpu()
    if not isinstance(data, (list, tuple)):
        return data
    items = [_fetched(item) for item in data]
    return data if all(new is old for new, old in zip(items, data, strict=True)) else items


def _array_of(data: Any) -> tuple[np.ndarray, DType]:
    """Data as an array of compute values, and the dtype it stands for."""
    try:
        array = np.asarray(data)
    except TypeError:
        fetched = _fetched(data)
        if fetched is data:
            raise
        return _array_of(fetched)
    except ValueError as error:
        raise ValueError(f"tensor: expected numbers in sequences of equal lengths: {error}") from None
    if array.dtype.kind == "f" and not isinstance(data, (np.ndarray, np.generic)) and array.dtype == np.float64:
        return array, get_default_dtype()       # Python floats
    if array.dtype.kind == "O" and array.size and all(isinstance(n, (int, float)) for n in array.flat):
        return array, dt.i64 if all(isinstance(n, int) for n in array.flat) else get_default_dtype()
    if array.size == 0 and isinstance(data, (list, tuple)):
        return array.astype(np.float32), get_default_dtype()
    return array, _dtype_from(array.dtype)


def _dtype_from(dtype: np.dtype) -> DType:
    try:
        return from_numpy_dtype(dtype.newbyteorder("="))
    except KeyError:
        raise TypeError(f"can't make a tensor of {dtype}; the dtypes are float64, float32, float16, int64, int32, "
                        "int16, int8, uint8, uint32, uint64 and bool") from None


def _converted(array: np.ndarray, found: DType, wanted: DType) -> Tensor:
    """A copy of the array in `wanted`, by the meaning of a cast."""
    if array.dtype == wanted.storage and found is wanted:
        return holding(np.array(array, order="C"), wanted)
    if array.dtype.kind == "O":             # Python integers too large for NumPy
        array = array.astype(np.float64 if wanted.is_floating_point else wanted.storage)
    values = quietly(ops.Cast(wanted).evaluate, array)
    return holding(np.array(dt.to_storage(values, wanted), order="C"), wanted)


def as_tensor(data: Any, dtype: DType | None = None, device: Any = None) -> Tensor:
    """`data` as a tensor, sharing memory with an ndarray, a Tensor or another library's array of a GPU where the dtype and
    the device allow."""
    place = place_of(device)
    dtype = as_dtype(dtype, "as_tensor")
    if isinstance(data, Tensor):
        made = data if dtype is None else cast(data, dtype)
        return made if device is None else moved(made, place or "cpu")
    if isinstance(data, np.ndarray) and active.tracer is None and (dtype is None or data.dtype == dtype.storage):
        return placed(from_numpy(data), place)
    if active.tracer is None and hasattr(type(data), "__cuda_array_interface__"):
        return as_tensor(foreign().from_cuda_array(data, place), dtype, device)
    return tensor(data, dtype=dtype, device=device)


def foreign() -> Any:
    """Memory of GPUs that other libraries have too: loaded with the first of it."""
    return import_module("flambeau.frontend.functions.foreign")


def asarray(obj: Any, *, dtype: DType | None = None, device: Any = None, copy: bool | None = None,
            requires_grad: bool = False) -> Tensor:
    """`obj` as a tensor: a copy (copy=True), or sharing memory where the dtype allows. Raises ValueError where
    copy=False can't be had."""
    if copy:
        return tensor(obj, dtype=dtype, device=device, requires_grad=requires_grad)
    made = as_tensor(obj, dtype, device)
    shares = made is obj or isinstance(obj, np.ndarray) and np.shares_memory(made._data(), obj)
    if copy is False and not shares:
        raise ValueError("asarray: can't share the memory of this object in that dtype; leave copy=None")
    return finished(made, requires_grad)


def from_numpy(ndarray: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory, whatever its strides; under trace its data is copied as a constant.

    Raises TypeError for anything but an ndarray of a dtype tensors have."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected an ndarray, got {type(ndarray).__name__}")
    if not ndarray.dtype.isnative:
        return tensor(ndarray)
    made = holding(ndarray, _dtype_from(ndarray.dtype))
    made._storage.share()
    return made


# -- filled -----------------------------------------------------------------------------------------------------------


def _check_sizes(name: str, shape: Shape, dtype: DType) -> None:
    if mistake := TensorType(shape, dtype).size_mistake:
        raise ShapeError(f"{name}: {mistake}")


def _filled(shape: Shape, value: Number, dtype: DType, requires_grad: bool = False, name: str = "full",
            place: str | None = None) -> Tensor:
    _check_sizes(name, shape, dtype)
    if active.tracer is not None:
        return finished(full_of(shape, value, dtype, name), requires_grad, place)
    number = stored(name, value, dtype)._data()
    if place is not None and number.nbytes < dtype.itemsize * math.prod(shape):
        made = placed(Tensor._from_array(number.copy(), dtype), place)      # what goes there is one number
        return finished(dispatch(ops.Broadcast(shape, ()), made), requires_grad)
    array = np.zeros(shape, dtype.storage) if not number.view(f"u{dtype.itemsize}").any() \
        else np.full(shape, number)
    return finished(Tensor._from_array(array, dtype), requires_grad, place)


def zeros(*size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of a shape: `zeros(2, 3)` or `zeros((2, 3))`, in the default dtype unless told otherwise."""
    place = place_of(device)
    return _filled(sizes_of(size, "zeros"), 0, dtype or get_default_dtype(), requires_grad, "zeros", place)


def ones(*size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of a shape: `ones(2, 3)` or `ones((2, 3))`, in the default dtype unless told otherwise."""
    place = place_of(device)
    return _filled(sizes_of(size, "ones"), 1, dtype or get_default_dtype(), requires_grad, "ones", place)


def empty(*size: Any, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor to be filled; it holds zeros, so that what is forgotten is at least the same in every run."""
    place = place_of(device)
    return _filled(sizes_of(size, "empty"), 0, dtype or get_default_dtype(), requires_grad, "empty", place)


def scalar_tensor(s: Number, *, dtype: DType | None = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor of a number, in the default dtype unless told otherwise."""
    place = place_of(device)
    return _filled((), s, dtype or get_default_dtype(), requires_grad, place=place)


def fill(input: Tensor, value: Any) -> Tensor:
    """A tensor like `input` with `value` (a number, or a 0-d tensor) everywhere."""
    return one_tensor("fill", input).clone().fill_(value)


def empty_strided(size: Any, stride: Any, *, dtype: DType | None = None, device: Any = None,
                  requires_grad: bool = False) -> Tensor:
    """A tensor to be filled, whose elements lie so far apart as `stride` says; row-major in a compiled function, where
    the compiler decides that. Raises RuntimeError for sizes and strides that don't belong together."""
    place = place_of(device)
    shape, steps = sizes_of((size,), "empty_strided"), sizes_of((stride,), "empty_strided")
    if len(shape) != len(steps):
        raise RuntimeError(f"empty_strided: mismatch in length of strides {steps} and shape {shape}")
    found = dtype or get_default_dtype()
    if active.tracer is not None or 0 in shape or place is not None:
        return _filled(shape, 0, found, requires_grad, place=place)
    reach = sum([(n - 1) * step for n, step in zip(shape, steps, strict=True)]) + 1
    _check_sizes("empty_strided", (reach,), found)
    flat = np.zeros(reach, found.storage)
    array = np.lib.stride_tricks.as_strided(flat, shape, [step * flat.itemsize for step in steps])
    return finished(Tensor._from_array(array, found), requires_grad, place)


def empty_permuted(size: Any, physical_layout: Any, *, dtype: DType | None = None, device: Any = None,
                   requires_grad: bool = False) -> Tensor:
    """A tensor to be filled, whose dims lie in memory in the order of physical_layout, the outermost first."""
    shape, order = sizes_of((size,), "empty_permuted"), sizes_of((physical_layout,), "empty_permuted")
    if sorted(order) != list(range(len(shape))):
        raise RuntimeError(f"empty_permuted: physical_layout {order} must name each of the {len(shape)} dims once")
    steps, step = [0] * len(shape), 1
    for dim in reversed(order):
        steps[dim] = step
        step *= max(shape[dim], 1)
    return empty_strided(shape, steps, dtype=dtype, device=device, requires_grad=requires_grad)


def new_empty_strided(self: Tensor, size: Any, stride: Any, *, dtype: DType | None = None, device: Any = None,
                      requires_grad: bool = False) -> Tensor:
    """empty_strided() in this tensor's dtype."""
    return empty_strided(size, stride, dtype=dtype or self.dtype, device=place_like(self, device) or "cpu",
                         requires_grad=requires_grad)


def full(size: Any, fill_value: Number, *, dtype: DType | None = None, device: Any = None,
         requires_grad: bool = False) -> Tensor:
    """`fill_value` everywhere. dtype: by default what the number stands for."""
    place = place_of(device)
    if isinstance(fill_value, Tensor):
        fill_value = fill_value.item()
    found = dtype or dtype_of(fill_value)
    return _filled(sizes_of((size,), "full"), fill_value, found, requires_grad, place=place)


def _like(input: Tensor, value: Number, dtype: DType | None, device: Any, requires_grad: bool) -> Tensor:
    type = one_tensor("like", input)._type
    return _filled(type.static_shape, value, dtype or type.dtype, requires_grad, place=place_like(input, device))


def zeros_like(input: Tensor, *, dtype: DType | None = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """Zeros of the shape and dtype of `input`."""
    return _like(input, 0, dtype, device, requires_grad)


def ones_like(input: Tensor, *, dtype: DType | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """Ones of the shape and dtype of `input`."""
    return _like(input, 1, dtype, device, requires_grad)


empty_like = zeros_like


def full_like(input: Tensor, fill_value: Number, *, dtype: DType | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """`fill_value` in the shape and dtype of `input`."""
    return _like(input, fill_value, dtype, device, requires_grad)


def new_zeros(self: Tensor, *size: Any, dtype: DType | None = None, device: Any = None,
              requires_grad: bool = False) -> Tensor:
    """Zeros of a shape, in this tensor's dtype."""
    return _filled(sizes_of(size, "new_zeros"), 0, dtype or self._type.dtype, requires_grad,
                   place=place_like(self, device))


def new_ones(self: Tensor, *size: Any, dtype: DType | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """Ones of a shape, in this tensor's dtype."""
    return _filled(sizes_of(size, "new_ones"), 1, dtype or self._type.dtype, requires_grad,
                   place=place_like(self, device))


new_empty = new_zeros


def new_full(self: Tensor, size: Any, fill_value: Number, dtype: DType | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`fill_value` in a shape, in this tensor's dtype."""
    dtype = as_dtype(dtype, "new_full") or self._type.dtype
    return _filled(sizes_of((size,), "new_full"), fill_value, dtype, requires_grad, "new_full", place_like(self, device))


def new_tensor(self: Tensor, data: Any, dtype: DType | None = None, device: Any = None,
               requires_grad: bool = False) -> Tensor:
    """A copy of `data` in this tensor's dtype."""
    dtype = as_dtype(dtype, "new_tensor") or self._type.dtype
    made = tensor(data, dtype=dtype, requires_grad=False)
    return finished(made, requires_grad, place_like(self, device) or "cpu")


# -- counted ----------------------------------------------------------------------------------------------------------


def arange(start: Number = 0, end: Number | None = None, step: Number = 1, *, dtype: DType | None = None,
           device: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... below end (above, for a negative step); `arange(end)` counts from 0.

    dtype: int64 when all are ints, else the default float; an integer one cuts all three to integers first. Raises
    RuntimeError for a step of 0 or the wrong sign, and for a range without end."""
    place = place_of(device)
    first, last, by = (forced(n.item() if isinstance(n, Tensor) else n)
                       for n in ((0, start, step) if end is None else (start, end, step)))
    if not all(_is_whole(n) or math.isfinite(n) for n in (first, last, by)):
        raise RuntimeError(f"arange: there is no end to counting from {first} to {last} by {by}")
    if dtype is not None and dtype.is_integer:
        first, last, by = (n if _is_whole(n) else int(n) for n in (first, last, by))
    whole = all(map(_is_whole, (first, last, by)))
    if not whole:
        first, last, by = (int(n) if isinstance(n, Dim) else n for n in (first, last, by))
    if by == 0 or (last - first) * by < 0:
        raise RuntimeError(f"arange: a step of {by} does not lead from {first} to {last}")
    if not whole and not math.isfinite((last - first) / by):
        raise RuntimeError(f"arange: there is no end to counting from {first} to {last} by {by}")
    dtype = dtype or (dt.i64 if whole else get_default_dtype())
    count = -(-(last - first) // by) if whole else math.ceil((last - first) / by)
    _check_sizes("arange", (as_size(count),), dt.f64)
    if active.tracer is not None and whole:
        first, by, count = as_size(first), as_size(by), as_size(count)
        if dtype.is_integer:
            return finished(_counted(count, first, by, dtype), requires_grad, place)
        if isinstance(count, Dim) or isinstance(first, Dim) or isinstance(by, Dim):
            return finished(cast(cast(_counted(count, first, by, dt.i64), dt.f64), dtype), requires_grad, place)
    values = np.arange(count) * by + first
    return finished(_converted(values, dtype if dtype.storage == values.dtype else dt.f64, dtype), requires_grad, place)


def _counted(count: int, first: int, by: int, dtype: DType) -> Tensor:
    """first + by * i as ops: nothing for the program to carry."""
    found = dispatch(ops.Iota(count, dtype))
    if not same_shape((by,), (1,)):
        found = dispatch(ops.mul, found, tensor_of(by, dtype, "arange"))
    return found if same_shape((first,), (0,)) else dispatch(ops.add, found, tensor_of(first, dtype, "arange"))


def _is_whole(number: Any) -> bool:
    return isinstance(number, (int, np.integer, Dim))


def linspace(start: TensorLike, end: TensorLike, steps: int, *, dtype: DType | None = None, device: Any = None,
             requires_grad: bool = False) -> Tensor:
    """`steps` numbers from start to end, both included, evenly spaced."""
    place = place_of(device)
    dtype, steps = dtype or get_default_dtype(), _steps("linspace", steps)
    if _is_traced(start, end, steps):
        return finished(cast(_between("linspace", start, end, steps, dtype), dtype), requires_grad, place)
    return finished(_converted(_spaced(forced(start), forced(end), steps, dtype), dt.f64, dtype), requires_grad, place)


def _is_traced(*given: TensorLike) -> bool:
    """Whether a trace must compute with one of these, which has no value yet."""
    return active.tracer is not None and any(isinstance(value, (Tensor, Dim)) for value in given)


def _between(name: str, start: TensorLike, end: TensorLike, steps: int, dtype: DType) -> Tensor:
    """What _spaced() gives, as ops, for ends that are tensors without dims."""
    ends = []
    for given in (start, end):
        if isinstance(given, Tensor) and given.ndim:
            raise RuntimeError(f"{name}: the ends are numbers or tensors without dims, got {given._type}")
        whole = cast(given, dt.f64) if isinstance(given, Tensor) else tensor_of(given, dt.f64)
        ends.append(dispatch(ops.trunc, whole) if dtype.is_integer else whole)
    first, last = ends
    places = dispatch(ops.Iota(steps, dt.f64))
    step = dispatch(ops.div, dispatch(ops.sub, last, first), tensor_of(max(steps - 1, 1), dt.f64))
    from_first = dispatch(ops.add, first, dispatch(ops.mul, step, places))
    from_last = dispatch(ops.sub, last, dispatch(ops.mul, step, dispatch(ops.sub, tensor_of(steps - 1, dt.f64), places)))
    is_first = dispatch(ops.lt, places, tensor_of(max(steps // 2, int(steps == 1)), dt.f64))
    return dispatch(ops.where, is_first, from_first, from_last)


def _steps(name: str, steps: int) -> int:
    """The number of steps. Raises RuntimeError where it is negative, ShapeError beyond all memory."""
    if as_size(steps) < 0:
        raise RuntimeError(f"{name}: the number of steps must not be negative, got {steps}")
    _check_sizes(name, (as_size(steps),), dt.f64)
    return as_size(steps)


def _spaced(start: float, end: float, steps: int, dtype: DType) -> np.ndarray:
    """f64, counted from the nearer end, so that both are met and the halves mirror each other. Of an integer dtype both
    ends are cut to integers first."""
    if dtype.is_integer:
        start, end = int(start), int(end)
    first, last, places = float(start), float(end), np.arange(steps)
    if steps == 1:
        return np.array([first])
    step = (last - first) / max(steps - 1, 1)
    return np.where(places < steps // 2, first + step * places, last - step * (steps - 1 - places))


def logspace(start: TensorLike, end: TensorLike, steps: int, base: TensorLike = 10.0, *, dtype: DType | None = None,
             device: Any = None, requires_grad: bool = False) -> Tensor:
    """base ** linspace(start, end, steps)."""
    place = place_of(device)
    dtype, steps = dtype or get_default_dtype(), _steps("logspace", steps)
    if _is_traced(start, end, base, steps):
        power = cast(base, dt.f64) if isinstance(base, Tensor) else tensor_of(base, dt.f64)
        found = dispatch(ops.pow, power, _between("logspace", start, end, steps, dtype))
        return finished(cast(found, dtype), requires_grad, place)
    values = float(forced(base)) ** _spaced(forced(start), forced(end), steps, dtype)
    return finished(_converted(values, dt.f64, dtype), requires_grad, place)


def eye(n: int, m: int | None = None, *, dtype: DType | None = None, device: Any = None,
        requires_grad: bool = False) -> Tensor:
    """[n, m] with ones on the diagonal."""
    place = place_of(device)
    rows, columns = positions(n, n if m is None else m)
    return finished(cast(dispatch(ops.eq, rows, columns), dtype or get_default_dtype()), requires_grad, place)


def positions(n: int, m: int) -> tuple[Tensor, Tensor]:
    """The row and the column of each element of [n, m], as i64."""
    n, m = as_size(n), as_size(m)
    rows, columns = dispatch(ops.Iota(n, dt.i64)), dispatch(ops.Iota(m, dt.i64))
    return spread(rows, (n, m), (0,)), spread(columns, (n, m), (1,))


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """1-d (or 0-d) tensors spread over a common grid, dim i along tensor i ("xy" swaps the first two)."""
    given: Sequence[Tensor] = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f"meshgrid: indexing must be 'ij' or 'xy', got {indexing!r}")
    order = list(range(len(given)))
    if indexing == "xy" and len(given) > 1:
        order[0], order[1] = 1, 0
    sizes = [one_tensor("meshgrid", t).numel() for t in given]
    shape = tuple([sizes[i] for i in order])
    return tuple([spread(t, shape, (order.index(i),) if t.ndim else ()) for i, t in enumerate(given)])


__all__ = ["arange", "as_tensor", "asarray", "empty", "empty_like", "empty_permuted", "empty_strided", "eye",
           "fill", "from_numpy", "full", "full_like", "linspace", "logspace", "meshgrid", "ones", "ones_like",
           "scalar_tensor", "tensor", "zeros", "zeros_like"]
public(globals(), [*__all__, "new_empty", "new_empty_strided", "new_full", "new_ones", "new_tensor", "new_zeros"])
