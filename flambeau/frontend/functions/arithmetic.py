"""Numbers taken apart and put together: divisors of integers, exponents and neighbours of floats, odds."""
from __future__ import annotations

import builtins
import math
from typing import Any, NamedTuple

from flambeau.errors import TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.control import while_loop
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    GREATEST,
    Number,
    broadcast_shapes,
    cast,
    expanded,
    floating,
    floating_one,
    one_tensor,
    promoted,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import arange
from flambeau.frontend.functions.elementwise import clamp, mul, pow, sub
from flambeau.frontend.functions.elementwise import where as where_
from flambeau.frontend.functions.marks import in_place, method
from flambeau.frontend.functions.pointwise import abs as abs_
from flambeau.frontend.scalars import forced
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType

# -- integers ---------------------------------------------------------------------------------------------------------


@method
@in_place
def gcd(input: Tensor, other: Tensor) -> Tensor:
    """The greatest common divisor of integers, by Euclid; gcd(0, 0) is 0. Raises RuntimeError for floats and bools."""
    return _gcd(*_integers("gcd", input, other))


@method
@in_place
def lcm(input: Tensor, other: Tensor) -> Tensor:
    """The least common multiple of integers; 0 beside a 0. Raises RuntimeError for floats and bools."""
    x, y = _integers("lcm", input, other)
    divisor = _gcd(x, y)
    safe = where_(dispatch(ops.eq, divisor, tensor_of(0, x.dtype)), 1, divisor)
    return abs_(mul(dispatch(ops.floor_divide, x, safe), y))


def _integers(name: str, input: Tensor, other: Tensor) -> list[Tensor]:
    x, y = promoted(name, one_tensor(name, input), one_tensor(name, other))
    if not x.dtype.is_integer:
        raise TypeInferenceError(f"{name}: takes integers, got {x._type} and {y._type}", where=user_line())
    shape = broadcast_shapes(x._type.static_shape, y._type.static_shape, name=name)
    return [expanded(x, shape), expanded(y, shape)]


def _gcd(x: Tensor, y: Tensor) -> Tensor:
    zero, one = tensor_of(0, x.dtype), tensor_of(1, x.dtype)
    if not x.numel():
        return dispatch(ops.add, x, y)

    def goes_on(x: Tensor, y: Tensor) -> Tensor:
        return dispatch(ops.Any(tuple(builtins.range(y.ndim))), dispatch(ops.ne, y, zero))

    def step(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        is_done = dispatch(ops.eq, y, zero)
        rest = dispatch(ops.fmod, x, dispatch(ops.where, is_done, one, y))
        return dispatch(ops.where, is_done, x, y), dispatch(ops.where, is_done, zero, rest)

    found: Tensor = while_loop(goes_on, step, (x, y))[0]
    return dispatch(ops.abs, found)


# -- exponents --------------------------------------------------------------------------------------------------------


class MantissaAndExponent(NamedTuple):
    """What frexp() gives."""

    mantissa: Tensor
    exponent: Tensor


@method
@in_place
def ldexp(input: Tensor, other: Tensor) -> Tensor:
    """input * 2**other, in the default float dtype for integers. The power is two factors: one alone overflows where
    the product does not."""
    x, exponent = floating("ldexp", one_tensor("ldexp", input), one_tensor("ldexp", other))
    half = dispatch(ops.trunc, mul(dispatch(ops.stop_gradient, exponent), 0.5))
    return mul(mul(x, pow(2.0, half)), pow(2.0, sub(exponent, half)))


@method
def frexp(input: Tensor) -> MantissaAndExponent:
    """(mantissa, i32 exponent) with input = mantissa * 2**exponent and 0.5 <= |mantissa| < 1; 0, infinities and NaN are
    their own, with the exponent 0. Raises RuntimeError for integers."""
    x = one_tensor("frexp", input)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"frexp: takes floating-point tensors, got {x._type}")
    wide = cast(x, dt.f32) if x.dtype.itemsize == 2 else x
    size = dispatch(ops.abs, dispatch(ops.stop_gradient, wide))
    digits = 53 if wide.dtype is dt.f64 else 24
    is_tiny = dispatch(ops.lt, size, tensor_of(2.0 ** (-1022 if digits == 53 else -126), wide.dtype))
    lifted = dispatch(ops.where, is_tiny, mul(size, 2.0**digits), size)
    is_plain = dispatch(ops.logical_and, dispatch(ops.isfinite, size), dispatch(ops.gt, size, tensor_of(0, wide.dtype)))
    guess = dispatch(ops.floor, dispatch(ops.log2, where_(is_plain, lifted, 1.0)))
    high, low = _scaled_down(lifted, guess), tensor_of(1.0, wide.dtype)      # near a power of 2 the guess is off by one
    guess = where_(dispatch(ops.ge, high, tensor_of(2.0, wide.dtype)), guess + 1, where_(
        dispatch(ops.lt, high, low), guess - 1, guess))
    guess = where_(is_plain, guess - where_(is_tiny, float(digits), 0.0) + 1, 0.0)
    exponent = cast(guess, dt.i32)
    return MantissaAndExponent(cast(where_(is_plain, _scaled_down(wide, guess), wide), x.dtype), exponent)


def _scaled_down(x: Tensor, exponent: Tensor) -> Tensor:
    """x * 2**-exponent in two factors, neither of which overflows."""
    half = dispatch(ops.floor, mul(exponent, 0.5))
    return mul(mul(x, dispatch(ops.exp2, dispatch(ops.neg, half))),
               dispatch(ops.exp2, dispatch(ops.sub, half, exponent)))


@method
@in_place
def nextafter(input: Tensor, other: Tensor) -> Tensor:
    """The float next to input on the way to other; its slope is 1, and 0 where they are equal. Raises RuntimeError for
    integers.

    Rump, Zimmermann, Boldo and Melquiond, "Computing predecessor and successor in rounding to nearest", BIT 49 (2009),
    algorithm 2."""
    first, second = promoted("nextafter", one_tensor("nextafter", input), one_tensor("nextafter", other))
    if not first.dtype.is_floating_point:
        raise TypeInferenceError(f"nextafter: takes floating-point tensors, got {first._type}", where=user_line())
    x, y = dispatch(ops.stop_gradient, first), dispatch(ops.stop_gradient, second)
    dtype = x.dtype
    digits, least = {dt.f64: (53, 2.0**-1074), dt.f32: (24, 2.0**-149), dt.f16: (11, 2.0**-24),
                     dt.bf16: (8, 2.0**-133)}[dtype]
    unit = 2.0**-digits

    def number(value: float) -> Tensor:
        return tensor_of(value, dtype)

    size = dispatch(ops.abs, x)
    up = dispatch(ops.gt, y, x)
    grows = dispatch(ops.eq, up, dispatch(ops.ge, x, number(0.0)))
    sign = dispatch(ops.where, grows, number(1.0), number(-1.0))

    def moved(of: Tensor, by: Tensor) -> Tensor:
        return dispatch(ops.add, of, dispatch(ops.mul, sign, by))

    ulp = unit * (1 + 2 * unit)
    far = moved(size, dispatch(ops.mul, size, number(ulp)))
    near = moved(size, number(least))
    lifted = dispatch(ops.mul, size, number(1 / unit))
    between = dispatch(ops.mul, moved(lifted, dispatch(ops.mul, lifted, number(ulp))), number(unit))
    found = where_(dispatch(ops.ge, size, number(0.5 * least / unit**2)), far,
                   where_(dispatch(ops.lt, size, number(least / unit)), near, between))
    found = where_(dispatch(ops.isinf, size), number(GREATEST[dtype]), found)
    found = where_(dispatch(ops.eq, x, number(0.0)), where_(up, number(least), number(-least)),
                   dispatch(ops.copysign, found, x))
    found = where_(dispatch(ops.eq, x, y), y, found)
    is_nan = dispatch(ops.logical_or, dispatch(ops.isnan, x), dispatch(ops.isnan, y))
    found = where_(is_nan, dispatch(ops.add, x, y), found)
    if not (active.differentiates(first) or active.differentiates(second)):
        return found
    never = dispatch(ops.logical_and, up, dispatch(ops.lt, y, x))
    return carrying(found, where_(never, second, where_(dispatch(ops.eq, x, y), 0.0, first)))


def carrying(x: Tensor, y: Tensor) -> Tensor:
    """x, whose derivative is that of y (where x is finite)."""
    gap = dispatch(ops.sub, y, dispatch(ops.stop_gradient, y))
    return where_(dispatch(ops.isfinite, x), dispatch(ops.add, x, gap), x)


# -- odds -------------------------------------------------------------------------------------------------------------


@method
@in_place
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), the inverse of the sigmoid: NaN outside [0, 1], unless eps keeps x within [eps, 1 - eps]."""
    x = floating_one("logit", input)
    return dispatch(ops.logit, x if eps is None else clamp(x, eps, 1 - eps))


# -- counting ---------------------------------------------------------------------------------------------------------


def range(start: Number = 0, end: Number | None = None, step: Number = 1, *, dtype: DType | None = None, layout: Any = None,
          device: Any = None, requires_grad: bool = False) -> Tensor:
    """start, start + step, ... up to and with end, in the default float dtype. Raises RuntimeError for a step of 0 or the
    wrong sign. (arange() is what PyTorch advises.)"""
    first, last, by = (forced(n) for n in ((0, start, step) if end is None else (start, end, step)))
    if by == 0 or (last - first) * by < 0:
        raise RuntimeError(f"range: a step of {by} does not lead from {first} to {last}")
    beyond = first + (math.floor((last - first) / by) + 0.5) * by
    return arange(float(first), beyond, float(by), dtype=dtype or get_default_dtype(), device=device,
                  requires_grad=requires_grad)


__all__ = ["frexp", "gcd", "lcm", "ldexp", "logit", "nextafter", "range"]
public(globals(), __all__)
