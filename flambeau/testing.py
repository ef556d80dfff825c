"""`fb.testing.assert_close`, for tests of programs that use tensors."""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from flambeau.frontend.functions.creation import as_tensor
from flambeau.frontend.tensor.promotion import promote_types
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

_TOLERANCES: Final[dict[DType, tuple[float, float]]] = {         # relative, absolute
    dt.f16: (1e-3, 1e-5), dt.bf16: (1.6e-2, 1e-5), dt.f32: (1.3e-6, 1e-5), dt.f64: (1e-7, 1e-7)}


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None,
                 atol: float | None = None, equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True,
                 check_layout: bool = True, check_stride: bool = False,
                 msg: str | Callable[[str], str] | None = None) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol * |expected| everywhere, for tensors, numbers and
    sequences or mappings of them.

    rtol and atol are given both or not at all: by the dtype then (1.3e-6 and 1e-5 for float32, 0 for integers). Shapes
    must be equal, and dtypes unless check_dtype is False. msg: what is said instead."""
    if (rtol is None) is not (atol is None):
        raise ValueError("rtol and atol must both be specified or both be unspecified, but got no value for "
                         f"{'rtol' if rtol is None else 'atol'}")
    problem = _difference(actual, expected, rtol, atol, equal_nan, check_dtype, "")
    if problem is not None:
        raise AssertionError(msg(problem) if callable(msg) else msg or problem)


def _difference(actual: Any, expected: Any, rtol: float | None, atol: float | None, equal_nan: bool, check_dtype: bool,
                place: str) -> str | None:
    """What differs, in words."""
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        if set(actual) != set(expected):
            return f"The keys of the mappings do not match{place}: {sorted(map(str, set(actual) ^ set(expected)))}"
        pairs = [(f"{place}[{key!r}]", actual[key], expected[key]) for key in actual]
    elif isinstance(actual, Sequence) and isinstance(expected, Sequence) and not isinstance(actual, str):
        if len(actual) != len(expected):
            return f"The length of the sequences mismatch{place}: {len(actual)} != {len(expected)}"
        pairs = [(f"{place}[{n}]", a, b) for n, (a, b) in enumerate(zip(actual, expected, strict=True))]
    else:
        return _tensors_differ(actual, expected, rtol, atol, equal_nan, check_dtype, place)
    found = (_difference(a, b, rtol, atol, equal_nan, check_dtype, where) for where, a, b in pairs)
    return next((problem for problem in found if problem is not None), None)


def _tensors_differ(actual: Any, expected: Any, rtol: float | None, atol: float | None, equal_nan: bool,
                    check_dtype: bool, place: str) -> str | None:
    if actual is None or expected is None:
        return None if actual is expected else f"None mismatch{place}: {actual} is not {expected}"
    numbers = not isinstance(actual, Tensor) and not isinstance(expected, Tensor)
    x, y = (as_tensor(t, dtype=dt.f64 if isinstance(t, float) else None).detach() for t in (actual, expected))
    if x.shape != y.shape:
        return f"The values for attribute 'shape' do not match{place}: {tuple(x.shape)} != {tuple(y.shape)}."
    if check_dtype and not numbers and x.dtype is not y.dtype:
        return f"The values for attribute 'dtype' do not match{place}: {x.dtype!r} != {y.dtype!r}."
    if rtol is None or atol is None:
        given = [_TOLERANCES.get(t.dtype, (0.0, 0.0)) for t in (x, y)]
        rtol, atol = max(r for r, _ in given), max(a for _, a in given)
    common = promote_types(x.dtype, y.dtype)
    wide = common if not common.is_floating_point else dt.f64
    a, b = x.to(wide).numpy(), y.to(wide).numpy()
    with np.errstate(all="ignore"):
        off = ~np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan) if wide is dt.f64 or rtol or atol else a != b
    if not off.any():
        return None
    if not x.ndim:
        return f"Scalars are not close{place}!\n\nExpected {b.item()} but got {a.item()}."
    with np.errstate(all="ignore"):
        distance = np.abs(a.astype(float) - b.astype(float))
    worst = np.unravel_index(int(np.nanargmax(np.where(off, np.nan_to_num(distance, nan=np.inf), -1.0))), a.shape)
    return (f"Tensor-likes are not close{place}!\n\nMismatched elements: {int(off.sum())} / {a.size} "
            f"({100 * off.mean():.1f}%)\nGreatest absolute difference: {distance[worst]} at index "
            f"{tuple(map(int, worst))} (up to {atol} allowed)\nrelative tolerance {rtol}")


def make_tensor(*shape: Any, dtype: DType, device: Any = "cpu", low: float | None = None, high: float | None = None,
                requires_grad: bool = False, noncontiguous: bool = False, exclude_zero: bool = False,
                memory_format: Any = None) -> Tensor:
    """Random elements of a dtype, uniform in [low, high): floats in [-9, 9), integers in their range within that.

    noncontiguous: every second element of a larger tensor. memory_format is accepted: tensors are row-major."""
    sizes = shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    least = -9 if dtype.is_signed else 0
    low, high = least if low is None else low, (10 if not dtype.is_floating_point else 9) if high is None else high
    rng = np.random.default_rng()
    array: np.ndarray
    if dtype is dt.bool_:
        array = rng.integers(0, 2, sizes)
    elif dtype.is_floating_point:
        array = rng.uniform(low, high, sizes)
    else:
        array = rng.integers(int(low), int(high), sizes)
    if exclude_zero:
        array = np.where(array == 0, 1, array)
    if noncontiguous and array.size > 1:
        return as_tensor(np.repeat(array, 2, axis=-1), dtype=dtype)[..., ::2].requires_grad_(requires_grad)
    return as_tensor(array, dtype=dtype).requires_grad_(requires_grad)


__all__ = ["assert_close", "make_tensor"]
