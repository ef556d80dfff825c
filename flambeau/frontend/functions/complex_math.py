"""Arithmetic and functions of complex tensors, in ops on their parts."""
from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

from flambeau.frontend.functions import comparison, elementwise, pointwise, reductions, views
from flambeau.frontend.functions.coerce import broadcast_shapes, expanded, kind_of, tensor_of, wrap_dim
from flambeau.frontend.functions.complex_parts import component, is_complex_number, joined, parts_in, split
from flambeau.frontend.functions.elementwise import add as add_
from flambeau.frontend.functions.elementwise import choose
from flambeau.frontend.functions.elementwise import mul as mul_
from flambeau.frontend.functions.elementwise import sub as sub_
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dtypes import DType

# -- two operands -----------------------------------------------------------------------------------------------------


def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    return _added("add", input, mul(other, alpha) if _differs_from_1(alpha) else other, add_)


def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    return _added("sub", input, mul(other, alpha) if _differs_from_1(alpha) else other, sub_)


def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    return sub(other, input, alpha=alpha)


def _differs_from_1(alpha: Any) -> bool:
    return type(alpha) not in (int, float) or alpha != 1


def _added(name: str, x: Any, y: Any, operation: Callable[[Any, Any], Any]) -> Tensor:
    dtype = component(name, x, y)
    (a, b), (c, d) = parts_in(dtype, x), parts_in(dtype, y)
    imag = b if d is None else operation(0.0 if b is None else b, d)
    return _of_parts(dtype, operation(a, c), imag)


def _of_parts(dtype: DType, real: Any, imag: Any) -> Tensor:
    """Parts that may be numbers."""
    real, imag = (p if isinstance(p, Tensor) else tensor_of(0.0 if p is None else p, dtype) for p in (real, imag))
    return joined(real, imag)


def product(dtype: DType, x: tuple[Any, Any], y: tuple[Any, Any], times: Callable[[Any, Any], Any]) -> Tensor:
    """x * y by their parts, for any product that is linear in both."""
    (a, b), (c, d) = x, y
    if b is None:
        return _of_parts(dtype, times(a, c), None if d is None else times(a, d))
    if d is None:
        return _of_parts(dtype, times(a, c), times(b, c))
    return _of_parts(dtype, sub_(times(a, c), times(b, d)), add_(times(a, d), times(b, c)))


def mul(input: Any, other: Any) -> Tensor:
    dtype = component("mul", input, other)
    return product(dtype, parts_in(dtype, input), parts_in(dtype, other), _times)


def _times(a: Any, b: Any) -> Any:
    return mul_(a, b) if isinstance(a, Tensor) or isinstance(b, Tensor) else a * b


def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    if rounding_mode is not None:
        raise RuntimeError(f"div: complex numbers have no rounding_mode, got {rounding_mode!r}")
    dtype = component("div", input, other)
    (a, b), (c, d) = parts_in(dtype, input), parts_in(dtype, other)
    if d is None:
        return _of_parts(dtype, elementwise.div(a, c) if isinstance(a, Tensor) or isinstance(c, Tensor) else a / c,
                         elementwise.div(0.0 if b is None else b, c))
    if not isinstance(d, Tensor):                           # by a number
        return mul(input, 1 / complex(c, d))
    size = dispatch(ops.stop_gradient, pointwise.maximum(pointwise.abs(c), pointwise.abs(d)))   # squares stay in range
    size = choose(pointwise.eq(size, 0), tensor_of(1, dtype), size)
    u, v = elementwise.div(c, size), elementwise.div(d, size)
    below = add_(mul_(u, c), mul_(v, d))
    b = 0.0 if b is None else b
    return _of_parts(dtype, elementwise.div(add_(mul_(u, a), mul_(v, b)), below),
                     elementwise.div(sub_(mul_(u, b), mul_(v, a)), below))


def pow(input: Any, exponent: Any) -> Tensor:
    if not isinstance(exponent, Tensor) and not is_complex_number(exponent):
        if exponent == 0:
            return add(mul(input, 0), 1)
        if exponent == 0.5:
            return sqrt(input)
        if float(exponent).is_integer() and 0 < exponent <= 4:
            found = input
            for _ in range(int(exponent) - 1):
                found = mul(found, input)
            return found if found is not input else mul(input, 1)
    is_zero = _both(*[pointwise.eq(p, 0) for p in _tensors(input)]) if isinstance(input, ComplexTensor) else None
    if is_zero is None:
        return exp(mul(exponent, pointwise.log(input) if isinstance(input, Tensor) else cmath.log(input)))
    dtype = component("pow", input, exponent)
    re, im = _tensors(input)
    safe = joined(choose(is_zero, tensor_of(1, re.dtype), re), im)
    found = exp(mul(exponent, log(safe)))
    return joined(*[choose(is_zero, tensor_of(0, dtype), p) for p in _tensors(found)])


def _tensors(z: Any) -> tuple[Tensor, Tensor]:
    re, im = split(z)
    if not isinstance(re, Tensor) or not isinstance(im, Tensor):
        raise TypeError(f"argument 'input' must be a Tensor, got {kind_of(z)}")
    return re, im


def _both(a: Tensor, b: Tensor) -> Tensor:
    return pointwise.logical_and(a, b)


def eq(input: Any, other: Any) -> Tensor:
    dtype = component("eq", input, other)
    (a, b), (c, d) = parts_in(dtype, input), parts_in(dtype, other)
    return _both(_equal(a, c), _equal(0.0 if b is None else b, 0.0 if d is None else d))


def _equal(a: Any, b: Any) -> Tensor:
    return pointwise.eq(a, b) if isinstance(a, Tensor) else pointwise.eq(b, a)


def ne(input: Any, other: Any) -> Tensor:
    return pointwise.logical_not(eq(input, other))


def equal(input: Any, other: Any) -> bool:
    if tuple(input.shape) != tuple(other.shape) or input.dtype is not other.dtype:
        return False
    return comparison.equal(input._pair, other._pair)


def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    near = pointwise.le(abs(sub(input, other)), add_(mul_(abs(other) if isinstance(other, ComplexTensor) else pointwise.abs(
        other), rtol), atol))
    found = pointwise.logical_or(near, eq(input, other))
    return pointwise.logical_or(found, _both(isnan(input), isnan(other))) if equal_nan else found


def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    return bool(reductions.all(isclose(input, other, rtol, atol, equal_nan)))


# -- one operand ------------------------------------------------------------------------------------------------------


def abs(input: Any) -> Tensor:
    re, im = _tensors(input)
    is_zero = _both(pointwise.eq(re, 0), pointwise.eq(im, 0))
    zero, one = tensor_of(0, re.dtype), tensor_of(1, re.dtype)
    return choose(is_zero, zero, pointwise.hypot(choose(is_zero, one, re), im))    # a gradient of 0 at 0, as in PyTorch


def angle(input: Any) -> Tensor:
    re, im = _tensors(input)
    return pointwise.atan2(im, re)


def neg(input: Any) -> Tensor:
    return ComplexTensor.of(pointwise.neg(input._pair))


def positive(input: Any) -> Tensor:
    return input


def square(input: Any) -> Tensor:
    return mul(input, input)


def reciprocal(input: Any) -> Tensor:
    return div(1, input)


def exp(input: Any) -> Tensor:
    if not isinstance(input, ComplexTensor):
        return pointwise.exp(input)
    re, im = _tensors(input)
    size = pointwise.exp(re)
    return joined(mul_(size, pointwise.cos(im)), mul_(size, pointwise.sin(im)))


def log(input: Any) -> Tensor:
    return joined(pointwise.log(abs(input)), angle(input))


def log2(input: Any) -> Tensor:
    return mul(log(input), 1 / math.log(2))


def log10(input: Any) -> Tensor:
    return mul(log(input), 1 / math.log(10))


def log1p(input: Any) -> Tensor:
    return log(add(input, 1))


def exp2(input: Any) -> Tensor:
    return exp(mul(input, math.log(2)))


def expm1(input: Any) -> Tensor:
    return sub(exp(input), 1)


def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    return add(input, mul(tensor1, tensor2), alpha=value)


def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Tensor:
    return add(input, div(tensor1, tensor2), alpha=value)


def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    return add(input, mul(sub(end, input), weight))


def prod(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
    pair = input._pair if dim is not None else views.reshape(input._pair, (-1, 2))
    place = 0 if dim is None else wrap_dim(dim, input.ndim, "prod")
    found: Any = 1.0
    for part in views.unbind(pair, place):
        found = mul(ComplexTensor.of(part), found)
    if not isinstance(found, Tensor):
        raise RuntimeError("prod: takes complex tensors with elements along the dim")
    assert isinstance(found, ComplexTensor), "a product of complex numbers"
    return ComplexTensor.of(views.unsqueeze(found._pair, place)) if keepdim and dim is not None else found


def sqrt(input: Any) -> Tensor:
    """W. Kahan, "Branch cuts for complex elementary functions", 1987: by the root of (|z| + |re|) / 2."""
    re, im = _tensors(input)
    zero, one = tensor_of(0, re.dtype), tensor_of(1, re.dtype)
    is_zero = _both(pointwise.eq(re, 0), pointwise.eq(im, 0))
    safe = joined(choose(is_zero, one, re), im)
    root = pointwise.sqrt(mul_(add_(abs(safe), pointwise.abs(_tensors(safe)[0])), 0.5))
    other = elementwise.div(im, mul_(root, 2))
    is_right = pointwise.ge(re, 0)
    real = choose(is_right, root, pointwise.abs(other))
    imag = choose(is_right, other, pointwise.copysign(root, im))
    return joined(choose(is_zero, zero, real), choose(is_zero, im, imag))


def rsqrt(input: Any) -> Tensor:
    return reciprocal(sqrt(input))


def sin(input: Any) -> Tensor:
    a, b = _tensors(input)
    return joined(mul_(pointwise.sin(a), pointwise.cosh(b)), mul_(pointwise.cos(a), pointwise.sinh(b)))


def cos(input: Any) -> Tensor:
    a, b = _tensors(input)
    return joined(mul_(pointwise.cos(a), pointwise.cosh(b)), pointwise.neg(mul_(pointwise.sin(a), pointwise.sinh(b))))


def tan(input: Any) -> Tensor:
    return div(sin(input), cos(input))


def sinh(input: Any) -> Tensor:
    a, b = _tensors(input)
    return joined(mul_(pointwise.sinh(a), pointwise.cos(b)), mul_(pointwise.cosh(a), pointwise.sin(b)))


def cosh(input: Any) -> Tensor:
    a, b = _tensors(input)
    return joined(mul_(pointwise.cosh(a), pointwise.cos(b)), mul_(pointwise.sinh(a), pointwise.sin(b)))


def tanh(input: Any) -> Tensor:
    """(tanh a (1 + tan^2 b) + i tan b (1 - tanh^2 a)) / (1 + tanh^2 a tan^2 b), which does not overflow."""
    a, b = _tensors(input)
    t, u = pointwise.tanh(a), pointwise.tan(b)
    below = add_(mul_(mul_(t, t), mul_(u, u)), 1)
    return joined(elementwise.div(mul_(t, add_(mul_(u, u), 1)), below),
                  elementwise.div(mul_(u, sub_(1, mul_(t, t))), below))


def sigmoid(input: Any) -> Tensor:
    return div(1, add(exp(neg(input)), 1))


def sgn(input: Any) -> Tensor:
    re, im = _tensors(input)
    size = abs(input)
    size = choose(pointwise.eq(size, 0), tensor_of(1, size.dtype), size)
    return joined(elementwise.div(re, size), elementwise.div(im, size))


def isnan(input: Any) -> Tensor:
    return pointwise.logical_or(*[pointwise.isnan(p) for p in split(input) if p is not None]) \
        if isinstance(input, ComplexTensor) else pointwise.isnan(input)


def isinf(input: Any) -> Tensor:
    return pointwise.logical_or(*[pointwise.isinf(p) for p in _tensors(input)])


def isfinite(input: Any) -> Tensor:
    return pointwise.logical_and(*[pointwise.isfinite(p) for p in _tensors(input)])


def isreal(input: Any) -> Tensor:
    return pointwise.eq(_tensors(input)[1], 0)


def broadcast(*values: Any) -> list[ComplexTensor]:
    """Complex tensors of one dtype and shape."""
    dtype = component("broadcast", *values)
    found = [_of_parts(dtype, *parts_in(dtype, v)) for v in values]
    shape = broadcast_shapes(*[tuple(z.shape) for z in found])
    return [ComplexTensor.of(expanded(z._pair, (*shape, 2))) for z in found if isinstance(z, ComplexTensor)]
