"""How far vectors are from each other: pair by pair, and all from all."""
from __future__ import annotations

import numpy as np

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    floating,
    one_tensor,
    result_type,
    user_line,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.elementwise import add, div, mul, sub
from flambeau.frontend.functions.losses import at_least
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.reductions import norm
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.views import matrix_transposed, unsqueeze
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

_MODES = {"use_mm_for_euclid_dist_if_necessary": None, "use_mm_for_euclid_dist": True,
          "donot_use_mm_for_euclid_dist": False}


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dim."""
    return norm(add(sub(x1, x2), eps), p, -1, keepdim)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (|x1| |x2|) along dim, each norm being at least eps, and having its gradient all the same.

    Raises RuntimeError for integers."""
    if not result_type(x1, x2).is_floating_point:
        raise TypeInferenceError(f"cosine_similarity: takes floating-point tensors, got {x1._type} and {x2._type}",
                                 where=user_line())
    x, y = floating("cosine_similarity", x1, x2)
    x, y = (div(v, at_least(norm(v, 2, dim, keepdim=True), eps)) for v in (x, y))        # |x| |y| itself may overflow
    return sum_(mul(x, y), dim)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0,
          compute_mode: str = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """[..., P, M], [..., R, M] -> [..., P, R], the p-norm of each row of x1 less each row of x2.

    compute_mode: whether Euclidean distances come from |x|**2 + |y|**2 - 2 x . y, which is one matrix product and less
    exact; "if necessary" for more than 25 rows. Raises RuntimeError for what are no matrices of as many columns of one
    floating-point dtype, and for p < 0; ValueError for another mode."""
    x, y = (_rows("cdist", t) for t in (x1, x2))
    if x.dtype is not y.dtype:
        raise TypeInferenceError(f"cdist: takes tensors of one dtype, got {x._type} and {y._type}", where=user_line())
    if x._type.shape[-1] != y._type.shape[-1]:
        raise ShapeError(f"cdist: takes as many columns in both, got {x._type} and {y._type}", where=user_line())
    if compute_mode not in _MODES:
        raise ValueError(f"cdist: {compute_mode!r} is not a valid value for compute_mode")
    _check_power("cdist", p)
    (n, columns), m = x._type.static_shape[-2:], y._type.static_shape[-2]
    by_product = _MODES[compute_mode]
    if p == 2 and ((n > 25 or m > 25) if by_product is None else by_product):
        return _euclidean(x, y)
    return norm(sub(unsqueeze(x, -2), unsqueeze(y, -3)), p if columns else 2, -1)      # no columns: no greatest


def _euclidean(x: Tensor, y: Tensor) -> Tensor:
    squares = add(sum_(mul(x, x), -1, keepdim=True), matrix_transposed(sum_(mul(y, y), -1, keepdim=True)))
    found = add(squares, matmul(mul(x, -2.0), matrix_transposed(y)))
    return dispatch(ops.root, dispatch(ops.relu, found))        # whose slopes at 0 are 0


def _rows(name: str, x: Tensor) -> Tensor:
    if one_tensor(name, x).ndim < 2:
        raise ShapeError(f"{name}: takes 2 dims or more, got {x._type}", where=user_line())
    if not x.dtype.is_floating_point:
        raise TypeInferenceError(f"{name}: takes floating-point tensors, got {x._type}", where=user_line())
    return x


def _check_power(name: str, p: float) -> None:
    if not p >= 0:
        raise RuntimeError(f"{name}: p must not be negative, got {p}")


def pdist(input: Tensor, p: float = 2) -> Tensor:
    """[N, M] -> [N * (N - 1) / 2], the p-norms between rows i < j. Raises RuntimeError for other ranks and p < 0."""
    x = _rows("pdist", input)
    if x.ndim != 2:
        raise ShapeError(f"pdist: takes 2 dims, got {x._type}", where=user_line())
    _check_power("pdist", p)
    rows, columns = x._type.static_shape
    first, second = np.triu_indices(rows, 1)
    here, there = (dispatch(ops.Take(0), x, holding(index.astype(np.int64), dt.i64)) for index in (first, second))
    return norm(dispatch(ops.sub, here, there), p if columns else 2, -1)


__all__ = ["cdist", "cosine_similarity", "pairwise_distance", "pdist"]
public(globals(), __all__)
