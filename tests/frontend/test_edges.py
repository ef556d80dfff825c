"""Values and gradients at the edges of functions' domains are PyTorch's, or one of a few that are said to differ.

The table of values is made by PyTorch: `pytest tests/frontend/test_edges.py --update-golden`."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from against_torch import Library, ours, theirs, to_numpy
from edge_cases import CASES, DIFFERENT, operands

import flambeau as fb
import flambeau.nn.functional as F

TABLE = Path(__file__).with_name("edge_values.txt")
TWO_WIDE = ("F.glu(rows, dim=1)", "attention(rows)", "cross_entropy_weighted(rows)")
TOLERANCE = {"float64": 1e-11, "float32": 2e-5, "float16": 4e-3, "bfloat16": 3e-2}


def results(lib: Library, name: str, dtype: str, *, width: int = 2, cotangent: float = 1.0,
            compiled: bool = False) -> list[np.ndarray]:
    """What a case gives, and the gradients of its results' sum (times `cotangent`) by each of its tensors."""
    case = CASES[name]

    def with_gradients(*tensors: Any) -> list[Any]:
        found = case.function(lib, *tensors)
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        smooth = [y for y in found if y.requires_grad]
        if not smooth:
            return found
        total = sum((y * cotangent).sum() for y in smooth)
        gradients = lib.autograd.grad(total, list(tensors), allow_unused=True)
        return found + [lib.zeros_like(x) if g is None else g for g, x in zip(gradients, tensors, strict=True)]

    arrays = [a if dtype == "float64" else np.where(np.abs(a) > 1e30, a / 1e29, a) for a in operands(case.kind, width)]
    tensors = [lib.tensor(a, dtype=getattr(lib, dtype)).requires_grad_() for a in arrays]
    run = fb.compile(with_gradients) if compiled else with_gradients
    return [np.asarray(to_numpy(y)) for y in run(*tensors)]


def differ(found: np.ndarray, wanted: np.ndarray, dtype: str, *, is_gradient: bool, tolerance: float = 1.0) -> np.ndarray:
    """Where two arrays differ: in NaN, infinities, by more than rounding, or in the sign of a value of 0."""
    assert found.shape == wanted.shape, f"shapes {found.shape}, {wanted.shape}"
    if found.dtype.kind != "f":
        return found != wanted
    with np.errstate(all="ignore"):
        a, b = found.astype(np.float64), wanted.astype(np.float64)
        slack = TOLERANCE[dtype] / 100 if is_gradient else 1e-7 if dtype == "float16" else 1e-35
        close = np.abs(a - b) <= tolerance * TOLERANCE[dtype] * np.abs(b) + slack
        same = (a == b) | (np.isnan(a) & np.isnan(b)) | close
        return ~same | (not is_gradient and (a == 0) & (b == 0) & (np.signbit(a) != np.signbit(b)))


def mismatches(name: str, dtype: str, found: list[np.ndarray], wanted: list[np.ndarray], width: int = 2,
               tolerance: float = 1.0) -> Iterator[str]:
    arrays = operands(CASES[name].kind, width)
    assert len(found) == len(wanted), f"{name}: {len(found)} arrays, PyTorch gives {len(wanted)}"
    for number, (a, b) in enumerate(zip(found, wanted, strict=True)):
        is_gradient = number >= len(found) - len(arrays) > 0
        wrong = differ(a, b, dtype, is_gradient=is_gradient, tolerance=tolerance)
        if wrong.any():
            at = tuple(np.argwhere(wrong)[0])
            given = [x[at[:1]].tolist() if at else x for x in arrays]
            yield (f"{name} {dtype} {'gradient' if is_gradient else 'result'} {number}: {int(wrong.sum())} differ, "
                   f"first {given}: {a[at]}, not {b[at]}")


# -- the table --------------------------------------------------------------------------------------------------------


def recorded() -> dict[str, list[np.ndarray]]:
    """Results by case in float64, seven digits each: PyTorch's, ours where they are said to differ."""
    found: dict[str, list[np.ndarray]] = {}
    for line in TABLE.read_text().splitlines():
        name, kind, shape, numbers = line.split("|")
        values = np.array([float(n) for n in numbers.split()]).reshape([int(n) for n in shape.split(",") if n])
        found.setdefault(name, []).append(values.astype({"f": np.float64, "i": np.int64, "b": np.bool_}[kind]))
    return found


def written(name: str, array: np.ndarray) -> str:
    numbers = " ".join(f"{x:.7g}" for x in array.astype(np.float64).ravel().tolist())
    return f"{name}|{array.dtype.kind}|{','.join(map(str, array.shape))}|{numbers}\n"


def test_edges_are_the_recorded_ones(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        TABLE.write_text("".join(written(name, array) for name in CASES
                                 for array in results(ours if name in DIFFERENT else theirs(), name, "float64")))
    table, wrong = recorded(), []
    assert list(table) == list(CASES), "run with --update-golden"
    for name in CASES:
        wrong += mismatches(name, "float64", results(ours, name, "float64"), table[name], tolerance=1e5)
    assert not wrong, "\n".join(wrong)


DTYPES = ["float64", "float32", "bfloat16", "float16"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_edges_are_the_eager_ones(dtype: str, request: pytest.FixtureRequest) -> None:
    """A draw of the functions; with --seeds, all of them (minutes)."""
    every = request.config.getoption("--seeds") is not None
    wrong: list[str] = []
    for name in CASES if every else random.Random(dtype).sample(list(CASES), 8):
        wrong += mismatches(name, dtype, results(ours, name, dtype, compiled=True), results(ours, name, dtype))
    assert not wrong, "\n".join(wrong)


@pytest.mark.torch
@pytest.mark.parametrize(("width", "cotangent"), [(2, 1.0), (2, 0.0), (2, -2.0), (3, 1.0)])
def test_edges_are_pytorchs(width: int, cotangent: float) -> None:
    """Rows of three edges too, and cotangents of 0, which meet infinite derivatives."""
    wrong: list[str] = []
    for name in CASES:
        if name not in DIFFERENT and (width == 2 or name not in TWO_WIDE):
            mine, other = [results(lib, name, "float64", width=width, cotangent=cotangent) for lib in (ours, theirs())]
            wrong += mismatches(name, "float64", mine, other, width)
    assert not wrong, "\n".join(wrong)


@pytest.mark.torch
def test_only_what_differs_is_said_to_differ() -> None:
    for name in DIFFERENT:
        mine, other = [results(lib, name, "float64") for lib in (ours, theirs())]
        assert list(mismatches(name, "float64", mine, other)), f"{name} is PyTorch's after all"


# -- what is selected, not multiplied ---------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")


def gradient(function: Any, *values: Any) -> list[Any]:
    x = fb.tensor(*values, requires_grad=True)
    (g,) = fb.autograd.grad(function(x).sum(), [x])
    return g.tolist()


both = pytest.mark.parametrize("wrapped", [lambda f: f, fb.compile], ids=["eager", "compiled"])


@both
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"weight": fb.tensor([1.0, 3.0])}])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_an_ignored_row_counts_for_nothing_whatever_it_holds(wrapped: Any, options: dict[str, Any], reduction: str) -> None:
    def loss(x: fb.Tensor, target: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        found = F.cross_entropy(x, target, reduction=reduction, **options)
        return found, fb.autograd.grad(found.sum(), [x])[0]

    target, run = fb.tensor([1, -100]), wrapped(loss)
    wanted, wanted_gradient = loss(fb.tensor([[0.0, 1.0], [0.0, 0.0]], requires_grad=True), target)
    for row in ([-INF, -INF], [NAN, 0.0], [INF, 1.0]):
        found, g = run(fb.tensor([[0.0, 1.0], row], requires_grad=True), target)
        np.testing.assert_allclose(found.detach().numpy(), wanted.detach().numpy(), rtol=1e-6)
        np.testing.assert_allclose(g.numpy(), wanted_gradient.numpy(), rtol=1e-6, atol=1e-7)
        assert g[1].tolist() == [0.0, 0.0]


@both
def test_a_masked_class_of_an_ignored_target_is_no_nan(wrapped: Any) -> None:
    x = fb.tensor([[-INF, 1.0, 2.0], [-INF, 0.0, 0.0]], requires_grad=True)
    loss = wrapped(lambda x: F.cross_entropy(x, fb.tensor([0, 1]), ignore_index=0))(x)
    loss.backward()
    assert loss.item() == pytest.approx(0.6931472)
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0, 0], [0, -0.5, 0.5]], atol=1e-7)


@both
def test_rows_that_may_attend_to_nothing_give_zero(wrapped: Any) -> None:
    mask = fb.tensor([[True, True], [False, False]])

    def attend(q: fb.Tensor) -> tuple[fb.Tensor, fb.Tensor]:
        y = F.scaled_dot_product_attention(q, q, q, mask)
        return y, fb.autograd.grad((y * y).sum(), [q])[0]

    y, g = wrapped(attend)(fb.ones(1, 2, 4, requires_grad=True))
    assert y.tolist() == [[[1.0] * 4, [0.0] * 4]]
    assert g.isfinite().all().item()


@both
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_pooling_and_interpolation_spread_nothing(wrapped: Any, value: float) -> None:
    x = fb.ones(1, 1, 8, 8)
    x[0, 0, 0, 0] = value
    for function, size in ((lambda x: F.adaptive_avg_pool2d(x, 3), 3),
                           (lambda x: F.interpolate(x, size=(5, 5), mode="bilinear"), 5)):
        y = wrapped(function)(x).detach().numpy()[0, 0]
        assert not np.isfinite(y[0, 0])
        np.testing.assert_allclose(y.ravel()[1:], np.ones(size * size - 1), rtol=1e-6)


@both
def test_a_saturated_probability_has_a_finite_gradient(wrapped: Any) -> None:
    x = fb.tensor([30.0, 0.3], requires_grad=True)
    loss = wrapped(lambda x: F.binary_cross_entropy(x.sigmoid(), fb.ones(2)))(x)
    loss.backward()
    assert loss.item() == pytest.approx(0.2771776)
    assert x.grad.tolist() == [0.0, pytest.approx(-0.2127787)]


def test_norms_of_nothing_have_no_gradient() -> None:
    for p in (0, 0.5, 1, 1.5, 2, 3, INF, -INF, -1):
        assert gradient(lambda x, p=p: x.norm(p), [0.0, 0.0]) == [0.0, 0.0], p
    assert gradient(lambda x: x.std(0), [2.0, 2.0, 2.0]) == [0.0] * 3
    assert gradient(lambda x: fb.dist(x, fb.ones(2)), [1.0, 1.0]) == [0.0, 0.0]
    assert gradient(lambda x: fb.atan2(x, fb.zeros(1)), [0.0]) == [0.0]
    assert gradient(lambda x: F.normalize(x, dim=0), [0.0, 0.0]) == [pytest.approx(1e12)] * 2


def test_second_derivatives_at_zero_are_finite() -> None:
    x = fb.zeros(2, requires_grad=True)
    (g,) = fb.autograd.grad(x.norm() + x.std(), [x], create_graph=True)
    assert fb.autograd.grad((g * fb.tensor([1.0, 2.0])).sum(), [x])[0].tolist() == [0.0, 0.0]


def test_eager_code_warns_of_no_overflow() -> None:
    x = fb.tensor([[INF, -INF, 1.0, NAN, 3e38, 3e38]], requires_grad=True)
    image = x.reshape(1, 1, 1, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in (x.cumsum(1), F.avg_pool2d(image, (1, 2), 1), F.adaptive_avg_pool2d(image, (1, 4)), x @ x.T,
                  F.conv2d(image, fb.ones(1, 1, 1, 2)), F.conv_transpose2d(image, fb.ones(1, 1, 1, 2)), x.half(),
                  fb.zeros(6).scatter_add(0, fb.zeros(6).long(), x[0]), x.softmax(1), F.layer_norm(x, (6,)), x.std(1),
                  F.interpolate(image, size=(1, 9), mode="bilinear"), fb.maximum(x, -x), x.cumprod(1)):
            y.float().sum().backward(retain_graph=True)


def test_transposed_convolution_takes_any_output_padding_below_its_dilation() -> None:
    x, w = fb.arange(16.0).reshape(1, 1, 4, 4), fb.ones(1, 1, 3, 3)
    plain = F.conv_transpose2d(x, w, dilation=2)
    assert plain.shape == (1, 1, 8, 8)
    wider = F.conv_transpose2d(x, w, dilation=2, output_padding=1)
    assert wider.shape == (1, 1, 9, 9)
    np.testing.assert_array_equal(wider.numpy()[..., :8, :8], plain.numpy())
    assert not wider.numpy()[..., 8:, :].any() and not wider.numpy()[..., 8:].any()
    cut = F.conv_transpose2d(x, w, dilation=2, padding=1, output_padding=1)
    np.testing.assert_array_equal(cut.numpy(), plain.numpy()[..., 1:, 1:])


def test_equal_middles_share_the_gradient_of_a_median() -> None:
    assert gradient(lambda x: x.median(), [2.0, 1.0, 1.0, 2.0]) == [0.0, 0.5, 0.5, 0.0]
    assert gradient(lambda x: x.median(), [-INF, -INF, 1.0]) == [0.5, 0.5, 0.0]
    assert gradient(lambda x: x.median(), [NAN, 1.0, NAN]) == [0.5, 0.0, 0.5]
    assert gradient(lambda x: x.median(), [3.0, 1.0, 2.0]) == [0.0, 0.0, 1.0]


# -- counting and integers --------------------------------------------------------------------------------------------


def test_ranges_are_exact_and_counted_as_pytorch_counts() -> None:
    assert fb.arange(2**53, 2**53 + 3).tolist() == [2**53, 2**53 + 1, 2**53 + 2]
    assert fb.arange(2**63 - 3, 2**63 - 1).tolist() == [2**63 - 3, 2**63 - 2]
    assert fb.arange(5, 0, -2).tolist() == [5, 3, 1]
    assert fb.arange(0.5, 5.5, 1.5, dtype=fb.int64).tolist() == [0, 1, 2, 3, 4]
    assert fb.arange(0.0, 0.3, 0.1).shape == (3,)
    for arguments in ((0, 5, -1), (0, 5, 0), (0, INF), (0, NAN)):
        with pytest.raises(RuntimeError):
            fb.arange(*arguments)


def test_spaces_meet_both_ends_and_mirror_each_other() -> None:
    assert fb.linspace(0.1, 0.7, 5, dtype=fb.float64).tolist() == [0.1, 0.25, 0.39999999999999997, 0.5499999999999999, 0.7]
    for steps in (2, 3, 7, 10, 1001):
        x = fb.linspace(-1, 1, steps)
        assert (x + x.flip(0)).tolist() == [0.0] * steps and x[0].item() == -1.0 and x[-1].item() == 1.0
    assert fb.linspace(3, 9, 1).tolist() == [3.0] and fb.linspace(3, 9, 0).tolist() == []
    assert fb.linspace(-5, 10, 4, dtype=fb.int64).tolist() == [-5, 0, 5, 10]
    with pytest.raises(RuntimeError):
        fb.linspace(3, 9, -1)


@both
def test_integers_are_pooled_and_convolved(wrapped: Any) -> None:
    x = fb.arange(16).reshape(1, 1, 4, 4)
    assert wrapped(lambda x: F.avg_pool2d(x, 2))(x).tolist() == [[[[2, 4], [10, 12]]]]
    assert wrapped(lambda x: F.avg_pool2d(-x - 1, 2))(x).tolist() == [[[[-3, -5], [-11, -13]]]]
    y = wrapped(lambda x: F.conv2d(x, fb.ones(1, 1, 2, 2, dtype=fb.int64)))(x)
    assert y.dtype is fb.int64 and y.tolist() == [[[[10, 14, 18], [26, 30, 34], [42, 46, 50]]]]
    wide = wrapped(lambda x: F.conv2d(x.byte() * 9, fb.ones(1, 1, 2, 2, dtype=fb.uint8)))(x)
    assert wide.tolist() == [[[[90, 126, 162], [234, 14, 50], [122, 158, 194]]]]
    t = wrapped(lambda x: F.conv_transpose2d(x[..., :2, :2], fb.ones(1, 1, 2, 2, dtype=fb.int64)))(x)
    assert t.tolist() == [[[[0, 1, 1], [4, 10, 6], [4, 9, 5]]]]
    assert fb.sign(fb.tensor([True, False])).tolist() == [True, False]
    assert fb.square(fb.tensor([True, False])).dtype is fb.int64


@both
@pytest.mark.parametrize(("make", "least", "value", "gradient"), [
    (lambda x: x.std(), 20.0, 492.75, [-0.52783203125, 0.060882568359375, 0.466796875]),
    (lambda x: fb.std_mean(x)[0], 20.0, 492.75, [-0.52783203125, 0.060882568359375, 0.466796875]),
    (lambda x: F.gelu(x, approximate="tanh").sum(), -700.0, 1600.0, [0.0, 1.0, 1.0]),
    (lambda x: F.scaled_dot_product_attention(*[x[:, None]] * 3).sum(), 20.0, 3000.0, [0.0, 0.0, 3.0]),
    (lambda x: F.cosine_similarity(x[1:], x[1:] * 2, dim=0), 20.0, 1.0, [0.0, 0.0, 0.0]),
], ids=["std", "std_mean", "gelu_tanh", "attention", "cosine_similarity"])
def test_steps_beyond_float16_do_not_show_in_float16_results(wrapped: Any, make: Any, least: float, value: float,
                                                              gradient: list[float]) -> None:
    x = fb.tensor([least, 600.0, 1000.0], dtype=fb.float16, requires_grad=True)
    y = wrapped(make)(x)
    y.backward()
    assert y.dtype is fb.float16
    np.testing.assert_allclose([y.item(), *x.grad.tolist()], [value, *gradient], rtol=1e-3, atol=1e-6)


@both
def test_cosine_embedding_loss_adds_its_epsilon_to_squared_norms(wrapped: Any) -> None:
    x = fb.tensor([[3e-7, 4e-7]], dtype=fb.float64, requires_grad=True)
    y = fb.tensor([[1.0, 0.0]], dtype=fb.float64)
    loss = wrapped(lambda x: F.cosine_embedding_loss(x, y, fb.tensor([1])))(x)
    loss.backward()
    np.testing.assert_allclose([loss.item(), *x.grad.tolist()[0]], [0.73167184227, -830028.434, 85865.0107], rtol=1e-7)
