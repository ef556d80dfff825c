"""Module 0: functions of numbers, and functions of lists. The former take our tensors too, element by element."""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import flambeau as fb

EPS = 1e-6              # what log adds to its operand
CLOSE = 1e-2            # what is_close allows

Map = Callable[[Any], Any]
Zip = Callable[[Any, Any], Any]


def mul(x: Any, y: Any) -> Any:
    """x * y"""
    return x * y


def id(x: Any) -> Any:
    """x"""
    return x


def add(x: Any, y: Any) -> Any:
    """x + y"""
    return x + y


def neg(x: Any) -> Any:
    """-x"""
    return -x


def lt(x: Any, y: Any) -> Any:
    """1 where x < y, or else 0."""
    return _as_number(x < y)


def eq(x: Any, y: Any) -> Any:
    """1 where x equals y, or else 0."""
    return _as_number(x == y)


def max(x: Any, y: Any) -> Any:
    """The larger one."""
    if isinstance(x, fb.Tensor):
        return fb.maximum(x, y)
    return x if x > y else y


def is_close(x: Any, y: Any) -> Any:
    """1 where |x - y| < 0.01, or else 0."""
    return _as_number(abs(x - y) < CLOSE)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)"""
    if isinstance(x, fb.Tensor):
        return fb.sigmoid(x)
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))          # exp(-x) could overflow


def relu(x: Any) -> Any:
    """x where it is positive, or else 0."""
    if isinstance(x, fb.Tensor):
        return fb.relu(x)
    return x if x > 0 else 0.0


def log(x: Any) -> Any:
    """log(x + 1e-6)"""
    return fb.log(x + EPS) if isinstance(x, fb.Tensor) else math.log(x + EPS)


def exp(x: Any) -> Any:
    """e^x"""
    return fb.exp(x) if isinstance(x, fb.Tensor) else math.exp(x)


def log_back(x: Any, d: Any) -> Any:
    """d times the derivative of log at x."""
    return d / (x + EPS)


def inv(x: Any) -> Any:
    """1 / x"""
    return 1.0 / x


def inv_back(x: Any, d: Any) -> Any:
    """d times the derivative of inv at x."""
    return -d / (x * x)


def relu_back(x: Any, d: Any) -> Any:
    """d times the derivative of relu at x."""
    if isinstance(x, fb.Tensor):
        return fb.where(x > 0, d, 0.0)
    return d if x > 0 else 0.0


def _as_number(truth: Any) -> Any:
    return truth.to(fb.float64) if isinstance(truth, fb.Tensor) else float(truth)


# -- lists ------------------------------------------------------------------------------------------------------------


def map(fn: Map) -> Callable[[Iterable[Any]], list[Any]]:
    """A function that applies fn to each element of a list."""
    return lambda ls: [fn(x) for x in ls]


def zipWith(fn: Zip) -> Callable[[Iterable[Any], Iterable[Any]], list[Any]]:
    """A function that applies fn to the pairs of two lists of one length."""
    return lambda ls1, ls2: [fn(x, y) for x, y in zip(ls1, ls2, strict=True)]


def reduce(fn: Zip, start: Any) -> Callable[[Iterable[Any]], Any]:
    """A function that folds a list: fn(element, what came before), from start on."""
    return lambda ls: functools.reduce(lambda before, x: fn(x, before), ls, start)


def negList(ls: Iterable[Any]) -> list[Any]:
    """Each element negated."""
    return map(neg)(ls)


def addLists(ls1: Iterable[Any], ls2: Iterable[Any]) -> list[Any]:
    """The sums of pairs."""
    return zipWith(add)(ls1, ls2)


def sum(ls: Iterable[Any]) -> Any:
    """The sum; 0 of nothing."""
    return reduce(add, 0.0)(ls)


def prod(ls: Iterable[Any]) -> Any:
    """The product; 1 of nothing."""
    return reduce(mul, 1.0)(ls)


OF_ELEMENTS = frozenset({mul, id, add, neg, lt, eq, max, is_close, sigmoid, relu, log, exp, log_back, inv, inv_back,
                         relu_back})
