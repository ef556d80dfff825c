"""`fb.linalg`: linear algebra under PyTorch's names. All take batches of matrices over the last two dims."""
from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from flambeau.errors import LinAlgError, UnsupportedError
from flambeau.frontend.functions import compound_products, linear_algebra, views
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import one_tensor, reshaped
from flambeau.frontend.functions.elementwise import mul
from flambeau.frontend.functions.factorizations import (
    eigh,
    eigvalsh,
    householder_product,
    lu,
    lu_factor,
    lu_factor_ex,
    lu_solve,
    qr,
    svd,
    svdvals,
)
from flambeau.frontend.functions.linear_algebra import cholesky_ex, inv_ex, solve, solve_ex, solve_triangular
from flambeau.frontend.functions.matrix_functions import (
    cond,
    det,
    lstsq,
    matrix_exp,
    matrix_power,
    matrix_rank,
    pinv,
    slogdet,
    tensorinv,
    tensorsolve,
)
from flambeau.frontend.functions.norms import linalg_norm as norm
from flambeau.frontend.functions.norms import matrix_norm, vector_norm
from flambeau.frontend.functions.products import matmul
from flambeau.frontend.functions.reductions import sum as sum_
from flambeau.frontend.functions.stacking import powers_of
from flambeau.frontend.tensor.tensor import Tensor

_EIGEN = "flambeau.frontend.functions.complex_eigen"                    # loaded with complex tensors, at first use

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eig", "eigh", "eigvals",
    "eigvalsh", "householder_product", "inv", "inv_ex", "ldl_factor", "ldl_factor_ex", "ldl_solve", "lstsq", "lu",
    "lu_factor", "lu_factor_ex", "lu_solve", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank",
    "multi_dot", "norm", "pinv", "qr", "slogdet", "solve", "solve_ex", "solve_triangular", "svd", "svdvals",
    "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
]


def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """`fb.cholesky`: the lower triangular L with L @ L.mT = A, or the upper triangular U with U.mT @ U = A."""
    return linear_algebra.cholesky(A, upper)


def inv(A: Tensor) -> Tensor:
    """`fb.inverse`: the inverse of each matrix."""
    return linear_algebra.inverse(A)


def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """`fb.diagonal`: the diagonals of matrices over the last two dims, as a view."""
    return views.diagonal(A, offset, dim1, dim2)


def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """The sum of x * y along dim; the other dims broadcast."""
    return sum_(mul(x, y), dim)


def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """`fb.cross` along the last dim by default: the cross product of vectors of size 3."""
    return compound_products.cross(input, other, dim)


def vander(x: Tensor, *, N: int | None = None) -> Tensor:
    """[..., n, N]: the powers 0 ... N-1 of each element of x: [..., n], or a number. N: by default n."""
    given = one_tensor("linalg.vander", x)
    given = given if given.ndim else given.reshape(1)
    if N is not None and N <= 1:
        raise RuntimeError(f"linalg.vander: N must be greater than 1, got {N}")
    return powers_of(given, given._type.static_shape[-1] if N is None else N, descending=False)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of two or more matrices in the order that takes the fewest multiplications; the first and the last may be
    vectors, a row and a column."""
    factors = [one_tensor("linalg.multi_dot", t) for t in tensors]
    ranks = [t.ndim for t in factors]
    if len(factors) < 2 or any(rank != 2 for rank in ranks[1:-1]) or {ranks[0], ranks[-1]} - {1, 2}:
        raise RuntimeError("linalg.multi_dot: takes two or more matrices, of which the first and the last may be vectors, "
                           f"got {[str(t._type) for t in factors]}")
    sizes = [t._type.static_shape for t in factors]
    if ranks[0] == 1:
        factors[0] = reshaped(factors[0], (1, *sizes[0]))
    if ranks[-1] == 1:
        factors[-1] = reshaped(factors[-1], (*sizes[-1], 1))
    found = compound_products.multiplied(factors)
    outer = (*(sizes[0][:1] if ranks[0] == 2 else ()), *(sizes[-1][1:] if ranks[-1] == 2 else ()))
    return reshaped(found, outer)


def eig(A: Tensor) -> Any:
    """(eigenvalues [..., n], eigenvectors of length 1 in columns [..., n, n]) of A: [..., n, n], real or complex; both
    complex. The gradient through vectors takes them up to their phase; it is infinite or NaN where eigenvalues are equal.
    Raises LinAlgError where they are not found."""
    return importlib.import_module(_EIGEN).eig(A)


def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues that `eig` gives, complex."""
    found: Tensor = importlib.import_module(_EIGEN).eig(A)[0]
    return found


def _missing(name: str, why: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(f"linalg.{name}: not implemented: {why}")

    function.__name__ = name
    function.__doc__ = f"Not implemented: {why}. Raises UnsupportedError, a NotImplementedError."
    return function


ldl_factor, ldl_factor_ex, ldl_solve = (
    _missing(name, "factors with blocks on the diagonal") for name in ("ldl_factor", "ldl_factor_ex", "ldl_solve"))
public(globals(), ("cholesky", "cross", "diagonal", "inv", "multi_dot", "vander", "vecdot"))
