"""`_foreach_*`: functions of every tensor of a list, against PyTorch's, eager and compiled, and what they leave behind."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from against_torch import ours, theirs

import flambeau as fb

_UNARY = ("abs acos asin atan ceil clone cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 max neg norm "
          "powsum reciprocal round rsqrt sigmoid sign sin sinh sqrt tan tanh trunc").split()
_RESULTS_ONLY = ("clone", "max", "norm", "powsum")


def _rows(lib: Any, start: float) -> list[Any]:
    return [lib.tensor([start, 0.25]), lib.tensor([[0.1, 0.2, 0.7]])]


def _both(of: Callable[[Any], Callable[[list[Any]], Any]]) -> None:
    """The results, and the tensors as they are left; a compiled call is the same."""
    def run(lib: Any, how: Callable[[Any], Any]) -> list[np.ndarray]:
        given = _rows(lib, 0.5)
        return [np.asarray(t) for t in (*how(of(lib))(given), *given)]

    wanted = run(theirs(), lambda f: f)
    for found in (run(ours, lambda f: f), run(ours, fb.compile)):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("names", [_UNARY[::2], _UNARY[1::2]])
def test_of_each(names: list[str]) -> None:
    def of(lib: Any) -> Callable[[list[Any]], Any]:
        functions = [getattr(lib, f"_foreach_{name}") for name in names]
        in_place = [getattr(lib, f"_foreach_{name}_") for name in names if name not in _RESULTS_ONLY]

        def call(given: list[Any]) -> list[Any]:
            results = [t for function in functions for t in function(given)]
            for function in in_place:
                results += function([t.clone() for t in given])
            return results

        return call

    _both(of)


@pytest.mark.parametrize("name", "add sub mul div pow maximum minimum clamp_min clamp_max".split())
def test_with_numbers_and_with_lists(name: str) -> None:
    def of(lib: Any) -> Callable[[list[Any]], Any]:
        function, in_place = getattr(lib, f"_foreach_{name}"), getattr(lib, f"_foreach_{name}_")
        others = [2.0, [1.0, 2.0], _rows(lib, 1.5), *([lib.tensor(0.3)] if name in ("add", "mul", "div") else [])]
        named = {"exponent" if name == "pow" else "other": _rows(lib, 3.0)}
        options = {"alpha": 0.5} if name in ("add", "sub") else {}

        def call(given: list[Any]) -> list[Any]:
            results = [t for other in others for t in function(given, other)]
            in_place(given, others[2])
            return results + list(function(given, **named, **options))

        return call

    _both(of)


def test_with_two_lists() -> None:
    def of(lib: Any) -> Callable[[list[Any]], Any]:
        lerp, lerp_, power, copy_, zero_, mm = (getattr(lib, f"_foreach_{name}") for name in (
            "lerp", "lerp_", "pow", "copy_", "zero_", "mm"))
        three = [getattr(lib, f"_foreach_{name}") for name in ("addcmul", "addcdiv", "addcmul_", "addcdiv_")]
        lhs, rhs, weights = _rows(lib, 1.5), _rows(lib, 3.0), lib.tensor([1.0, 3.0])
        matrices = [lib.ones(2, 3)], [lib.ones(3, 2)]

        def call(given: list[Any]) -> list[Any]:
            results = [*lerp(given, lhs, 0.3), *lerp(given, lhs, weights=rhs), *power(2.0, given), *mm(*matrices)]
            lerp_(given, lhs, weight=0.5)
            for function in three:
                results += [*function(given, lhs, rhs), *function(given, lhs, rhs, value=2.5)]
                results += [*function(given, lhs, rhs, [1.0, 2.0]), *function(given, lhs, rhs, scalars=weights)]
            results = [t.clone() for t in results]
            copies = [t.clone() for t in lhs]
            copy_(copies, rhs)
            return [*results, *copies, *zero_([t.clone() for t in lhs])]

        return call

    _both(of)


def test_lists_that_do_not_fit() -> None:
    with pytest.raises(RuntimeError, match="same number of tensors, got 2 and 1"):
        fb._foreach_add(_rows(fb, 1.0), [fb.ones(2)])
    with pytest.raises(RuntimeError, match="at least one"):
        fb._foreach_sqrt([])
    with pytest.raises(RuntimeError, match="0 dim"):
        fb._foreach_mul(_rows(fb, 1.0), fb.ones(2, 2))
    with pytest.raises(TypeError, match="list of tensors"):
        fb._foreach_add(fb.ones(2, 2), 1)
    with pytest.raises(NotImplementedError, match="_foreach_nothing"):
        fb._foreach_nothing
