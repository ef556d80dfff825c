"""Normalization by the squares of neighbouring channels: Krizhevsky et al., "ImageNet classification with deep
convolutional neural networks", 2012, section 3.3."""
from __future__ import annotations

import math

from flambeau.errors import ShapeError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import expanded, one_tensor, reshaped, user_line
from flambeau.frontend.functions.elementwise import add, div, mul, pow
from flambeau.frontend.functions.pooling import avg_pool2d
from flambeau.frontend.functions.views import clone, padded, sliced
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dims import as_size


def local_response_norm(input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha * the mean of x**2 over `size` channels)**beta; channels (dim 1) beyond the ends count as zeros.

    input: [N, C, ...]. Raises ValueError below 3 dims, RuntimeError for a size below 1."""
    if one_tensor("local_response_norm", input).ndim < 3:
        raise ShapeError(f"local_response_norm: takes 3 dims or more, [N, C, ...], got {input._type}", where=user_line())
    size = as_size(size)
    if size < 1:
        raise RuntimeError(f"local_response_norm: size must be positive, got {size}")
    if 0 in input._type.static_shape:
        return clone(input)
    return div(input, pow(add(mul(mean_of_squares(input, size // 2, (size - 1) // 2), alpha), k), beta))


def mean_of_squares(x: Tensor, before: int, after: int) -> Tensor:
    """The mean of x**2 over each channel (dim 1) and so many before and after it, zeros beyond the ends. x has elements."""
    shape = x._type.static_shape
    squares = reshaped(mul(x, x), (shape[0], 1, shape[1], math.prod(shape[2:])))
    around = padded(squares, [(0, 0), (0, 0), (before, after), (0, 0)])
    return reshaped(avg_pool2d(around, (before + after + 1, 1), 1), shape)


def cross_map_lrn2d(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """x / (k + alpha / size * the sum of x**2 over the channels at most (size - 1) // 2 away)**beta. As in PyTorch, whose
    running sum never lets go of it, channel 0 counts for all channels farther away too."""
    if 0 in x._type.static_shape:
        return clone(x)
    away, channels = (size - 1) // 2, x._type.static_shape[1]
    total = mul(mean_of_squares(x, away, away), 2 * away + 1)
    if channels > away + 1:
        first = sliced(x, 1, 0, 1)
        shape = (x._type.static_shape[0], channels - away - 1, *x._type.static_shape[2:])
        total = add(total, padded(expanded(mul(first, first), shape), [(0, 0), (away + 1, 0), (0, 0), (0, 0)]))
    return div(x, pow(add(mul(total, alpha / size), k), beta))


__all__ = ["local_response_norm"]
public(globals(), __all__)
