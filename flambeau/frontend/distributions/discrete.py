"""Distributions of counts."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution, ExponentialFamily
from flambeau.frontend.distributions.gamma_sampling import log_standard_gamma
from flambeau.frontend.distributions.parameters import (
    binary_cross_entropy,
    broadcast_all,
    derived,
    logits_to_probs,
    one_of,
    probs_to_logits,
    values_are_known,
)
from flambeau.frontend.functions.activations import softplus
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.counting_distributions import binomial, poisson
from flambeau.frontend.functions.creation import arange
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import exp, lgamma, log, log1p, xlogy
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir import dtypes as dt


class ByProbability(Distribution):
    """A chance given by probs or by logits; the other follows."""

    arg_constraints: Any = {"probs": constraints.unit_interval, "logits": constraints.real}

    def _take(self, probs: Any, logits: Any) -> Tensor:
        name = one_of(type(self).__name__, probs=probs, logits=logits)
        found, = broadcast_all(logits if probs is None else probs)
        self.__dict__[name] = found
        return found

    @derived
    def logits(self) -> Tensor:
        return probs_to_logits(self.probs, is_binary=True)

    @derived
    def probs(self) -> Tensor:
        return logits_to_probs(self.logits, is_binary=True)

    @property
    def _param(self) -> Tensor:
        found: Tensor = self.__dict__["probs"] if "probs" in self.__dict__ else self.__dict__["logits"]
        return found

    @property
    def param_shape(self) -> Size:
        return self._param.shape


class Bernoulli(ByProbability, ExponentialFamily):
    """1 with probability probs, else 0."""

    support = constraints.boolean
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._take(probs, logits).shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        p = self.probs
        return where(p == 0.5, p * 0 + math.nan, cast(p >= 0.5, p.dtype))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            p = self.probs
            return cast(uniform(tuple(self._extended_shape(sample_shape)), p.dtype, place=place_like(p)) < p, p.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        return -binary_cross_entropy(self.logits, self._checked(value))

    def entropy(self) -> Tensor:
        return binary_cross_entropy(self.logits, self.probs)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _counted(self, 2, self._param, expand)


def _counted(d: Distribution, n: int, like: Tensor, expand: bool) -> Tensor:
    """0 ... n - 1 along a new first dim."""
    values = arange(n, dtype=like.dtype, device=like.device).reshape((n,) + (1,) * len(d.batch_shape))
    return values.expand((n, *d.batch_shape)) if expand else values


class Geometric(ByProbability):
    """Failures before the first success."""

    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._take(probs, logits).shape, validate_args=validate_args)
        if self._validate_args and probs is not None and values_are_known() and not bool((self.probs > 0).all()):
            raise ValueError(f"Geometric: expected parameter probs to be positive, but found invalid values:\n{self.probs}")

    @property
    def mean(self) -> Tensor:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Tensor:
        return self.probs * 0

    @property
    def variance(self) -> Tensor:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            p = self.probs
            u = uniform(tuple(self._extended_shape(sample_shape)), p.dtype, place=place_like(p))
            u = u.clamp(min=finfo(p.dtype).tiny)
            return (log(u) / log1p(-p)).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        value, p = broadcast_all(self._checked(value), self.probs)
        never = where((p == 1) & (value == 0), p * 0, p)
        return value * log1p(-never) + log(p)

    def entropy(self) -> Tensor:
        return binary_cross_entropy(self.logits, self.probs) / self.probs


class Binomial(ByProbability):
    """Successes in total_count trials."""

    arg_constraints = {"total_count": constraints.nonnegative_integer, **ByProbability.arg_constraints}
    has_enumerate_support = True

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None,
                 validate_args: bool | None = None) -> None:
        name = one_of("Binomial", probs=probs, logits=logits)
        self._count = total_count if isinstance(total_count, int) else None
        self.total_count, found = broadcast_all(total_count, logits if probs is None else probs)
        self.total_count = cast(self.total_count, found.dtype)
        self.__dict__[name] = found
        super().__init__(found.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().minimum(self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        with set_grad_enabled(False):
            return binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        n, logits = self.total_count, self.logits
        ways = lgamma(n + 1) - lgamma(value + 1) - lgamma(n - value + 1)
        return ways + value * logits - n * softplus(logits)

    def _most(self) -> int:
        if self._count is not None:
            return self._count
        n = int(self.total_count.max())
        if int(self.total_count.min()) != n:
            raise NotImplementedError("Binomial: total_counts that differ have supports of different sizes")
        return n

    def entropy(self) -> Tensor:
        self._most()
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(exp(log_prob) * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _counted(self, 1 + self._most(), self._param, expand)


class NegativeBinomial(ByProbability):
    """Successes before total_count failures."""

    arg_constraints = {"total_count": constraints.greater_than_eq(0),
                       "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None,
                 validate_args: bool | None = None) -> None:
        name = one_of("NegativeBinomial", probs=probs, logits=logits)
        self.total_count, found = broadcast_all(total_count, logits if probs is None else probs)
        self.total_count = cast(self.total_count, found.dtype)
        self.__dict__[name] = found
        super().__init__(found.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * exp(self.logits)

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * exp(self.logits)).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (-self.logits).sigmoid()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        with set_grad_enabled(False):
            log_rate = log_standard_gamma(self.total_count.expand(shape)) + cast(self.logits, dt.f64)
            return cast(poisson(exp(log_rate)), self._param.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        n, logits = self.total_count, self.logits
        chance = -n * softplus(logits) - value * softplus(-logits)
        ways = lgamma(n + value) - lgamma(1 + value) - lgamma(n)
        return chance + where(n + value == 0, ways * 0, ways)


class Poisson(ExponentialFamily):
    """Counts of events that happen at this rate."""

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return self.rate.floor()

    @property
    def variance(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            return poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        value, rate = broadcast_all(self._checked(value), self.rate)
        return xlogy(value, rate) - rate - lgamma(value + 1)


__all__ = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]
