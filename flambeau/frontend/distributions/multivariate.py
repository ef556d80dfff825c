"""Normal distributions of vectors."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution, expanded
from flambeau.frontend.distributions.parameters import derived, one_of
from flambeau.frontend.functions.coerce import broadcast_shapes
from flambeau.frontend.functions.creation import eye
from flambeau.frontend.functions.distributions import standard_normal
from flambeau.frontend.functions.linear_algebra import cholesky, solve_triangular
from flambeau.frontend.functions.pointwise import log
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor


def solved(factor: Tensor, vectors: Tensor) -> Tensor:
    """factor^-1 v for lower triangular factors and vectors v that broadcast with them."""
    batch = broadcast_shapes(tuple(factor.shape[:-2]), tuple(vectors.shape[:-1]))
    n = factor.shape[-1]
    return solve_triangular(factor.expand((*batch, n, n)), vectors.expand((*batch, n)).unsqueeze(-1),
                            upper=False).squeeze(-1)


def inverse_of(factor: Tensor) -> Tensor:
    """(L L^T)^-1."""
    identity = eye(factor.shape[-1], dtype=factor.dtype, device=factor.device).expand(tuple(factor.shape))
    inverse = solve_triangular(factor, identity, upper=False)
    return inverse.mT @ inverse


def factor_of_inverse(precision: Tensor) -> Tensor:
    """The Cholesky factor of the inverse: that of the matrix turned round, inverted and turned back."""
    turned = cholesky(precision.flip((-2, -1))).flip((-2, -1)).mT
    identity = eye(precision.shape[-1], dtype=precision.dtype, device=precision.device).expand(tuple(precision.shape))
    return solve_triangular(turned, identity, upper=False)


def log_diagonal(factor: Tensor) -> Tensor:
    """The sum of logarithms of the diagonal: half the logarithm of a determinant."""
    return log(factor.diagonal(dim1=-2, dim2=-1)).sum(-1)


class MultivariateNormal(Distribution):
    """Vectors of mean loc, given one of covariance_matrix, precision_matrix and scale_tril, its Cholesky factor."""

    arg_constraints: Any = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                            "precision_matrix": constraints.positive_definite,
                            "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, covariance_matrix: Tensor | None = None, precision_matrix: Tensor | None = None,
                 scale_tril: Tensor | None = None, validate_args: bool | None = None) -> None:
        if loc.ndim < 1:
            raise ValueError("MultivariateNormal: loc must have at least one dim")
        name = one_of("MultivariateNormal", covariance_matrix=covariance_matrix, precision_matrix=precision_matrix,
                      scale_tril=scale_tril)
        matrix = next(m for m in (covariance_matrix, precision_matrix, scale_tril) if m is not None)
        if matrix.ndim < 2:
            raise ValueError(f"MultivariateNormal: {name} must have at least two dims")
        n = loc.shape[-1]
        batch = broadcast_shapes(tuple(matrix.shape[:-2]), tuple(loc.shape[:-1]))
        self.loc = expanded(loc, batch, 1)
        self.__dict__[name] = expanded(matrix, batch, 2)
        super().__init__(batch, (n,), validate_args=validate_args)

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
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.scale_tril ** 2).sum(-1)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = standard_normal(tuple(self._extended_shape(sample_shape)), self.loc.dtype, place=place_like(self.loc))
        return self.loc + (self.scale_tril @ z.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        factor = self.scale_tril
        z = solved(factor, self._checked(value) - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + (z * z).sum(-1)) - log_diagonal(factor)

    def entropy(self) -> Tensor:
        return 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + log_diagonal(self.scale_tril)


class LowRankMultivariateNormal(Distribution):
    """Vectors of mean loc and covariance cov_factor cov_factor^T + diag(cov_diag), by Woodbury's identity and the lemma of
    determinants: matrices are as large as the rank."""

    arg_constraints: Any = {"loc": constraints.real_vector,
                            "cov_factor": constraints.independent(constraints.real, 2),
                            "cov_diag": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Tensor, cov_factor: Tensor, cov_diag: Tensor, validate_args: bool | None = None) -> None:
        if loc.ndim < 1 or cov_factor.ndim < 2 or cov_diag.ndim < 1:
            raise ValueError("LowRankMultivariateNormal: loc and cov_diag have at least one dim, cov_factor two")
        n = loc.shape[-1]
        if cov_factor.shape[-2] != n or cov_diag.shape[-1] != n:
            raise ValueError(f"LowRankMultivariateNormal: for {n} numbers cov_factor must be [..., {n}, rank] and cov_diag "
                             f"[..., {n}], got {tuple(cov_factor.shape)} and {tuple(cov_diag.shape)}")
        batch = broadcast_shapes(tuple(loc.shape[:-1]), tuple(cov_factor.shape[:-2]), tuple(cov_diag.shape[:-1]))
        self.loc, self.cov_diag = expanded(loc, batch, 1), expanded(cov_diag, batch, 1)
        self.cov_factor = expanded(cov_factor, batch, 2)
        super().__init__(batch, (n,), validate_args=validate_args)

    def _capacitance(self) -> tuple[Tensor, Tensor]:
        """W^T D^-1, and the Cholesky factor of I + W^T D^-1 W."""
        scaled = self.cov_factor.mT / self.cov_diag.unsqueeze(-2)
        inner = scaled @ self.cov_factor
        return scaled, cholesky(inner + eye(inner.shape[-1], dtype=inner.dtype, device=inner.device))

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return (self.cov_factor ** 2).sum(-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Tensor:
        return self.cov_factor @ self.cov_factor.mT + self.cov_diag.diag_embed()

    @property
    def scale_tril(self) -> Tensor:
        return cholesky(self.covariance_matrix)

    @property
    def precision_matrix(self) -> Tensor:
        scaled, factor = self._capacitance()
        rows = solve_triangular(factor, scaled, upper=False)
        return (1 / self.cov_diag).diag_embed() - rows.mT @ rows

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        low = standard_normal((*shape[:-1], self.cov_factor.shape[-1], 1), self.loc.dtype, place=place_like(self.loc))
        rest = standard_normal(shape, self.loc.dtype, place=place_like(self.loc))
        return self.loc + (self.cov_factor @ low).squeeze(-1) + self.cov_diag.sqrt() * rest

    def _half_log_determinant(self, factor: Tensor) -> Tensor:
        return log_diagonal(factor) + 0.5 * log(self.cov_diag).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        from_mean = self._checked(value) - self.loc
        scaled, factor = self._capacitance()
        low = solved(factor, (scaled @ from_mean.unsqueeze(-1)).squeeze(-1))
        distance = (from_mean ** 2 / self.cov_diag).sum(-1) - (low * low).sum(-1)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - self._half_log_determinant(factor)

    def entropy(self) -> Tensor:
        return 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + \
            self._half_log_determinant(self._capacitance()[1])


__all__ = ["LowRankMultivariateNormal", "MultivariateNormal"]
