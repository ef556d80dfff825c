"""Pooling, resampling, sampling by grids, folding and shuffling, against PyTorch: eager, compiled and differentiated."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import as_ours, as_theirs, check, drawn, ours, theirs, to_numpy

import flambeau as fb
import flambeau.nn.functional as F

pytestmark = pytest.mark.torch
Case = tuple[Callable[..., Any], tuple[str, ...]]

GRID = np.random.default_rng(3).uniform(-1.4, 1.4, (2, 3, 4, 2))
ROOM = np.random.default_rng(4).uniform(-1.4, 1.4, (2, 2, 3, 2, 3))
SAMPLES = np.random.default_rng(5).random((2, 3, 3))


def pooled_and_back(lib: Any, x: Any, dims: int, kernel: int, stride: int, padding: int) -> Any:
    """Windows that overlap find the same element more than once: all its values get its gradient."""
    pool, unpool = (getattr(lib.F, f"max_{name}{dims}d") for name in ("pool", "unpool"))
    y, indices = pool(x, kernel, stride, padding, return_indices=True)
    return unpool(y * 1.5, indices, kernel, stride, padding, output_size=x.shape[-dims:])


def sampled(mode: str, padding: str, aligned: bool, room: bool = False) -> Case:
    spec = "f64[2,2,3,4,3]" if room else "f64[2,3,5,4]"
    places = ROOM if room else GRID

    def run(lib: Any, x: Any, g: Any) -> Any:
        return lib.F.grid_sample(x, g * 0.5 + lib.tensor(places), mode, padding, aligned)

    return run, (spec, f"f64[{','.join(map(str, places.shape))}]")


CASES: dict[str, Case] = {
    "max 3d": (lambda lib, x: [*lib.F.max_pool3d(x, 3, 2, 1, return_indices=True)], ("f32[2,3,6,5,7]",)),
    "max 3d ceil": (lambda lib, x: lib.F.max_pool3d(x, (2, 3, 2), None, 1, (2, 1, 1), True), ("f32[3,6,5,7]",)),
    "max 1d": (lambda lib, x: [*lib.max_pool1d_with_indices(x, 3, 2, 1, 2)], ("f32[2,3,9]",)),
    "avg 3d": (lambda lib, x: lib.F.avg_pool3d(x, 3, 2, 1, True, False), ("f32[2,3,6,5,7]",)),
    "avg 3d by": (lambda lib, x: lib.F.avg_pool3d(x, (2, 3, 3), 1, (1, 0, 1), divisor_override=5), ("f32[3,6,5,7]",)),
    "avg 3d ints": (lambda lib, x: lib.F.avg_pool3d(x * 7 - 9, 3, 2, 1), ("i64[2,3,6,5,7]",)),
    "lp": (lambda lib, x: [lib.F.lp_pool1d(x[0, 0], 2, 3), lib.F.lp_pool2d(x[0], 3, 2, 1, True),
                           lib.F.lp_pool3d(x, 1.5, 2)], ("f64[1,2,4,5,5]",)),
    "adaptive avg": (lambda lib, x: [lib.F.adaptive_avg_pool3d(x, (3, None, 2)), lib.F.adaptive_avg_pool2d(x[0], (3, 2)),
                                     lib.adaptive_avg_pool1d(x[0, 0], 4)], ("f32[2,3,4,5,6]",)),
    "adaptive max": (lambda lib, x: [*lib.F.adaptive_max_pool3d(x, (3, None, 4), True),
                                     *lib.F.adaptive_max_pool2d(x[0], (3, 4), True),
                                     *lib.F.adaptive_max_pool1d(x[0, 0], 4, True)], ("f32[2,3,4,5,6]",)),
    "fractional": (lambda lib, x: [*lib.F.fractional_max_pool3d_with_indices(
        x, 2, (3, 2, 4), _random_samples=lib.tensor(SAMPLES))], ("f64[2,3,5,4,7]",)),
    "fractional by": (lambda lib, x: [*lib.F.fractional_max_pool2d(
        x, (2, 3), output_ratio=(0.5, 0.6), return_indices=True, _random_samples=lib.tensor(SAMPLES[..., :2]))],
        ("f64[2,3,9,8]",)),
    "unpool 1d": (lambda lib, x: pooled_and_back(lib, x, 1, 2, 2, 0), ("f32[2,3,9]",)),
    "unpool overlapping": (lambda lib, x: pooled_and_back(lib, x, 2, 3, 1, 1), ("f32[2,5,6]",)),
    "unpool 3d": (lambda lib, x: pooled_and_back(lib, x, 3, 3, 2, 1), ("f32[1,2,4,5,6]",)),
    "nearest": (lambda lib, x: [lib.F.interpolate(x, scale_factor=f, mode=m) for f in (2, 0.5, 1.7, (1, 2.3))
                                for m in ("nearest", "nearest-exact")], ("f32[2,3,6,5]",)),
    "nearest ints": (lambda lib, x: lib.F.interpolate(x, size=(4, 7)), ("u8[1,2,3,5]",)),
    "linear": (lambda lib, x: [lib.F.interpolate(x, size=7, mode="linear", align_corners=a) for a in (True, False)],
               ("f32[2,3,5]",)),
    "bilinear": (lambda lib, x: [lib.F.interpolate(x, size=(7, 3), mode="bilinear", align_corners=True),
                                 lib.F.interpolate(x, scale_factor=(1.7, 2), mode="bilinear"),
                                 lib.F.interpolate(x, scale_factor=1.7, mode="bilinear", recompute_scale_factor=True)],
                 ("f32[2,3,5,4]",)),
    "bicubic": (lambda lib, x: [lib.F.interpolate(x, size=(7, 3), mode="bicubic", align_corners=a)
                                for a in (True, False)], ("f32[2,3,5,4]",)),
    "trilinear": (lambda lib, x: lib.F.interpolate(x, scale_factor=(2, 1.5, 1), mode="trilinear"), ("f32[2,2,3,4,2]",)),
    "area": (lambda lib, x: [lib.F.interpolate(x, scale_factor=0.7, mode="area"),
                             lib.F.interpolate(x, size=(9, 2), mode="area")], ("f32[2,3,7,4]",)),
    "antialias": (lambda lib, x: [lib.F.interpolate(x, size=s, mode=m, antialias=True)
                                  for s in ((3, 4), (11, 2)) for m in ("bilinear", "bicubic")], ("f32[2,3,8,9]",)),
    "affine": (lambda lib, x: [lib.F.affine_grid(x, (2, 1, 3, 4), a) for a in (True, False)], ("f32[2,2,3]",)),
    "affine 3d": (lambda lib, x: lib.F.affine_grid(x, (2, 1, 3, 1, 4), False), ("f32[2,3,4]",)),
    **{f"grid {m} {p} {a}": sampled(m, p, a) for m in ("bilinear", "nearest", "bicubic")
       for p, a in (("zeros", False), ("border", True), ("reflection", False), ("reflection", True))},
    "grid 3d": sampled("bilinear", "zeros", True, room=True),
    "grid 3d nearest": sampled("nearest", "reflection", False, room=True),
    "unfold": (lambda lib, x: [lib.F.unfold(x, (2, 3), (1, 2), (1, 0), (2, 1)), lib.F.unfold(x[0], 2)],
               ("f32[2,3,6,7]",)),
    "fold": (lambda lib, x: [lib.F.fold(y, (4, 5), (2, 3), padding=(0, 1)) for y in (x, x[0])],
             ("f32[2,12,15]",)),
    "fold far": (lambda lib, x: lib.F.fold(x, (20, 1), (18, 1), stride=(1, 1)), ("f32[1,36,3]",)),
    "fold dilated": (lambda lib, x: lib.F.fold(x, (6, 7), 3, 2, 1, (1, 3)), ("bf16[2,9,8]",)),
    "windows": (lambda lib, x: [x.unfold(1, 3, 2) * 2, x.unfold(-1, 2, 3).sum(1), x[0].T.unfold(0, 2, 1) + 1,
                                x.unfold(0, 0, 1)], ("f32[2,7,5]",)),
    "windows of one": (lambda lib, x: [x.unfold(0, 1, 1) * 2, x.unfold(0, 0, 2)], ("f32[]",)),
    "strided": (lambda lib, x: [x.as_strided((2, 3, 2), (1, 4, 3), 2) * 2, lib.as_strided(x, (4, 2), (0, 5)) + 1,
                                x.as_strided((), ()) * 1], ("f32[4,5]",)),
    "shuffles": (lambda lib, x: [lib.channel_shuffle(x, 2), lib.pixel_shuffle(x, 2), lib.pixel_unshuffle(x, 3)],
                 ("f32[2,8,3,6]",)),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_agree(name: str) -> None:
    function, specs = CASES[name]
    check(function, *specs, tolerance=32)


def test_values_agree_where_pytorch_has_no_gradients_or_others() -> None:
    check(lambda lib, x: lib.native_channel_shuffle(x, 4), "f32[2,8,3]", gradients=False)
    check(lambda lib, x: lib.F.interpolate(x, scale_factor=2.3), "f64[1,1,60]", gradients=False)


def test_bytes_are_interpolated_bit_for_bit() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 3, 9, 8)).astype(np.uint8)
    for mode, antialias in itertools.product(("bilinear", "bicubic"), (False, True)):
        def resized(lib: Any, x: Any, mode: str = mode, antialias: bool = antialias) -> Any:
            return [lib.F.interpolate(x, size, mode=mode, antialias=antialias) for size in ((7, 17), (20, 3), (9, 4))]

        found = resized(ours, fb.tensor(image)), fb.compile(resized)(ours, fb.tensor(image))
        for a, b, c in zip(*found, resized(theirs(), theirs().tensor(image)), strict=True):
            np.testing.assert_array_equal(a.numpy(), c.numpy())
            np.testing.assert_array_equal(b.numpy(), c.numpy())


def _squared(function: Callable[..., Any]) -> Callable[..., list[Any]]:
    """What a function gives, and the gradients of the sum of its squares."""
    def run(lib: Any, *tensors: Any) -> list[Any]:
        found = function(lib, *tensors)
        results = list(found) if isinstance(found, (list, tuple)) else [found]
        floating = [y for y in results if y.requires_grad]
        if not floating:
            return results
        loss = sum([(y * y).sum() for y in floating[1:]], start=(floating[0] * floating[0]).sum())
        return results + list(lib.autograd.grad(loss, tensors, allow_unused=True))

    return run


COMPILED = ("max 3d", "avg 3d", "adaptive max", "fractional", "unpool overlapping", "nearest", "bilinear", "antialias",
            "affine", "grid bilinear zeros False", "grid bicubic reflection False", "grid 3d", "unfold", "fold", "fold far",
            "windows", "strided")


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_functions_agree(name: str) -> None:
    function, specs = CASES[name]
    arrays = [drawn(spec, i) for i, spec in enumerate(specs)]
    run = _squared(function)
    found = fb.compile(lambda *tensors: run(ours, *tensors))(*map(as_ours, arrays, specs))
    expected = run(theirs(), *map(as_theirs, arrays, specs))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype.torch_name == str(b.dtype).removeprefix("torch.")
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bilinear", "adaptive max", "unpool overlapping", "grid bilinear border True",
                                  "grid bicubic zeros False", "fold"])
def test_second_derivatives_agree(name: str) -> None:
    function, specs = CASES[name]
    arrays = [drawn(spec, i) for i, spec in enumerate(specs)]

    def run(lib: Any, tensors: list[Any]) -> list[Any]:
        found = function(lib, *tensors)
        y = found[0] if isinstance(found, (list, tuple)) else found
        first = lib.autograd.grad((y**3).sum(), tensors, create_graph=True)
        return list(lib.autograd.grad(sum([(g * g).sum() for g in first], start=0.0), tensors))

    specs = tuple([spec.replace("f32", "f64") for spec in specs])
    for a, b in zip(run(ours, [*map(as_ours, arrays, specs)]), _by_hand(run, name, arrays, specs), strict=True):
        np.testing.assert_allclose(to_numpy(a), to_numpy(b), rtol=1e-7, atol=1e-7)


def _by_hand(run: Callable[..., Any], name: str, arrays: list[np.ndarray], specs: tuple[str, ...]) -> list[Any]:
    """PyTorch's second derivatives; where it has none, those of a compiled function here."""
    if name.startswith("grid"):
        return fb.compile(lambda *tensors: run(ours, list(tensors)))(*map(as_ours, arrays, specs))
    return run(theirs(), [*map(as_theirs, arrays, specs)])


# -- views ------------------------------------------------------------------------------------------------------------


def test_windows_are_views() -> None:
    x = fb.arange(7.0)
    pairs = x.unfold(0, 2, 2)
    x.add_(1)
    assert pairs.tolist() == [[1, 2], [3, 4], [5, 6]] and pairs.stride() == (2, 1)
    pairs.mul_(10)
    assert x.tolist() == [10, 20, 30, 40, 50, 60, 7]
    with pytest.raises(RuntimeError, match="share memory"):
        x.unfold(0, 3, 1).zero_()

    @fb.compile
    def written(x: fb.Tensor) -> fb.Tensor:
        y = x * 1
        y.unfold(0, 2, 3)[:, 0] = 0
        y.as_strided((2, 2), (1, 3), 1).neg_()
        return y

    assert written(fb.arange(6.0)).tolist() == [0, -1, -2, 0, -4, -5]


# -- errors -----------------------------------------------------------------------------------------------------------

BAD: list[tuple[Callable[..., Any], type[Exception]]] = [
    (lambda lib: lib.F.avg_pool3d(lib.ones(1, 1, 2, 2, 2), 3, 1, 1), RuntimeError),
    (lambda lib: lib.F.max_pool3d(lib.ones(1, 4, 4, 4), 2, 0), RuntimeError),
    (lambda lib: lib.F.max_pool3d(lib.ones(4, 4), 2), RuntimeError),
    (lambda lib: lib.F.max_pool1d(lib.ones(1, 1, 4), 2, padding=2), RuntimeError),
    (lambda lib: lib.F.max_pool2d(lib.ones(1, 4, 4), (2, 2, 2)), RuntimeError),
    (lambda lib: lib.F.avg_pool2d(lib.ones(1, 4, 4), 2, divisor_override=0), RuntimeError),
    (lambda lib: lib.F.adaptive_avg_pool2d(lib.ones(1, 1, 4, 4), (2, 2, 2)), RuntimeError),
    (lambda lib: lib.F.fractional_max_pool2d(lib.ones(1, 4, 4), 2), ValueError),
    (lambda lib: lib.F.fractional_max_pool2d(lib.ones(1, 4, 4), 3, 3), RuntimeError),
    (lambda lib: lib.F.max_unpool2d(lib.ones(1, 2, 2), lib.full((1, 2, 2), 99), 2), RuntimeError),
    (lambda lib: lib.F.max_unpool2d(lib.ones(1, 2, 2), lib.zeros(1, 2, 2, dtype=lib.int64), 2, output_size=(9, 9)),
     ValueError),
    (lambda lib: lib.F.max_unpool2d(lib.ones(1, 2, 2), lib.ones(1, 2, 2), 2), RuntimeError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4), size=2, scale_factor=2), ValueError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4)), ValueError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4), size=2, align_corners=True), ValueError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4), size=2, mode="bilinear"), NotImplementedError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4, 4), size=(2,)), ValueError),
    (lambda lib: lib.F.interpolate(lib.ones(1, 1, 4), size=2, mode="linear", antialias=True), ValueError),
    (lambda lib: lib.F.grid_sample(lib.ones(1, 1, 4, 4), lib.ones(1, 1, 1, 3)), RuntimeError),
    (lambda lib: lib.F.grid_sample(lib.ones(1, 1, 4, 4), lib.ones(2, 1, 1, 2)), RuntimeError),
    (lambda lib: lib.F.grid_sample(lib.ones(1, 1, 4, 4), lib.ones(1, 1, 1, 2), mode="cubic"), ValueError),
    (lambda lib: lib.F.affine_grid(lib.ones(1, 2, 3), (2, 1, 2, 2)), RuntimeError),
    (lambda lib: lib.F.affine_grid(lib.ones(1, 2, 2), (1, 1, 2, 2)), ValueError),
    (lambda lib: lib.F.affine_grid(lib.ones(1, 2, 3), (1, 2, 2)), NotImplementedError),
    (lambda lib: lib.F.unfold(lib.ones(1, 1, 2, 2), 3), RuntimeError),
    (lambda lib: lib.F.fold(lib.ones(1, 4, 5), (3, 3), 2), RuntimeError),
    (lambda lib: lib.ones(3).unfold(0, 4, 1), RuntimeError),
    (lambda lib: lib.ones(3).unfold(0, 2, 0), RuntimeError),
    (lambda lib: lib.ones(3).unfold(1, 2, 1), IndexError),
    (lambda lib: lib.ones(3).as_strided((2, 2), (1,)), RuntimeError),
    (lambda lib: lib.ones(3).as_strided((2,), (-1,)), RuntimeError),
    (lambda lib: lib.ones(3).as_strided((2,), (3,)), RuntimeError),
    (lambda lib: lib.pixel_shuffle(lib.ones(3, 2, 2), 2), RuntimeError),
    (lambda lib: lib.channel_shuffle(lib.ones(1, 3, 2, 2), 2), RuntimeError),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_wrong_is_an_error_in_both(number: int) -> None:
    function, kind = BAD[number]
    for lib in (ours, theirs()):
        with pytest.raises(kind):
            function(lib)


# -- layers -----------------------------------------------------------------------------------------------------------

LAYERS: list[tuple[str, tuple[Any, ...], tuple[int, ...]]] = [
    ("MaxPool1d", (2,), (2, 3, 8)), ("MaxPool3d", (2, 1, 1), (2, 3, 4, 5, 4)), ("AvgPool1d", (2,), (2, 3, 8)),
    ("AvgPool3d", (2,), (2, 3, 4, 6, 4)), ("AdaptiveAvgPool1d", (3,), (2, 3, 8)),
    ("AdaptiveAvgPool3d", ((3, None, 2),), (2, 3, 4, 2, 5)), ("AdaptiveMaxPool1d", (3,), (2, 3, 8)),
    ("AdaptiveMaxPool2d", ((3, None),), (2, 3, 8, 6)), ("AdaptiveMaxPool3d", (2,), (2, 3, 4, 2, 5)),
    ("LPPool1d", (2, 3), (2, 3, 8)), ("LPPool2d", (2, 3, 2), (2, 3, 8, 8)), ("LPPool3d", (1, 2), (2, 3, 4, 4, 4)),
    ("Upsample", (None, 2, "bilinear"), (2, 3, 4, 5)), ("UpsamplingNearest2d", (7,), (2, 3, 4, 5)),
    ("UpsamplingBilinear2d", (None, (1.5, 2)), (2, 3, 4, 5)), ("PixelShuffle", (2,), (2, 8, 3, 4)),
    ("PixelUnshuffle", (2,), (2, 3, 4, 4)), ("ChannelShuffle", (2,), (2, 4, 3)),
    ("Unfold", (3, 1, 1, 2), (2, 3, 8, 7)), ("Fold", ((4, 5), 2), (2, 12, 12)),
]


@pytest.mark.parametrize(("name", "arguments", "shape"), LAYERS, ids=lambda value: value if type(value) is str else "")
def test_layers_are_pytorchs(name: str, arguments: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    torch = theirs()
    mine, other = getattr(fb.nn, name)(*arguments), getattr(torch.nn, name)(*arguments)
    assert repr(mine) == repr(other)
    x = np.random.default_rng(0).random(shape)
    np.testing.assert_allclose(mine(fb.tensor(x)).numpy(), other(torch.tensor(x)).numpy(), rtol=1e-12)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_layers_that_unpool_and_choose_windows_are_pytorchs(dims: int) -> None:
    torch, x = theirs(), np.random.default_rng(1).random((2, 3, 8, 7, 6)[:2 + dims])
    results = []
    for lib in (fb, torch):
        pool, unpool = (getattr(lib.nn, f"Max{name}{dims}d") for name in ("Pool", "Unpool"))
        found = [unpool(2)(*pool(2, return_indices=True)(lib.tensor(x)), output_size=x.shape)]
        if dims > 1:
            samples = lib.tensor(SAMPLES[..., :dims])
            fractional = getattr(lib.nn, f"FractionalMaxPool{dims}d")
            found += fractional(2, 4, return_indices=True, _random_samples=samples)(lib.tensor(x))
        results.append([y.numpy() for y in found])
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_fractional_windows_are_drawn() -> None:
    x = fb.arange(100.0).reshape(1, 1, 10, 10)
    fb.manual_seed(0)
    drawn = {str(F.fractional_max_pool2d(x, 2, 4).tolist()) for _ in range(8)}
    assert len(drawn) > 1
    assert all(99.0 in np.array(eval(each)) for each in drawn)


# -- models -----------------------------------------------------------------------------------------------------------


def segmenting(lib: Any) -> Any:
    """Down twice, by windows that overlap and do not; up by unpooling, by interpolation and beside what was there."""
    nn, functional = lib.nn, lib.F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.norm = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
            self.deep = nn.Conv2d(4, 4, 3, padding=1)
            self.up, self.unpool = nn.Upsample(scale_factor=2, mode="bilinear"), nn.MaxUnpool2d(2)
            self.out = nn.Conv2d(8, 2, 1)

        def forward(self, x: Any) -> Any:
            x = functional.relu(self.norm(self.down(x)))
            y, indices = functional.max_pool2d(x, 2, return_indices=True)
            z = self.up(functional.relu(self.deep(functional.max_pool2d(y, 3, 2, 1))))
            return self.out(lib.cat([self.unpool(y + z, indices), functional.interpolate(z, size=x.shape[-2:])], 1))

    return Net()


def transforming(lib: Any) -> Any:
    """A spatial transformer: where to look is learned."""
    nn, functional = lib.nn, lib.F

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.where, self.pool = nn.Linear(9, 6), nn.AdaptiveAvgPool2d(3)
            self.what, self.most = nn.Linear(16 + 25, 2), nn.AdaptiveMaxPool2d(5)
            with lib.no_grad():
                self.where.bias.copy_(lib.tensor([1.0, 0.1, 0.05, -0.1, 0.9, 0.03]))

        def forward(self, x: Any) -> Any:
            theta = self.where(self.pool(x).flatten(1)).view(-1, 2, 3)
            x = functional.grid_sample(x, functional.affine_grid(theta, (len(x), 1, 8, 8), False), align_corners=False)
            seen = functional.unfold(x, 2, stride=2).mean(1)
            return self.what(lib.cat([seen, self.most(x).flatten(1)], 1))

    return Net()


@pytest.mark.parametrize("make", [segmenting, transforming])
def test_train_steps_agree(make: Callable[[Any], Any]) -> None:
    torch, rng = theirs(), np.random.default_rng(0)
    models = [make(lib).double() for lib in (torch, ours, ours)]
    weights = {name: value.numpy().copy() for name, value in models[0].state_dict().items()}
    for model in models[1:]:
        model.load_state_dict({name: fb.tensor(value) for name, value in weights.items()})

    def step_of(lib: Any, model: Any) -> Callable[..., Any]:
        opt = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x: Any, y: Any) -> Any:
            opt.zero_grad()
            loss = lib.F.cross_entropy(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return step

    steps = [step_of(torch, models[0]), step_of(ours, models[1]), fb.compile(step_of(ours, models[2]))]
    is_dense = make is segmenting
    for _ in range(3):
        x, y = rng.standard_normal((2, 3 if is_dense else 1, 8, 12)), rng.integers(0, 2, (2, 8, 12) if is_dense else 2)
        losses = [step(lib.tensor(x), lib.tensor(y)).item() for lib, step in zip((torch, fb, fb), steps, strict=True)]
        np.testing.assert_allclose(losses[1:], losses[0], rtol=1e-9)


# -- random arguments -------------------------------------------------------------------------------------------------


def _drawn_call(rng: random.Random) -> tuple[str, tuple[int, ...], Callable[[Any, Any], Any]]:
    """(what is called, the shape of its tensor, the call)"""
    dims = rng.choice((1, 2, 3))
    lead = (2, 3)[rng.randint(0, 1):]
    kernel, stride, dilation = ([rng.randint(1, most) for _ in range(dims)] for most in (4, 4, 2))
    padding, ceil = [rng.randint(0, k // 2) for k in kernel], rng.random() < 0.5
    size = tuple([rng.randint(5, 9) for _ in range(dims)])
    wanted = [rng.randint(1, 9) for _ in range(dims)]
    modes = ["nearest", "nearest-exact", "area", ("linear", "bilinear", "trilinear")[dims - 1]]
    mode, factor, aligned = rng.choice(modes), rng.choice((0.5, 0.7, 1.3, 2, 2.6)), rng.choice((True, False))
    options = {"align_corners": aligned} if mode == modes[-1] else {}
    calls: list[Callable[[Any, Any], Any]] = [
        lambda lib, x: getattr(lib.F, f"max_pool{dims}d")(x, kernel, stride, padding, dilation, ceil),
        lambda lib, x: getattr(lib.F, f"avg_pool{dims}d")(x, kernel, stride, padding, ceil, aligned),
        lambda lib, x: getattr(lib.F, f"adaptive_avg_pool{dims}d")(x, wanted),
        lambda lib, x: getattr(lib.F, f"adaptive_max_pool{dims}d")(x, wanted),
        lambda lib, x: lib.F.interpolate(x, wanted, mode=mode, **options),
        lambda lib, x: lib.F.interpolate(x, scale_factor=factor, mode=mode, **options),
    ]
    chosen = rng.randrange(len(calls))
    described = f"{chosen} {size} {kernel} {stride} {padding} {dilation} {ceil} {wanted} {mode} {factor} {aligned}"
    return described, ((2, 3) if chosen > 3 else lead) + size, calls[chosen]


@pytest.mark.filterwarnings("ignore")
def test_random_calls_agree() -> None:
    torch, rng = theirs(), random.Random(11)
    for number in range(250):
        described, shape, call = _drawn_call(rng)
        array = np.random.default_rng(number).standard_normal(shape)
        x, y = fb.tensor(array, requires_grad=True), torch.tensor(array, requires_grad=True)
        try:
            expected = call(torch, y)
        except RuntimeError:
            with pytest.raises(RuntimeError):
                call(ours, x)
            continue
        found = call(ours, x)
        (found * found).sum().backward()
        (expected * expected).sum().backward()
        np.testing.assert_allclose(to_numpy(found), to_numpy(expected), rtol=1e-9, atol=1e-9, err_msg=described)
        np.testing.assert_allclose(to_numpy(x.grad), to_numpy(y.grad), rtol=1e-9, atol=1e-9, err_msg=described)
