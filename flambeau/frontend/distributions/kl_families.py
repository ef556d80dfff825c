"""kl_divergence of two distributions of one family, in closed form."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions.categorical import Categorical, OneHotCategorical
from flambeau.frontend.distributions.compound import Independent, TransformedDistribution
from flambeau.frontend.distributions.continuous import Cauchy, Laplace, Normal, Uniform
from flambeau.frontend.distributions.discrete import Bernoulli, Binomial, Geometric, Poisson
from flambeau.frontend.distributions.kl import kl_divergence, register_kl
from flambeau.frontend.distributions.multivariate import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    log_diagonal,
    solved,
)
from flambeau.frontend.distributions.parameters import EULER, sum_rightmost
from flambeau.frontend.distributions.positive import Beta, Dirichlet, Exponential, Gamma
from flambeau.frontend.distributions.relaxed import ContinuousBernoulli
from flambeau.frontend.distributions.transformed import Gumbel, HalfNormal, Pareto
from flambeau.frontend.functions.activations import softplus
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.linear_algebra import solve_triangular
from flambeau.frontend.functions.pointwise import digamma, exp, lgamma, log, log1p
from flambeau.frontend.tensor.tensor import Tensor


def infinite_where(is_infinite: Tensor, value: Tensor) -> Tensor:
    """`value`, and inf where q is 0 and p is not."""
    return where(is_infinite, math.inf, value)


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Bernoulli, q: Bernoulli) -> Tensor:
    chance, other = p.probs, q.probs
    yes = chance * (softplus(-q.logits) - softplus(-p.logits))
    no = (1 - chance) * (softplus(q.logits) - softplus(p.logits))
    yes = where(chance == 0, yes * 0, infinite_where(other == 0, yes))
    return yes + where(chance == 1, no * 0, infinite_where(other == 1, no))


@register_kl(Binomial, Binomial)
def _binomial(p: Binomial, q: Binomial) -> Tensor:
    chance = p.probs
    each = chance * (p.logits - q.logits) + log1p(-chance) - log1p(-q.probs)
    return infinite_where(p.total_count > q.total_count, p.total_count * each)


@register_kl(Categorical, Categorical)
def _categorical(p: Categorical, q: Categorical) -> Tensor:
    each = p.probs * (p.logits - q.logits)
    return where(p.probs == 0, p.probs * 0, infinite_where(q.probs == 0, each)).sum(-1)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hot(p: OneHotCategorical, q: OneHotCategorical) -> Tensor:
    return _categorical(p, q)


@register_kl(Beta, Beta)
def _beta(p: Beta, q: Beta) -> Tensor:
    a, b, c, d = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    norms = lgamma(c) + lgamma(d) + lgamma(a + b) - lgamma(c + d) - lgamma(a) - lgamma(b)
    return norms + (a - c) * digamma(a) + (b - d) * digamma(b) + (c + d - a - b) * digamma(a + b)


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoulli(p: ContinuousBernoulli, q: ContinuousBernoulli) -> Tensor:
    return p.mean * (p.logits - q.logits) + p._log_norm() + log1p(-p.probs) - q._log_norm() - log1p(-q.probs)


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Dirichlet, q: Dirichlet) -> Tensor:
    a, b = p.concentration, q.concentration
    total = a.sum(-1, keepdim=True)
    norms = lgamma(total.squeeze(-1)) - lgamma(b.sum(-1)) - (lgamma(a) - lgamma(b)).sum(-1)
    return norms + ((a - b) * (digamma(a) - digamma(total))).sum(-1)


@register_kl(Exponential, Exponential)
def _exponential(p: Exponential, q: Exponential) -> Tensor:
    ratio = q.rate / p.rate
    return -log(ratio) + ratio - 1


@register_kl(Gamma, Gamma)
def _gamma(p: Gamma, q: Gamma) -> Tensor:
    a, b = p.concentration, q.concentration
    return b * log(p.rate / q.rate) + lgamma(b) - lgamma(a) + (a - b) * digamma(a) + (q.rate - p.rate) * (a / p.rate)


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Gumbel, q: Gumbel) -> Tensor:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc) / q.scale
    return -log(ratio) + EULER * (ratio - 1) + apart + exp(-apart + lgamma(1 + ratio)) - 1


@register_kl(Geometric, Geometric)
def _geometric(p: Geometric, q: Geometric) -> Tensor:
    return -p.entropy() - log1p(-q.probs) / p.probs - q.logits


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: HalfNormal, q: HalfNormal) -> Tensor:
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Laplace, Laplace)
def _laplace(p: Laplace, q: Laplace) -> Tensor:
    ratio, apart = p.scale / q.scale, (p.loc - q.loc).abs()
    return -log(ratio) + apart / q.scale + ratio * exp(-apart / p.scale) - 1


@register_kl(Normal, Normal)
def _normal(p: Normal, q: Normal) -> Tensor:
    ratio, apart = (p.scale / q.scale) ** 2, ((p.loc - q.loc) / q.scale) ** 2
    return 0.5 * (ratio + apart - 1 - log(ratio))


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Cauchy, q: Cauchy) -> Tensor:
    """Chyzak and Nielsen, 2019."""
    return log((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2) - log(4 * p.scale * q.scale)


@register_kl(Pareto, Pareto)
def _pareto(p: Pareto, q: Pareto) -> Tensor:
    ratio = q.alpha / p.alpha
    found = q.alpha * log(p.scale / q.scale) - log(ratio) + ratio - 1
    return infinite_where(p.scale < q.scale, found)


@register_kl(Poisson, Poisson)
def _poisson(p: Poisson, q: Poisson) -> Tensor:
    return p.rate * (log(p.rate) - log(q.rate)) - (p.rate - q.rate)


@register_kl(Uniform, Uniform)
def _uniform(p: Uniform, q: Uniform) -> Tensor:
    found = log((q.high - q.low) / (p.high - p.low))
    return infinite_where((q.low > p.low) | (q.high < p.high), found)


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate(p: Any, q: Any) -> Tensor:
    if p.event_shape != q.event_shape:
        raise ValueError(f"kl_divergence: events of shapes {tuple(p.event_shape)} and {tuple(q.event_shape)} differ")
    ours, theirs = p.scale_tril, q.scale_tril
    mixed = solve_triangular(*_same_batch(theirs, ours), upper=False)
    apart = solved(theirs, q.mean - p.mean)
    spread = (mixed * mixed).sum((-2, -1)) + (apart * apart).sum(-1)
    return log_diagonal(theirs) - log_diagonal(ours) + 0.5 * (spread - theirs.shape[-1])


def _same_batch(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    whole = (a.mT @ b).shape
    return a.expand(tuple(whole)), b.expand(tuple(whole))


for _pair in ((LowRankMultivariateNormal, LowRankMultivariateNormal), (MultivariateNormal, LowRankMultivariateNormal),
              (LowRankMultivariateNormal, MultivariateNormal)):
    register_kl(*_pair)(_multivariate)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: TransformedDistribution, q: TransformedDistribution) -> Tensor:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("kl_divergence: the two are behind different transforms")
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Independent, Independent)
def _independent(p: Independent, q: Independent) -> Tensor:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError("kl_divergence: the two have different reinterpreted_batch_ndims")
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)
