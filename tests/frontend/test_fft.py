"""fb.fft: against PyTorch, eager and compiled, forward and backward; inverses; second derivatives; what is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import theirs
from test_complex import array_of, drawn, run

import flambeau as fb
from flambeau import nn, optim

SPECTROGRAMS: dict[str, dict[str, Any]] = {
    "usual": {}, "apart": {"hop_length": 3, "win_length": 6}, "bare": {"center": False, "normalized": True},
    "whole": {"onesided": False, "window": True}}


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_spectrograms_are_pytorchs(name: str) -> None:
    torch, options = theirs().module, SPECTROGRAMS[name]
    x, window = drawn((2, 40), 0).real, np.hanning(10)[1:-1].copy()

    def there_and_back(lib: Any, x: Any) -> list[Any]:
        given = options | ({"window": lib.tensor(window)} if "window" in options else {})
        spectrum = lib.stft(x, 8, return_complex=True, **given)
        return [spectrum, lib.istft(spectrum * 2, 8, length=30, **given), x.stft(8, return_complex=False, **given)]

    for is_compiled in (False, True):
        found, grads = run(fb, there_and_back, [x], is_compiled)
        expected, wanted = run(torch, there_and_back, [x])
        for a, b in zip([*found, *grads], [*expected, *wanted], strict=True):
            np.testing.assert_allclose(array_of(a), array_of(b), rtol=0, atol=1e-12)


# each takes z: [3, 4] complex and x: [3, 5] real
CASES: dict[str, Callable[..., Any]] = {
    "fft": lambda lib, z, x: [lib.fft.fft(z), lib.fft.fft(x, norm="ortho"), lib.fft.fft(z, 6, 0), lib.fft.fft(x, n=3)],
    "ifft": lambda lib, z, x: [lib.fft.ifft(z), lib.fft.ifft(x, norm="forward"), lib.fft.ifft(z, 2, dim=0, norm="ortho")],
    "rfft": lambda lib, z, x: [lib.fft.rfft(x), lib.fft.rfft(x, 4), lib.fft.rfft(x, 7, dim=0, norm="ortho")],
    "irfft": lambda lib, z, x: [lib.fft.irfft(z), lib.fft.irfft(z, 7), lib.fft.irfft(z, 4, 0, "forward"),
                                lib.fft.irfft(x, 3)],
    "hfft": lambda lib, z, x: [lib.fft.hfft(z), lib.fft.hfft(z, 7, norm="ortho"), lib.fft.ihfft(x), lib.fft.ihfft(x, 6, 0)],
    "two": lambda lib, z, x: [lib.fft.fft2(z), lib.fft.ifft2(x, s=(2, 6)), lib.fft.rfft2(x), lib.fft.irfft2(z, (4, 5)),
                              lib.fft.hfft2(z), lib.fft.ihfft2(x, norm="forward")],
    "several": lambda lib, z, x: [lib.fft.fftn(z), lib.fft.ifftn(z, (5,)), lib.fft.rfftn(x, dim=(1, 0)), lib.fft.irfftn(
        z, dim=(0, 1)), lib.fft.hfftn(z, (3, 4), norm="ortho"), lib.fft.ihfftn(x)],
    "shift": lambda lib, z, x: [lib.fft.fftshift(z), lib.fft.ifftshift(x, 1), lib.fft.ifftshift(lib.fft.fftshift(z))],
    "filter": lambda lib, z, x: [lib.fft.irfft(lib.fft.rfft(x) * lib.fft.fft(z, dim=0)[:, :3], n=5)],
    "frequencies": lambda lib, z, x: [lib.fft.fftfreq(5), lib.fft.fftfreq(4, 0.1), lib.fft.rfftfreq(5, d=2.0),
                                      lib.fft.rfftfreq(6, dtype=lib.float64)],
    "integers": lambda lib, z, x: [lib.fft.fft(lib.arange(4)), lib.fft.rfft(lib.tensor([True, False]))],
}


@pytest.mark.torch
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_pytorchs(name: str) -> None:
    function, torch = CASES[name], theirs().module
    for is_compiled, kind, real in ((False, np.complex64, np.float32), (True, np.complex128, np.float64)):
        arrays = [drawn((3, 4), 0, kind), drawn((3, 5), 1).real.astype(real)]
        found, grads = run(fb, function, arrays, is_compiled)
        expected, wanted = run(torch, function, arrays)
        for a, b in zip([*found, *grads], [*expected, *wanted], strict=True):
            if b is None or a is None:
                assert a is b
                continue
            assert a.dtype.torch_name == str(b.dtype).removeprefix("torch.") and tuple(a.shape) == tuple(b.shape)
            np.testing.assert_allclose(array_of(a), array_of(b), rtol=0, atol=1e-5 if real is np.float32 else 1e-13)


@pytest.mark.parametrize("options", [None, {}, {"backend": "interpret"}, {"verify": True}])
@pytest.mark.parametrize("n", [1, 2, 5, 8, 30])
def test_backward_undoes_forward(options: dict[str, Any] | None, n: int) -> None:
    x = fb.from_numpy(np.random.default_rng(n).standard_normal((2, n, 3)))

    def both(x: fb.Tensor) -> list[fb.Tensor]:
        return [fb.fft.ifft(fb.fft.fft(x, dim=1), dim=1).real, fb.fft.irfft(fb.fft.rfft(x, dim=1), n, 1),
                fb.fft.hfft(fb.fft.ihfft(x, dim=1), n, 1), fb.fft.ifftn(fb.fft.fftn(x, norm="ortho"), norm="ortho").real]

    for found in (both if options is None else fb.compile(both, **options))(x):
        np.testing.assert_allclose(found.numpy(), x.numpy(), rtol=0, atol=1e-14 * n)


def test_second_derivatives_agree_with_finite_differences() -> None:
    rng = np.random.default_rng(0)
    x, direction = rng.standard_normal((2, 6)), rng.standard_normal((2, 6))

    def slope(x: fb.Tensor) -> fb.Tensor:
        y = fb.fft.irfft(fb.fft.rfft(x.sin()) * fb.fft.rfft(x * x, norm="ortho"), 6)
        return fb.autograd.grad((y**3).sum() + fb.fft.fft(x).abs().sum(), [x], create_graph=True)[0]

    for decorated in (slope, fb.compile(slope)):
        t = fb.tensor(x, requires_grad=True)
        (found,) = fb.autograd.grad((decorated(t) * fb.tensor(direction)).sum(), [t])
        high, low = (slope(fb.tensor(x + s * direction, requires_grad=True)).detach().numpy() for s in (1e-5, -1e-5))
        np.testing.assert_allclose(found.numpy(), (high - low) / 2e-5, rtol=1e-5, atol=1e-4)


class SpectralFilter(nn.Module):
    """A layer that multiplies the lowest frequencies by weights, as Fourier neural operators have them."""

    def __init__(self, channels: int, modes: int):
        super().__init__()
        self.modes = modes
        self.weights = nn.Parameter(fb.randn(channels, channels, modes, dtype=fb.cfloat) / channels)

    def forward(self, x: fb.Tensor) -> fb.Tensor:
        spectrum = fb.fft.rfft(x)
        kept = fb.einsum("bim,iom->bom", spectrum[..., :self.modes], self.weights)
        filtered = fb.zeros(x.shape[0], kept.shape[1], spectrum.shape[-1], dtype=fb.cfloat)
        filtered[:, :, :self.modes] = kept
        return fb.fft.irfft(filtered, n=x.shape[-1])


def test_spectral_filter_trains_alike_eager_and_compiled() -> None:
    losses = []
    for is_compiled in (False, True):
        fb.manual_seed(0)
        model = SpectralFilter(3, 4)
        opt, x = optim.Adam(model.parameters(), lr=0.02), fb.randn(2, 3, 12)

        def step(x: fb.Tensor, model: nn.Module = model, opt: Any = opt) -> fb.Tensor:
            opt.zero_grad()
            loss = ((model(x) - x) ** 2).mean()
            loss.backward()
            opt.step()
            return loss

        decorated = fb.compile(step) if is_compiled else step
        losses.append([decorated(x).item() for _ in range(8)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert losses[0][-1] < losses[0][0] and isinstance(model.weights, nn.Parameter) and model.weights.is_complex()
    twin = SpectralFilter(3, 4)
    twin.load_state_dict(model.state_dict())
    assert fb.equal(twin.weights.detach(), model.weights.detach()) and len(list(twin.parameters())) == 1


MISUSES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: fb.fft.fft(fb.ones(3), norm="both"), RuntimeError, r"fft\.fft: norm must be None, 'backward'"),
    (lambda: fb.fft.fft(fb.ones(3), n=0), RuntimeError, r"fft\.fft: invalid number of data points \(0\)"),
    (lambda: fb.fft.irfft(fb.ones(1)), RuntimeError, r"fft\.irfft: invalid number of data points \(0\)"),
    (lambda: fb.fft.rfft(fb.ones(3, dtype=fb.cfloat)), RuntimeError, r"fft\.rfft: takes real numbers, got .*complex64"),
    (lambda: fb.fft.ifft(fb.ones(3) * 1j, norm="both"), RuntimeError, r"fft\.ifft: norm must be None, 'backward'"),
    (lambda: fb.fft.fft(fb.ones(3).half()), RuntimeError, r"fft\.fft: takes float32, float64 and complex"),
    (lambda: fb.fft.fft2(fb.ones(3)), IndexError, r"fft\.fft2: dim -2 is out of range"),
    (lambda: fb.fft.fftn(fb.ones(3), s=(2, 2)), RuntimeError, r"fft\.fftn: s has 2 sizes, the input 1 dims"),
    (lambda: fb.fft.fftn(fb.ones(3, 3), dim=(0, 0)), RuntimeError, "a dim appears more than once"),
]


@pytest.mark.parametrize("number", range(len(MISUSES)))
def test_what_does_not_fit_is_an_error(number: int) -> None:
    misuse, kind, message = MISUSES[number]
    for attempt in (misuse, fb.compile(misuse)):
        with pytest.raises(kind, match=message):
            attempt()
