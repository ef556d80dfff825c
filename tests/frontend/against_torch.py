"""One program, two libraries: runs a function on the same data in Flambeau and in PyTorch, and compares values,
shapes, dtypes and gradients."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.ir.types import parse_type

# Relative error allowed to one op on values near 1, in units of the dtype's epsilon.
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


class Library:
    """`lib.zeros(...)`, `lib.F.relu(...)`, `lib.float32`: PyTorch or Flambeau, whichever runs the case."""

    def __init__(self, module: Any, functional: Any):
        self.module, self.F = module, functional

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


ours = Library(fb, F)


@functools.cache
def theirs() -> Library:
    import torch

    torch.set_num_threads(1)
    return Library(torch, torch.nn.functional)


def drawn(spec: str, seed: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """An array of the type written as in IR text, "f32[2,3]"; integers are drawn from [0, 3)."""
    type = parse_type(spec)
    rng = np.random.default_rng((zlib.crc32(spec.encode()), seed))
    if type.dtype.kind == "bool":
        return rng.random(type.static_shape) < 0.5
    if type.dtype.is_integer:
        return rng.integers(0, 3, type.static_shape).astype(type.dtype.storage)
    return (low + (high - low) * rng.random(type.static_shape)).astype(np.float64)


def as_ours(array: np.ndarray, spec: str) -> fb.Tensor:
    type = parse_type(spec)
    return fb.tensor(np.asarray(array), dtype=type.dtype, requires_grad=type.dtype.is_floating_point)


def as_theirs(array: np.ndarray, spec: str) -> Any:
    torch, type = theirs(), parse_type(spec)
    made = torch.tensor(np.asarray(array)).to(getattr(torch, type.dtype.torch_name))
    return made.requires_grad_() if type.dtype.is_floating_point else made


def to_numpy(value: Any) -> Any:
    if isinstance(value, fb.Tensor):
        return value.detach().numpy()
    if hasattr(value, "detach"):
        value = value.detach()
        return (value.float() if value.dtype == theirs().bfloat16 else value).numpy()
    return value


def check(
    function: Callable[..., Any],
    *specs: str,
    arrays: Sequence[np.ndarray] | None = None,
    tolerance: float = 8,
    gradients: bool = True,
    low: float = -2.0,
    high: float = 2.0,
) -> None:
    """`function(lib, *tensors)` gives the same in both libraries, and so do the gradients of a weighted sum of its
    floating-point results. tolerance: in units of the dtype's epsilon, relative to the largest value."""
    arrays = [drawn(s, i, low, high) for i, s in enumerate(specs)] if arrays is None else arrays
    mine = [as_ours(a, s) for a, s in zip(arrays, specs, strict=True)]
    other = [as_theirs(a, s) for a, s in zip(arrays, specs, strict=True)]
    found, expected = function(ours, *mine), function(theirs(), *other)
    results, wanted = _listed(found), _listed(expected)
    assert len(results) == len(wanted)
    for a, b in zip(results, wanted, strict=True):
        _same(a, b, tolerance)
    if gradients:
        _same_gradients(results, wanted, mine, other, tolerance)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (tuple, list)) else [value]


def _same(a: Any, b: Any, tolerance: float) -> None:
    if not isinstance(a, fb.Tensor):
        assert a == b
        return
    assert tuple(a.shape) == tuple(b.shape), f"shape {tuple(a.shape)}, PyTorch's is {tuple(b.shape)}"
    assert a.dtype.torch_name == str(b.dtype).removeprefix("torch."), (
        f"dtype {a.dtype}, PyTorch's is {b.dtype}"
    )
    x, y = to_numpy(a), to_numpy(b)
    if not a.dtype.is_floating_point:
        np.testing.assert_array_equal(x, y)
        return
    scale = max(float(np.max(np.abs(y[np.isfinite(y)]), initial=0.0)), 1e-3)
    atol = tolerance * EPS[a.dtype.torch_name] * scale
    np.testing.assert_allclose(x.astype(np.float64), y.astype(np.float64), rtol=0, atol=atol)


def _same_gradients(
    results: list[Any], wanted: list[Any], mine: list[Any], other: list[Any], tolerance: float
) -> None:
    pairs = [
        (a, b)
        for a, b in zip(results, wanted, strict=True)
        if isinstance(a, fb.Tensor) and b.is_floating_point()
    ]
    assert [a.requires_grad for a, _ in pairs] == [b.requires_grad for _, b in pairs]
    pairs = [(a, b) for a, b in pairs if b.requires_grad]
    if not pairs:
        return
    weights = [
        np.asarray(np.random.default_rng(7 + i).random(tuple(a.shape)) + 0.5)
        for i, (a, _) in enumerate(pairs)
    ]
    loss = sum(
        ((a.double() * fb.tensor(w)).sum() for (a, _), w in zip(pairs, weights, strict=True)), start=0.0
    )
    loss.backward()
    torch = theirs()
    sum(
        ((b.double() * torch.tensor(w)).sum() for (_, b), w in zip(pairs, weights, strict=True)), start=0.0
    ).backward()
    for x, y in zip(mine, other, strict=True):
        if y.requires_grad:
            zero = y.grad is None or not bool(
                y.grad.any()
            )  # where no derivative flows we leave None, PyTorch 0
            assert x.grad is not None or zero, f"no gradient, PyTorch's is {y.grad}"
            if x.grad is not None:
                _same(x.grad, theirs().zeros_like(y) if y.grad is None else y.grad, 4 * tolerance)
