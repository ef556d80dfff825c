"""Complex tensors from parts and back, and what dtype an operation on them computes in."""
from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.functions import pointwise
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    cast,
    expanded,
    is_number,
    one_tensor,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.elementwise import mul
from flambeau.frontend.functions.joining import stack
from flambeau.frontend.functions.views import clone, select
from flambeau.frontend.tape.dispatch import dispatch_view
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.promotion import get_default_dtype, promoted_types, result_type_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType


def is_complex_number(value: object) -> bool:
    return isinstance(value, (builtins.complex, np.complexfloating)) or isinstance(value, np.ndarray) and not value.ndim \
        and value.dtype.kind == "c"


def pair_of(name: str, z: Any) -> Tensor:
    """The pair of a complex tensor. Raises TypeError."""
    if not isinstance(z, ComplexTensor):
        raise TypeError(f"{name}: expected a complex tensor, got {type(z).__name__}")
    return z._pair


def split(value: Any) -> tuple[Any, Any]:
    """(real part, imaginary part) of a tensor or a number; None for an imaginary part of 0."""
    if isinstance(value, ComplexTensor):
        last = value._pair.ndim - 1
        return select(value._pair, last, 0), select(value._pair, last, 1)
    if is_complex_number(value):
        number = builtins.complex(value)
        return number.real, number.imag
    return value, None


def joined(real: Any, imag: Any) -> ComplexTensor:
    """A complex tensor of parts of one dtype, broadcast; one of them may be a number."""
    like = real if isinstance(real, Tensor) else imag
    parts = [_filled(p, like) for p in (real, imag)]
    shape = broadcast_shapes(*[p._type.static_shape for p in parts], name="complex")
    return ComplexTensor.of(stack([expanded(p, shape) for p in parts], -1))


def _filled(part: Any, like: Tensor) -> Tensor:
    return part if isinstance(part, Tensor) else tensor_of(0 if part is None else part, like._type.dtype)


# -- what to compute in -----------------------------------------------------------------------------------------------


def component(name: str, *values: Any) -> DType:
    """The dtype of the parts of a result of these operands, one of which is complex. A Python number has no say but among
    integers; of tensors without dims only complex ones do, beside those with dims that are not."""
    tiers: tuple[list[DType], list[DType], list[DType]] = [], [], []
    complex_scalars, is_shaped_complex = [], False
    for position, value in enumerate(values):
        if isinstance(value, ComplexTensor):
            tiers[not value.ndim].append(value._pair._type.dtype)
            is_shaped_complex |= bool(value.ndim)
            complex_scalars += [] if value.ndim else [value._pair._type.dtype]
        elif isinstance(value, Tensor):
            tiers[not value._type.shape].append(value._type.dtype)
        elif is_complex_number(value) or is_number(value):
            tiers[2].append(get_default_dtype() if is_complex_number(value) or isinstance(value, float) else dt.bool_)
        else:
            raise TypeError(f"{name}: argument {position} must be a Tensor or a number, got {type(value).__name__}")
    found = result_type_of(*tiers)
    if not is_shaped_complex:
        for dtype in complex_scalars:
            found = promoted_types(found, dtype)
    if not found.is_floating_point:
        found = get_default_dtype()
    return dt.f32 if found.itemsize == 2 else found


def parts_in(dtype: DType, value: Any) -> tuple[Any, Any]:
    """`split`, tensors in `dtype`."""
    real, imag = split(value)
    return (cast(real, dtype) if isinstance(real, Tensor) else real,
            cast(imag, dtype) if isinstance(imag, Tensor) else imag)


# -- public -----------------------------------------------------------------------------------------------------------


def view_as_complex(input: Tensor) -> Tensor:
    """[..., 2], real and imaginary parts, as complex numbers [...] in the same memory.

    Raises RuntimeError unless input is f32 or f64, and ends in a dim of 2 without gaps."""
    x = one_tensor("view_as_complex", input)
    if isinstance(x, ComplexTensor) or x._type.dtype not in (dt.f32, dt.f64):
        raise TypeInferenceError(f"view_as_complex: takes float32 or float64, got {x.dtype!r}", where=user_line())
    if not x.ndim or x._type.static_shape[-1] != 2:
        raise ShapeError(f"view_as_complex: takes a last dim of size 2, got {x._type}", where=user_line())
    return ComplexTensor.of(dispatch_view(ops.Reshape(x._type.shape), x))


def view_as_real(input: Tensor) -> Tensor:
    """Complex numbers [...] as [..., 2], real and imaginary parts, in the same memory."""
    pair = pair_of("view_as_real", input)
    return dispatch_view(ops.Reshape(pair._type.shape), pair)


def complex(real: Tensor, imag: Tensor) -> Tensor:
    """real + i * imag, of two tensors in float32 or two in float64, broadcast."""
    re, im = one_tensor("complex", real), one_tensor("complex", imag)
    if re._type.dtype not in (dt.f32, dt.f64) or im._type.dtype is not re._type.dtype:
        raise TypeInferenceError(f"complex: takes two tensors in float32 or two in float64, got {re._type} and {im._type}",
                                 where=user_line())
    return joined(re, im)


def polar(abs: Tensor, angle: Tensor) -> Tensor:
    """abs * (cos(angle) + i * sin(angle)), of two tensors in float32 or two in float64, broadcast."""
    size, turn = one_tensor("polar", abs), one_tensor("polar", angle)
    if size._type.dtype not in (dt.f32, dt.f64) or turn._type.dtype is not size._type.dtype:
        raise TypeInferenceError(f"polar: takes two tensors in float32 or two in float64, got {size._type} and "
                                 f"{turn._type}", where=user_line())
    return joined(mul(size, pointwise.cos(turn)), mul(size, pointwise.sin(turn)))


def real(input: Tensor) -> Tensor:
    """The real parts, in the same memory; a real tensor itself."""
    x = one_tensor("real", input)
    return split(x)[0] if isinstance(x, ComplexTensor) else x


def imag(input: Tensor) -> Tensor:
    """The imaginary parts, in the same memory. Raises RuntimeError for real tensors."""
    x = one_tensor("imag", input)
    if not isinstance(x, ComplexTensor):
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")
    found = split(x)[1]
    assert isinstance(found, Tensor), "a complex tensor has two parts"
    return found


def conj(input: Tensor) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    x = one_tensor("conj", input)
    if not isinstance(x, ComplexTensor):
        return x
    re, im = split(x)
    return joined(re, pointwise.neg(im))


def conj_physical(input: Tensor) -> Tensor:
    """`conj`, in memory of its own."""
    x = one_tensor("conj_physical", input)
    return conj(x) if isinstance(x, ComplexTensor) else clone(x)


def resolve_conj(input: Tensor) -> Tensor:
    """Itself: conjugates are computed at once."""
    return one_tensor("resolve_conj", input)


def resolve_neg(input: Tensor) -> Tensor:
    """Itself: negatives are computed at once."""
    return one_tensor("resolve_neg", input)


def is_conj(input: Tensor) -> bool:
    """False: conjugates are computed at once."""
    one_tensor("is_conj", input)
    return False


def is_neg(input: Tensor) -> bool:
    """False: negatives are computed at once."""
    one_tensor("is_neg", input)
    return False


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return one_tensor("is_complex", input).is_complex()


__all__ = ["complex", "conj", "conj_physical", "imag", "is_complex", "is_conj", "is_neg", "polar", "real", "resolve_conj",
           "resolve_neg", "view_as_complex", "view_as_real"]
public(globals(), __all__)
