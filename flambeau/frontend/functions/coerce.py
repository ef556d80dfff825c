"""From what users pass (tensors, Python numbers, runtime scalars) to what ops take: one dtype, one shape.

A Python number becomes a rank-0 constant of the result's dtype, and a rank-0 operand is left as it is beside shaped
ones, so most calls need no op besides their own.
"""
from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeGuard

import numpy as np

from flambeau.errors import IndexOutOfRangeError, ShapeError, TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.scalars import Scalar, plain
from flambeau.frontend.tape.dispatch import dispatch, dispatch_number, dispatch_view
from flambeau.frontend.tape.moves import moved
from flambeau.frontend.tape.sharing import apart, shares_memory
from flambeau.frontend.tensor.promotion import (
    category,
    get_default_dtype,
    number_dtype,
    result_type_of,
)
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import by_whom, describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, as_size, same_shape
from flambeau.ir.dtypes import DType

Number = int | float | bool | Scalar | Dim
TensorLike = Tensor | int | float | bool | Scalar | Dim
Dims = int | Sequence[int] | None
Shape = tuple[int, ...]


def is_number(value: object) -> TypeGuard[Number]:
    """A Python number, a NumPy number (a 0-d array too), a runtime scalar or a size; not a complex one."""
    if isinstance(value, np.ndarray):
        return not value.ndim and value.dtype.kind in "biuf"
    return isinstance(value, (int, float, Scalar, Dim, np.integer, np.floating, np.bool_))


def tensor_of(number: Number, dtype: DType, name: str = "constant") -> Tensor:
    """A number as a rank-0 tensor of `dtype`, to be read only: eager ones are kept and shared.

    An integer beyond an integer dtype wraps around, as PyTorch's "wrapped numbers" do (`stored` refuses it). name: the
    op that asks. Raises TypeInferenceError for an integer beyond 64 bits."""
    if isinstance(number, Scalar):
        return _of_scalar(number, dtype)
    if isinstance(number, Dim):
        return _of_size(number, dtype)
    value: Any = number if type(number) in (float, int, bool) else plain(number)
    return dispatch_number(_wrapped(int(value), dtype, name) if dtype.is_integer else value, dtype)


def _of_scalar(number: Scalar, dtype: DType) -> Tensor:
    """A runtime number in `dtype`. Its f64 holds integers exactly, and they wrap around through i64."""
    if dtype.is_integer:
        if not number.is_whole:
            return tensor_of(int(number.force()), dtype)
        return cast(cast(number.tensor, dt.i64), dtype)
    if dtype.itemsize == 2:                 # by way of f32, as literals are rounded
        return cast(cast(number.tensor, dt.f32), dtype)
    return cast(number.tensor, dtype)


def _of_size(size: Dim, dtype: DType) -> Tensor:
    """A size that the program finds as it runs."""
    if active.tracer is None:
        return tensor_of(int(size), dtype)
    count = dispatch(ops.Count(size))
    return cast(cast(count, dt.f32) if dtype.is_floating_point and dtype.itemsize == 2 else count, dtype)


def _wrapped(number: int, dtype: DType, name: str) -> int:
    """The integer of `dtype` that has the number's low bits."""
    bits = 8 * dtype.itemsize
    if -(1 << bits - 1) <= number < (1 << bits - 1):
        return number if number >= 0 or dtype.is_signed else number + (1 << bits)
    if not -(1 << 63) <= number < (1 << 64):
        raise TypeInferenceError(f"{name}: the integer {number} does not fit into 64 bits beside {dtype}",
                                 where=user_line(), hint="pass it as a float")
    number &= (1 << bits) - 1
    return number - (1 << bits) if dtype.is_signed and number >> bits - 1 else number


def stored(name: str, number: Number, dtype: DType, may_overflow: bool = False) -> Tensor:
    """A number as an op stores it into a tensor of `dtype` (a fill value, a bound, an alpha): floats are cut to
    integers, and negative integers wrap around in unsigned dtypes. may_overflow: 16-bit floats may become infinite. A
    tensor of no dimensions that requires no grad is a number too, which need not be known.

    Raises TypeInferenceError for what the dtype does not hold. A runtime number is looked at only beside integers."""
    if isinstance(number, Scalar):
        if dtype.is_floating_point or dtype is dt.bool_ or number.is_whole and is_held(number.bound, dtype):
            return _of_scalar(number, dtype)
        number = number.force()
    if isinstance(number, Dim):
        return _of_size(number, dtype)
    if isinstance(number, Tensor) and not number._type.shape and not number._requires_grad:
        return cast(number, dtype)
    value: Any = plain(number)
    if type(value) not in (float, int, bool):
        raise TypeError(f"{name}: expected a number, got {kind_of(value)}")
    if not (may_overflow and dtype.is_floating_point and dtype.itemsize == 2):
        check_held(name, value, dtype)
    return tensor_of(value, dtype, name)


def check_held(name: str, number: float | int, dtype: DType) -> None:
    """Raise TypeInferenceError unless `dtype` holds the number, rounded or cut to it; an unsigned dtype takes negative
    integers too, but no negative floats."""
    if dtype is dt.bool_:
        return
    if dtype.is_floating_point:
        is_fine = not math.isfinite(number) or abs(number) <= GREATEST[dtype]
    else:
        limits = np.iinfo(dtype.storage)
        least = int(limits.min) if dtype.is_signed or isinstance(number, float) else -int(limits.max)
        is_fine = math.isfinite(number) and least <= number <= int(limits.max)
    if not is_fine:
        raise TypeInferenceError(f"{name}: the number {number!r} is outside the range of {dtype}", where=user_line())


GREATEST: Final = {dt.f16: 65504.0, dt.bf16: 3.3895313892515355e38, dt.f32: 3.4028234663852886e38,
                   dt.f64: 1.7976931348623157e308}


def is_held(bound: int, dtype: DType) -> bool:
    """True when the dtype holds every integer from -bound to bound."""
    return dtype in (dt.i32, dt.i64) and bound < 1 << 8 * dtype.itemsize - 1


def cast(x: Tensor, dtype: DType) -> Tensor:
    """x in `dtype`: itself when it has it."""
    return x if x._type.dtype is dtype else dispatch(ops.Cast(dtype), x)


def dtype_of(value: TensorLike) -> DType:
    """The dtype a value stands for in promotion."""
    if isinstance(value, Tensor):
        return value._type.dtype
    if isinstance(value, Scalar):
        return dt.i64 if value.is_whole else get_default_dtype()
    if isinstance(value, Dim):
        return dt.i64
    return number_dtype(plain(value))


def result_type(*values: TensorLike) -> DType:
    """The dtype that an operation on these values computes in (torch.result_type, for any number of values)."""
    check_operands("result_type", values)
    if not values:
        raise TypeError("result_type: expected a tensor or a number, got nothing")
    shaped = [v._type.dtype for v in values if isinstance(v, Tensor) and v._type.shape]
    scalars = [v._type.dtype for v in values if isinstance(v, Tensor) and not v._type.shape]
    numbers = [dtype_of(v) for v in values if not isinstance(v, Tensor)]
    return result_type_of(shaped, scalars, numbers)


def promoted(name: str, *values: TensorLike, dtype: DType | None = None) -> list[Tensor]:
    """The values as tensors of one dtype (`dtype`, or the promoted one) and one shape, rank-0 ones aside.

    Raises TypeError for anything but tensors and numbers, ShapeError if shapes don't broadcast."""
    if dtype is None and len(values) == 2:
        quick = _promoted_pair(name, *values)
        if quick is not None:
            return quick
    check_operands(name, values)
    if dtype is None:
        dtype = result_type(*values)
    found = [cast(v, dtype) if isinstance(v, Tensor) else tensor_of(v, dtype, name) for v in values]
    return matched(name, found)


def _promoted_pair(name: str, x: Any, y: Any) -> list[Tensor] | None:
    """The common cases: two tensors of one dtype and shape, or a tensor beside a number that takes its dtype."""
    if isinstance(x, Tensor):
        dtype = x._type.dtype
        if isinstance(y, Tensor):
            same = y._type.dtype is dtype and same_shape(y._type.shape, x._type.shape)
            return [x, y] if same else None
        return [x, tensor_of(y, dtype, name)] if type(y) in _JOINS[dtype.kind] else None
    if isinstance(y, Tensor) and type(x) in _JOINS[y._type.dtype.kind]:
        return [tensor_of(x, y._type.dtype, name), y]
    return None


_JOINS = {"float": (float, int, bool), "int": (int, bool), "uint": (int, bool), "bool": (bool,)}


def check_operands(name: str, values: Iterable[object]) -> None:
    """Raise TypeError unless each is a tensor or a number."""
    for position, value in enumerate(values):
        if not isinstance(value, Tensor) and not is_number(value):
            raise TypeError(f"{name}: argument {position} must be a Tensor or a number, got {kind_of(value)}")


def kind_of(value: object) -> str:
    """What a value is that should have been a tensor or a number, and how to make it one."""
    kind = type(value)
    if isinstance(value, (complex, np.complexfloating)):
        return f"the complex number {value!r}; numbers are real"
    if isinstance(value, np.ndarray):
        return "a NumPy array; pass fb.from_numpy(array), or fb.tensor(array) for a copy"
    if hasattr(kind, "__dlpack__") and not isinstance(value, Tensor):
        return (f"a tensor of another framework ({kind.__module__}.{kind.__name__}); pass fb.from_numpy(array) of its "
                "memory as a NumPy array")
    return kind.__name__


def matched(name: str, tensors: list[Tensor]) -> list[Tensor]:
    """Tensors broadcast to one shape; rank-0 ones stay as they are. Raises ShapeError if they don't fit."""
    shapes = {t._type.shape for t in tensors if t._type.shape}
    if len(shapes) < 2:
        return tensors
    wide = broadcast_shapes(*[t._type.static_shape for t in tensors], name=name)
    return [expanded(t, wide) if t._type.shape else t for t in tensors]


def floating(name: str, *values: TensorLike) -> list[Tensor]:
    """Like `promoted`, with integers and bools taken to the default float dtype."""
    if len(values) == 2:
        quick = _promoted_pair(name, *values)
        if quick is not None and quick[0]._type.dtype.is_floating_point:
            return quick
    dtype = result_type(*values)
    return promoted(name, *values, dtype=dtype if dtype.is_floating_point else get_default_dtype())


def keeps_digits(number: TensorLike, dtype: DType) -> bool:
    """True when a number (or a 0-d tensor) beside tensors of a 16-bit float dtype has digits that the dtype would drop.
    PyTorch multiplies and divides by it in float32, and rounds the product."""
    if dtype.kind != "float" or dtype.itemsize != 2:
        return False
    if isinstance(number, Tensor):
        return not number._type.shape and number._type.dtype is not dtype
    return isinstance(number, (Scalar, Dim)) or ops.literal(plain(number), dtype).item() != number


def one_tensor(name: str, x: object) -> Tensor:
    """x itself. Raises TypeError when it is no tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: argument 'input' must be a Tensor, got {kind_of(x)}")
    return x


def floating_one(name: str, x: Tensor) -> Tensor:
    """x in a floating-point dtype."""
    dtype = one_tensor(name, x)._type.dtype
    return x if dtype.is_floating_point else cast(x, get_default_dtype())


def root_of(size: Any) -> Any:
    """The square root of a size, or of another number: a runtime number for a size with a name."""
    facts = known()
    if isinstance(size, Dim) and facts is not None and facts.number is not None:
        return facts.number(size).sqrt()
    return math.sqrt(size)


def as_bool(x: Tensor) -> Tensor:
    """x != 0."""
    return cast(x, dt.bool_)


# -- shapes -----------------------------------------------------------------------------------------------------------


def broadcast_shapes(*shapes: Sequence[int], name: str = "broadcast_shapes") -> Shape:
    """The shape that these broadcast to. Raises ShapeError naming the dim that does not fit."""
    for shape in shapes:
        if not isinstance(shape, (tuple, list)):
            raise TypeError(f"{name}: shapes are tuples of ints, got {type(shape).__name__}")
    rank = max((len(shape) for shape in shapes), default=0)
    longest = next((tuple(shape) for shape in shapes if len(shape) == rank), ())
    if all(same_shape(tuple(shape), longest[rank - len(shape):]) for shape in shapes):
        return longest
    found: list[Any] = [1] * rank
    for shape in shapes:
        for back, size in enumerate(reversed(tuple(shape)), 1):
            if _is_plain_one(size) or not _is_plain_one(found[-back]) and (found[-back] == size or size == 1):
                continue
            if not _is_plain_one(found[-back]) and found[-back] != 1:
                raise ShapeError(f"{by_whom(name)}: shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast: "
                                 f"sizes {found[-back]} and {size} at dim {rank - back}", where=user_line(),
                                 hint="sizes must be equal, or one of them 1, counted from the last dim")
            found[-back] = size
    return tuple(found)


def _is_plain_one(size: Any) -> bool:
    """Whether a size is 1, without asking one with a name."""
    return type(size) is int and size == 1


def expanded(x: Tensor, shape: Shape) -> Tensor:
    """x broadcast to `shape` as a view."""
    if same_shape(x._type.shape, shape):
        return x
    first = len(shape) - len(x._type.shape)
    return dispatch_view(ops.Broadcast(shape, tuple(range(first, len(shape)))), x)


def spread(x: Tensor, shape: Shape, dims: Sequence[int]) -> Tensor:
    """x as a view of `shape`, its dim i becoming dim dims[i]."""
    return dispatch_view(ops.Broadcast(shape, tuple(dims)), x)


def reshaped(x: Tensor, shape: Shape) -> Tensor:
    """x in another shape of as many elements: a view where memory allows, else a copy."""
    if same_shape(x._type.shape, shape):
        return x
    op = ops.Reshape(shape)
    return dispatch_view(op, x) if shares_memory(op, x) else apart(x, dispatch(op, x), op)


def permuted(x: Tensor, dims: Sequence[int]) -> Tensor:
    """Dim i of the result is dim dims[i] of x."""
    return x if tuple(dims) == tuple(range(len(dims))) else dispatch_view(ops.Permute(tuple(dims)), x)


def full_of(shape: Shape, value: Number, dtype: DType, name: str = "full", like: Tensor | None = None) -> Tensor:
    """A tensor of its own memory (or a rank-0 constant), every element `value`. like: it lies where that does, else on the
    CPU. Raises as `stored` does."""
    number = stored(name, value, dtype)
    if like is not None and like._type.device != "cpu":
        number = moved(number, like._type.device)
        return dispatch(ops.Broadcast(shape, ()), number) if shape else number
    if shape:
        return dispatch(ops.Broadcast(shape, ()), number)
    # The caller may write to it, and the shared one is for reading.
    return number if active.tracer is not None else Tensor._from_array(number._data().copy(), dtype)


# -- dims -------------------------------------------------------------------------------------------------------------


def wrap_dim(dim: object, rank: int, name: str) -> int:
    """A dim counted from either end -> from the front. A 0-d tensor counts as having one.

    Raises IndexOutOfRangeError outside [-rank, rank), TypeError if it is no integer."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"{name}: dim must be an int, got {type(dim).__name__}")
    number, count = operator.index(dim), max(rank, 1)
    if not -count <= number < count:
        raise IndexOutOfRangeError(f"{name}: dim {number} is out of range [{-count}, {count - 1}] for a tensor of "
                                   f"{rank} dims", where=user_line())
    return number % count


def own_dim(x: Tensor, dim: object, name: str) -> int:
    """A dim of x counted from the front. Raises as `wrap_dim` does, and IndexOutOfRangeError for a 0-d tensor."""
    if not x._type.shape:
        raise IndexOutOfRangeError(f"{name}: takes 1 dim or more, got {x._type}", where=user_line())
    return wrap_dim(dim, x.ndim, name)


def wrap_dims(dims: Dims, rank: int, name: str) -> tuple[int, ...]:
    """Reduced dims as ops want them: increasing, from the front; None (and ()) means all.

    Raises RuntimeError if one is named twice."""
    if dims is None:
        return tuple(range(rank))
    if not isinstance(dims, (tuple, list)):
        dims = (dims,)  # type: ignore[assignment]
    assert isinstance(dims, (tuple, list))
    found = sorted([wrap_dim(d, rank, name) for d in dims])
    if len(set(found)) != len(found):
        raise RuntimeError(f"{name}: a dim appears more than once in {tuple(dims)}")
    return tuple(range(rank)) if not found or rank == 0 else tuple(found)


def sizes_of(args: tuple[Any, ...], name: str) -> Shape:
    """`f(2, 3)`, `f((2, 3))` or `f(x.shape)` -> (2, 3). Raises TypeError for sizes that are no integers."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        args = tuple(args[0])
    for size in args:
        if isinstance(size, (bool, float)) or not hasattr(size, "__index__"):
            raise TypeError(f"{name}: sizes must be ints, got {args}")
    return tuple([size if type(size) is int else as_size(size) for size in args])


def user_line() -> str | None:
    """The user's line, under trace (an eager error has its own traceback)."""
    return describe(user_location()) if active.tracer is not None else None


__all__ = [
    "Dims", "Number", "Shape", "TensorLike", "as_bool", "broadcast_shapes", "cast", "category", "check_operands",
    "dispatch", "dispatch_view", "dtype_of", "expanded", "floating", "floating_one", "full_of",
    "is_number", "keeps_digits", "matched", "one_tensor", "own_dim", "permuted", "promoted", "reshaped", "result_type",
    "root_of", "sizes_of", "spread", "stored", "tensor_of", "user_line", "wrap_dim", "wrap_dims",
]
