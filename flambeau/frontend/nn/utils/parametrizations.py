"""nn.utils.parametrizations: weights normalized by length or by their greatest singular value, and orthogonal ones."""
from __future__ import annotations

from enum import Enum, auto
from typing import Any

from flambeau.frontend.functions.creation import eye, zeros_like
from flambeau.frontend.functions.distributions import randn
from flambeau.frontend.functions.elementwise import add, sub
from flambeau.frontend.functions.factorizations import geqrf, householder_product, qr
from flambeau.frontend.functions.linear_algebra import solve
from flambeau.frontend.functions.matrix_functions import matrix_exp
from flambeau.frontend.functions.normalization import normalize
from flambeau.frontend.functions.products import dot, mv
from flambeau.frontend.functions.stacking import cat
from flambeau.frontend.nn.conv import _ConvTransposeNd
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.utils.parametrize import register_parametrization
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor


def norm_except(v: Tensor, dim: int | None) -> Tensor:
    """The 2-norm over all dims but one, kept with size 1; dim None or -1: over all, 0-d."""
    if dim is None or dim == -1:
        return (v * v).sum().sqrt()
    dims = tuple(d for d in range(v.ndim) if d != dim)
    return (v * v).sum(dim=dims, keepdim=True).sqrt() if dims else v.abs()


class _WeightNorm(Module):
    """g * v / |v|, the length taken over all dims but `dim`. Salimans and Kingma, NeurIPS 2016."""

    def __init__(self, dim: int | None = 0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Length and direction."""
        return norm_except(weight, self.dim), weight


class _OldNames:
    """Takes a state dict of the older nn.utils.weight_norm, with its keys weight_g and weight_v."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        old = [f"{prefix}{self.name}_{part}" for part in "gv"]
        if all(key in state_dict for key in old):
            for number, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{self.name}.original{number}"] = state_dict.pop(key)


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn the length of a weight (original0) apart from its direction (original1). dim: over which dims not; None: one
    length for all. Salimans and Kingma, NeurIPS 2016."""
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)
    module._register_load_state_dict_pre_hook(_OldNames(name))
    return module


# -- spectral norm ----------------------------------------------------------------------------------------------------


def default_dim(module: Module) -> int:
    """Which dim of the weight holds the outputs."""
    return int(isinstance(module, _ConvTransposeNd))


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """[outputs, all the rest]."""
    if dim:
        weight = weight.permute(dim, *[d for d in range(weight.ndim) if d != dim])
    return weight.flatten(1) if weight.ndim > 1 else weight


@no_grad()
def power_iteration(matrix: Tensor, u: Tensor, v: Tensor, count: int, eps: float) -> None:
    """Move u and v, in place, towards the singular vectors of the greatest singular value."""
    for _ in range(count):
        u.copy_(normalize(mv(matrix, v), dim=0, eps=eps))
        v.copy_(normalize(mv(matrix.mT, u), dim=0, eps=eps))


class _SpectralNorm(Module):
    """weight / its greatest singular value, which power iteration follows in training. Miyato et al., ICLR 2018."""

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        super().__init__()
        if not -weight.ndim <= dim < weight.ndim:
            raise IndexError("Dimension out of range (expected to be in range of "
                             f"[-{weight.ndim}, {weight.ndim - 1}] but got {dim})")
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")
        self.dim, self.eps = dim if dim >= 0 else dim + weight.ndim, eps
        if weight.ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            for name, size in (("_u", matrix.shape[0]), ("_v", matrix.shape[1])):
                self.register_buffer(name, normalize(randn(size, dtype=weight.dtype, device=weight.device), dim=0, eps=eps))
            power_iteration(matrix, self._u, self._v, 15, eps)

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_iteration(matrix, self._u, self._v, self.n_power_iterations, self.eps)
        u, v = self._u.clone(), self._v.clone()         # a later iteration changes them in place
        return weight / dot(u, mv(matrix, v))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The weight itself: what it becomes has a greatest singular value of 1."""
        return value


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Divide a weight by its greatest singular value, as a matrix [outputs, all the rest]. dim: the outputs' dim, 0, and 1
    in transposed convolutions. Miyato et al., ICLR 2018. Raises ValueError where there is no such tensor."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    register_parametrization(module, name, _SpectralNorm(
        weight, n_power_iterations, default_dim(module) if dim is None else dim, eps))
    return module


# -- orthogonal -------------------------------------------------------------------------------------------------------


class _OrthMaps(Enum):
    matrix_exp = auto()
    cayley = auto()
    householder = auto()


class _Orthogonal(Module):
    """A matrix with orthonormal columns (or rows, where those are fewer), from one without constraints.

    Lezcano-Casado and Martinez-Rubio, ICML 2019; `base`: Lezcano-Casado, NeurIPS 2019."""

    base: Tensor | None

    def __init__(self, weight: Tensor, orthogonal_map: _OrthMaps, *, use_trivialization: bool = True):
        super().__init__()
        if weight.is_complex() and orthogonal_map is _OrthMaps.householder:
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        is_wide = X.shape[-2] < X.shape[-1]
        X = X.mT if is_wide else X
        n, k = X.shape[-2:]
        if self.orthogonal_map is _OrthMaps.householder:
            A = X.tril(-1)
            Q = householder_product(A, 2.0 / (1.0 + (A * A).sum(dim=-2)))
            Q = Q * X.diagonal(dim1=-2, dim2=-1).detach().trunc().unsqueeze(-2)
        else:
            X = X.tril()
            if n != k:
                X = cat([X, X.new_zeros(n, n - k).expand(*X.shape[:-2], n, n - k)], -1)
            A = X - X.mT
            if self.orthogonal_map is _OrthMaps.matrix_exp:
                Q = matrix_exp(A)
            else:
                identity = eye(n, dtype=X.dtype, device=X.device)
                Q = solve(sub(identity, A, alpha=0.5), add(identity, A, alpha=0.5))
            Q = Q[..., :k]
        base = self._buffers.get("base")
        Q = Q if base is None else base @ Q
        return Q.mT if is_wide else Q

    def right_inverse(self, Q: Tensor) -> Tensor:
        """What forward makes `Q` of, which is made orthogonal if it is not. Raises ValueError for another shape,
        NotImplementedError for maps that can be inverted with a base only."""
        if Q.shape != self.shape:
            raise ValueError(f"Expected a matrix or batch of matrices of shape {self.shape}. Got {Q.shape}.")
        given, is_wide = Q, Q.shape[-2] < Q.shape[-1]
        Q = Q.mT if is_wide else Q
        n, k = Q.shape[-2:]
        if "base" not in self._buffers:
            if self.orthogonal_map is not _OrthMaps.householder:
                raise NotImplementedError("It is not possible to assign to the matrix exponential or the Cayley "
                                          "parametrizations when use_trivialization=False.")
            return _reflections(Q, is_wide)
        if n != k:
            Q = _made_orthogonal(cat([Q, randn(*Q.shape[:-2], n, n - k, dtype=Q.dtype, device=Q.device)], -1))
        else:
            Q = Q.clone() if _is_orthogonal(Q) else _made_orthogonal(Q)
        self.base = Q
        identity = zeros_like(given)
        identity.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return identity


def _reflections(Q: Tensor, is_wide: bool) -> Tensor:
    """Householder's vectors of Q below the diagonal, and on it the signs that give Q back."""
    A, tau = geqrf(Q)
    signs = A.diagonal(dim1=-2, dim2=-1)
    signs.copy_(signs.sign())
    signs.mul_(1 - 2 * (tau == 0).to(signs.dtype))
    return A.mT if is_wide else A


def _is_orthogonal(Q: Tensor) -> bool:
    k = Q.shape[-1]
    eps = {2: 1e-2, 4: 1.2e-6, 8: 2.3e-15}[Q.element_size()] * 10 * Q.shape[-2]
    error = (Q.mT @ Q - eye(k, dtype=Q.dtype, device=Q.device)).abs().max().item()
    return bool(error <= eps)


def _made_orthogonal(A: Tensor) -> Tensor:
    """The factor Q of A, with signs that make it A itself where that is orthogonal."""
    Q, R = qr(A)
    return Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def orthogonal(module: Module, name: str = "weight", orthogonal_map: str | None = None, *,
               use_trivialization: bool = True) -> Module:
    """Keep a weight orthogonal: its columns orthonormal, or its rows where those are fewer.

    orthogonal_map: "matrix_exp" (where none is given, for square matrices), "cayley", or "householder" (for others).
    use_trivialization: relative to a base, which assigning to the weight sets. Raises ValueError for fewer than 2 dims, an
    unknown map, or where there is no such tensor."""
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in _OrthMaps.__members__:
        raise ValueError('orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
                         f"{orthogonal_map}")
    function = _Orthogonal(weight, _OrthMaps[orthogonal_map], use_trivialization=use_trivialization)
    return register_parametrization(module, name, function, unsafe=True)


__all__ = ["orthogonal", "spectral_norm", "weight_norm"]
