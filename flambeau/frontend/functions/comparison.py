"""Tests of elements, and of whole tensors."""
from __future__ import annotations

from collections.abc import Callable

from flambeau.errors import TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    TensorLike,
    cast,
    expanded,
    full_of,
    one_tensor,
    promoted,
    user_line,
)
from flambeau.frontend.functions.elementwise import abs, add, mul, sub
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.op import Op


def _comparison(op: Op, sign: str) -> Callable[[TensorLike, TensorLike], Tensor]:
    def function(input: TensorLike, other: TensorLike) -> Tensor:
        x, y = promoted(op.name, input, other)
        if x._type.dtype is dt.bool_ and op not in (ops.eq, ops.ne):
            x, y = cast(x, dt.u8), cast(y, dt.u8)       # ordered ops take numbers
        return dispatch(op, x, y)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"input {sign} other, element by element, as bools."
    return function


eq = _comparison(ops.eq, "==")
ne = _comparison(ops.ne, "!=")
lt = _comparison(ops.lt, "<")
le = _comparison(ops.le, "<=")
gt = _comparison(ops.gt, ">")
ge = _comparison(ops.ge, ">=")
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge


def _float_test(op: Op, of_integers: bool, meaning: str) -> Callable[[Tensor], Tensor]:
    def function(input: Tensor) -> Tensor:
        x = one_tensor(op.name, input)
        if x._type.dtype.is_floating_point:
            return dispatch(op, x)
        return full_of(x._type.static_shape, of_integers, dt.bool_)

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"Whether each element is {meaning}."
    return function


isnan = _float_test(ops.isnan, False, "NaN")
isinf = _float_test(ops.isinf, False, "an infinity")
isfinite = _float_test(ops.isfinite, True, "neither NaN nor an infinity")


def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """|input - other| <= atol + rtol * |other|, or equal (infinities; NaNs if asked), as bools."""
    for bound_name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not tolerance >= 0:
            raise RuntimeError(f"isclose: {bound_name} must be >= 0, got {tolerance}")
    x, y = promoted("isclose", one_tensor("isclose", input), one_tensor("isclose", other))
    if input._type.dtype is not other._type.dtype:
        raise TypeInferenceError(f"isclose: takes tensors of one dtype, got {input._type} and {other._type}",
                                 where=user_line())
    close = dispatch(ops.eq, x, y)
    if not x._type.dtype.is_floating_point:
        x, y = cast(x, dt.f64), cast(y, dt.f64)
    bound = add(mul(abs(y), rtol), atol)
    is_number = dispatch(ops.isfinite, sub(x, y))
    near = dispatch(ops.logical_and, is_number, dispatch(ops.le, abs(sub(x, y)), bound))
    close = dispatch(ops.logical_or, close, near)
    if equal_nan:
        both = dispatch(ops.logical_and, dispatch(ops.isnan, x), dispatch(ops.isnan, y))
        close = dispatch(ops.logical_or, close, expanded(both, close._type.static_shape))
    return close


def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data().all())


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal, as a Python bool (NaN equals nothing)."""
    if one_tensor("equal", input).shape != one_tensor("equal", other).shape:
        return False
    return bool(eq(input, other)._data().all())


__all__ = ["allclose", "eq", "equal", "ge", "greater", "greater_equal", "gt", "isclose", "isfinite", "isinf",
           "isnan", "le", "less", "less_equal", "lt", "ne", "not_equal"]
public(globals(), ["allclose", "equal", "isclose"])
