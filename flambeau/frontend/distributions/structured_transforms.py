"""Transforms of vectors and matrices: to the simplex, to Cholesky factors, and different ones for the parts of a value."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.frontend.distributions import constraints
from flambeau.frontend.distributions.parameters import sum_rightmost
from flambeau.frontend.distributions.transforms import Transform
from flambeau.frontend.functions.activations import softplus
from flambeau.frontend.functions.creation import arange, eye, zeros
from flambeau.frontend.functions.dtypes import finfo
from flambeau.frontend.functions.joining import cat, stack
from flambeau.frontend.functions.linear_algebra import cholesky
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.functions.pointwise import exp, log, log1p
from flambeau.frontend.functions.reductions import cumprod, cumsum, softmax
from flambeau.frontend.functions.stacking import tril_indices
from flambeau.frontend.functions.views import tril
from flambeau.frontend.tensor.tensor import Size, Tensor


class SoftmaxTransform(Transform):
    """Softmax over the last dim; the logarithm is an inverse of it. Not bijective."""

    domain = constraints.real_vector
    codomain = constraints.simplex

    def _call(self, x: Tensor) -> Tensor:
        return softmax(x, dim=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return log(y)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SoftmaxTransform)

    __hash__ = object.__hash__


class StickBreakingTransform(Transform):
    """n numbers -> n + 1 positive ones that add up to 1: each breaks its share off what is left of a stick."""

    domain = constraints.real_vector
    codomain = constraints.simplex
    bijective = True

    def _offset(self, x: Tensor) -> Tensor:
        n = x.shape[-1]
        return arange(n, 0, -1, dtype=x.dtype, device=x.device).log()

    def _call(self, x: Tensor) -> Tensor:
        z = (x - self._offset(x)).sigmoid()
        left = cumprod(1 - z, -1)
        return pad(z, (0, 1), value=1.0) * pad(left, (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        broken = y[..., :-1]
        left = (1 - cumsum(broken, -1)).clamp(min=finfo(y.dtype).tiny)
        return log(broken) - log(left) + self._offset(broken)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        shifted = x - self._offset(x)
        return (-shifted - softplus(-shifted) + log(y[..., :-1])).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Any:
        return Size((*shape[:-1], shape[-1] - 1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StickBreakingTransform)

    __hash__ = object.__hash__


class LowerCholeskyTransform(Transform):
    """Any matrix -> a lower triangular one with positive diagonal: exp on the diagonal, nothing above."""

    domain = constraints.independent(constraints.real, 2)
    codomain: Any = constraints.lower_cholesky

    def _call(self, x: Tensor) -> Tensor:
        return tril(x, -1) + exp(x.diagonal(dim1=-2, dim2=-1)).diag_embed()

    def _inverse(self, y: Tensor) -> Tensor:
        return tril(y, -1) + log(y.diagonal(dim1=-2, dim2=-1)).diag_embed()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LowerCholeskyTransform)

    __hash__ = object.__hash__


class PositiveDefiniteTransform(LowerCholeskyTransform):
    """Any matrix -> a positive definite one, by its Cholesky factor."""

    codomain = constraints.positive_definite

    def _call(self, x: Tensor) -> Tensor:
        factor = super()._call(x)
        return factor @ factor.mT

    def _inverse(self, y: Tensor) -> Tensor:
        return super()._inverse(cholesky(y))


class CorrCholeskyTransform(Transform):
    """n (n - 1) / 2 numbers -> the Cholesky factor of a correlation matrix n x n: tanh of the numbers are the partial
    correlations, row by row (Lewandowski, Kurowicka and Joe, J. Multivariate Analysis 100, 2009)."""

    domain = constraints.real_vector
    codomain = constraints.corr_cholesky
    bijective = True

    def _size(self, n_numbers: int) -> int:
        n = round((1 + math.sqrt(1 + 8 * n_numbers)) / 2)
        if n * (n - 1) // 2 != n_numbers:
            raise ValueError(f"CorrCholeskyTransform: {n_numbers} numbers are no lower triangle")
        return n

    def _call(self, x: Tensor) -> Tensor:
        n = self._size(x.shape[-1])
        eps = finfo(x.dtype).eps
        partial = _lower(x.tanh().clamp(-1 + eps, 1 - eps), n)
        left = cumprod((1 - partial * partial).sqrt(), -1)
        return (partial + eye(n, dtype=x.dtype, device=x.device)) * pad(left[..., :-1], (1, 0), value=1.0)

    def _inverse(self, y: Tensor) -> Tensor:
        left = 1 - cumsum(y * y, -1)
        before = pad(left[..., :-1], (1, 0), value=1.0).clamp(min=finfo(y.dtype).tiny).sqrt()
        rows, columns = tril_indices(y.shape[-1], y.shape[-1], -1)
        ratio = (y / before)[..., rows, columns]
        return (log1p(ratio) - log1p(-ratio)) / 2

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        left = 1 - cumsum(y * y, -1)
        rows, columns = tril_indices(y.shape[-1], y.shape[-1], -2)
        sticks = 0.5 * left[..., rows, columns].log().sum(-1) if len(rows) else 0.0
        return sticks - 2 * (x + softplus(-2 * x) - math.log(2.0)).sum(-1)

    def forward_shape(self, shape: Any) -> Any:
        n = self._size(shape[-1])
        return Size((*shape[:-1], n, n))

    def inverse_shape(self, shape: Any) -> Any:
        if shape[-1] != shape[-2]:
            raise ValueError(f"CorrCholeskyTransform: takes square matrices, got {tuple(shape)}")
        return Size((*shape[:-2], shape[-1] * (shape[-1] - 1) // 2))


def _lower(numbers: Tensor, n: int) -> Tensor:
    """[..., n (n - 1) / 2] -> [..., n, n], row by row below the diagonal, zeros elsewhere."""
    rows = []
    for row in range(n):
        start = row * (row - 1) // 2
        rows.append(pad(numbers[..., start:start + row], (0, n - row)))
    return stack(rows, -2) if rows else zeros((*numbers.shape[:-1], 0, 0), dtype=numbers.dtype, device=numbers.device)


class CumulativeDistributionTransform(Transform):
    """Numbers -> their cumulative probability in a distribution."""

    bijective = True
    codomain = constraints.unit_interval
    sign: Any = 1

    def __init__(self, distribution: Any, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.distribution = distribution

    @property
    def domain(self) -> Any:
        return self.distribution.support

    def _call(self, x: Tensor) -> Tensor:
        return self.distribution.cdf(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.distribution.icdf(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.distribution.log_prob(x)


class _PartsTransform(Transform):
    """Different transforms for the parts of a value along a dim, counted from the left."""

    constraint: Any

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, cache_size: int = 0) -> None:
        super().__init__(cache_size)
        self.transforms, self.dim = [t.with_cache(cache_size) for t in tseq], dim

    def _parts(self, value: Tensor) -> Sequence[Tensor]:
        raise NotImplementedError

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        raise NotImplementedError

    @property
    def bijective(self) -> Any:
        return all(t.bijective for t in self.transforms)

    @property
    def domain(self) -> Any:
        return self.constraint([t.domain for t in self.transforms])

    @property
    def codomain(self) -> Any:
        return self.constraint([t.codomain for t in self.transforms])

    def _call(self, x: Tensor) -> Tensor:
        return self._joined([t(part) for t, part in zip(self.transforms, self._parts(x), strict=True)])

    def _inverse(self, y: Tensor) -> Tensor:
        return self._joined([t._inv_call(part) for t, part in zip(self.transforms, self._parts(y), strict=True)])


class StackTransform(_PartsTransform):
    """A transform for each place along `dim`."""

    def constraint(self, parts: Sequence[Any]) -> Any:
        return constraints.stack(parts, self.dim)

    def _parts(self, value: Tensor) -> Sequence[Tensor]:
        return value.unbind(self.dim)

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return stack(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        triples = zip(self.transforms, self._parts(x), self._parts(y), strict=True)
        return stack([t.log_abs_det_jacobian(a, b) for t, a, b in triples], self.dim)


class CatTransform(_PartsTransform):
    """A transform for each `lengths` places along `dim`."""

    def __init__(self, tseq: Sequence[Transform], dim: int = 0, lengths: Sequence[int] | None = None,
                 cache_size: int = 0) -> None:
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)

    @property
    def length(self) -> int:
        return sum(self.lengths)

    @property
    def event_dim(self) -> int:
        return max(t.event_dim for t in self.transforms)

    def constraint(self, parts: Sequence[Any]) -> Any:
        return constraints.cat(parts, self.dim, self.lengths)

    def _parts(self, value: Tensor) -> Sequence[Tensor]:
        return value.split(self.lengths, self.dim)

    def _joined(self, parts: Sequence[Tensor]) -> Tensor:
        return cat(parts, self.dim)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        triples = zip(self.transforms, self._parts(x), self._parts(y), strict=True)
        terms = [sum_rightmost(t.log_abs_det_jacobian(a, b), self.event_dim - t.event_dim) for t, a, b in triples]
        dim = self.dim - x.ndim if self.dim >= 0 else self.dim
        dim += self.event_dim
        return cat(terms, dim) if dim < 0 else sum(terms[1:], start=terms[0])


__all__ = ["CatTransform", "CorrCholeskyTransform", "CumulativeDistributionTransform", "LowerCholeskyTransform",
           "PositiveDefiniteTransform", "SoftmaxTransform", "StackTransform", "StickBreakingTransform"]
