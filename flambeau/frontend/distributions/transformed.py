"""Distributions that are transforms of simpler ones."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.compound import TransformedDistribution
from flambeau.frontend.distributions.continuous import Cauchy, Normal, Uniform
from flambeau.frontend.distributions.elementwise_transforms import (
    AbsTransform,
    AffineTransform,
    ExpTransform,
    PowerTransform,
)
from flambeau.frontend.distributions.parameters import EULER, broadcast_all
from flambeau.frontend.distributions.positive import Exponential, Gamma
from flambeau.frontend.distributions.structured_transforms import StickBreakingTransform
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import digamma, exp, expm1, lgamma, log
from flambeau.frontend.tensor.tensor import Tensor

_TWO = {"loc": constraints.real, "scale": constraints.positive}


class LogNormal(TransformedDistribution):
    """exp of a normal number."""

    arg_constraints = _TWO
    support = constraints.positive
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale, validate_args=validate_args), ExpTransform(), validate_args=validate_args)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    @property
    def mean(self) -> Tensor:
        return exp(self.loc + self.scale ** 2 / 2)

    @property
    def mode(self) -> Tensor:
        return exp(self.loc - self.scale ** 2)

    @property
    def variance(self) -> Tensor:
        squared = self.scale ** 2
        return expm1(squared) * exp(2 * self.loc + squared)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """Points of the simplex: n normal numbers break n shares off a stick."""

    arg_constraints = _TWO
    support = constraints.simplex
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        base = base if base.batch_shape else base.expand((1,))
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    @property
    def loc(self) -> Tensor:
        return self.base_dist.base_dist.loc

    @property
    def scale(self) -> Tensor:
        return self.base_dist.base_dist.scale


class _Half(TransformedDistribution):
    """The absolute value of a symmetric number."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    @property
    def scale(self) -> Tensor:
        return self.base_dist.scale

    @property
    def mode(self) -> Tensor:
        return self.scale * 0

    def log_prob(self, value: Tensor) -> Tensor:
        found = self.base_dist.log_prob(self._checked(value)) + math.log(2)
        return where(value >= 0, found, found * 0 - math.inf)

    def cdf(self, value: Tensor) -> Tensor:
        return 2 * self.base_dist.cdf(self._checked(value)) - 1

    def icdf(self, value: Tensor) -> Tensor:
        return self.base_dist.icdf((value + 1) / 2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() - math.log(2)


class HalfNormal(_Half):
    """The absolute value of a normal number of mean 0."""

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)
        _check_scale(self, validate_args)

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale ** 2 * (1 - 2 / math.pi)


class HalfCauchy(_Half):
    """The absolute value of a Cauchy number around 0."""

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Cauchy(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)
        _check_scale(self, validate_args)

    @property
    def mean(self) -> Tensor:
        return self.scale * 0 + math.inf

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance


def _check_scale(d: _Half, validate_args: bool | None) -> None:
    """Held against the constraint by the base distribution's own rules."""
    type(d.base_dist)(0, d.scale, validate_args=validate_args)


class Gumbel(TransformedDistribution):
    """The greatest of many: -log(-log u), scaled and moved."""

    arg_constraints = _TWO
    support = constraints.real

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        limits = finfo(self.loc.dtype)
        base = Uniform(self.loc * 0 + limits.tiny, self.loc * 0 + (1 - limits.eps), validate_args=False)
        super().__init__(base, _gumbel_of(self.loc, self.scale), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new.transforms = _gumbel_of(new.loc, new.scale)
        return new

    def log_prob(self, value: Tensor) -> Tensor:
        y = (self.loc - self._checked(value)) / self.scale
        return y - exp(y) - log(self.scale)

    @property
    def mean(self) -> Tensor:
        return self.loc + self.scale * EULER

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def stddev(self) -> Tensor:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Tensor:
        return self.stddev ** 2

    def entropy(self) -> Tensor:
        return log(self.scale) + (1 + EULER)


def _gumbel_of(loc: Tensor, scale: Tensor) -> list[Any]:
    return [ExpTransform().inv, AffineTransform(0, -1.0), ExpTransform().inv, AffineTransform(loc, -scale)]


class Weibull(TransformedDistribution):
    """scale times an exponential number to the power of 1 / concentration."""

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        base = Exponential(self.scale * 0 + 1, validate_args=False)
        super().__init__(base, [PowerTransform(1 / self.concentration), AffineTransform(0, self.scale)],
                         validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.scale * exp(lgamma(1 + 1 / self.concentration))

    @property
    def mode(self) -> Tensor:
        k = self.concentration
        return self.scale * ((k - 1) / k) ** (1 / k)

    @property
    def variance(self) -> Tensor:
        second, first = lgamma(1 + 2 / self.concentration), lgamma(1 + 1 / self.concentration)
        return self.scale ** 2 * (exp(second) - exp(2 * first))

    def entropy(self) -> Tensor:
        k = self.concentration
        return EULER * (1 - 1 / k) + log(self.scale / k) + 1


class Pareto(TransformedDistribution):
    """scale times exp of an exponential number of rate alpha."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(Exponential(self.alpha, validate_args=validate_args),
                         [ExpTransform(), AffineTransform(0, self.scale)], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Tensor:
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        a = self.alpha.clamp(min=2)
        return self.scale ** 2 * a / ((a - 1) ** 2 * (a - 2))

    def entropy(self) -> Tensor:
        return log(self.scale / self.alpha) + (1 + 1 / self.alpha)


class InverseGamma(TransformedDistribution):
    """1 over a gamma number."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        base = Gamma(concentration, rate, validate_args=validate_args)
        super().__init__(base, PowerTransform(-1.0), validate_args=validate_args)

    @property
    def concentration(self) -> Tensor:
        return self.base_dist.concentration

    @property
    def rate(self) -> Tensor:
        return self.base_dist.rate

    @property
    def mean(self) -> Tensor:
        found = self.rate / (self.concentration - 1)
        return where(self.concentration > 1, found, found * 0 + math.inf)

    @property
    def mode(self) -> Tensor:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Tensor:
        a = where(self.concentration > 2, self.concentration, self.concentration * 0 + 3)
        found = self.rate ** 2 / ((a - 1) ** 2 * (a - 2))
        return where(self.concentration > 2, found, found * 0 + math.inf)

    def entropy(self) -> Tensor:
        a = self.concentration
        return a + log(self.rate) + lgamma(a) - (1 + a) * digamma(a)


class Kumaraswamy(TransformedDistribution):
    """Numbers in (0, 1) much like Beta's, with cumulative probability 1 - (1 - x**concentration1)**concentration0."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        a, b = self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        base = Uniform(a * 0, a * 0 + 1, validate_args=False)
        super().__init__(base, [PowerTransform(1 / b), AffineTransform(1.0, -1.0), PowerTransform(1 / a)],
                         validate_args=validate_args)

    def _moment(self, n: int) -> Tensor:
        a, b = 1 + n / self.concentration1, self.concentration0
        return exp(log(b) + lgamma(a) + lgamma(b) - lgamma(a + b))

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def mode(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        is_inside = (a >= 1) & (b >= 1) & ~((a == 1) & (b == 1))
        share = where(is_inside, (a - 1) / (a * b - 1), a * 0 + 0.5)
        return where(is_inside, share ** (1 / a), a * 0 + math.nan)

    @property
    def variance(self) -> Tensor:
        return self._moment(2) - self.mean ** 2

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return (1 - 1 / b) + (1 - 1 / a) * (digamma(b + 1) + EULER) - log(a) - log(b)


__all__ = ["Gumbel", "HalfCauchy", "HalfNormal", "InverseGamma", "Kumaraswamy", "LogNormal", "LogisticNormal", "Pareto",
           "Weibull"]
