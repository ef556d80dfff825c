"""One scalar instruction -> a Python expression of the language of kernels, by one table of its own.

Numbers have numba's types: f32 and f64 are float32 and float64; f16 and bf16 are float32 values that those types can
hold, rounded after each op by `f16(x)` and `bf16(x)`; ints and bools are their own types. Where ints meet, numba widens
them to 64 bits, so that results of narrower ints are cast back, which is how they wrap.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType

__all__ = ["cast", "constant", "expression", "loaded", "numba_type", "rounded", "stored"]

Rule = Callable[..., str]               # (dtype of the operands, operands) -> expression, not yet rounded


def numba_type(dtype: DType) -> str:
    """The name of the type that values of `dtype` are computed in."""
    if dtype.is_floating_point:
        return "float64" if dtype is dt.f64 else "float32"
    return "boolean" if dtype is dt.bool_ else dtype.torch_name


def constant(value: float | int | bool, dtype: DType) -> str:
    """A number of `dtype`, rounded to it."""
    if dtype is dt.bool_:
        return str(bool(value))
    if not dtype.is_floating_point:
        return f"{numba_type(dtype)}({int(value)})"
    number = float(dt.to_compute(dt.to_storage(np.asarray(value, np.float64).astype(dtype.compute), dtype), dtype))
    shown = {math.inf: "math.inf", -math.inf: "-math.inf"}.get(number, "math.nan" if math.isnan(number) else repr(number))
    return f"{numba_type(dtype)}({shown})"


def expression(op: str, dtype: DType, operands: Sequence[str], attr: object = None) -> str:
    """`op` of operands of `dtype`, as a value of the op's result type. Raises KeyError for what needs more than its
    operands."""
    if op in _TESTS:
        return _TESTS[op](dtype, *operands)
    if op == "select":
        return f"({operands[1]} if {operands[0]} else {operands[2]})"
    if op == "philox":
        return f"philox({', '.join(operands)}, {attr})"
    return rounded((_FLOAT if dtype.is_floating_point else _INT)[op](dtype, *operands), dtype)


def rounded(text: str, dtype: DType) -> str:
    """`text`, computed as numba computes, as a number of `dtype`."""
    if dtype in (dt.f16, dt.bf16):
        return f"{dtype.name}({text})"
    return f"{numba_type(dtype)}({text})" if dtype.is_integer and dtype.itemsize < 8 else text


def cast(text: str, source: DType, target: DType) -> str:
    """`text` of dtype `source` as `target`: a float to an int saturates, and NaN is 0; an int to an int wraps."""
    if source is target:
        return text
    if target is dt.bool_:
        return f"({text} != 0)" if source is not dt.u64 else f"({text} != uint64(0))"
    if target.is_integer and source.is_floating_point:
        return _saturated(text, source, target)
    if not target.is_floating_point:
        return f"{numba_type(target)}({text})"
    if target is dt.f16 and not (source.is_floating_point and source.itemsize < 8):
        return f"f16_of_f64({'' if source is dt.f64 else 'float64'}({text}))"
    kind = numba_type(target)
    return rounded(text if numba_type(source) == kind else f"{kind}({text})", target)


def loaded(text: str, dtype: DType) -> str:
    """`text`, as it lies in memory, as a number of `dtype`."""
    if dtype in (dt.f16, dt.bf16):
        return f"{dtype.name}_from({text})"
    return f"{text} != 0" if dtype is dt.bool_ else text


def stored(text: str, dtype: DType) -> str:
    """A number of `dtype` as it lies in memory."""
    if dtype in (dt.f16, dt.bf16):
        return f"{dtype.name}_to({text})"
    return f"uint8({text})" if dtype is dt.bool_ else text


def _saturated(text: str, source: DType, target: DType) -> str:
    kind, info = numba_type(target), np.iinfo(target.storage)
    above, below = constant(float(info.max) + (info.bits < 64), dt.f64), constant(float(info.min), dt.f64)
    if numba_type(source) == "float32":
        above, below = above.replace("float64", "float32"), below.replace("float64", "float32")
    return (f"({kind}({info.max}) if {text} >= {above} else {kind}({info.min}) if {text} <= {below} "
            f"else {kind}(0) if {text} != {text} else {kind}({text}))")


def _infix(sign: str) -> Rule:
    return lambda dtype, a, b: f"{a} {sign} {b}"


def _test(sign: str) -> Rule:
    return lambda dtype, a, b: f"(int32({a}) {sign} int32({b}))" if dtype is dt.bool_ else f"({a} {sign} {b})"


def _device(name: str) -> Rule:
    """A function of CUDA's device library, which has one for each float type."""
    return lambda dtype, *operands: f"libdevice.{_named(name, dtype)}({', '.join(operands)})"


def _named(name: str, dtype: DType) -> str:
    return name if dtype is dt.f64 else name + "f"


def _one(dtype: DType) -> str:
    return constant(1.0, dtype)


def _zero(dtype: DType) -> str:
    return constant(0, dtype)


def _float_floordiv(dtype: DType, a: str, b: str) -> str:
    rest = _device("fmod")(dtype, a, b)
    return (f"float_floordiv({a}, {b}, {rest}, libdevice.{_named('floor', dtype)}, "
            f"libdevice.{_named('copysign', dtype)})")


def _shift(sign: str, past: Callable[[DType, str], str]) -> Rule:
    def shifted(dtype: DType, a: str, b: str) -> str:
        bits = 8 * dtype.itemsize
        inside = f"(0 <= {b}) & ({b} < {bits})" if dtype.is_signed else f"{b} < {constant(bits, dtype)}"
        return f"({numba_type(dtype)}({a} {sign} {b}) if {inside} else {past(dtype, a)})"

    return shifted


_TESTS: Final[dict[str, Rule]] = {
    "eq": _test("=="), "ne": _test("!="), "lt": _test("<"), "le": _test("<="), "gt": _test(">"), "ge": _test(">="),
    "isnan": lambda dtype, a: f"({a} != {a})",
    "isinf": lambda dtype, a: f"(abs({a}) == math.inf)",
    "isfinite": lambda dtype, a: f"(abs({a}) < math.inf)",
}

_FLOAT: Final[dict[str, Rule]] = {
    "add": _infix("+"), "sub": _infix("-"), "mul": _infix("*"), "div": _infix("/"),
    "neg": lambda dtype, a: f"-{a}",
    "abs": lambda dtype, a: f"abs({a})",
    "sign": lambda dtype, a: f"({_one(dtype)} if {a} > 0 else -{_one(dtype)} if {a} < 0 else {_zero(dtype)} "
                             f"if {a} == 0 else {a})",
    "floordiv": _float_floordiv,
    "mod": lambda dtype, a, b: f"float_mod({_device('fmod')(dtype, a, b)}, {b})",
    "fmod": _device("fmod"),
    "truncdiv": lambda dtype, a, b: _device("trunc")(dtype, f"{a} / {b}"),
    "min": lambda dtype, a, b: f"{'float' if dtype is dt.f64 else 'f32'}_min({a}, {b})",
    "max": lambda dtype, a, b: f"{'float' if dtype is dt.f64 else 'f32'}_max({a}, {b})",
    "fma": _device("fma"), "pow": _device("pow"), "copysign": _device("copysign"), "sqrt": _device("sqrt"),
    "rsqrt": lambda dtype, a: f"{_one(dtype)} / {_device('sqrt')(dtype, a)}",
    "sigmoid": lambda dtype, a: f"{_one(dtype)} / ({_one(dtype)} + {_device('exp')(dtype, f'-{a}')})",
    "round": _device("rint"),
    **{name: _device(name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
        "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "erf", "erfc", "floor", "ceil", "trunc")},
}

_INT: Final[dict[str, Rule]] = {                # and bools, where they have the op
    "add": _infix("+"), "sub": _infix("-"), "mul": _infix("*"),
    "neg": lambda dtype, a: f"{_zero(dtype)} - {a}",
    "abs": lambda dtype, a: f"abs({a})" if dtype.is_signed else a,
    "sign": lambda dtype, a: f"({constant(1, dtype)} if {a} > {_zero(dtype)} else {constant(-1, dtype)} if {a} < 0 "
                             f"else {_zero(dtype)})" if dtype.is_signed else
                             f"({constant(1, dtype)} if {a} != {_zero(dtype)} else {_zero(dtype)})",
    "floordiv": lambda dtype, a, b: f"int_floordiv({a}, {b})" if dtype.is_signed else f"{a} // {b}",
    "mod": lambda dtype, a, b: f"int_mod({a}, {b})" if dtype.is_signed else f"{a} % {b}",
    "truncdiv": lambda dtype, a, b: f"int_truncdiv({a}, {b})" if dtype.is_signed else f"{a} // {b}",
    "fmod": lambda dtype, a, b: f"int_fmod({a}, {b})" if dtype.is_signed else f"{a} % {b}",
    "pow": lambda dtype, a, b: f"int_pow({a}, {b})" if dtype is not dt.u64 else f"uint64_pow({a}, {b})",
    "min": lambda dtype, a, b: f"{a} & {b}" if dtype is dt.bool_ else f"({a} if {a} < {b} else {b})",
    "max": lambda dtype, a, b: f"{a} | {b}" if dtype is dt.bool_ else f"({a} if {a} > {b} else {b})",
    "fma": lambda dtype, a, b, c: f"{a} * {b} + {c}",
    "and": _infix("&"), "or": _infix("|"), "xor": _infix("^"),
    "not": lambda dtype, a: f"{a} ^ True" if dtype is dt.bool_ else f"~{a}",
    "shl": _shift("<<", lambda dtype, a: _zero(dtype)),
    "shr": _shift(">>", lambda dtype, a: f"({constant(-1, dtype)} if {a} < 0 else {_zero(dtype)})"
                  if dtype.is_signed else _zero(dtype)),
}
