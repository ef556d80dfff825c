"""Distributions of categories: an index, a one-hot vector, or counts of each."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.discrete import Binomial
from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.distributions.parameters import (
    broadcast_all,
    derived,
    logits_to_probs,
    normalized,
    one_of,
    probs_to_logits,
)
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.creation import arange, eye
from flambeau.frontend.functions.distributions import multinomial
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import exp, lgamma
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tensor.tensor import Size, Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dims import Dim


class ByWeights(Distribution):
    """Categories with probabilities along the last dim: probs, which are divided by their sum, or logits."""

    arg_constraints: Any = {"probs": constraints.simplex, "logits": constraints.real_vector}

    def _take(self, probs: Any, logits: Any) -> Tensor:
        name = one_of(type(self).__name__, probs=probs, logits=logits)
        found = logits if probs is None else probs
        if not isinstance(found, Tensor) or found.ndim < 1:
            raise ValueError(f"{type(self).__name__}: {name} must be a tensor of at least one dim")
        found = normalized(found) if probs is None else found / found.sum(-1, keepdim=True)
        self.__dict__[name] = found
        return found

    @derived
    def logits(self) -> Tensor:
        return probs_to_logits(self.probs)

    @derived
    def probs(self) -> Tensor:
        return logits_to_probs(self.logits)

    @property
    def _param(self) -> Tensor:
        found: Tensor = self.__dict__["probs"] if "probs" in self.__dict__ else self.__dict__["logits"]
        return found

    @property
    def param_shape(self) -> Size:
        return self._param.shape

    def _entropy(self) -> Tensor:
        logits = self.logits.clamp(min=finfo(self.logits.dtype).min)
        return -(logits * self.probs).sum(-1)

    def _drawn(self, shape: tuple[int, ...], count: int = 1) -> Tensor:
        """`count` indices for each place of shape + batch_shape, along a last dim."""
        n = self._param.shape[-1]
        with set_grad_enabled(False):
            places = (*shape, *self._batch_shape)
            rows = self.probs.reshape((-1, n))
            repeats = math.prod(shape)
            drawn = multinomial(rows, repeats * count, True) if rows.shape[0] and repeats * count else \
                rows.new_zeros((rows.shape[0], repeats * count)).long()
            return drawn.reshape((-1, repeats, count)).transpose(0, 1).reshape((*places, count))


class Categorical(ByWeights):
    """The index of a category, i64."""

    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(self._take(probs, logits).shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._param.shape[-1] - 1)

    @property
    def mean(self) -> Tensor:
        return self._param.new_full(tuple(self._batch_shape), math.nan)

    @property
    def mode(self) -> Tensor:
        return self._param.argmax(-1)

    @property
    def variance(self) -> Tensor:
        return self.mean

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self._drawn(_shape(sample_shape)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        value = self._checked(value).long().unsqueeze(-1)
        value, logits = broadcast_all(value, self.logits)
        return logits.gather(-1, value[..., :1]).squeeze(-1)

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._param.shape[-1]
        values = arange(n, device=self._param.device).reshape((n,) + (1,) * len(self._batch_shape))
        return values.expand((n, *self._batch_shape)) if expand else values


def _shape(sample_shape: Any) -> tuple[int, ...]:
    return (sample_shape,) if isinstance(sample_shape, (int, Dim)) else tuple(sample_shape)     # type: ignore[return-value]


class OneHotCategorical(ByWeights):
    """A vector with 1 at the place of a category."""

    support = constraints.one_hot
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        shape = self._take(probs, logits).shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return _one_hot(self.probs.argmax(-1), self.probs)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return _one_hot(self._drawn(_shape(sample_shape)).squeeze(-1), self._param)

    def log_prob(self, value: Tensor) -> Tensor:
        value, logits = broadcast_all(self._checked(value), self.logits)
        return logits.gather(-1, value.argmax(-1, keepdim=True)).squeeze(-1)

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        n = self._event_shape[0]
        values = eye(n, dtype=self._param.dtype, device=self._param.device)
        values = values.reshape((n,) + (1,) * len(self._batch_shape) + (n,))
        return values.expand((n, *self._batch_shape, n)) if expand else values


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    return cast(index.unsqueeze(-1) == arange(like.shape[-1], device=like.device), like.dtype)


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """The same, whose draws have the gradient of the probabilities: Bengio, Leonard and Courville, 2013."""

    has_rsample = True

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(ByWeights):
    """How often each category comes in total_count (an int) draws."""

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None,
                 validate_args: bool | None = None) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("Multinomial: total_count must be one int for all the batch")
        self.total_count = total_count
        shape = self._take(probs, logits).shape
        super().__init__(shape[:-1], shape[-1:], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        drawn = self._drawn(_shape(sample_shape), self.total_count)
        with set_grad_enabled(False):
            return cast(_one_hot(drawn, self._param), dt.f64).sum(-2).to(self._param.dtype)

    def log_prob(self, value: Tensor) -> Tensor:
        value, logits = broadcast_all(self._checked(value), self.logits)
        never = (value == 0) & (logits == -math.inf)
        ways = lgamma(value.sum(-1) + 1) - lgamma(value + 1).sum(-1)
        return ways + (where(never, logits * 0, logits) * value).sum(-1)

    def entropy(self) -> Tensor:
        n, probs = self.total_count, self.probs
        each = Binomial(n, probs=probs, validate_args=False)
        counts = arange(2, n + 1, dtype=probs.dtype, device=probs.device).reshape((-1,) + (1,) * probs.ndim)
        chance = exp(each.log_prob(counts))
        return n * self._entropy() - math.lgamma(n + 1) + (chance * lgamma(counts + 1)).sum((0, -1))


__all__ = ["Categorical", "Multinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough"]
