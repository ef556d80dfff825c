"""kl_divergence of distributions of two families: -entropy(p) - E_p[log q], where log q needs few moments of p:
x, its square, log x, log(1 - x), |x - c| and exp(-t x)."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from flambeau.frontend.distributions.continuous import Laplace, Normal, Uniform
from flambeau.frontend.distributions.discrete import Bernoulli, Binomial, Poisson
from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.distributions.kl import register_kl
from flambeau.frontend.distributions.kl_families import infinite_where
from flambeau.frontend.distributions.parameters import EULER
from flambeau.frontend.distributions.positive import Beta, Exponential, Gamma
from flambeau.frontend.distributions.relaxed import ContinuousBernoulli
from flambeau.frontend.distributions.transformed import Gumbel, Pareto
from flambeau.frontend.functions.coerce import broadcast_shapes
from flambeau.frontend.functions.creation import full
from flambeau.frontend.functions.pointwise import digamma, exp, lgamma, log, log1p, xlogy
from flambeau.frontend.tensor.tensor import Tensor

# -- moments of p -----------------------------------------------------------------------------------------------------


def _mean(p: Any) -> Tensor:
    return infinite_where(p.alpha <= 1, p.mean) if isinstance(p, Pareto) else p.mean


def _square(p: Any, centre: Tensor) -> Tensor:
    """E (x - centre)^2."""
    found = p.variance + (p.mean - centre) ** 2
    return infinite_where(p.alpha <= 2, found) if isinstance(p, Pareto) else found


def _log(p: Any) -> Tensor:
    """E log x."""
    match p:
        case Beta():
            return digamma(p.concentration1) - digamma(p.concentration1 + p.concentration0)
        case Exponential():
            return -log(p.rate) - EULER
        case Gamma():
            return digamma(p.concentration) - log(p.rate)
        case Pareto():
            return log(p.scale) + 1 / p.alpha
        case Uniform():
            return (xlogy(p.high, p.high) - xlogy(p.low, p.low)) / (p.high - p.low) - 1
    raise NotImplementedError(type(p).__name__)


def _log_rest(p: Uniform) -> Tensor:
    """E log(1 - x)."""
    high, low = 1 - p.low, 1 - p.high
    return (xlogy(high, high) - xlogy(low, low)) / (p.high - p.low) - 1


def _laplace_transform(p: Any, t: Tensor) -> Tensor:
    """E exp(-t x)."""
    match p:
        case Exponential():
            return p.rate / (p.rate + t)
        case Gamma():
            return (1 + t / p.rate) ** -p.concentration
        case Normal():
            return exp(-t * p.loc + 0.5 * (t * p.scale) ** 2)
        case Uniform():
            return (exp(-t * p.low) - exp(-t * p.high)) / (t * (p.high - p.low))
    raise NotImplementedError(type(p).__name__)


# -- -E log q ---------------------------------------------------------------------------------------------------------


def _of_exponential(p: Any, q: Exponential) -> Tensor:
    return q.rate * _mean(p) - log(q.rate)


def _of_gamma(p: Any, q: Gamma) -> Tensor:
    a = q.concentration
    return lgamma(a) - a * log(q.rate) - (a - 1) * _log(p) + q.rate * _mean(p)


def _of_normal(p: Any, q: Normal) -> Tensor:
    return 0.5 * _square(p, q.loc) / q.scale ** 2 + log(q.scale) + 0.5 * math.log(2 * math.pi)


def _of_gumbel(p: Any, q: Gumbel) -> Tensor:
    return log(q.scale) + (_mean(p) - q.loc) / q.scale + exp(q.loc / q.scale) * _laplace_transform(p, 1 / q.scale)


def _of_laplace(p: Normal, q: Laplace) -> Tensor:
    apart = p.loc - q.loc
    share = apart / p.scale * math.sqrt(0.5)
    distance = p.scale * math.sqrt(2 / math.pi) * exp(-share * share) + apart * share.erf()
    return log(2 * q.scale) + distance / q.scale


def _of_continuous_bernoulli(p: Any, q: ContinuousBernoulli) -> Tensor:
    return -p.mean * q.logits - log1p(-q.probs) - q._log_norm()


def _of_uniform(p: Any, q: Uniform) -> Tensor:
    return infinite_where((q.low > 0) | (q.high < 1), log(q.high - q.low) + p.mean * 0)


def _of_beta(p: Uniform, q: Beta) -> Tensor:
    a, b = q.concentration1, q.concentration0
    return -(a - 1) * _log(p) - (b - 1) * _log_rest(p) + lgamma(a) + lgamma(b) - lgamma(a + b)


def _of_pareto(p: Uniform, q: Pareto) -> Tensor:
    return (q.alpha + 1) * _log(p) - log(q.alpha) - q.alpha * log(q.scale)


def _within_unit(p: Uniform, q: Any) -> Tensor:
    return (p.low < 0) | (p.high > 1)


def _positive(p: Uniform, q: Any) -> Tensor:
    return p.low < 0


_ACROSS: list[tuple[type, type, Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor] | None]] = [
    *[(kind, Exponential, _of_exponential, None) for kind in (Beta, ContinuousBernoulli, Gamma, Pareto)],
    *[(kind, Gamma, _of_gamma, None) for kind in (Beta, Exponential, Pareto)],
    *[(kind, Normal, _of_normal, None)
      for kind in (Beta, ContinuousBernoulli, Exponential, Gamma, Gumbel, Laplace, Pareto, Uniform)],
    *[(kind, Gumbel, _of_gumbel, None) for kind in (Exponential, Gamma, Normal, Uniform)],
    (Normal, Laplace, _of_laplace, None),
    (Beta, ContinuousBernoulli, _of_continuous_bernoulli, None),
    (Beta, Uniform, _of_uniform, None),
    (ContinuousBernoulli, Uniform, _of_uniform, None),
    (Uniform, Beta, _of_beta, _within_unit),
    (Uniform, ContinuousBernoulli, _of_continuous_bernoulli, _within_unit),
    (Uniform, Exponential, _of_exponential, _positive),
    (Uniform, Gamma, _of_gamma, _positive),
    (Uniform, Pareto, _of_pareto, lambda p, q: p.low < q.scale),
]


def _across(cross_entropy: Any, is_outside: Any) -> Any:
    def divergence(p: Distribution, q: Distribution) -> Tensor:
        found = cross_entropy(p, q) - p.entropy()
        return found if is_outside is None else infinite_where(is_outside(p, q), found)

    return divergence


for _p, _q, _cross_entropy, _is_outside in _ACROSS:
    register_kl(_p, _q)(_across(_cross_entropy, _is_outside))

# p draws what q never gives.
_NEVER: list[tuple[type, tuple[type, ...]]] = [
    (Beta, (Pareto,)), (ContinuousBernoulli, (Pareto,)),
    (Exponential, (Beta, ContinuousBernoulli, Pareto, Uniform)), (Gamma, (Beta, ContinuousBernoulli, Pareto, Uniform)),
    (Gumbel, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)),
    (Laplace, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)),
    (Normal, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform)),
    (Pareto, (Beta, ContinuousBernoulli, Uniform)), (Poisson, (Bernoulli, Binomial)),
]


def _infinite(p: Distribution, q: Distribution) -> Tensor:
    return full(broadcast_shapes(tuple(p.batch_shape), tuple(q.batch_shape)), math.inf)


for _p, _others in _NEVER:
    for _q in _others:
        register_kl(_p, _q)(_infinite)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Bernoulli, q: Poisson) -> Tensor:
    return -p.entropy() - (p.probs * log(q.rate) - q.rate)
