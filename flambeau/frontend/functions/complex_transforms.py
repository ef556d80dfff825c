"""Discrete Fourier transforms under the names of `fb.fft`. Each is one of three ops on pairs of the last dim, among views:
numbers are cut or filled up with zeros to `n` first, and scaled by `norm` afterwards.

norm: "backward", the usual one: forward transforms are sums and backward ones means; "forward" the other way round; "ortho"
scales both by the root."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from flambeau.errors import TypeInferenceError
from flambeau.frontend.functions import creation, joining, views
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import Dims, cast, one_tensor, user_line, wrap_dim
from flambeau.frontend.functions.complex_parts import conj, joined
from flambeau.frontend.functions.elementwise import mul
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.promotion import get_default_dtype
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dims import as_size

# -- along one dim ----------------------------------------------------------------------------------------------------


def fft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Numbers, real or complex, -> complex numbers: their transform along `dim`."""
    return _complex("fft.fft", input, [_dim(input, dim, "fft.fft")], [n], norm, inverse=False)


def ifft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The backward transform: `fft`'s inverse."""
    return _complex("fft.ifft", input, [_dim(input, dim, "fft.ifft")], [n], norm, inverse=True)


def rfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """Of real numbers the first n // 2 + 1 of the transform; the others are conjugates of them."""
    return _from_real("fft.rfft", input, [_dim(input, dim, "fft.rfft")], [n], norm)


def irfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """`rfft`'s inverse: n real numbers, 2 * (m - 1) by default, from the first n // 2 + 1 of a transform."""
    return _to_real("fft.irfft", input, [_dim(input, dim, "fft.irfft")], [n], norm)


def hfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """The real transform of n numbers, 2 * (m - 1) by default, of which the first n // 2 + 1 are given: the others are
    conjugates of them."""
    return _hermitian("fft.hfft", input, [_dim(input, dim, "fft.hfft")], [n], norm)


def ihfft(input: Tensor, n: int | None = None, dim: int = -1, norm: str | None = None) -> Tensor:
    """`hfft`'s inverse: the first n // 2 + 1 numbers of the backward transform of real ones."""
    return _to_hermitian("fft.ihfft", input, [_dim(input, dim, "fft.ihfft")], [n], norm)


# -- along several dims -----------------------------------------------------------------------------------------------


def fft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`fft` along two dims."""
    return _complex("fft.fft2", input, *_dims(input, s, dim, "fft.fft2"), norm, inverse=False)


def ifft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`ifft` along two dims."""
    return _complex("fft.ifft2", input, *_dims(input, s, dim, "fft.ifft2"), norm, inverse=True)


def rfft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`rfft` along the last of two dims, `fft` along the other."""
    return _from_real("fft.rfft2", input, *_dims(input, s, dim, "fft.rfft2"), norm)


def irfft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`rfft2`'s inverse."""
    return _to_real("fft.irfft2", input, *_dims(input, s, dim, "fft.irfft2"), norm)


def hfft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`hfft` along the last of two dims, `fft` along the other."""
    return _hermitian("fft.hfft2", input, *_dims(input, s, dim, "fft.hfft2"), norm)


def ihfft2(input: Tensor, s: Sequence[int] | None = None, dim: Sequence[int] = (-2, -1), norm: str | None = None) -> Tensor:
    """`hfft2`'s inverse."""
    return _to_hermitian("fft.ihfft2", input, *_dims(input, s, dim, "fft.ihfft2"), norm)


def fftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`fft` along several dims: all by default, or the last as many as `s` has sizes."""
    return _complex("fft.fftn", input, *_dims(input, s, dim, "fft.fftn"), norm, inverse=False)


def ifftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`ifft` along several dims."""
    return _complex("fft.ifftn", input, *_dims(input, s, dim, "fft.ifftn"), norm, inverse=True)


def rfftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`rfft` along the last of several dims, `fft` along the others."""
    return _from_real("fft.rfftn", input, *_dims(input, s, dim, "fft.rfftn"), norm)


def irfftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`rfftn`'s inverse."""
    return _to_real("fft.irfftn", input, *_dims(input, s, dim, "fft.irfftn"), norm)


def hfftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`hfft` along the last of several dims, `fft` along the others."""
    return _hermitian("fft.hfftn", input, *_dims(input, s, dim, "fft.hfftn"), norm)


def ihfftn(input: Tensor, s: Sequence[int] | None = None, dim: Dims = None, norm: str | None = None) -> Tensor:
    """`hfftn`'s inverse."""
    return _to_hermitian("fft.ihfftn", input, *_dims(input, s, dim, "fft.ihfftn"), norm)


# -- beside them ------------------------------------------------------------------------------------------------------


def fftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of what `fft` gives, in cycles per unit of d: 0, 1, ..., then the negative ones, over n * d."""
    return _frequencies([*range((n + 1) // 2), *range(-(n // 2), 0)], n, d, dtype, device, requires_grad)


def rfftfreq(n: int, d: float = 1.0, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """The frequencies of what `rfft` gives: 0, 1, ..., n // 2 over n * d."""
    return _frequencies(list(range(n // 2 + 1)), n, d, dtype, device, requires_grad)


def _frequencies(counts: list[int], n: int, d: float, dtype: Any, device: Any, requires_grad: bool) -> Tensor:
    made = mul(creation.tensor(counts, dtype=dtype or get_default_dtype(), device=device), 1.0 / (n * d))
    return made.requires_grad_() if requires_grad else made


def fftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """Frequency 0 in the middle of each dim (all by default)."""
    return _rolled(input, dim, lambda size: size // 2)


def ifftshift(input: Tensor, dim: Dims = None) -> Tensor:
    """`fftshift`'s inverse."""
    return _rolled(input, dim, lambda size: (size + 1) // 2)


def _rolled(input: Tensor, dim: Dims, by: Any) -> Tensor:
    named = range(input.ndim) if dim is None else dim if isinstance(dim, (tuple, list)) else (dim,)
    dims = tuple([wrap_dim(d, input.ndim, "fft.fftshift") for d in named])
    return joining.roll(input, tuple([by(input.shape[d]) for d in dims]), dims) if dims else views.clone(input)


# -- operands ---------------------------------------------------------------------------------------------------------


def _dim(input: Tensor, dim: int, name: str) -> int:
    return wrap_dim(dim, one_tensor(name, input).ndim, name)


def _dims(input: Tensor, s: Any, dim: Any, name: str) -> tuple[list[int], list[int | None]]:
    """The dims to transform and their sizes; None as it is."""
    rank = one_tensor(name, input).ndim
    if dim is None:
        count = rank if s is None else len(s)
        if count > rank:
            raise RuntimeError(f"{name}: s has {count} sizes, the input {rank} dims")
        dims = list(range(rank - count, rank))
    else:
        dims = [wrap_dim(d, rank, name) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))]
    if len(set(dims)) != len(dims):
        raise RuntimeError(f"{name}: a dim appears more than once in {tuple(dim)}")
    given = [-1] * len(dims) if s is None else list(s) if isinstance(s, (tuple, list)) else [s]
    sizes = [None if size == -1 else size for size in given]
    if len(sizes) != len(dims):
        raise RuntimeError(f"{name}: s has {len(sizes)} sizes for {len(dims)} dims")
    return dims, sizes


def _numbers(name: str, input: Tensor) -> Tensor:
    """In float32, float64 or complex. Raises TypeInferenceError for 16-bit floats."""
    x = one_tensor(name, input)
    if isinstance(x, ComplexTensor):
        return x
    if x._type.dtype.is_floating_point and x._type.dtype.itemsize == 2:
        raise TypeInferenceError(f"{name}: takes float32, float64 and complex numbers, got {x._type}", where=user_line())
    return x if x._type.dtype.is_floating_point else cast(x, get_default_dtype())


def _real_numbers(name: str, input: Tensor) -> Tensor:
    x = _numbers(name, input)
    if isinstance(x, ComplexTensor):
        raise RuntimeError(f"{name}: takes real numbers, got {x.dtype!r}")
    return x


def _pair(x: Tensor) -> Tensor:
    return x._pair if isinstance(x, ComplexTensor) else joined(x, creation.zeros_like(x))._pair


def _sized(name: str, x: Tensor, dim: int, size: int | None) -> Tensor:
    """A real tensor cut or filled up with zeros to that size."""
    now = x._type.static_shape[dim]
    size = now if size is None else as_size(size)
    if size < 1:
        raise RuntimeError(f"{name}: invalid number of data points ({size}) specified")
    if size < now:
        return views.narrow(x, dim, 0, size)
    return x if size == now else pad(x, (*[0] * (2 * (x.ndim - 1 - dim)), 0, size - now))


def _scaled(name: str, x: Tensor, norm: str | None, count: int, is_forward: bool) -> Tensor:
    """Of a transform of that many numbers."""
    if norm not in (None, "backward", "forward", "ortho"):
        raise RuntimeError(f"{name}: norm must be None, 'backward', 'forward' or 'ortho', got {norm!r}")
    if norm == "ortho":
        return mul(x, 1.0 / math.sqrt(count))
    return mul(x, 1.0 / count) if (norm == "forward") is is_forward else x


# -- transforms -------------------------------------------------------------------------------------------------------


def _moved(x: Tensor, dim: int, place: int) -> Tensor:
    return views.movedim(x, dim, place) if dim != place % x.ndim else x


def _turned(pair: Tensor, dims: Sequence[int], inverse: bool) -> Tensor:
    """The transform of a pair along dims."""
    for dim in dims:
        pair = _moved(dispatch(ops.Fft(inverse), _moved(pair, dim, -2)), pair.ndim - 2, dim)
    return pair


def _complex(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None,
             inverse: bool) -> Tensor:
    pair = _pair(_numbers(name, input))
    for dim, size in zip(dims, sizes, strict=True):
        pair = _sized(name, pair, dim, size)
    count = math.prod([pair._type.static_shape[d] for d in dims])
    return ComplexTensor.of(_scaled(name, _turned(pair, dims, inverse), norm, count, not inverse))


def _halved(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None]) -> tuple[Tensor, int]:
    """(the first half of the transform along the last dim, as a pair; how many numbers are transformed along all)."""
    x = _real_numbers(name, input)
    if not dims:
        raise RuntimeError(f"{name}: must transform at least one axis")
    for dim, size in zip(dims, sizes, strict=True):
        x = _sized(name, x, dim, size)
    count = math.prod([x._type.static_shape[d] for d in dims])
    half = dispatch(ops.Rfft(), _moved(x, dims[-1], -1))
    return _moved(half, half.ndim - 2, dims[-1]), count


def _whole(name: str, pair: Tensor, dims: list[int], last: int | None) -> Tensor:
    """Real numbers, `last` of them along the last dim, by the first half of a transform."""
    size = 2 * (pair._type.static_shape[dims[-1]] - 1) if last is None else as_size(last)
    if size < 1:
        raise RuntimeError(f"{name}: invalid number of data points ({size}) specified")
    pair = _sized(name, pair, dims[-1], size // 2 + 1)
    found = dispatch(ops.Irfft(bool(size % 2)), _moved(pair, dims[-1], -2))
    return _moved(found, found.ndim - 1, dims[-1])


def _from_real(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None) -> Tensor:
    pair, count = _halved(name, input, dims, sizes)
    return ComplexTensor.of(_scaled(name, _turned(pair, dims[:-1], inverse=False), norm, count, is_forward=True))


def _to_hermitian(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None) -> Tensor:
    pair, count = _halved(name, input, dims, sizes)
    half = conj(ComplexTensor.of(pair))
    assert isinstance(half, ComplexTensor), "conjugates are complex"
    return ComplexTensor.of(_scaled(name, _turned(half._pair, dims[:-1], inverse=True), norm, count, is_forward=False))


def _to_real(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None) -> Tensor:
    return _realized(name, _pair(_numbers(name, input)), dims, sizes, norm, is_forward=False)


def _hermitian(name: str, input: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None) -> Tensor:
    return _realized(name, _pair(_numbers(name, input)), dims, sizes, norm, is_forward=True)


def _realized(name: str, pair: Tensor, dims: list[int], sizes: Sequence[int | None], norm: str | None,
              is_forward: bool) -> Tensor:
    """The transform along all but the last dim, then to real numbers along that; forward by way of conjugates."""
    if not dims:
        raise RuntimeError(f"{name}: must transform at least one axis")
    for dim, size in zip(dims[:-1], sizes[:-1], strict=True):
        pair = _sized(name, pair, dim, size)
    pair = _turned(pair, dims[:-1], not is_forward)
    if is_forward:
        conjugate = conj(ComplexTensor.of(pair))
        assert isinstance(conjugate, ComplexTensor), "conjugates are complex"
        pair = conjugate._pair
    found = _whole(name, pair, dims, sizes[-1])
    count = math.prod([found._type.static_shape[d] for d in dims])
    return _scaled(name, found, norm, count, is_forward)


__all__ = ["fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn", "ifftshift",
           "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn"]
public(globals(), __all__)
