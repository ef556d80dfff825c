"""Whether tensors are equal, exactly or nearly. (The tests of elements are rows of `ir.ops.elementwise`.)"""
from __future__ import annotations

from flambeau.errors import TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    expanded,
    one_tensor,
    promoted,
    user_line,
)
from flambeau.frontend.functions.elementwise import add, mul, sub
from flambeau.frontend.functions.marks import method
from flambeau.frontend.functions.pointwise import abs, eq
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops


@method
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


@method
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere, as a Python bool."""
    return bool(isclose(input, other, rtol, atol, equal_nan)._data().all())


@method
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether shapes and all elements are equal, as a Python bool (NaN equals nothing)."""
    if one_tensor("equal", input).shape != one_tensor("equal", other).shape:
        return False
    return bool(eq(input, other)._data().all())


__all__ = ["allclose", "equal", "isclose"]
public(globals(), __all__)
