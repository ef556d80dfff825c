"""`fb.linalg`: linear algebra under PyTorch's names. All take batches of matrices over the last two dims."""
from __future__ import annotations

from flambeau.errors import LinAlgError
from flambeau.frontend.functions import linear_algebra
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.linear_algebra import cholesky_ex, solve, solve_triangular
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.tensor.tensor import Tensor

__all__ = ["LinAlgError", "cholesky", "cholesky_ex", "inv", "matmul", "solve", "solve_triangular"]


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """`fb.cholesky`: the lower triangular L with L @ L.mT = A, or the upper triangular U with U.mT @ U = A."""
    return linear_algebra.cholesky(A, upper)


def inv(A: Tensor) -> Tensor:
    """`fb.inverse`: the inverse of each matrix."""
    return linear_algebra.inverse(A)


public(globals(), ("cholesky", "inv"))
