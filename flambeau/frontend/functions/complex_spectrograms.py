"""Short-time Fourier transforms: of windows of a signal, and back."""
from __future__ import annotations

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.functions import creation, views
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import cast, one_tensor, reshaped, user_line
from flambeau.frontend.functions.complex_parts import split, view_as_real
from flambeau.frontend.functions.complex_table import joined
from flambeau.frontend.functions.complex_transforms import fft, ifft, irfft, rfft
from flambeau.frontend.functions.complex_views import permute
from flambeau.frontend.functions.complex_views import unsqueeze as unsqueezed
from flambeau.frontend.functions.elementwise import div, mul
from flambeau.frontend.functions.padding import pad
from flambeau.frontend.functions.windows import fold, windows_along
from flambeau.frontend.tensor.complex_tensor import ComplexTensor
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.dtypes import DType


def stft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
         window: Tensor | None = None, center: bool = True, pad_mode: str = "reflect", normalized: bool = False,
         onesided: bool | None = None, return_complex: bool | None = None, align_to_window: bool | None = None) -> Tensor:
    """The transforms of windows of a signal [L] or [B, L], n_fft long and hop_length (n_fft // 4) apart: complex
    [..., F, T], F = n_fft // 2 + 1 if onesided (as it is for real signals), else n_fft; [..., F, T, 2] where not
    return_complex.

    window: what each is multiplied by, [win_length], with zeros on both sides up to n_fft; ones by default. center: the
    signal is padded by n_fft // 2 on both sides, as pad_mode says, so that window t is around element t * hop_length.
    normalized: divided by the root of n_fft."""
    x = one_tensor("stft", input)
    is_complex = isinstance(x, ComplexTensor)
    hop, length = _sizes("stft", n_fft, hop_length, win_length)
    if return_complex is None and not is_complex:
        raise RuntimeError("stft: return_complex must be given for real signals: True gives complex numbers")
    if x.ndim not in (1, 2):
        raise ShapeError(f"stft: takes a signal [L] or signals [B, L], got {tuple(x.shape)}", where=user_line())
    parts = [part for part in split(x) if part is not None]
    weights = _window("stft", window, n_fft, length, parts[0].dtype)
    frames = [mul(_frames(part, n_fft, hop, center, pad_mode), weights) for part in parts]
    onesided = not is_complex if onesided is None else onesided
    if onesided and is_complex:
        raise RuntimeError("stft: onesided=True is for real signals")
    norm = "ortho" if normalized else None
    found = rfft(frames[0], norm=norm) if onesided else fft(joined(*frames) if is_complex else frames[0], norm=norm)
    found = permute(found, (*range(x.ndim - 1), x.ndim, x.ndim - 1))
    return found if return_complex is None or return_complex else view_as_real(found)


def istft(input: Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,
          window: Tensor | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
          length: int | None = None, return_complex: bool = False) -> Tensor:
    """`stft`'s inverse: the signal [L] or [B, L] whose windows' transforms are nearest to [..., F, T]. D. Griffin, J. Lim,
    "Signal estimation from modified short-time Fourier transform", 1984. length: how much of it.

    Raises RuntimeError where windows leave a gap."""
    z = one_tensor("istft", input)
    hop, width = _sizes("istft", n_fft, hop_length, win_length)
    if not isinstance(z, ComplexTensor) or z.ndim not in (2, 3):
        raise RuntimeError(f"istft: takes complex [F, T] or [B, F, T], got {z.dtype!r} {tuple(z.shape)}")
    onesided = (z.shape[-2] != n_fft and not return_complex) if onesided is None else onesided
    if z.shape[-2] != (n_fft // 2 + 1 if onesided else n_fft):
        raise ShapeError(f"istft: {z.shape[-2]} frequencies are not those of n_fft={n_fft}", where=user_line())
    if onesided and return_complex:
        raise RuntimeError("istft: complex signals have no onesided transform")
    batch = z if z.ndim == 3 else unsqueezed(z, 0)
    norm = "ortho" if normalized else None
    turned = permute(batch, (0, 2, 1))
    frames = ifft(turned, n_fft, norm=norm) if return_complex else irfft(turned, n_fft, norm=norm)     # of the first half
    parts = list(split(frames)) if return_complex else [split(frames)[0]]
    weights = _window("istft", window, n_fft, width, parts[0].dtype)
    count = z.shape[-1]
    envelope = _added(views.expand(reshaped(mul(weights, weights), (1, 1, n_fft)), (1, count, n_fft)), hop)
    first = n_fft // 2 if center else 0
    last = envelope._type.static_shape[-1] - first if length is None else first + length
    whole = [_cut(_added(mul(part, weights), hop), first, last) for part in parts]
    envelope = _cut(envelope, first, last)
    if active.tracer is None and envelope.numel() and bool((envelope._data()[..., :count * hop + n_fft - hop - first]
                                                          < 1e-11).any()):
        raise RuntimeError("istft: windows leave a gap where their squares add up to 0")
    found = [div(part, envelope) for part in whole]
    found = [part if z.ndim == 3 else reshaped(part, part._type.static_shape[1:]) for part in found]
    return joined(*found) if return_complex else found[0]


def _sizes(name: str, n_fft: int, hop: int | None, length: int | None) -> tuple[int, int]:
    hop, length = n_fft // 4 if hop is None else hop, n_fft if length is None else length
    if n_fft < 1 or hop < 1 or not 0 < length <= n_fft:
        raise RuntimeError(f"{name}: takes n_fft > 0, hop_length > 0 and 0 < win_length <= n_fft, got {n_fft}, {hop}, "
                           f"{length}")
    return hop, length


def _window(name: str, window: Tensor | None, n_fft: int, length: int, dtype: DType) -> Tensor:
    """[n_fft]: the window in the middle of zeros."""
    if window is None:
        made = creation.ones(length, dtype=dtype, device="cpu")
    else:
        made = cast(one_tensor(name, window), dtype)
        if made._type.static_shape != (length,):
            raise ShapeError(f"{name}: the window must be [{length}], got {made._type}", where=user_line())
    left = (n_fft - length) // 2
    return made if length == n_fft else pad(made, (left, n_fft - length - left))


def _frames(x: Tensor, n_fft: int, hop: int, center: bool, mode: str) -> Tensor:
    """[..., T, n_fft]."""
    if center:
        around = n_fft // 2
        wide = reshaped(x, (*[1] * (3 - x.ndim), *x._type.static_shape))
        wide = pad(wide, (around, around), mode)
        x = reshaped(wide, (*x._type.static_shape[:-1], wide._type.static_shape[-1]))
    if x._type.static_shape[-1] < n_fft:
        raise ShapeError(f"stft: a signal of {x._type.static_shape[-1]} elements is shorter than n_fft={n_fft}",
                         where=user_line())
    return windows_along(x, -1, n_fft, hop)


def _added(frames: Tensor, hop: int) -> Tensor:
    """[B, T, n] -> [B, (T - 1) * hop + n]: each added where it was taken from."""
    batch, count, n = frames._type.static_shape
    length = (count - 1) * hop + n
    found = fold(views.transpose(frames, 1, 2), (1, length), (1, n), stride=(1, hop))
    return reshaped(found, (batch, length))


def _cut(x: Tensor, first: int, last: int) -> Tensor:
    """Elements first to last, zeros beyond the end."""
    now = x._type.static_shape[-1]
    found = views.narrow(x, -1, first, max(0, min(last, now) - first))
    return found if last <= now else pad(found, (0, last - now))


__all__ = ["istft", "stft"]
public(globals(), __all__)
