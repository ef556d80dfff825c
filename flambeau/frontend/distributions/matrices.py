"""Distributions of matrices: positive definite ones, and Cholesky factors of correlations."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution, ExponentialFamily, expanded
from flambeau.frontend.distributions.gamma_sampling import log_standard_gamma
from flambeau.frontend.distributions.multivariate import (
    factor_of_inverse,
    inverse_of,
    log_diagonal,
)
from flambeau.frontend.distributions.parameters import broadcast_all, derived, one_of, values_are_known
from flambeau.frontend.distributions.positive import Beta
from flambeau.frontend.functions.coerce import broadcast_shapes, cast
from flambeau.frontend.functions.creation import arange, eye
from flambeau.frontend.functions.distributions import standard_normal
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.linear_algebra import cholesky, solve_triangular
from flambeau.frontend.functions.pointwise import digamma, exp, lgamma, log
from flambeau.frontend.functions.special_functions import mvlgamma
from flambeau.frontend.functions.views import tril
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt


class Wishart(ExponentialFamily):
    """The sum of df products v v^T of normal vectors, given one of covariance_matrix, precision_matrix and scale_tril. df
    is above n - 1. Drawn by Bartlett's decomposition: Smith and Hocking, Applied Statistics 21 (1972)."""

    support = constraints.positive_definite
    has_rsample = True
    arg_constraints: Any = {"df": constraints.dependent(is_discrete=False, event_dim=0),
                            "covariance_matrix": constraints.positive_definite,
                            "precision_matrix": constraints.positive_definite,
                            "scale_tril": constraints.lower_cholesky}

    def __init__(self, df: Any, covariance_matrix: Tensor | None = None, precision_matrix: Tensor | None = None,
                 scale_tril: Tensor | None = None, validate_args: bool | None = None) -> None:
        name = one_of("Wishart", covariance_matrix=covariance_matrix, precision_matrix=precision_matrix,
                      scale_tril=scale_tril)
        matrix = next(m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None)
        if matrix.ndim < 2:
            raise ValueError(f"Wishart: {name} must have at least two dims")
        df, _ = broadcast_all(df, matrix.new_zeros(())) if not isinstance(df, Tensor) else (df, None)
        batch = broadcast_shapes(tuple(df.shape), tuple(matrix.shape[:-2]))
        n = matrix.shape[-1]
        self.df = df.expand(batch)
        self.__dict__[name] = expanded(matrix, batch, 2)
        super().__init__(batch, (n, n), validate_args=validate_args)
        if values_are_known() and not bool((self.df > n - 1).all()):
            raise ValueError(f"Wishart: df must be above {n - 1} for matrices {n} x {n}, got {self.df}")

    @derived
    def scale_tril(self) -> Tensor:
        found = self.__dict__.get("covariance_matrix")
        return cholesky(found) if found is not None else factor_of_inverse(self.__dict__["precision_matrix"])

    @derived
    def covariance_matrix(self) -> Tensor:
        factor = self.scale_tril
        return factor @ factor.mT

    @derived
    def precision_matrix(self) -> Tensor:
        return inverse_of(self.scale_tril)

    @property
    def mean(self) -> Tensor:
        return self.df[..., None, None] * self.covariance_matrix

    @property
    def mode(self) -> Tensor:
        factor = (self.df - self._event_shape[-1] - 1)[..., None, None]
        return (factor + 0 * factor.sqrt()) * self.covariance_matrix

    @property
    def variance(self) -> Tensor:
        matrix = self.covariance_matrix
        diagonal = matrix.diagonal(dim1=-2, dim2=-1)
        return self.df[..., None, None] * (matrix ** 2 + diagonal[..., :, None] * diagonal[..., None, :])

    def rsample(self, sample_shape: Any = (), max_try_correction: int | None = None) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        n, dtype = shape[-1], self.df.dtype
        freedom = 0.5 * (self.df.unsqueeze(-1) - arange(n, dtype=dtype, device=self.df.device))
        chi = exp(0.5 * (log_standard_gamma(freedom.expand(shape[:-1])) + math.log(2.0)))
        diagonal = cast(chi, dtype).clamp(min=finfo(dtype).tiny)
        mixed = tril(standard_normal(shape, dtype, place=place_like(self.df)), -1) + diagonal.diag_embed()
        factor = self.scale_tril @ mixed
        return factor @ factor.mT

    def log_prob(self, value: Tensor) -> Tensor:
        value, n, factor = self._checked(value), self._event_shape[-1], self.scale_tril
        theirs = cholesky(value)
        batch = broadcast_shapes(tuple(factor.shape), tuple(theirs.shape))
        trace = (solve_triangular(factor.expand(batch), theirs.expand(batch), upper=False) ** 2).sum((-2, -1))
        return -self.df * (n * math.log(2) / 2 + log_diagonal(factor)) - mvlgamma(self.df / 2, n) + \
            (self.df - n - 1) * log_diagonal(theirs) - trace / 2

    def entropy(self) -> Tensor:
        n, half = self._event_shape[-1], self.df / 2
        each = digamma(half.unsqueeze(-1) - 0.5 * arange(n, dtype=half.dtype, device=half.device)).sum(-1)
        return (n + 1) * (n * math.log(2) / 2 + log_diagonal(self.scale_tril)) + mvlgamma(half, n) - \
            (self.df - n - 1) / 2 * each + self.df * n / 2


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices dim x dim, density of the matrix proportional to its determinant to the
    power of concentration - 1. Drawn row by row ("onion"): Lewandowski, Kurowicka and Joe, J. Multivariate Analysis 100
    (2009)."""

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"LKJCholesky: dim must be at least 2, got {dim}")
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        super().__init__(self.concentration.shape, (dim, dim), validate_args=validate_args)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            shape = tuple(self._extended_shape(sample_shape))
            dtype, row = self.concentration.dtype, arange(self.dim, dtype=dt.f64, device=self.concentration.device)
            marginal = cast(self.concentration, dt.f64).unsqueeze(-1) + 0.5 * (self.dim - 2)
            earlier = (row - 1).clamp(min=0)
            beta = Beta((row / 2).clamp(min=0.5), marginal - 0.5 * earlier, validate_args=False)
            radius = beta.rsample(shape[: len(shape) - len(self._batch_shape) - 2]).unsqueeze(-1)
            normal = tril(standard_normal(shape, dt.f64, place=place_like(self.concentration)), -1)
            length = (normal * normal).sum(-1, keepdim=True).sqrt()
            below = radius.sqrt() * normal / (length + eye(self.dim, dtype=dt.f64, device=length.device)[:, :1])
            diagonal = (1 - (below * below).sum(-1)).clamp(min=finfo(dtype).tiny).sqrt()
            return cast(below + diagonal.diag_embed(), dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        n, concentration = self.dim, self.concentration
        diagonal = value.diagonal(dim1=-2, dim2=-1)[..., 1:]
        counts = arange(2, n + 1, dtype=concentration.dtype, device=concentration.device)
        order = 2 * (concentration - 1).unsqueeze(-1) + n - counts
        alpha = concentration + 0.5 * (n - 1)
        norm = 0.5 * (n - 1) * math.log(math.pi) + mvlgamma(alpha - 0.5, n - 1) - (n - 1) * lgamma(alpha)
        return (order * log(diagonal)).sum(-1) - norm


__all__ = ["LKJCholesky", "Wishart"]
