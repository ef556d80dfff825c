"""Every op that takes a Python number beside a tensor, numbers around the limits of each dtype, and how a result is
written down in `number_results.txt` (PyTorch's, so that comparing needs no PyTorch).

`python tests/frontend/number_cases.py` writes the file anew, with PyTorch 2.13.
"""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).with_name("number_results.txt")
Case = Callable[[Any, Any, Any], Any]


def _named(name: str) -> Case:
    return lambda lib, x, n: getattr(lib, name)(x, n)


def _functional(name: str) -> Case:
    return lambda lib, x, n: getattr(lib.nn.functional, name)(x, n)


def _operator(function: Callable[[Any, Any], Any]) -> Case:
    return lambda lib, x, n: function(x, n)


def _reflected(function: Callable[[Any, Any], Any]) -> Case:
    return lambda lib, x, n: function(n, x)


def _index(lib: Any, x: Any) -> Any:
    return lib.tensor([1, 0])


def _assigned(lib: Any, x: Any, n: Any) -> Any:
    x = x.clone()
    x[1] = n
    return x


CASES: dict[str, Case] = {
    **{name: _operator(getattr(operator, name)) for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "eq", "ne", "lt", "le", "gt", "ge", "and_", "or_",
        "xor", "lshift", "rshift")},
    **{f"r{name}": _reflected(getattr(operator, name)) for name in (
        "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lt", "ge", "and_", "lshift", "rshift")},
    **{name: _named(name) for name in ("fmod", "float_power", "xlogy", "clamp_min", "clamp_max", "rsub")},
    "rxlogy": lambda lib, x, n: lib.xlogy(n, x),
    "mul_first": lambda lib, x, n: lib.mul(n, x),
    "div_trunc": lambda lib, x, n: lib.div(x, n, rounding_mode="trunc"),
    "div_floor": lambda lib, x, n: lib.div(x, n, rounding_mode="floor"),
    "clamp": lambda lib, x, n: lib.clamp(x, n, 3),
    "where": lambda lib, x, n: lib.where(x > 1, x, n),
    "where_first": lambda lib, x, n: lib.where(x > 1, n, x),
    "where_numbers": lambda lib, x, n: lib.where(x > 1, n, 2),
    "add_alpha": lambda lib, x, n: lib.add(x, x, alpha=n),
    "sub_alpha": lambda lib, x, n: lib.sub(x, x, alpha=n),
    "rsub_alpha": lambda lib, x, n: lib.rsub(x, x, alpha=n),
    "addcmul": lambda lib, x, n: lib.addcmul(x, x, x, value=n),
    "addcdiv": lambda lib, x, n: lib.addcdiv(x, x, x + 3, value=n),
    "lerp": lambda lib, x, n: lib.lerp(x, x * 2, n),
    "full": lambda lib, x, n: lib.full((2,), n, dtype=x.dtype),
    "full_like": lambda lib, x, n: lib.full_like(x, n),
    "new_full": lambda lib, x, n: x.new_full((2,), n),
    "fill_": lambda lib, x, n: x.clone().fill_(n),
    "masked_fill": lambda lib, x, n: x.masked_fill(x > 1, n),
    "index_fill": lambda lib, x, n: x.index_fill(0, _index(lib, x), n),
    "scatter": lambda lib, x, n: x.scatter(0, _index(lib, x), n),
    "index_add_alpha": lambda lib, x, n: x.index_add(0, _index(lib, x), x[:2], alpha=n),
    "assigned": _assigned,
    "tensor": lambda lib, x, n: lib.tensor([n], dtype=x.dtype),
    "nan_to_num": lambda lib, x, n: lib.nan_to_num(x / 0, posinf=n),
    "add_": lambda lib, x, n: x.clone().add_(n),
    "mul_": lambda lib, x, n: x.clone().mul_(n),
    "div_": lambda lib, x, n: x.clone().div_(n),
    "clamp_": lambda lib, x, n: x.clone().clamp_(n),
    "threshold": lambda lib, x, n: lib.nn.functional.threshold(x, 1, n),
    "threshold_at": lambda lib, x, n: lib.nn.functional.threshold(x, n, 3),
    "hardtanh": lambda lib, x, n: lib.nn.functional.hardtanh(x, 0, n),
    **{name: _functional(name) for name in ("leaky_relu", "elu", "softplus", "hardshrink", "softshrink")},
    "isclose": lambda lib, x, n: lib.isclose(x, x + 1, atol=n),
}
_SHORT = {"bool": "b1", "uint8": "u8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "float16": "f16",
          "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
DTYPES = tuple(_SHORT)
INEXACT = {"rtruediv", "floordiv", "div_floor", "pow", "rpow", "float_power", "xlogy", "rxlogy", "elu", "softplus",
           "lerp", "addcmul", "addcdiv", "isclose", "sub_alpha", "add_alpha", "rsub_alpha"}
"""Compared to a few units in the last place: transcendental functions, and sums of products that PyTorch fuses."""

UNDEFINED = {("sub_alpha", "int64"), ("rsub_alpha", "int64"), ("hardtanh", "bool")}
"""Where PyTorch negates -2**63, or takes a NaN for a limit."""

LIMITS = {"uint8": 2**8, "int8": 2**7, "int16": 2**15, "int32": 2**31, "int64": 2**63}


def values(dtype: str) -> list[float]:
    """What the tensor holds."""
    if dtype == "bool":
        return [False, True, True]
    if dtype == "uint8":
        return [1, 200, 255]
    if dtype.startswith("int"):
        return [-5, LIMITS[dtype] - 1, 1 - LIMITS[dtype]]           # -2**63 / -1 ends PyTorch by a signal
    return [-2.0, 60000.0 if dtype == "float16" else 1e30, 0.30000001192092896]


def numbers(dtype: str) -> list[float]:
    """Python numbers that stand beside it."""
    found: list[float] = [True, 0, 1, -1, 2, 7, 0.1, 2.5, -2.5, 65519, 1e-8, math.inf, math.nan, -0.0]
    if dtype in LIMITS:
        high = LIMITS[dtype]
        found += [high - 1, high, high + 44, -high, 2**40 + 3, 2**53 + 1]
        found += [-high - 1, float(high)] if dtype != "int64" else []       # PyTorch's are undefined
    elif dtype.startswith(("float", "bfloat")):
        found += [65520, 1e6, 3.4e38, 1e300, 2**40 + 2]
    else:
        found += [300, -129]
    return found


def ask(case: Case, lib: Any, x: Any, n: Any) -> str:
    """The result of one case as text: its dtype and elements, or "!" where it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return written(case(lib, x, n))
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        assert str(error), "an error without a message"
        return "!"


def written(result: Any) -> str:
    dtype = repr(result.dtype).rpartition(".")[2]
    return f"{_SHORT[dtype]} {' '.join(_number(v) for v in np.ravel(result.tolist()).tolist())}"


def _number(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def same(name: str, found: str, wanted: str, ulps: int = 4) -> bool:
    """Whether two results agree; INEXACT ones within some units in the last place."""
    if found == wanted or name not in INEXACT or "!" in (found, wanted):
        return found == wanted
    (dtype, *mine), (other, *theirs) = found.split(), wanted.split()
    eps = {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "f64": 1e-8}.get(dtype, 0.0)
    return dtype == other and bool(np.allclose(np.array(mine, float), np.array(theirs, float), rtol=ulps * eps, atol=0,
                                               equal_nan=True))


def recorded() -> Iterator[tuple[str, str, list[str]]]:
    """(case, dtype, PyTorch's results for numbers(dtype)) for each line of the file."""
    for line in RESULTS.read_text().splitlines():
        head, *results = line.split("|")
        name, dtype = head.split()
        yield name, dtype, _expanded(results)


def _expanded(results: list[str]) -> list[str]:
    """"=" stands for the result before it."""
    found: list[str] = []
    for result in results:
        found.append(found[-1] if result == "=" else result)
    return found


def _record() -> None:
    import torch

    lines = []
    for name, case in CASES.items():
        for dtype in DTYPES:
            if (name, dtype) in UNDEFINED:
                continue
            x = torch.tensor(values(dtype), dtype=getattr(torch, dtype))
            results = [ask(case, torch, x, n) for n in numbers(dtype)]
            shown = ["=" if i and r == results[i - 1] else r for i, r in enumerate(results)]
            lines.append("|".join([f"{name} {dtype}", *shown]))
    RESULTS.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    _record()
