"""Continuous distributions that approach discrete ones, and the continuous Bernoulli."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.categorical import ByWeights
from flambeau.frontend.distributions.compound import TransformedDistribution
from flambeau.frontend.distributions.discrete import ByProbability
from flambeau.frontend.distributions.distribution import ExponentialFamily
from flambeau.frontend.distributions.elementwise_transforms import ExpTransform, SigmoidTransform
from flambeau.frontend.distributions.parameters import (
    binary_cross_entropy,
    broadcast_all,
    clamp_probs,
    normalized,
)
from flambeau.frontend.functions.activations import softplus
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import log, log1p
from flambeau.frontend.functions.reductions import logsumexp
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor


class LogitRelaxedBernoulli(ByProbability):
    """The logit of a relaxed Bernoulli number: Maddison, Mnih and Teh, ICLR 2017."""

    support = constraints.real
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.temperature = temperature
        super().__init__(self._take(probs, logits).shape, validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        probs = clamp_probs(self.probs)
        u = clamp_probs(uniform(tuple(self._extended_shape(sample_shape)), probs.dtype, place=place_like(probs)))
        return (log(u) - log1p(-u) + log(probs) - log1p(-probs)) / self.temperature

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._checked(value))
        from_middle = logits - value * self.temperature
        temperature, = broadcast_all(self.temperature)
        return log(temperature) + from_middle - 2 * softplus(from_middle)


class _ByBase(TransformedDistribution):
    """What a relaxed distribution knows from the one it transforms."""

    has_rsample = True

    @property
    def temperature(self) -> Any:
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        return self.base_dist.probs


class RelaxedBernoulli(_ByBase):
    """Numbers in (0, 1), near to 0 or 1 at low temperature, with gradients of the probability."""

    arg_constraints = ByProbability.arg_constraints
    support = constraints.unit_interval

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(LogitRelaxedBernoulli(temperature, probs, logits, validate_args=validate_args),
                         SigmoidTransform(), validate_args=validate_args)


class ExpRelaxedCategorical(ByWeights):
    """The logarithm of a relaxed one-hot vector."""

    support = constraints.real_vector
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self.temperature = temperature
        shape = self._take(probs, logits).shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = tuple(self._extended_shape(sample_shape))
        u = clamp_probs(uniform(shape, self._param.dtype, place=place_like(self._param)))
        return normalized((self.logits - log(-log(u))) / self.temperature)

    def log_prob(self, value: Tensor) -> Tensor:
        logits, value = broadcast_all(self.logits, self._checked(value))
        n = self._event_shape[0]
        temperature, = broadcast_all(self.temperature)
        score = logits - value * temperature
        return math.lgamma(n) + (n - 1) * log(temperature) + (score - logsumexp(score, dim=-1, keepdim=True)).sum(-1)


class RelaxedOneHotCategorical(_ByBase):
    """Points of the simplex, near to its corners at low temperature, with gradients of the probabilities."""

    arg_constraints = ByWeights.arg_constraints
    support = constraints.simplex

    def __init__(self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args),
                         ExpTransform(), validate_args=validate_args)


class ContinuousBernoulli(ByProbability, ExponentialFamily):
    """Numbers in [0, 1], density proportional to probs**x (1 - probs)**(1 - x): Loaiza-Ganem and Cunningham, NeurIPS 2019.
    Between lims, where what follows is 0 / 0, Taylor series around 1/2 stand in."""

    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501),
                 validate_args: bool | None = None) -> None:
        self._lims = lims
        found = self._take(probs, logits)
        super().__init__(found.shape, validate_args=validate_args)
        if probs is not None:
            self.__dict__["probs"] = clamp_probs(found)

    def _split(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where probs is outside of lims; probs there, lims[0] elsewhere; probs - 1/2."""
        p = self.probs
        is_outside = (p <= self._lims[0]) | (p > self._lims[1])
        return is_outside, where(is_outside, p, p * 0 + self._lims[0]), p - 0.5

    def _log_norm(self) -> Tensor:
        is_outside, cut, x = self._split()
        side = where(cut < 0.5, cut, 1 - cut)           # symmetric around 1/2
        found = log((log1p(-side) - log(side)).abs()) - log(1 - 2 * side)
        return where(is_outside, found, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x * x) * x * x)

    @property
    def mean(self) -> Tensor:
        is_outside, cut, x = self._split()
        found = cut / (2 * cut - 1) + 1 / (log1p(-cut) - log(cut))
        return where(is_outside, found, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x * x) * x)

    @property
    def variance(self) -> Tensor:
        is_outside, cut, x = self._split()
        found = cut * (cut - 1) / (1 - 2 * cut) ** 2 + 1 / (log1p(-cut) - log(cut)) ** 2
        return where(is_outside, found, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x * x) * x * x)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.icdf(uniform(tuple(self._extended_shape(sample_shape)), self.probs.dtype, place=place_like(self.probs)))

    def log_prob(self, value: Tensor) -> Tensor:
        return self._log_norm() - binary_cross_entropy(self.logits, self._checked(value))

    def cdf(self, value: Tensor) -> Tensor:
        value = self._checked(value)
        is_outside, cut, _ = self._split()
        found = (cut ** value * (1 - cut) ** (1 - value) + cut - 1) / (2 * cut - 1)
        return where(is_outside, found, value).clamp(0.0, 1.0)

    def icdf(self, value: Tensor) -> Tensor:
        is_outside, cut, _ = self._split()
        found = (log1p(-cut + value * (2 * cut - 1)) - log1p(-cut)) / (log(cut) - log1p(-cut))
        return where(is_outside, found, value)

    def entropy(self) -> Tensor:
        return -self.mean * self.logits - log1p(-self.probs) - self._log_norm()


__all__ = ["ContinuousBernoulli", "RelaxedBernoulli", "RelaxedOneHotCategorical"]
