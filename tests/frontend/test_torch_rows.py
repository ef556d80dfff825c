"""Every function made of a row (`ir.ops.surface`), against PyTorch's of the same name: dtypes, shapes, values at the edges
and everywhere, gradients, in place. A new row is tested here by being there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from against_torch import EPS, as_ours, as_theirs, theirs, to_numpy

import flambeau as fb
from flambeau.frontend.functions import rows
from flambeau.ir import ops
from flambeau.ir.ops.surface import Surface

pytestmark = pytest.mark.torch
ROWS = {surface.name or op.name: (op, surface) for op, surface in rows.rows()}
DTYPES = ("f16", "bf16", "f32", "f64", "u8", "i8", "i32", "i64", "bool")
EDGES = (0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, np.inf, -np.inf, np.nan)
every_row = pytest.mark.parametrize("name", ROWS)

# What is ours by decision, as docs/edges.md says.
ZEROS_OF_OUR_OWN = ("maximum", "minimum")
GRADIENTS_OF_OUR_OWN = ("heaviside",)
INFINITE_OF_OUR_OWN = ("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1", "i0", "i1", "igamma", "igammac", "zeta")
LESS_EXACT_THERE = {"airy_ai": 2.0**32} | dict.fromkeys(("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1"), 2.0**16)
TRIGAMMA = ("digamma",)                     # PyTorch's has 10 digits, and none at the poles
SIGNS = ("copysign", "signbit")             # they show the sign of a NaN, which in bf16 is PyTorch's alone


def of(lib: Any, name: str, surface: Surface) -> Callable[..., Any]:
    return getattr(lib.special if surface.is_special else lib, name)


def calls(name: str) -> tuple[ops.Elementwise, Callable[..., Any], Callable[..., Any]]:
    op, surface = ROWS[name]
    return op, of(fb, name, surface), of(theirs(), name, surface)


def theirs_or_none(function: Callable[..., Any], *operands: Any) -> Any:
    """PyTorch's result; None where it has no kernel for these dtypes."""
    try:
        return function(*operands)
    except (RuntimeError, NotImplementedError) as error:
        assert "not implemented" in str(error) or "not yet implemented" in str(error) or "not supported" in str(error)
        return None


def same(found: fb.Tensor, expected: Any, tolerance: float, what: str) -> None:
    """Equal; floats to `tolerance` units of the dtype's epsilon, relative to themselves and to 1."""
    assert tuple(found.shape) == tuple(expected.shape), what
    assert found.dtype.torch_name == str(expected.dtype).removeprefix("torch."), f"{what}: {found.dtype}, {expected.dtype}"
    x, y = (to_numpy(t) for t in (found, expected))
    if not found.dtype.is_floating_point:
        np.testing.assert_array_equal(x, y, err_msg=what)
        return
    bound = tolerance * EPS[found.dtype.torch_name]
    np.testing.assert_allclose(x.astype(np.float64), y.astype(np.float64), rtol=bound, atol=bound, err_msg=what)


def edges(count: int) -> list[np.ndarray]:
    """Every combination of `count` special numbers."""
    return [np.array(column) for column in zip(*itertools.product(EDGES, repeat=count), strict=True)]


def samples(name: str) -> Iterator[list[np.ndarray]]:
    """Operands where the op is smooth, and over a wide range."""
    op, _ = ROWS[name]
    yield next([np.asarray(a, np.float64) for a in s.operands] for s in op.samples())
    rng = np.random.default_rng(len(name))
    yield [rng.standard_normal(40) * np.exp(rng.uniform(-3, 3, 40)) for _ in range(op.arity)]


@every_row
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_agree(name: str, dtype: str) -> None:
    op, mine, other = calls(name)
    for shape in ((5,), ()):
        rng = np.random.default_rng(1)
        arrays = [rng.integers(1, 4, shape) / (1 if dtype[0] in "iub" and dtype != "bf16" else 4) for _ in range(op.arity)]
        expected = theirs_or_none(other, *[as_theirs(a, f"{dtype}[5]") for a in arrays])
        if expected is not None:
            same(mine(*[as_ours(a, f"{dtype}[5]") for a in arrays]), expected, 16, f"{name} {dtype}")


@every_row
@pytest.mark.parametrize("dtype", ["f16", "bf16", "f32", "f64"])
def test_values_agree_at_the_edges(name: str, dtype: str) -> None:
    op, mine, other = calls(name)
    arrays = edges(op.arity)
    if dtype == "bf16" and name in SIGNS:
        arrays = [a[~np.isnan(arrays[-1])] for a in arrays]
    if name in INFINITE_OF_OUR_OWN:
        arrays = [a[np.isfinite(arrays[0]) & np.isfinite(arrays[-1])] for a in arrays]
    expected = theirs_or_none(other, *[as_theirs(a, f"{dtype}[5]") for a in arrays])
    if expected is not None:
        operands = [as_ours(a, f"{dtype}[5]") for a in arrays]
        tolerance = LESS_EXACT_THERE.get(name, 16) if dtype == "f64" else 16
        same(mine(*operands), expected, tolerance, f"{name} {dtype}")
        if not (op.is_wide and dtype.endswith("16")):       # long: the registry's tests compile them
            same(fb.compile(mine)(*operands), expected, tolerance, f"compiled {name} {dtype}")


@every_row
def test_zeros_keep_their_signs_as_they_do_there(name: str) -> None:
    op, mine, other = calls(name)
    arrays = edges(op.arity)
    expected = theirs_or_none(other, *[as_theirs(a, "f64[5]") for a in arrays])
    if expected is not None and expected.is_floating_point() and name not in ZEROS_OF_OUR_OWN:
        found, wanted = to_numpy(mine(*[as_ours(a, "f64[5]") for a in arrays])), to_numpy(expected)
        zeros = (wanted == 0) & (found == 0)
        np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(wanted[zeros]))


@every_row
def test_gradients_agree(name: str) -> None:
    op, mine, other = calls(name)
    if name in GRADIENTS_OF_OUR_OWN or not any(op.partials):
        return
    for arrays in [*samples(name), edges(op.arity)]:
        outside = np.isnan(to_numpy(other(*[as_theirs(a, "f64[5]") for a in arrays])))
        if name in (*TRIGAMMA, *INFINITE_OF_OUR_OWN, "log_ndtr"):
            outside |= ~np.isfinite(arrays[0]) | ~np.isfinite(arrays[-1]) | (arrays[0] == np.floor(arrays[0]))
        arrays = [a[~outside] for a in arrays]              # where there is no value, a slope means nothing
        operands = [as_ours(a, "f64[5]") for a in arrays], [as_theirs(a, "f64[5]") for a in arrays]
        try:
            result = other(*operands[1])
            if not result.requires_grad:
                return
            result.sum().backward()
        except (RuntimeError, NotImplementedError) as error:
            assert "not implemented" in str(error)
            for y, partial in zip(operands[1], op.partials, strict=True):       # those that it does have
                y.requires_grad_(partial is not None)
            try:
                other(*operands[1]).sum().backward()
            except (RuntimeError, NotImplementedError):
                return
        mine(*operands[0]).sum().backward()
        tolerance = 2.0**26 if name in TRIGAMMA else 2.0**14
        for x, y in zip(*operands, strict=True):
            if not y.requires_grad:
                continue
            assert x.grad is not None
            same(x.grad, y.grad, tolerance, f"the gradient of {name} at {[a.tolist() for a in arrays]}")


@every_row
def test_integers_and_numbers_promote_alike(name: str) -> None:
    op, mine, other = calls(name)
    if op.arity == 1:
        return
    for left, right in itertools.product(("f16", "f32", "f64", "u8", "i64", "bool"), repeat=2):
        operands = [np.array([1, 2, 3]) / (1 if d[0] in "iub" else 2) for d in (left, right)]
        expected = theirs_or_none(other, as_theirs(operands[0], f"{left}[3]"), as_theirs(operands[1], f"{right}[3]"))
        if expected is not None:
            found = mine(as_ours(operands[0], f"{left}[3]"), as_ours(operands[1], f"{right}[3]"))
            same(found, expected, 16, f"{name} {left} {right}")


@every_row
def test_methods_agree(name: str) -> None:
    op, surface = ROWS[name]
    for names, is_there in (((name, *surface.aliases), surface.is_method),
                            ([f"{n}_" for n in (name, *surface.aliases)], surface.is_method and surface.is_in_place)):
        for method in names:
            assert hasattr(fb.Tensor, method) == (is_there and not surface.is_special), method
            if not hasattr(fb.Tensor, method) or not hasattr(theirs().Tensor, method):
                continue
            is_float = op.domain in ("float", "number", "any", "bool")
            arrays = [np.array([1, 2, 3]) / (4 if is_float else 1) for _ in range(op.arity)]
            spec = "f32[3]" if is_float else "i64[3]"
            mine = [as_ours(a, spec).detach() for a in arrays]
            other = [as_theirs(a, spec).detach() for a in arrays]
            found, expected = getattr(mine[0], method)(*mine[1:]), getattr(other[0], method)(*other[1:])
            assert (found is mine[0]) == method.endswith("_")
            same(found, expected, 16, method)


@every_row
def test_pytorch_has_it_by_that_name_and_parameters(name: str) -> None:
    op, surface = ROWS[name]
    torch = theirs()
    for alias in (name, *surface.aliases):
        function = of(torch, alias, surface)
        operands = [torch.ones(2, dtype=torch.bool if op.domain == "bool" else torch.int64 if "int" in op.domain
                               else torch.float32) for _ in range(op.arity)]
        function(**dict(zip(surface.parameters, operands, strict=False)))
    assert all(hasattr(torch.special, n) for n in surface.special)
    if not surface.is_special:
        assert hasattr(torch.Tensor, name) == surface.is_method
        assert hasattr(torch.Tensor, f"{name}_") >= surface.is_in_place
