"""Distributions of angles."""
from __future__ import annotations

import math
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.distribution import Distribution
from flambeau.frontend.distributions.parameters import broadcast_all
from flambeau.frontend.functions.coerce import cast
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.elementwise import where
from flambeau.frontend.functions.pointwise import cos, log
from flambeau.frontend.functions.rows import SPECIAL
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt

PROPOSALS = 20
i0e, i1e = SPECIAL["i0e"], SPECIAL["i1e"]


class VonMises(Distribution):
    """Angles around loc, density proportional to exp(concentration cos(x - loc)). variance: the circular one.

    Drawn: Best and Fisher, Applied Statistics 28 (1979), in float64. A proposal is accepted with probability at least 0.65;
    PROPOSALS of them are drawn at once and the first accepted one taken: all fail with probability below 1e-9, where
    loc stands in."""

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return 1 - i1e(self.concentration) / i0e(self.concentration)

    def log_prob(self, value: Tensor) -> Tensor:
        k = self.concentration
        return k * (cos(self._checked(value) - self.loc) - 1) - math.log(2 * math.pi) - log(i0e(k))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with set_grad_enabled(False):
            shape = (PROPOSALS, *self._extended_shape(sample_shape))
            k = cast(self.concentration, dt.f64)
            tau = 1 + (1 + 4 * k * k).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * k)
            # For small k rho loses its digits; the first terms of its series are exact there.
            r = where(k < 1e-5, 1 / k + k, (1 + rho * rho) / (2 * rho))
            z = cos(math.pi * uniform(shape, dt.f64, place=place_like(k)))
            f = (1 + r * z) / (r + z)
            c = k * (r - f)
            u = 1 - uniform(shape, dt.f64, place=place_like(k))
            is_accepted = (c * (2 - c) - u > 0) | (log(c.clamp(min=1e-300) / u) + 1 - c >= 0)
            side = (uniform(shape[1:], dt.f64, place=place_like(k)) - 0.5).sign()
            chosen = f[0] * 0 + 1
            for place in reversed(range(PROPOSALS)):
                chosen = where(is_accepted[place], f[place], chosen)
            angle = side * chosen.clamp(-1.0, 1.0).acos() + cast(self.loc, dt.f64)
            return cast((angle + math.pi) % (2 * math.pi) - math.pi, self.loc.dtype)


__all__ = ["VonMises"]
