"""Gamma variates and their derivative with respect to the concentration a, in a fixed number of ops.

Drawn: Marsaglia and Tsang, ACM Trans. Math. Software 26 (2000). For a >= 1 a proposal d (1 + x / sqrt(9 d))**3, x normal
and d = a - 1/3, is accepted with probability at least 0.951 (at a = 1; it grows with a). PROPOSALS of them are drawn at
once and the first accepted one taken; all fail with probability at most 0.049**6 = 1.4e-8, where the proposal for x = 0
(nearly the median) stands in. For a < 1, gamma(a + 1) u**(1/a). All is done in float64 and in logarithms, as gamma(0.001)
is mostly below 1e-300.

Derivative: Figurnov, Mohamed and Mnih, Implicit Reparameterization Gradients, NeurIPS 2018: with F the cumulative
probability and p the density, dx/da = -(dF/da) / p(x). As E[log t] = digamma(a), dF/da is the integral of
p(t) (log t - digamma(a)) from 0 to x, or minus that from x on. With t = x exp(s w), s = 1 above and -1 below,

    (dx/da) / x = integral over w > 0 of (s (log x - digamma(a)) + w) exp(s a w - x expm1(s w)),

whose integrand is positive when s is the sign of log x - digamma(a): 32 points of Gauss and Legendre up to where the
exponent is -40. Below x = 1, exp(-x expm1(-w)) is expanded in powers of x and integrated term by term. Median relative
error 1e-13.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.distributions import standard_normal, uniform
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import digamma, exp, expm1, log, log1p
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

PROPOSALS = 6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
_FAR = 40.0                 # exp(-40) is 4e-18
_TERMS = 20                 # of the series below x = 1: 1 / 20! is 4e-19


def log_standard_gamma(concentration: Tensor) -> Tensor:
    """log of gamma variates of rate 1, in float64; differentiable with respect to the concentration (of any dtype)."""
    found: Tensor = _LogGamma.apply(cast(concentration, dt.f64))
    return found


def _drawn(concentration: Tensor) -> Tensor:
    """log of gamma variates: f64 -> f64 of the same shape."""
    shape = tuple(concentration.shape)
    is_small = concentration < 1
    d = where(is_small, concentration + 1, concentration) - 1 / 3
    x = standard_normal((PROPOSALS, *shape), dt.f64, place=place_like(concentration))
    u = uniform((PROPOSALS + 1, *shape), dt.f64, place=place_like(concentration))
    v = (1 + x / (9 * d).sqrt()) ** 3
    inside = v.clamp(min=1e-300)
    is_accepted = (v > 0) & (log1p(-u[:-1]) < 0.5 * x * x + d * (1 - v + log(inside)))
    log_v = d * 0
    for k in reversed(range(PROPOSALS)):
        log_v = where(is_accepted[k], log(inside[k]), log_v)
    boost = log1p(-u[-1]) / where(is_small, concentration, concentration * 0 + 1)
    return log(d) + log_v + where(is_small, boost, boost * 0)


def log_derivative(concentration: Tensor, log_x: Tensor) -> Tensor:
    """d(log x)/da of a variate x at the same place of its distribution; both f64, of one shape."""
    a, x = concentration, exp(log_x.clamp(max=700.0))
    is_low = log_x < 0
    beyond = log_x - digamma(a)
    near = _series(a, where(is_low, x, x * 0), where(is_low, beyond, beyond * 0), log_x)
    far = _integral(a, where(is_low, x * 0 + 1, x), where(is_low, beyond * 0, beyond))
    return where(is_low, near, far)


def _series(a: Tensor, x: Tensor, beyond: Tensor, log_x: Tensor) -> Tensor:
    """e^x sum over k of (-x)^k / k! (c / (a + k) + 1 / (a + k)^2), c = -beyond. In the first term c / a + 1 / a^2 =
    (digamma(a + 1) - log x) / a, which does not cancel."""
    total = (digamma(a + 1) - log_x) / a
    power = x * 0 + 1
    for k in range(1, _TERMS):
        power = power * x * (-1.0 / k)
        rest = 1 / (a + k)
        total = total + power * rest * (rest - beyond)
    return exp(x) * total


def _integral(a: Tensor, x: Tensor, beyond: Tensor) -> Tensor:
    """The integral over w, up to where x expm1(s w) - s a w is FAR: that grows faster than a parabola on both sides."""
    is_above = beyond >= 0
    s = where(is_above, beyond * 0 + 1, beyond * 0 - 1)
    # Above, e^w - 1 >= w + w^2 / 2. Below, a w - x (1 - e^-w) >= a w - x, and >= x w^2 / 3 for w <= 1.
    slope = x - a
    above = (-slope + (slope * slope + 2 * _FAR * x).sqrt()) / x
    below = where(3 * _FAR < x, (3 * _FAR / x).sqrt(), (_FAR + x) / a)
    end = where(is_above, above, below)
    for _ in range(4):                      # Newton's steps from above, on a convex function
        end = end - (x * expm1(s * end) - s * a * end - _FAR) / (s * (x * exp(s * end) - a))
    nodes = holding(0.5 * (_NODES + 1), dt.f64)
    weights = holding(0.5 * _WEIGHTS, dt.f64)
    w = end.unsqueeze(-1) * nodes
    a, x, s, beyond = a.unsqueeze(-1), x.unsqueeze(-1), s.unsqueeze(-1), beyond.unsqueeze(-1)
    terms = (s * beyond + w) * exp(s * a * w - x * expm1(s * w))
    return end * (terms * weights).sum(-1)


class _LogGamma(Function):
    """Variates with their derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(concentration: Tensor) -> Tensor:
        return _drawn(concentration)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * log_derivative(*ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent * log_derivative(*ctx.saved_tensors)
