"""nn.init: fill a tensor in place with random or fixed values, off the tape. Draws come from `generator`, or the default
one."""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flambeau.frontend.nn.state import tensor_of
from flambeau.frontend.random import Generator
from flambeau.frontend.tape.autograd import no_grad
from flambeau.frontend.tape.moves import place_like, placed
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.quantiles import normal_quantile
from flambeau.warned import warn

_GAINS = {"tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}
_LINEAR = ("linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
           "sigmoid")


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """How much a nonlinearity shrinks its input's scale, as a factor to undo it. param: leaky_relu's slope.

    Raises ValueError for a name that is not known."""
    if nonlinearity in _LINEAR:
        return 1.0
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity not in _GAINS:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return _GAINS[nonlinearity]


@no_grad()
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draws from the uniform distribution on [a, b)."""
    return tensor.uniform_(a, b, generator=generator)


@no_grad()
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Draws from the normal distribution."""
    return tensor.normal_(mean, std, generator=generator)


def _unset(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """f64 to be drawn, where `like` lies."""
    return placed(tensor_of(np.empty(shape)), place_like(like))


@no_grad()
def trunc_normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
                  generator: Generator | None = None) -> Tensor:
    """Draws from the normal distribution cut to [a, b] (bounds in the tensor's units, not in std)."""
    low, high = ((1 + math.erf((bound - mean) / (std * math.sqrt(2)))) / 2 for bound in (a, b))
    shares = _unset(tensor.shape, tensor).uniform_(low, high, generator=generator).cpu().numpy()
    draws = normal_quantile(np.clip(shares, np.finfo(np.float64).tiny, 1 - 2.0**-53))
    return tensor.copy_(tensor_of(np.clip(draws * std + mean, a, b)))


@no_grad()
def constant_(tensor: Tensor, val: float) -> Tensor:
    """Every element is `val`."""
    return tensor.fill_(val)


def ones_(tensor: Tensor) -> Tensor:
    """Every element is 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """Every element is 0."""
    return constant_(tensor, 0.0)


@no_grad()
def eye_(tensor: Tensor) -> Tensor:
    """A 2-d tensor becomes the identity matrix. Raises ValueError for other ranks."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(tensor_of(np.eye(*tensor.shape)))


@no_grad()
def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution's weight becomes the identity of as many channels as there are, in each group.

    Raises ValueError for other than 3 to 5 dims, and where groups do not divide dim 0."""
    if tensor.ndim not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.shape[0] % groups:
        raise ValueError("dim 0 must be divisible by groups")
    identity, per_group = np.zeros(tensor.shape), tensor.shape[0] // groups
    center = tuple(size // 2 for size in tensor.shape[2:])
    for group in range(groups):
        for channel in range(min(per_group, tensor.shape[1])):
            identity[(group * per_group + channel, channel, *center)] = 1
    return tensor.copy_(tensor_of(identity))


@no_grad()
def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """A matrix of normal draws, the share `sparsity` of each column 0. Martens, ICML 2010.

    Raises ValueError for other ranks."""
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    draws, chances = (_unset(tensor.shape, tensor) for _ in range(2))
    draws.normal_(0, std, generator=generator)
    rank = chances.uniform_(generator=generator).cpu().numpy().argsort(0).argsort(0)
    is_zero = rank < math.ceil(sparsity * tensor.shape[0])
    return tensor.copy_(tensor_of(np.where(is_zero, 0.0, draws.cpu().numpy())))


@no_grad()
def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator | None = None) -> Tensor:
    """A (semi-)orthogonal matrix times gain; dims after the first count as one. Raises ValueError below 2 dims.

    Saxe et al., "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks", 2013."""
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if not tensor.numel():
        return tensor
    rows = tensor.shape[0]
    columns = tensor.numel() // max(rows, 1)
    draws = _unset((rows, columns), tensor).normal_(0, 1, generator=generator).cpu().numpy()
    q, r = np.linalg.qr(draws.T if rows < columns else draws)
    q = q * np.sign(np.diag(r))                 # makes the distribution uniform over orthogonal matrices
    matrix = q.T if rows < columns else q
    return tensor.copy_(tensor_of(gain * matrix.reshape(tensor.shape)))


def fans(tensor: Tensor) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight [out, in, *kernel]. Raises ValueError below 2 dims."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    out_features, in_features, *kernel = tensor.shape
    return in_features * math.prod(kernel), out_features * math.prod(kernel)


_calculate_fan_in_and_fan_out = fans        # private in PyTorch, and called by many programs all the same


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain**2 * 2 / (fan_in + fan_out). Glorot and Bengio, AISTATS 2010."""
    bound = math.sqrt(3.0) * gain * math.sqrt(2.0 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with variance gain**2 * 2 / (fan_in + fan_out). Glorot and Bengio, AISTATS 2010."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(fans(tensor))), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    return calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode))


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    """fan_in or fan_out, by its name. Raises ValueError for another."""
    mode = mode.lower()
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return fans(tensor)[mode == "fan_out"]


def kaiming_uniform_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                     generator: Generator | None = None) -> Tensor:
    """Uniform with variance gain**2 / fan. a: leaky_relu's slope. He et al., ICCV 2015.

    Raises ValueError for another mode than fan_in and fan_out."""
    if 0 in tensor.shape:
        return tensor
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
                    generator: Generator | None = None) -> Tensor:
    """Normal with variance gain**2 / fan. a: leaky_relu's slope. He et al., ICCV 2015."""
    if 0 in tensor.shape:
        return tensor
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def default_weights_(weight: Tensor, bias: Tensor | None) -> None:
    """How linear and convolution layers start: uniform within 1 / sqrt(fan_in), weight and bias alike."""
    kaiming_uniform_(weight, a=math.sqrt(5))
    if bias is not None:
        fan_in, _ = fans(weight)
        bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
        uniform_(bias, -bound, bound)


def _old_name(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    name = function.__name__

    def deprecated(*args: Any, **kwargs: Any) -> Tensor:
        warn("FB003", f"`nn.init.{name[:-1]}` is now deprecated in favor of `nn.init.{name}`.", stacklevel=2)
        return function(*args, **kwargs)

    deprecated.__name__, deprecated.__doc__ = name[:-1], f"An old name of {name}."
    return deprecated


constant, dirac, eye, orthogonal = map(_old_name, (constant_, dirac_, eye_, orthogonal_))
normal, sparse, uniform = map(_old_name, (normal_, sparse_, uniform_))
kaiming_normal, kaiming_uniform = map(_old_name, (kaiming_normal_, kaiming_uniform_))
xavier_normal, xavier_uniform = map(_old_name, (xavier_normal_, xavier_uniform_))

__all__ = [
    "_calculate_correct_fan", "_calculate_fan_in_and_fan_out", "calculate_gain", "constant", "constant_", "dirac",
    "dirac_", "eye", "eye_", "kaiming_normal", "kaiming_normal_", "kaiming_uniform", "kaiming_uniform_", "normal",
    "normal_", "ones_", "orthogonal", "orthogonal_", "sparse", "sparse_", "trunc_normal_", "uniform", "uniform_",
    "xavier_normal", "xavier_normal_", "xavier_uniform", "xavier_uniform_", "zeros_",
]
