"""Elementwise functions, promotion and broadcasting, against PyTorch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import check, theirs

import flambeau as fb

pytestmark = pytest.mark.torch

UNARY = [
    "exp",
    "exp2",
    "expm1",
    "sin",
    "cos",
    "tan",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "erf",
    "erfc",
    "sigmoid",
    "floor",
    "ceil",
    "trunc",
    "round",
    "frac",
    "neg",
    "abs",
    "sign",
    "square",
    "positive",
    "negative",
    "nan_to_num",
]
POSITIVE = ["log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal"]
INSIDE_ONE = ["asin", "acos", "atanh"]
BINARY = ["add", "sub", "mul", "div", "maximum", "minimum", "atan2", "fmax", "fmin", "hypot", "logaddexp"]
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
DTYPES = ["f16", "bf16", "f32", "f64", "u8", "i8", "i16", "i32", "i64", "bool"]


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions_agree(name: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), "f32[3,4]", tolerance=16)
    check(lambda lib, x: getattr(x, name)(), "f64[]", tolerance=16)


@pytest.mark.parametrize("name", POSITIVE)
def test_functions_of_positive_numbers_agree(name: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), "f32[3,4]", low=0.2, tolerance=16)


@pytest.mark.parametrize("name", INSIDE_ONE)
def test_functions_of_numbers_inside_one_agree(name: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), "f32[3,4]", low=-0.9, high=0.9, tolerance=16)


@pytest.mark.parametrize("name", ["exp", "sqrt", "sigmoid", "erf", "sin", "reciprocal"])
@pytest.mark.parametrize("dtype", ["i64", "i32", "u8", "bool"])
def test_float_functions_of_integers_give_the_default_float(name: str, dtype: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), f"{dtype}[5]")


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round"])
def test_rounding_keeps_integers(name: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), "i32[5]")


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "shapes",
    [("3,4", "3,4"), ("3,4", "4"), ("3,1", "1,4"), ("3,4", ""), ("", "2"), ("0,3", "1"), ("2,1,3", "4,1")],
)
def test_binary_functions_broadcast_alike(name: str, shapes: tuple[str, str]) -> None:
    check(lambda lib, x, y: getattr(lib, name)(x, y), *[f"f32[{s}]" for s in shapes], tolerance=16)


@pytest.mark.parametrize("name", ["add", "mul", "div", "eq", "lt", "maximum", "where"])
@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_promotion_of_two_tensors_agrees(name: str, left: str, right: str) -> None:
    def run(lib: Any, x: Any, y: Any) -> Any:
        return lib.where(x == x, x, y) if name == "where" else getattr(lib, name)(x, y)

    check(run, f"{left}[3]", f"{right}[3]", gradients=False)
    check(run, f"{left}[3]", f"{right}[]", gradients=False)


@pytest.mark.parametrize("number", [True, 2, 2.5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_promotion_with_numbers_agrees(number: float, dtype: str) -> None:
    def run(lib: Any, x: Any) -> Any:
        return [x + number, number * x, x / number, x == number, x > number, lib.where(x == x, x, number)]

    check(run, f"{dtype}[3]", gradients=False)
    check(run, f"{dtype}[]", gradients=False)


def test_numpy_numbers_are_numbers() -> None:
    x = fb.ones(2)
    assert (x * np.float32(2.0)).dtype is fb.float32
    assert (np.float64(2.0) * x).tolist() == [2.0, 2.0]
    assert (x + np.int64(1)).dtype is fb.float32


@pytest.mark.parametrize("name", ["add", "sub", "mul", "truediv", "floordiv", "mod", "pow"])
def test_operators_and_their_reflections_agree(name: str) -> None:
    function = getattr(operator, name)
    check(
        lambda lib, x, y: [function(x, y), function(x, 3.0), function(3.0, x)],
        "f32[4]",
        "f32[4]",
        low=0.3,
        tolerance=32,
        gradients=name not in ("floordiv", "mod"),
    )


@pytest.mark.parametrize("name", ["add", "sub", "mul", "floordiv", "mod", "and_", "or_", "xor"])
def test_integer_operators_agree(name: str) -> None:
    function = getattr(operator, name)
    arrays = [np.array([7, -7, 5, -9]), np.array([2, 3, -4, -2])]
    check(
        lambda lib, x, y: [function(x, y), function(x, 3), function(17, y)], "i64[4]", "i64[4]", arrays=arrays
    )
    check(lambda lib, x: [x << 2, x >> 1, ~x, -x, +x, abs(x)], "i64[4]", arrays=arrays[:1])


@pytest.mark.parametrize("exponent", [2, 3, 1, 0.5, -1, -0.5, 2.5, 0, -2])
def test_powers_agree(exponent: float) -> None:
    check(lambda lib, x: x**exponent, "f32[5]", low=0.3, tolerance=32)


@pytest.mark.parametrize("mode", [None, "trunc", "floor"])
@pytest.mark.parametrize("dtype", ["f32", "i64"])
def test_division_rounds_alike(mode: str | None, dtype: str) -> None:
    arrays = [np.array([7, -7, 5, -9]), np.array([2, 3, -4, -2])]
    check(lambda lib, x, y: lib.div(x, y, rounding_mode=mode), f"{dtype}[4]", f"{dtype}[4]", arrays=arrays)


@pytest.mark.parametrize("name", COMPARISONS)
def test_comparisons_agree_on_special_values(name: str) -> None:
    special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])
    check(
        lambda lib, x, y: getattr(lib, name)(x, y), "f32[6]", "f32[6]", arrays=[special, special[::-1].copy()]
    )


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite"])
def test_float_tests_agree(name: str) -> None:
    check(lambda lib, x: getattr(lib, name)(x), "f32[4]", arrays=[np.array([np.nan, np.inf, -np.inf, 1.0])])
    check(lambda lib, x: getattr(lib, name)(x), "i64[4]")


@pytest.mark.parametrize("name", ["maximum", "minimum", "fmax", "fmin"])
def test_extremes_of_two_treat_nan_alike(name: str) -> None:
    x, y = np.array([np.nan, 1.0, np.nan, 2.0]), np.array([1.0, np.nan, np.nan, 3.0])
    check(lambda lib, a, b: getattr(lib, name)(a, b), "f32[4]", "f32[4]", arrays=[x, y], gradients=False)


@pytest.mark.parametrize(
    "bounds", [{"min": -0.5}, {"max": 0.5}, {"min": -0.5, "max": 0.5}, {"min": 1.0, "max": -1.0}]
)
def test_clamp_agrees(bounds: dict[str, float]) -> None:
    check(lambda lib, x: lib.clamp(x, **bounds), "f32[9]")
    at_bounds = np.array([-0.5, 0.5, 1.0, -1.0])
    check(lambda lib, x: lib.clamp(x, **bounds), "f32[4]", arrays=[at_bounds])
    check(lambda lib, x: lib.clamp(x, **bounds), "f32[1]", arrays=[np.array([np.nan])], gradients=False)


def test_clamp_with_tensors_agrees() -> None:
    check(lambda lib, x, a, b: lib.clamp(x, a, b), "f32[3,4]", "f32[4]", "f32[3,1]")


@pytest.mark.parametrize(
    "case",
    [
        lambda lib, x, y, z: lib.lerp(x, y, z),
        lambda lib, x, y, z: lib.lerp(x, y, 0.3),
        lambda lib, x, y, z: lib.addcmul(x, y, z, value=0.5),
        lambda lib, x, y, z: lib.addcdiv(x, y, z, value=-2),
        lambda lib, x, y, z: lib.add(x, y, alpha=3),
        lambda lib, x, y, z: lib.sub(x, z, alpha=0.5),
        lambda lib, x, y, z: lib.where(x > y, y, z),
        lambda lib, x, y, z: lib.where(x > 0, x, 0.0),
    ],
)
def test_functions_of_three_agree(case: Callable[..., Any]) -> None:
    check(case, "f32[3,4]", "f32[3,4]", "f32[3,4]", low=0.3, tolerance=16)


def test_xlogy_agrees_at_zero() -> None:
    x, y = np.array([0.0, 0.0, 0.0, 2.0]), np.array([0.0, np.nan, 3.0, 0.5])
    check(lambda lib, a, b: lib.xlogy(a, b), "f32[4]", "f32[4]", arrays=[x, y], gradients=False)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic_of_numbers_agrees(name: str) -> None:
    check(lambda lib, x, y: getattr(lib, name)(x, y), "f32[4]", "i64[4]", gradients=False)
    check(lambda lib, x: lib.logical_not(x), "i64[4]")


def test_closeness_agrees() -> None:
    x = np.array([1.0, 2.0, np.nan, np.inf, -np.inf, 1.0])
    y = np.array([1.0 + 1e-6, 2.1, np.nan, np.inf, np.inf, np.inf])
    for equal_nan in (False, True):
        check(
            lambda lib, a, b, e=equal_nan: lib.isclose(a, b, equal_nan=e), "f64[6]", "f64[6]", arrays=[x, y]
        )
    check(lambda lib, a, b: lib.isclose(a, b), "i64[4]", "i64[4]")
    assert fb.allclose(fb.ones(3), fb.ones(3) + 1e-7) and not fb.equal(fb.ones(3), fb.ones(2))


@pytest.mark.parametrize(
    "pair", [("u8", "i8"), ("i32", "f16"), ("f16", "bf16"), ("bool", "i8"), ("f32", "f64"), ("u8", "i64")]
)
def test_result_types_agree(pair: tuple[str, str]) -> None:
    check(lambda lib, x, y: x + y, f"{pair[0]}[2]", f"{pair[1]}[2]", gradients=False)
    torch = theirs()
    a, b = (fb.ir.dtypes.DTYPES[p] for p in pair)
    expected = torch.promote_types(*[getattr(torch, d.torch_name) for d in (a, b)])
    assert fb.promote_types(a, b).torch_name == str(expected).removeprefix("torch.")


@pytest.mark.parametrize(
    ("case", "error"),
    [
        (lambda lib, x, y: x + y, RuntimeError),  # shapes
        (lambda lib, x, y: x - "a", TypeError),
        (lambda lib, x, y: lib.exp(3.0), TypeError),
        (lambda lib, x, y: (x > 0) - (x > 0), RuntimeError),
        (lambda lib, x, y: ~x, (RuntimeError, TypeError)),
        (lambda lib, x, y: lib.clamp(x), RuntimeError),
        (lambda lib, x, y: x.long() ** -1, RuntimeError),
        (lambda lib, x, y: lib.div(x, 2, rounding_mode="up"), RuntimeError),
        (lambda lib, x, y: x.long() // lib.tensor(0), (ZeroDivisionError, RuntimeError)),
        (lambda lib, x, y: bool(x), RuntimeError),
        (lambda lib, x, y: x.item(), RuntimeError),
        (lambda lib, x, y: x.requires_grad_().numpy(), RuntimeError),
        (lambda lib, x, y: len(lib.tensor(1.0)), TypeError),
        (lambda lib, x, y: iter(lib.tensor(1.0)), TypeError),
    ],
)
def test_errors_have_pytorchs_types(case: Callable[..., Any], error: Any) -> None:
    from against_torch import ours

    torch = theirs()
    with pytest.raises(error):
        case(torch, torch.ones(2, 3), torch.ones(4))
    with pytest.raises(error):
        case(ours, fb.ones(2, 3), fb.ones(4))
