"""PyTorch's own samples of its operators under the transforms of fb.func, each beside what torch.func gives.

    python tests/frontend/torch_transforms.py [NAME or "GLOB" ...] [--limit N] [--modes jvp,vmap,...]

tells of the samples that differ, those of KNOWN operators aside; test_torch_transforms.py runs some. What PyTorch has no
rule for is left out, but for vmap, where each example alone is the judge: there only what both refuse is.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from frontend.torch_samples import (
    LOOSE,
    Absent,
    Report,
    _rebuilt,
    _samples,
    difference,
    function_of,
    leaves,
    operators,
    translated,
)

import flambeau as fb

TOLERANCE = 1e-6
SMALL = 24              # elements of arguments and of results, for Jacobians
MODES = ("jvp", "vmap", "second", "jacrev", "jacfwd", "hessian")

Function = Callable[..., Any]

TRIANGLE = "PyTorch's tangents count elements outside of the triangle, which nothing reads"
# What differs, and why.
KNOWN: dict[str, str] = {
    **dict.fromkeys(("argwhere", "repeat_interleave"), "mapped in PyTorch where all examples happen to give one size"),
    "as_strided": "what was not contiguous is: strides are of other memory",
    "as_strided_scatter": "its gradient is that of the elements that are replaced",
    "cdist": "PyTorch's second derivative for p=1.5, which jacrev takes, is not that of finite differences",
    "cholesky_inverse": TRIANGLE, "cholesky_solve": TRIANGLE, "triangular_solve": TRIANGLE,
    "linalg.cholesky": "a tangent that is not symmetric is taken as its symmetric part",
    "linalg.cholesky_ex": "a tangent that is not symmetric is taken as its symmetric part",
    **dict.fromkeys(("linalg.ldl_factor", "linalg.ldl_factor_ex", "linalg.ldl_solve"), "not implemented"),
    "linalg.norm": "PyTorch's second derivative of 0 is NaN",
    "logcumsumexp": "PyTorch's tangents have six digits",
    "nn.functional.batch_norm": "PyTorch's second derivative is not that of finite differences",
    "nn.functional.layer_norm": "PyTorch's second derivative is not that of finite differences",
    "nn.functional.linear_cross_entropy": "PyTorch's tangents are 0",
    **dict.fromkeys(("nn.functional.max_unpool1d", "nn.functional.max_unpool2d", "nn.functional.max_unpool3d"),
                    "of several values for one place all have its gradient, as in PyTorch, and so its tangent too"),
    "scatter_reduce": "PyTorch's tangents of prod are 0",
}


class _Hole:
    """Where a differentiated argument was."""

    def __init__(self, number: int):
        self.number = number


def _function(op: Function, args: Any, kwargs: Any, is_hole: Callable[[Any], bool], kind: type
              ) -> tuple[Function, list[Any]]:
    """(The operator as a function of some of its tensors, those tensors); it gives its floating-point results."""
    taken: list[Any] = []

    def take(value: Any) -> Any:
        if isinstance(value, kind) and is_hole(value):
            taken.append(value)
            return _Hole(len(taken) - 1)
        return _rebuilt(value, take)

    rest, named = take(tuple(args)), take(dict(kwargs))

    def function(*given: Any) -> Any:
        def filled(value: Any) -> Any:
            return given[value.number] if isinstance(value, _Hole) else _rebuilt(value, filled)

        found = op(*filled(rest), **filled(named))
        return tuple([t for t in leaves(found, kind) if isinstance(t, kind) and t.is_floating_point()])

    return function, taken


def run(name: str, modes: Sequence[str] = MODES, limit: int = 2) -> Report:
    """Up to `limit` samples of an operator, in float64."""
    report = Report()
    for op in operators()[name]:
        for sample in _samples(op, "f64", limit):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _run_sample(op, sample, modes, report)
    return report


def _run_sample(op: Any, sample: Any, modes: Sequence[str], report: Report) -> None:
    import torch

    given = (sample.input, *sample.args)
    try:
        both = translated(given), translated(sample.kwargs)
        ours = function_of(op)
    except (Absent, AttributeError):
        return
    differentiable = op.supports_autograd
    for mode in modes:
        mapped = mode == "vmap"
        if not mapped and not differentiable:
            continue

        def is_hole(t: Any, mapped: bool = mapped) -> bool:
            return bool(mapped or t.requires_grad)

        theirs, xs = _function(op.op, given, sample.kwargs, is_hole, torch.Tensor)
        mine, ys = _function(ours, *both, is_hole, fb.Tensor)
        xs, ys = [x.detach() for x in xs], [y.detach() for y in ys]
        if not xs or len(xs) != len(ys):
            continue
        if mode in ("jacrev", "jacfwd", "hessian") and sum(x.numel() for x in xs) > SMALL:
            continue
        try:
            expected = _expected(mode, theirs, xs)
        except Exception:
            continue
        if expected is None:
            continue
        try:
            wrong = difference(op.name, expected, _found(mode, mine, ys), TOLERANCE)
        except Exception as error:
            if mode == "vmap" and _refuses(theirs, xs):
                continue
            wrong = f"{type(error).__name__}: {error}"
        report.note(mode, wrong, sample)


def _wave(numel: int, shape: Sequence[int], start: float) -> Any:
    """A tangent or cotangent, as nested data that both frameworks take: no two elements alike, none of them zero."""
    import numpy as np

    return (1.0 + 0.5 * np.sin(start + 1.7 * np.arange(numel))).reshape(tuple(shape))


def _directions(like: Sequence[Any], start: float, made: Callable[[Any], Any]) -> tuple[Any, ...]:
    return tuple([made(_wave(t.numel(), t.shape, start + n)).to(t.dtype) for n, t in enumerate(like)])


def _second(func: Any, function: Function, xs: Sequence[Any], made: Callable[[Any], Any]) -> Any:
    """The gradient of a gradient: vjp of (primals, cotangents) -> vjp(function)."""
    like = function(*xs)
    cts = _directions(like, 0.3, made)

    def first(*given: Any) -> Any:
        return func.vjp(function, *given[:len(xs)])[1](tuple(given[len(xs):]))

    gradients, pull = func.vjp(first, *xs, *cts)
    return pull(_directions(gradients, 0.7, made))


def _transformed(mode: str, func: Any, function: Function, xs: Sequence[Any], made: Callable[[Any], Any]) -> Any:
    at = tuple(range(len(xs)))
    if mode == "jvp":
        return func.jvp(function, tuple(xs), _directions(xs, 0.1, made))
    if mode == "second":
        return _second(func, function, xs, made)
    if mode == "hessian":
        return func.hessian(lambda *given: sum([(t * made(_wave(t.numel(), t.shape, 0.2))).sum()
                                                for t in function(*given)]), argnums=at)(*xs)
    return getattr(func, mode)(function, argnums=at)(*xs)


def _expected(mode: str, function: Function, xs: Sequence[Any]) -> Any:
    import torch

    if mode == "vmap":
        batch = [_examples(x, torch) for x in xs]
        results = [function(*[b[n].clone() for b in batch]) for n in range(2)]
        return [torch.stack(pair) for pair in zip(*results, strict=True)]
    like = function(*xs)
    if not like or mode in ("jacrev", "jacfwd") and sum(t.numel() for t in like) > SMALL:
        return None
    return _transformed(mode, torch.func, function, xs, torch.from_numpy)


def _refuses(function: Function, xs: Sequence[Any]) -> bool:
    """Whether PyTorch's vmap can't do it: results whose size depends on data."""
    import torch

    try:
        torch.vmap(function)(*[_examples(x, torch) for x in xs])
    except Exception:
        return True
    return False


def _found(mode: str, function: Function, ys: Sequence[fb.Tensor]) -> Any:
    if mode == "vmap":
        return fb.vmap(function)(*[_examples(y, fb) for y in ys])
    return _transformed(mode, fb.func, function, ys, fb.from_numpy)


def _examples(t: Any, framework: Any) -> Any:
    """Two examples: a tensor, and another not far from it."""
    return framework.stack([t, t * 0.875 if t.is_floating_point() else t.clone()])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"])
    parser.add_argument("--limit", type=int, default=3, help="samples of each operator (3)")
    parser.add_argument("--modes", default=",".join(MODES))
    options = parser.parse_args()
    total, wrong = Counter[str](), 0
    for name in operators():
        if name not in LOOSE and any(fnmatch.fnmatch(name, pattern) for pattern in options.names):
            report = run(name, options.modes.split(","), options.limit)
            total += report.passed
            if name in KNOWN:
                continue
            wrong += len(report.differences)
            if report.differences:
                print(name, dict(report.passed), flush=True)
                for line in dict.fromkeys(report.differences):
                    print("   ", line, flush=True)
    print(f"{sum(total.values())} as in PyTorch ({dict(total)}), {wrong} not")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
