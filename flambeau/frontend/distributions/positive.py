"""Distributions of positive numbers, and those made of gamma variates."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution, ExponentialFamily
from flambeau.frontend.distributions.gamma_sampling import log_standard_gamma
from flambeau.frontend.distributions.parameters import broadcast_all
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.joining import stack
from flambeau.frontend.functions.pointwise import digamma, exp, igamma, lgamma, log, log1p, xlogy
from flambeau.frontend.functions.reductions import softmax
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor


class Exponential(ExponentialFamily):
    """Density rate * exp(-rate x)."""

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return 1 / self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate * 0

    @property
    def stddev(self) -> Tensor:
        return 1 / self.rate

    @property
    def variance(self) -> Tensor:
        return self.rate ** -2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        u = uniform(tuple(self._extended_shape(sample_shape)), self.rate.dtype, place=place_like(self.rate))
        return -log1p(-u) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        return log(self.rate) - self.rate * self._checked(value)

    def cdf(self, value: Tensor) -> Tensor:
        return 1 - exp(-self.rate * self._checked(value))

    def icdf(self, value: Tensor) -> Tensor:
        return -log1p(-value) / self.rate

    def entropy(self) -> Tensor:
        return 1 - log(self.rate)


class Gamma(ExponentialFamily):
    """Density proportional to x**(concentration - 1) exp(-rate x)."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate ** 2

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn = log_standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        dtype = self.rate.dtype
        return cast(exp(drawn), dtype).clamp(min=finfo(dtype).tiny) / self.rate

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        a, rate = self.concentration, self.rate
        return xlogy(a, rate) + xlogy(a - 1, value) - rate * value - lgamma(a)

    def cdf(self, value: Tensor) -> Tensor:
        return igamma(self.concentration, self.rate * self._checked(value))

    def entropy(self) -> Tensor:
        a = self.concentration
        return a - log(self.rate) + lgamma(a) + (1 - a) * digamma(a)


class Chi2(Gamma):
    """The sum of df squares of normal numbers."""

    arg_constraints = {"df": constraints.positive}

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        df, = broadcast_all(df)
        super().__init__(0.5 * df, df * 0 + 0.5, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new.concentration, new.rate = self.concentration.expand(batch_shape), self.rate.expand(batch_shape)
        return new

    def _check_parameters(self) -> None:
        if not bool((self.concentration > 0).all()):
            raise ValueError(f"Chi2: expected parameter df to satisfy the constraint {constraints.positive!r}, but "
                             f"found invalid values:\n{self.df}")

    @property
    def df(self) -> Tensor:
        return self.concentration * 2

    def __repr__(self) -> str:
        return f"Chi2(df: {self.df if self.df.numel() == 1 else self.df.shape})"


class FisherSnedecor(Distribution):
    """The ratio of two chi-squared numbers, each over its degrees of freedom."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        super().__init__(self.df1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        df2 = where(self.df2 > 2, self.df2, self.df2 * 0 + math.nan)
        return df2 / (df2 - 2)

    @property
    def mode(self) -> Tensor:
        found = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return where(self.df1 > 2, found, found * 0 + math.nan)

    @property
    def variance(self) -> Tensor:
        df2 = where(self.df2 > 4, self.df2, self.df2 * 0 + math.nan)
        return 2 * df2 ** 2 * (self.df1 + df2 - 2) / (self.df1 * (df2 - 2) ** 2 * (df2 - 4))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        df1, df2 = self.df1.expand(shape), self.df2.expand(shape)
        log_ratio = log_standard_gamma(0.5 * df1) - log_standard_gamma(0.5 * df2)
        return (cast(exp(log_ratio), df1.dtype) * df2 / df1).clamp(min=finfo(df1.dtype).tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        one, two = 0.5 * self.df1, 0.5 * self.df2
        ratio = self.df1 / self.df2
        return lgamma(one + two) - lgamma(one) - lgamma(two) + one * log(ratio) + (one - 1) * log(value) - \
            (one + two) * log1p(ratio * value)


class Dirichlet(ExponentialFamily):
    """Points of the simplex, density proportional to the product of x**(concentration - 1)."""

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True

    def __init__(self, concentration: Tensor, validate_args: bool | None = None) -> None:
        if concentration.ndim < 1:
            raise ValueError("Dirichlet: concentration must have at least one dim")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Tensor:
        beyond = (self.concentration - 1).clamp(min=0.0)
        found = beyond / beyond.sum(-1, keepdim=True)
        greatest = self.concentration.argmax(-1, keepdim=True)
        is_greatest = cast(greatest == _places(self.concentration), found.dtype)
        return where((self.concentration < 1).all(-1, keepdim=True), is_greatest, found)

    @property
    def variance(self) -> Tensor:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total ** 2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        drawn = log_standard_gamma(self.concentration.expand(self._extended_shape(sample_shape)))
        dtype = self.concentration.dtype
        return cast(softmax(drawn, dim=-1), dtype).clamp(min=finfo(dtype).tiny)

    def log_prob(self, value: Tensor) -> Tensor:
        a = self.concentration
        return xlogy(a - 1, self._checked(value)).sum(-1) + lgamma(a.sum(-1)) - lgamma(a).sum(-1)

    def entropy(self) -> Tensor:
        a, total = self.concentration, self.concentration.sum(-1)
        return lgamma(a).sum(-1) - lgamma(total) - (a.shape[-1] - total) * digamma(total) - \
            ((a - 1) * digamma(a)).sum(-1)


def _places(x: Tensor) -> Tensor:
    return (x[(0,) * (x.ndim - 1)] * 0 + 1).cumsum(-1).long() - 1


class Beta(ExponentialFamily):
    """Numbers in (0, 1), density proportional to x**(concentration1 - 1) (1 - x)**(concentration0 - 1)."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    def _dirichlet(self) -> Dirichlet:
        return Dirichlet(stack([self.concentration1, self.concentration0], -1), validate_args=False)

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        return self._dirichlet().mode[..., 0]

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total ** 2 * (total + 1))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._dirichlet().rsample(sample_shape).select(-1, 0)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        a, b = self.concentration1, self.concentration0
        return xlogy(a - 1, value) + xlogy(b - 1, 1 - value) + lgamma(a + b) - lgamma(a) - lgamma(b)

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return lgamma(a) + lgamma(b) - lgamma(a + b) - (a - 1) * digamma(a) - (b - 1) * digamma(b) + \
            (a + b - 2) * digamma(a + b)


__all__ = ["Beta", "Chi2", "Dirichlet", "Exponential", "FisherSnedecor", "Gamma"]
