"""Exceedances over a threshold."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.distributions.parameters import broadcast_all
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import exp, expm1, log, log1p
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor


class GeneralizedPareto(Distribution):
    """What lies beyond loc: the chance to be above it by z scales is (1 + concentration z)**(-1 / concentration), and
    exp(-z) for a concentration of 0."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        k = self.concentration
        end = self.loc - self.scale / where(k < 0, k, -1.0)
        return constraints.interval(self.loc, where(k < 0, end, math.inf))

    def _split(self) -> tuple[Tensor, Tensor]:
        """Where the concentration is 0, or nearly; the concentration, 1 there."""
        is_zero = self.concentration.abs() < 1e-6
        return is_zero, where(is_zero, 1.0, self.concentration)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(uniform(tuple(self._extended_shape(sample_shape)), self.loc.dtype, place=place_like(self.loc)))

    def _scaled(self, value: Tensor) -> Tensor:
        return (self._checked(value) - self.loc) / self.scale

    def log_survival_function(self, value: Tensor) -> Tensor:
        """log of the chance of a draw above `value`."""
        z, (is_zero, k) = self._scaled(value), self._split()
        return where(is_zero, -z, -log1p(where(is_zero, 0.0, k * z)) / k)

    def log_prob(self, value: Tensor) -> Tensor:
        z, (is_zero, k) = self._scaled(value), self._split()
        return where(is_zero, -z, -(1 + 1 / k) * log1p(where(is_zero, 0.0, k * z))) - log(self.scale)

    def log_cdf(self, value: Tensor) -> Tensor:
        """log(cdf(value))."""
        return log1p(-exp(self.log_survival_function(value)))

    def cdf(self, value: Tensor) -> Tensor:
        return -expm1(self.log_survival_function(value))

    def icdf(self, value: Tensor) -> Tensor:
        is_zero, k = self._split()
        beyond = log1p(-value)
        return self.loc + self.scale * where(is_zero, -beyond, expm1(-k * beyond) / k)

    @property
    def mean(self) -> Tensor:
        k = self.concentration
        return where(k < 1, self.loc + self.scale / (1 - where(k < 1, k, 0.0)), math.inf)

    @property
    def variance(self) -> Tensor:
        k = where(self.concentration < 0.5, self.concentration, 0.0)
        return where(self.concentration < 0.5, self.scale ** 2 / ((1 - k) ** 2 * (1 - 2 * k)), math.inf)

    @property
    def mode(self) -> Tensor:
        return self.loc

    def entropy(self) -> Tensor:
        return log(self.scale) + self.concentration + 1


__all__ = ["GeneralizedPareto"]
