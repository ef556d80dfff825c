"""Distributions of real numbers by location and scale."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution, ExponentialFamily
from flambeau.frontend.distributions.gamma_sampling import log_standard_gamma
from flambeau.frontend.distributions.parameters import broadcast_all, values_are_known
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.distributions import standard_normal, uniform
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import digamma, expm1, lgamma, log, log1p
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

_NAN, _INF = math.nan, math.inf


class _LocationScale(Distribution):
    """loc + scale * what a subclass draws."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support: Any = constraints.real
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    def _standardized(self, value: Tensor) -> Tensor:
        return (self._checked(value) - self.loc) / self.scale


class Normal(_LocationScale, ExponentialFamily):
    """Mean loc, standard deviation scale."""

    @property
    def stddev(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        return self.scale ** 2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        return self.loc + standard_normal(shape, self.loc.dtype, place=place_like(self.loc)) * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        z = self._standardized(value)
        return -0.5 * z * z - log(self.scale) - 0.5 * math.log(2 * math.pi)

    def cdf(self, value: Tensor) -> Tensor:
        return 0.5 * (1 + (self._standardized(value) * math.sqrt(0.5)).erf())

    def icdf(self, value: Tensor) -> Tensor:
        return self.loc + self.scale * (2 * value - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        return 0.5 + 0.5 * math.log(2 * math.pi) + log(self.scale)


class Laplace(_LocationScale):
    """Density exp(-|x - loc| / scale) / (2 scale)."""

    @property
    def variance(self) -> Tensor:
        return 2 * self.scale ** 2

    @property
    def stddev(self) -> Tensor:
        return math.sqrt(2) * self.scale

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        eps = finfo(self.loc.dtype).eps
        drawn = uniform(tuple(self._extended_shape(sample_shape)), self.loc.dtype, place=place_like(self.loc))
        u = (2 * drawn - 1).clamp(min=eps - 1)
        return self.loc - self.scale * u.sign() * log1p(-u.abs())

    def log_prob(self, value: Tensor) -> Tensor:
        return -log(2 * self.scale) - (self._checked(value) - self.loc).abs() / self.scale

    def cdf(self, value: Tensor) -> Tensor:
        z = self._standardized(value)
        return 0.5 - 0.5 * z.sign() * expm1(-z.abs())

    def icdf(self, value: Tensor) -> Tensor:
        from_middle = value - 0.5
        return self.loc - self.scale * from_middle.sign() * log1p(-2 * from_middle.abs())

    def entropy(self) -> Tensor:
        return 1 + log(2 * self.scale)


class Cauchy(_LocationScale):
    """The ratio of two normal numbers, scaled and moved: it has no mean."""

    @property
    def mean(self) -> Tensor:
        return self.loc * 0 + _NAN

    @property
    def variance(self) -> Tensor:
        return self.loc * 0 + _INF

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = uniform(tuple(self._extended_shape(sample_shape)), self.loc.dtype, place=place_like(self.loc))
        return self.loc + (math.pi * (u - 0.5)).tan() * self.scale

    def log_prob(self, value: Tensor) -> Tensor:
        z = self._standardized(value)
        return -math.log(math.pi) - log(self.scale) - log1p(z * z)

    def cdf(self, value: Tensor) -> Tensor:
        return self._standardized(value).atan() / math.pi + 0.5

    def icdf(self, value: Tensor) -> Tensor:
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + log(self.scale)


class StudentT(Distribution):
    """A normal number over the root of a chi-squared one over df."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return where(self.df > 1, self.loc, self.loc * 0 + _NAN)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        is_finite = self.df > 2
        df = where(is_finite, self.df, self.df * 0 + 3)
        found = where(is_finite, self.scale ** 2 * df / (df - 2), self.df * 0 + _INF)
        return where(self.df > 1, found, self.df * 0 + _NAN)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        df = self.df.expand(shape)
        log_share = log_standard_gamma(0.5 * df) - log(cast(0.5 * df, dt.f64))
        z = standard_normal(shape, df.dtype, place=place_like(df))
        return self.loc + self.scale * z * cast((-0.5 * log_share).exp(), df.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (self._checked(value) - self.loc) / self.scale
        norm = log(self.scale) + 0.5 * log(self.df) + 0.5 * math.log(math.pi) + lgamma(0.5 * self.df) - \
            lgamma(0.5 * (self.df + 1))
        return -0.5 * (self.df + 1) * log1p(z * z / self.df) - norm

    def entropy(self) -> Tensor:
        lbeta = lgamma(0.5 * self.df) + math.lgamma(0.5) - lgamma(0.5 * (self.df + 1))
        half = 0.5 * (self.df + 1)
        return log(self.scale) + half * (digamma(half) - digamma(0.5 * self.df)) + 0.5 * log(self.df) + lbeta


class Uniform(Distribution):
    """All numbers in [low, high) alike. Raises ValueError where low is not below high."""

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)
        if self._validate_args and values_are_known() and not bool((self.low < self.high).all()):
            raise ValueError("Uniform: low must be below high")

    arg_constraints = {"low": constraints.dependent(is_discrete=False, event_dim=0),
                       "high": constraints.dependent(is_discrete=False, event_dim=0)}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Tensor:
        return _NAN * self.high

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        return self.low + uniform(shape, self.low.dtype, place=place_like(self.low)) * (self.high - self.low)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        is_inside = (value >= self.low) & (value < self.high)
        return log(cast(is_inside, self.low.dtype)) - log(self.high - self.low)

    def cdf(self, value: Tensor) -> Tensor:
        return ((self._checked(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def icdf(self, value: Tensor) -> Tensor:
        return value * (self.high - self.low) + self.low

    def entropy(self) -> Tensor:
        return log(self.high - self.low)


__all__ = ["Cauchy", "Laplace", "Normal", "StudentT", "Uniform"]
