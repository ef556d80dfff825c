"""Distributions made of others: with other event dims, behind transforms, and mixed."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.categorical import Categorical
from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.distributions.parameters import sum_rightmost
from flambeau.frontend.distributions.transforms import ComposeTransform, Transform
from flambeau.frontend.functions.reductions import log_softmax, logsumexp
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tensor.tensor import Size, Tensor


class Independent(Distribution):
    """Another distribution, of whose batch dims the last `reinterpreted_batch_ndims` belong to the event."""

    arg_constraints: Any = {}

    def __init__(self, base_distribution: Distribution, reinterpreted_batch_ndims: int,
                 validate_args: bool | None = None) -> None:
        batch, event = base_distribution.batch_shape, base_distribution.event_shape
        if reinterpreted_batch_ndims > len(batch):
            raise ValueError(f"Independent: reinterpreted_batch_ndims {reinterpreted_batch_ndims} is more than the "
                             f"{len(batch)} batch dims of the base distribution")
        cut = len(batch) - reinterpreted_batch_ndims
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, reinterpreted_batch_ndims
        super().__init__(batch[:cut], (*batch[cut:], *event), validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        own = self.event_shape[: self.reinterpreted_batch_ndims]
        new.base_dist = self.base_dist.expand((*batch_shape, *own))
        return new

    @property
    def has_rsample(self) -> Any:
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> Any:
        return not self.reinterpreted_batch_ndims and self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self) -> Any:
        base, dims = self.base_dist.support, self.reinterpreted_batch_ndims
        return constraints.independent(base, dims) if dims else base

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims:
            raise NotImplementedError("Independent: the support of several dims is not enumerated")
        return self.base_dist.enumerate_support(expand)

    def __repr__(self) -> str:
        return f"Independent({self.base_dist!r}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """What transforms make of another distribution's draws. cdf and icdf are for transforms of numbers that rise or fall
    everywhere."""

    arg_constraints: Any = {}

    def __init__(self, base_distribution: Distribution, transforms: Transform | Sequence[Transform],
                 validate_args: bool | None = None) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in self.transforms):
            raise ValueError("TransformedDistribution: transforms must be a Transform or a list of them")
        whole = ComposeTransform(self.transforms)
        domain, codomain = whole.domain.event_dim, whole.codomain.event_dim
        batch, event = base_distribution.batch_shape, base_distribution.event_shape
        base_shape = Size((*batch, *event))
        if len(base_shape) < domain:
            raise ValueError(f"TransformedDistribution: the base distribution has {len(base_shape)} dims, its transforms "
                             f"take {domain}")
        shape = whole.forward_shape(base_shape)
        wanted = whole.inverse_shape(shape)
        if tuple(wanted) != tuple(base_shape):
            base_distribution = base_distribution.expand(wanted[: len(wanted) - len(event)])
        if domain > len(event):
            base_distribution = Independent(base_distribution, domain - len(event))
        self.base_dist: Any = base_distribution
        cut = len(shape) - (codomain + max(len(event) - domain, 0))
        super().__init__(shape[:cut], shape[cut:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        whole = ComposeTransform(self.transforms)
        wanted = whole.inverse_shape(Size((*batch_shape, *self.event_shape)))
        new.base_dist = self.base_dist.expand(wanted[: len(wanted) - len(self.base_dist.event_shape)])
        return new

    @property
    def has_rsample(self) -> Any:
        return self.base_dist.has_rsample

    @constraints.dependent_property(is_discrete=False)
    def support(self) -> Any:
        if not self.transforms:
            return self.base_dist.support
        found, dims = self.transforms[-1].codomain, len(self.event_shape)
        return constraints.independent(found, dims - found.event_dim) if dims > found.event_dim else found

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._forward(self.base_dist.rsample(sample_shape))

    def _forward(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def _backward(self, y: Tensor) -> Tensor:
        for transform in reversed(self.transforms):
            y = transform._inv_call(y)
        return y

    def log_prob(self, value: Tensor) -> Tensor:
        y, dims = self._checked(value), len(self.event_shape)
        volume: Any = 0.0
        for transform in reversed(self.transforms):
            x = transform._inv_call(y)
            dims += transform.domain.event_dim - transform.codomain.event_dim
            volume = volume + sum_rightmost(transform.log_abs_det_jacobian(x, y), dims - transform.domain.event_dim)
            y = x
        return sum_rightmost(self.base_dist.log_prob(y), dims - len(self.base_dist.event_shape)) - volume

    def _monotone(self, chance: Tensor) -> Tensor:
        """Probabilities, turned round where the transforms fall."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        return chance if isinstance(sign, (int, float)) and sign == 1 else sign * (chance - 0.5) + 0.5

    def cdf(self, value: Tensor) -> Tensor:
        return self._monotone(self.base_dist.cdf(self._backward(self._checked(value))))

    def icdf(self, value: Tensor) -> Tensor:
        return self._forward(self.base_dist.icdf(self._monotone(value)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist!r}, {self.transforms!r})" if not self.arg_constraints else \
            super().__repr__()


class MixtureSameFamily(Distribution):
    """Draws from one of the components, the last batch dim of `component_distribution`, by `mixture_distribution`, a
    Categorical. Raises ValueError where the two don't fit."""

    arg_constraints: Any = {}

    def __init__(self, mixture_distribution: Categorical, component_distribution: Distribution,
                 validate_args: bool | None = None) -> None:
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError("MixtureSameFamily: mixture_distribution must be a Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("MixtureSameFamily: component_distribution must be a Distribution")
        batch = component_distribution.batch_shape
        n, count = mixture_distribution._param.shape[-1], batch[-1] if batch else 0
        if n != count:
            raise ValueError(f"MixtureSameFamily: the mixture has {n} categories, the last batch dim is {count}")
        mixed = mixture_distribution.batch_shape
        if any(m not in (1, b) for m, b in zip(reversed(mixed), reversed(batch[:-1]), strict=False)):
            raise ValueError(f"MixtureSameFamily: batch shapes {tuple(mixed)} and {tuple(batch[:-1])} don't fit")
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        super().__init__(batch[:-1], component_distribution.event_shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        n = self._component_distribution.batch_shape[-1]
        new._component_distribution = self._component_distribution.expand((*batch_shape, n))
        new._mixture_distribution = self._mixture_distribution.expand(batch_shape)
        return new

    @property
    def mixture_distribution(self) -> Categorical:
        return self._mixture_distribution

    @property
    def component_distribution(self) -> Distribution:
        return self._component_distribution

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def _dim(self) -> int:
        return -1 - len(self.event_shape)

    def _weights(self) -> Tensor:
        probs = self._mixture_distribution.probs
        return probs.reshape((*probs.shape, *(1,) * len(self.event_shape)))

    @property
    def mean(self) -> Tensor:
        return (self._weights() * self._component_distribution.mean).sum(self._dim)

    @property
    def variance(self) -> Tensor:
        weights, each = self._weights(), self._component_distribution
        from_mean = each.mean - self.mean.unsqueeze(self._dim)
        return (weights * (each.variance + from_mean ** 2)).sum(self._dim)

    def cdf(self, value: Tensor) -> Tensor:
        each = self._component_distribution.cdf(self._checked(value).unsqueeze(self._dim))
        return (each * self._mixture_distribution.probs).sum(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        each = self._component_distribution.log_prob(self._checked(value).unsqueeze(self._dim))
        return logsumexp(each + log_softmax(self._mixture_distribution.logits, dim=-1), dim=-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            each = self._component_distribution.sample(sample_shape)
            chosen = self._mixture_distribution.expand(self.batch_shape).sample(sample_shape)
            index = chosen.reshape((*chosen.shape, 1, *(1,) * len(self.event_shape)))
            index = index.expand((*chosen.shape, 1, *self.event_shape))
            return each.gather(each.ndim + self._dim, index).squeeze(self._dim)

    def __repr__(self) -> str:
        return f"MixtureSameFamily(\n  {self._mixture_distribution!r},\n  {self._component_distribution!r})"


__all__ = ["Independent", "MixtureSameFamily", "TransformedDistribution"]
