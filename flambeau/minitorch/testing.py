"""Functions to test with, of floats (MathTest) and of scalars and tensors (MathTestVariable): one argument, two (their
names end in 2), or a list to reduce (red)."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flambeau.minitorch import operators

Named = list[tuple[str, Callable[..., Any]]]


class MathTest:
    """Of floats."""

    neg = staticmethod(lambda a: -a)
    addConstant = staticmethod(lambda a: 5 + a)
    subConstant = staticmethod(lambda a: a - 5)
    multConstant = staticmethod(lambda a: 5 * a)
    square = staticmethod(lambda a: a * a)
    cube = staticmethod(lambda a: a * a * a)
    div = staticmethod(lambda a: a / 5)
    inv = staticmethod(lambda a: operators.inv(a + 3.5))
    sig = staticmethod(lambda a: operators.sigmoid(a))
    log = staticmethod(lambda a: operators.log(a + 100000))
    relu = staticmethod(lambda a: operators.relu(a + 5.5))
    exp = staticmethod(lambda a: operators.exp(a - 200))
    explog = staticmethod(lambda a: operators.log(a + 100000) + operators.exp(a - 200))
    complex = staticmethod(lambda a: operators.log(
        operators.sigmoid(operators.relu(operators.relu(a * 10 + 7) * 6 + 5) * 10)) / 50)
    add2 = staticmethod(lambda a, b: a + b)
    mul2 = staticmethod(lambda a, b: a * b)
    div2 = staticmethod(lambda a, b: a / (b + 5.5))
    gt2 = staticmethod(lambda a, b: operators.lt(b, a + 1.2))
    lt2 = staticmethod(lambda a, b: operators.lt(a + 1.2, b))
    eq2 = staticmethod(lambda a, b: operators.eq(a, b + 5.5))
    sum_red = staticmethod(lambda a: operators.sum(a))
    mean_red = mean_full_red = staticmethod(lambda a: operators.sum(a) / len(a))

    @classmethod
    def _tests(cls) -> tuple[Named, Named, Named]:
        """(name, function) of one argument, of two, and of lists."""
        one: Named = []
        two: Named = []
        red: Named = []
        for name in dir(MathTest):
            if not name.startswith("_"):
                kind = two if name.endswith("2") else red if name.endswith("red") else one
                kind.append((name, getattr(cls, name)))
        return one, two, red

    @classmethod
    def _comp_testing(cls) -> tuple[list[tuple[str, Any, Any]], ...]:
        """(name, function of floats, function of this class)."""
        return tuple([[(name, of_floats, own) for (name, own), (_, of_floats) in zip(ours, theirs, strict=True)]
                      for ours, theirs in zip(cls._tests(), MathTest._tests(), strict=True)])


class MathTestVariable(MathTest):
    """Of scalars and tensors."""

    inv = staticmethod(lambda a: 1.0 / (a + 3.5))
    sig = staticmethod(lambda a: a.sigmoid())
    log = staticmethod(lambda a: (a + 100000).log())
    relu = staticmethod(lambda a: (a + 5.5).relu())
    exp = staticmethod(lambda a: (a - 200).exp())
    explog = staticmethod(lambda a: (a + 100000).log() + (a - 200).exp())
    complex = staticmethod(lambda a: (((a * 10 + 7).relu() * 6 + 5).relu() * 10).sigmoid().log() / 50)
    gt2 = staticmethod(lambda a, b: a + 1.2 > b)
    lt2 = staticmethod(lambda a, b: a + 1.2 < b)
    eq2 = staticmethod(lambda a, b: a == b + 5.5)
    sum_red = staticmethod(lambda a: a.sum(0))
    mean_red = staticmethod(lambda a: a.mean(0))
    mean_full_red = staticmethod(lambda a: a.mean())


__all__ = ["MathTest", "MathTestVariable"]
