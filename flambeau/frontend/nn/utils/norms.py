"""nn.utils.weight_norm and spectral_norm, the older form: parameters weight_g and weight_v, or weight_orig with the buffers
weight_u and weight_v, from which the module's weight is computed whenever it is read."""
from __future__ import annotations

from typing import Any

from flambeau.frontend.functions.distributions import randn
from flambeau.frontend.functions.normalization import normalize
from flambeau.frontend.functions.products import dot, mv
from flambeau.frontend.nn.module import Module
from flambeau.frontend.nn.parameter import Parameter
from flambeau.frontend.nn.utils.computed import compute, compute_no_more, sources_of
from flambeau.frontend.nn.utils.parametrizations import as_matrix, default_dim, norm_except, power_iteration
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tensor.tensor import Tensor


class _Computed:
    """What both share: the attribute is computed, and assigning to it is an error."""

    name: str

    def set(self, module: Any, value: Any) -> None:
        """Raises AttributeError."""
        raise AttributeError(f"'{self.name}' of {type(module).__name__} is computed from its parameters: change those")


class WeightNorm(_Computed):
    """name_v * name_g / |name_v|. Salimans and Kingma, NeurIPS 2016."""

    def __init__(self, name: str, dim: int | None):
        self.name, self.dim = name, -1 if dim is None else dim

    def get(self, module: Any) -> Tensor:
        g, v = getattr(module, f"{self.name}_g"), getattr(module, f"{self.name}_v")
        return v * (g / norm_except(v, self.dim))


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Learn the length (`weight_g`) of a weight apart from its direction (`weight_v`). dim: over which dims not; None: one
    length for all. Raises RuntimeError where that is done already."""
    if isinstance(sources_of(module).get(name), WeightNorm):
        raise RuntimeError(f"Cannot register two weight_norm hooks on the same parameter {name}")
    source, weight = WeightNorm(name, dim), getattr(module, name)
    delattr(module, name)
    with no_grad():
        module.register_parameter(f"{name}_g", Parameter(norm_except(weight, source.dim).detach()))
        module.register_parameter(f"{name}_v", Parameter(weight.detach()))
    compute(module, name, source)
    return module


def remove_weight_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight a parameter again, with the value that it has. Raises ValueError where there is no weight_norm."""
    _restore(module, name, WeightNorm, ("g", "v"), "weight_norm")
    return module


class SpectralNorm(_Computed):
    """name_orig / its greatest singular value, which power iteration follows when the module is called in training."""

    def __init__(self, name: str = "weight", n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        if n_power_iterations <= 0:
            raise ValueError("Expected n_power_iterations to be positive, but got "
                             f"n_power_iterations={n_power_iterations}")
        self.name, self.n_power_iterations, self.dim, self.eps = name, n_power_iterations, dim, eps

    def _parts(self, module: Any) -> tuple[Tensor, Tensor, Tensor]:
        weight, u, v = [getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v")]
        return weight, u, v

    def get(self, module: Any) -> Tensor:
        weight, u, v = self._parts(module)
        return weight / dot(u.clone(), mv(as_matrix(weight, self.dim), v.clone()))

    def __call__(self, module: Module, inputs: Any) -> None:
        """The hook before forward."""
        if module.training:
            weight, u, v = self._parts(module)
            _iterate(as_matrix(weight, self.dim), u, v, self.n_power_iterations, self.eps)


def _iterate(matrix: Tensor, u: Tensor, v: Tensor, count: int, eps: float) -> None:
    """As the parametrization does it, but v first."""
    power_iteration(matrix.mT, v, u, count, eps)


def spectral_norm(module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12,
                  dim: int | None = None) -> Module:
    """Divide a weight by its greatest singular value. dim: the outputs' dim, 0, and 1 in transposed convolutions.

    Raises RuntimeError where that is done already."""
    if isinstance(sources_of(module).get(name), SpectralNorm):
        raise RuntimeError(f"Cannot register two spectral_norm hooks on the same parameter {name}")
    source = SpectralNorm(name, n_power_iterations, default_dim(module) if dim is None else dim, eps)
    weight = module._parameters[name]
    assert weight is not None, "there is a weight to divide"
    matrix = as_matrix(weight.detach(), source.dim)
    delattr(module, name)
    module.register_parameter(f"{name}_orig", weight)
    for part, size in zip("uv", matrix.shape, strict=True):
        drawn = randn(size, dtype=weight.dtype, device=weight.device)
        module.register_buffer(f"{name}_{part}", normalize(drawn, dim=0, eps=eps))
    compute(module, name, source)
    module.register_forward_pre_hook(source)
    return module


def remove_spectral_norm(module: Module, name: str = "weight") -> Module:
    """Make the weight a parameter again, with the value that it has. Raises ValueError where there is no spectral_norm."""
    source = _restore(module, name, SpectralNorm, ("orig", "u", "v"), "spectral_norm")
    for number, hook in list(module._forward_pre_hooks.items()):
        if hook is source:
            del module._forward_pre_hooks[number]
    return module


def _restore(module: Module, name: str, kind: type, parts: tuple[str, ...], what: str) -> Any:
    source = sources_of(module).get(name)
    if not isinstance(source, kind):
        raise ValueError(f"{what} of '{name}' not found in {module}")
    with no_grad():
        weight = getattr(module, name).detach().clone()
    compute_no_more(module, name)
    for part in parts:
        delattr(module, f"{name}_{part}")
    module.register_parameter(name, Parameter(weight))
    return source


__all__ = ["remove_spectral_norm", "remove_weight_norm", "spectral_norm", "weight_norm"]
