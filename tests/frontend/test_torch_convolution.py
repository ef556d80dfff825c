"""Convolution, its transpose and padding against PyTorch: random shapes, values and two derivatives, eager and compiled."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

Case = tuple[str, list[np.ndarray], dict[str, Any]]


def drawn_convolution(r: random.Random, rng: np.random.Generator) -> Case:
    """A function's name, operands and keywords; some don't fit each other."""
    rank, transposed, groups = r.choice([1, 2, 3, 3]), r.random() < 0.5, r.choice([1, 1, 2])
    inner, outer, batch = r.randint(1, 3), r.randint(1, 3), r.choice([[], [1], [2]])
    size, kernel = ([r.randint(low, high) for _ in range(rank)] for low, high in ((2, 6), (1, 3)))

    def sizes(low: int, high: int) -> Any:
        return r.randint(low, high) if r.random() < 0.4 else tuple(r.randint(low, high) for _ in range(rank))

    settings = {"stride": sizes(1, 3), "dilation": sizes(1, 2) if r.random() < 0.4 else 1, "groups": groups}
    if transposed:
        settings |= {"padding": sizes(0, 2), "output_padding": sizes(0, 1)}
        shape = [inner * groups, outer, *kernel]
    else:
        settings |= {"padding": r.choice([sizes(0, 2), sizes(0, 1), "valid", "same"])}
        shape = [outer * groups, inner, *kernel]
    operands = [rng.standard_normal([*batch, inner * groups, *size]), rng.standard_normal(shape)]
    if r.random() < 0.5:
        operands.append(rng.standard_normal(outer * groups))
    return f"conv{'_transpose' * transposed}{rank}d", operands, settings


def drawn_padding(r: random.Random, rng: np.random.Generator) -> Case:
    rank = r.choice([1, 2, 3])
    shape = [r.randint(1, 2) for _ in range(r.choice([1, 2]))] + [r.randint(2, 5) for _ in range(rank)]
    mode = r.choice(["constant", "reflect", "replicate", "circular"])
    pads = [r.choice([0, 0, 1, 2, 3] if mode == "circular" else [0, 0, 1, 2, 3, -1]) for _ in range(2 * rank)]
    return "pad", [rng.standard_normal(shape)], {"pad": pads, "mode": mode, "value": 1.5 if mode == "constant" else None}


def two_derivatives(lib: Any, functional: Any, case: Case, compiled: bool = False) -> list[np.ndarray] | Exception:
    """[result, gradients, gradients of a sum of their cubes], or the error."""
    name, operands, settings = case
    tensors = [lib.tensor(x, requires_grad=True) for x in operands]

    def run(*tensors: Any) -> list[Any]:
        y = getattr(functional, name)(*tensors, **settings)
        weight = lib.tensor(np.cos(np.arange(y.numel())).reshape(tuple(y.shape)))
        first = lib.autograd.grad((y * y * weight).sum(), tensors, create_graph=True)
        second = lib.autograd.grad(sum([(g * g * g).sum() for g in first]), tensors)
        return [y, *first, *second]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = (fb.compile(run) if compiled else run)(*tensors)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return error
    return [x.detach().numpy() for x in found]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("draw", [drawn_convolution, drawn_padding])
def test_random_cases_agree(draw: Callable[..., Case], seed: int) -> None:
    r, rng = random.Random(seed), np.random.default_rng(seed)
    for number in range(32):
        case = draw(r, rng)
        expected = two_derivatives(torch, torch.nn.functional, case)
        for compiled in (False, True)[: 1 + (number % 16 == 0)]:
            found = two_derivatives(fb, F, case, compiled)
            said = f"seed {seed}: {case[0]} of {[x.shape for x in case[1]]}, {case[2]}, compiled={compiled}"
            if isinstance(expected, Exception):
                assert isinstance(found, type(expected)), f"{said}: {found!r}, PyTorch: {expected!r}"
                continue
            assert not isinstance(found, Exception), f"{said}: {found!r}"
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9, err_msg=said)


def of_small_integers(lib: Any, dtype: str) -> list[Any]:
    rng = np.random.default_rng(0)
    x, w = (lib.tensor(rng.integers(0, 4, shape)).to(getattr(lib, dtype)) for shape in ((2, 2, 4, 3, 3), (3, 2, 2, 2, 2)))
    functions = lib.nn.functional
    return [functions.conv3d(x, w), functions.conv_transpose3d(x, w[:2], stride=2), functions.pad(x, (1, 2), value=3),
            functions.pad(x, (1, 1, 0, 1, 1, 0), "replicate")]


@pytest.mark.parametrize("dtype", ["int64", "float16", "bfloat16"])
def test_other_dtypes_agree(dtype: str) -> None:
    for a, b in zip(of_small_integers(fb, dtype), of_small_integers(torch, dtype), strict=True):
        assert a.dtype.torch_name == str(b.dtype).removeprefix("torch.")
        np.testing.assert_array_equal(a.double().numpy(), b.double().numpy())


def of_complex_numbers(lib: Any) -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = ((1, 2, 3, 4, 3), (2, 2, 2, 1, 2), (2,))
    x, w, b = (lib.tensor(rng.standard_normal(s) + 1j * rng.standard_normal(s)) for s in shapes)
    functions = lib.nn.functional
    return [functions.conv3d(x, w, b, stride=(1, 2, 1)), functions.conv_transpose3d(x, w, b, 2, 1),
            functions.conv_transpose1d(x[0, :, 0, 0], w[:, :, 0, 0]), functions.pad(x[0], (1, 1, 2, 0), "reflect")]


def test_complex_numbers_agree() -> None:
    for a, b in zip(of_complex_numbers(fb), of_complex_numbers(torch), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)
    with pytest.raises(RuntimeError, match="must have one dtype"):
        F.conv1d(fb.ones(1, 1, 3), fb.ones(1, 1, 2), fb.ones(1, dtype=fb.complex64))


def at_top_level(lib: Any) -> list[Any]:
    def t(*shape: int) -> Any:
        return lib.tensor(np.sin(np.arange(np.prod(shape))).reshape(shape))

    x, w, v = t(2, 4, 5), t(4), t(4) * t(4)
    return [
        lib.conv1d(x, t(3, 4, 2)), lib.conv2d(t(1, 2, 4, 4), t(3, 2, 2, 2), padding="same"),
        lib.conv3d(t(2, 3, 4, 4), t(1, 2, 2, 2, 2)), lib.conv_transpose1d(x, t(4, 3, 2), stride=2),
        lib.conv_transpose2d(t(2, 3, 3), t(2, 1, 2, 2)), lib.conv_transpose3d(t(2, 2, 2, 2), t(2, 1, 2, 2, 2)),
        lib.conv_tbc(t(5, 2, 4), t(3, 4, 2), t(2), 1),
        lib.convolution(x, t(3, 4, 2), None, (1,), (1,), (1,), False, (0,), 1),
        lib.convolution(t(1, 2, 3, 3), t(2, 4, 2, 2), t(4), (2, 2), (1, 0), (1, 1), True, (1, 0), 1),
        lib.constant_pad_nd(x, (1, 2), 3.0), lib.batch_norm(x, w, w, w, v, False, 0.1, 1e-3, True),
        lib.instance_norm(x, w, None, None, None, True, 0.1, 1e-3, True), lib.layer_norm(x, (5,), t(5)),
        lib.group_norm(x, 2, w, w), lib.rms_norm(x, (5,)), lib.bilinear(t(3, 2), t(3, 4), t(5, 2, 4), t(5)),
        lib.nn.functional.bilinear(t(2, 3, 2), t(2, 3, 4), t(5, 2, 4)),
        *lib.native_layer_norm(x, (4, 5), None, None, 0.1), *lib.native_group_norm(x, w, w, 2, 4, 5, 2, 0.1),
        *lib.native_batch_norm(x, w, None, None, None, True, 0.1, 0.1),
        *lib.native_batch_norm(x, None, w, w, v, False, 0.1, 0.1), lib.nn.functional.batch_norm(x[:0], w, v, training=True),
        lib.nn.functional.instance_norm(x[..., :0]),
        lib.nn.functional.local_response_norm(x, 3, 0.1), lib.nn.functional.local_response_norm(t(1, 5, 2, 2, 2), 2),
    ]


def test_functions_of_the_top_level_agree() -> None:
    for number, (a, b) in enumerate(zip(at_top_level(fb), at_top_level(torch), strict=True)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12, err_msg=str(number))


x4, w4 = (2, 4, 5, 6), (6, 4, 3, 3)
WRONG: list[tuple[str, list[tuple[int, ...]], dict[str, Any]]] = [
    ("conv2d", [(4, 5), w4], {}), ("conv2d", [x4, (6, 4, 3)], {}), ("conv2d", [x4, (6, 3, 3, 3)], {}),
    ("conv2d", [x4, w4], {"groups": 0}), ("conv2d", [x4, w4], {"groups": 4}), ("conv2d", [x4, w4, (5,)], {}),
    ("conv2d", [x4, (6, 4, 7, 3)], {}), ("conv2d", [x4, w4], {"stride": 0}), ("conv2d", [x4, w4], {"dilation": 0}),
    ("conv2d", [x4, w4], {"stride": (1, 1, 1)}), ("conv2d", [x4, w4], {"stride": 1.5}),
    ("conv2d", [x4, w4], {"padding": -1}), ("conv2d", [x4, w4], {"padding": "some"}),
    ("conv2d", [x4, w4], {"padding": "same", "stride": 2}), ("conv1d", [x4, (6, 4, 3)], {}),
    ("conv3d", [x4[1:], (6, 4, 3, 3, 3)], {}), ("conv_transpose2d", [x4, w4], {}),
    ("conv_transpose2d", [x4, w4[1:]], {}), ("conv_transpose2d", [x4, (4, 6, 3, 3)], {"output_padding": 1}),
    ("conv_transpose2d", [x4, (4, 6, 3, 3)], {"padding": 4}), ("conv_transpose2d", [x4, (4, 6, 3, 3), (4,)], {}),
    ("conv_transpose3d", [x4, (4, 6, 3, 3)], {}), ("conv_tbc", [(5, 2, 4), (3, 2, 2), (2,)], {}),
    ("conv_tbc", [(5, 2), (3, 2, 2), (2,)], {}), ("pad", [x4], {"pad": (1,)}), ("pad", [x4], {"pad": (-7, 0)}),
    ("pad", [x4], {"pad": (1, 1), "mode": "reflect"}), ("pad", [x4], {"pad": (6, 0, 0, 0), "mode": "reflect"}),
    ("pad", [x4], {"pad": (7, 0, 0, 0), "mode": "circular"}), ("pad", [x4], {"pad": (1, 1), "mode": "mirror"}),
    ("pad", [x4], {"pad": (1, 1, 0, 0), "mode": "replicate", "value": 1.0}),
    ("pad", [(2, 4, 0)], {"pad": (1, 1), "mode": "replicate"}), ("local_response_norm", [(2, 3)], {"size": 2}),
    ("local_response_norm", [x4], {"size": 0}), ("bilinear", [(2, 3), (2, 4), (5, 3, 3)], {}),
    ("bilinear", [(2, 3), (3, 4), (5, 3, 4)], {}), ("bilinear", [(2, 3), (2, 4), (5, 3, 4), (4,)], {}),
    ("layer_norm", [(2, 3)], {"normalized_shape": ()}), ("layer_norm", [(2, 3)], {"normalized_shape": (4,)}),
    ("batch_norm", [(1, 3), (3,), (3,)], {"training": True}), ("group_norm", [(2, 4, 3)], {"num_groups": 3}),
    ("group_norm", [(1, 4)], {"num_groups": 4}), ("instance_norm", [(2, 3, 1)], {}),
    ("instance_norm", [(2, 3, 4)], {"use_input_stats": False}),
]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]}-{case[2]}")
def test_what_does_not_fit_is_the_kind_of_error_that_it_is_in_pytorch(case: Any) -> None:
    name, shapes, settings = case
    with pytest.raises(Exception) as theirs:
        getattr(torch.nn.functional, name)(*[torch.zeros(s) for s in shapes], **settings)
    with pytest.raises(theirs.type, match=name):
        getattr(F, name)(*[fb.zeros(s) for s in shapes], **settings)


def test_norms_of_halves_with_wider_weights_stay_halves() -> None:
    x, w = np.random.default_rng(0).standard_normal((2, 4, 3)), np.ones(4)
    for name, args in (("layer_norm", ((4, 3),)), ("group_norm", (2,)), ("instance_norm", ())):
        found = getattr(F, name)(fb.tensor(x, dtype=fb.bfloat16), *args)
        keywords = {"weight": fb.tensor(w if name != "layer_norm" else np.ones((4, 3)), dtype=fb.float32)}
        weighed = getattr(F, name)(fb.tensor(x, dtype=fb.bfloat16), *args, **keywords)
        assert weighed.dtype == fb.bfloat16 and weighed.tolist() == found.tolist()


def test_a_weight_that_does_not_fit_is_named() -> None:
    with pytest.raises(RuntimeError, match=r"layer_norm: weight f32\[2\] and bias f32\[2\] must be of shape \(3,\)"):
        F.layer_norm(fb.ones(2, 3), (3,), fb.ones(2), fb.ones(2))


def test_operands_of_two_dtypes_are_an_error() -> None:
    x, w = fb.zeros(1, 2, 3), fb.zeros(2, 2, 2)
    with pytest.raises(RuntimeError, match="must have one dtype"):
        F.conv1d(x, w.double())
    with pytest.raises(RuntimeError, match="must have one dtype"):
        F.conv_transpose1d(x, w, fb.zeros(2, dtype=fb.float64))
    with pytest.raises(NotImplementedError):
        F.conv1d(x.bool(), w.bool())
