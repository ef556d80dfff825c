"""Checks of chapter 0: fundamentals."""
from __future__ import annotations

import math
import random
from typing import Any

from flambeau.course.checking import Wrong, check, expect, refuses, returns

NUMBERS = (-3.5, -1.0, -0.25, 0.25, 1.0, 2.0, 7.0)


@check("0.1", "mul, add and neg are what their names say")
def _(m: Any) -> None:
    for x in NUMBERS:
        for y in NUMBERS:
            returns(m.mul, x, y, wanted=x * y)
            returns(m.add, x, y, wanted=x + y)
        returns(m.neg, x, wanted=-x)


@check("0.1", "lt and eq answer with 1.0 or 0.0")
def _(m: Any) -> None:
    for x, y in ((1.0, 2.0), (2.0, 1.0), (2.0, 2.0), (-1.0, 1.0)):
        for function, wanted in ((m.lt, float(x < y)), (m.eq, float(x == y))):
            found = function(x, y)
            if isinstance(found, bool):
                raise Wrong(f"{function.__name__}({x}, {y}) is {found}, a bool",
                            "the answers are multiplied and summed later: give 1.0 for True and 0.0 for False")
            returns(function, x, y, wanted=wanted)


@check("0.1", "maximum is the larger one, and NaN if either is")
def _(m: Any) -> None:
    for x, y in ((1.0, 2.0), (2.0, 1.0), (-2.0, -1.0), (3.0, 3.0)):
        returns(m.maximum, x, y, wanted=max(x, y))
    for x, y in ((math.nan, 1.0), (1.0, math.nan)):
        returns(m.maximum, x, y, wanted=math.nan,
                hint="every comparison with NaN is False, so one of the two orders loses it; only NaN differs from itself")


@check("0.1", "is_close allows for less than 0.01, either way")
def _(m: Any) -> None:
    for x, y in ((1.0, 1.005), (1.005, 1.0), (-1.0, -1.009), (1.0, 1.02), (1.02, 1.0), (5.0, -5.0)):
        returns(m.is_close, x, y, wanted=abs(x - y) < 0.01, hint="it is the distance that counts, which has no sign")


@check("0.1", "sigmoid: between 0 and 1, 1/2 at 0, and the two sides add up to 1")
def _(m: Any) -> None:
    returns(m.sigmoid, 0.0, wanted=0.5)
    for x in NUMBERS:
        returns(m.sigmoid, x, wanted=1 / (1 + math.exp(-x)))
        expect(f"sigmoid({x}) + sigmoid({-x})", m.sigmoid(x) + m.sigmoid(-x), 1.0)


@check("0.1", "sigmoid does not overflow, however far from 0")
def _(m: Any) -> None:
    for x, wanted in ((-1000.0, 0.0), (1000.0, 1.0), (-709.0, 0.0)):
        try:
            returns(m.sigmoid, x, wanted=wanted)
        except OverflowError:
            raise Wrong(f"sigmoid({x}) overflows", "e**1000 is no float. Below 0 use e**x / (1 + e**x), whose power is "
                        "small there") from None


@check("0.1", "relu, log, exp and inv")
def _(m: Any) -> None:
    for x in NUMBERS:
        returns(m.relu, x, wanted=max(x, 0.0))
        returns(m.exp, x, wanted=math.exp(x))
        returns(m.inv, x, wanted=1 / x)
        if x > 0:
            returns(m.log, x, wanted=math.log(x + 1e-6), tolerance=1e-12, hint="it is the logarithm of x + EPS")
    returns(m.log, 0.0, wanted=math.log(1e-6), hint="EPS is there so that log(0) is a number")


@check("0.1", "each _back is d times the slope, as trying shows")
def _(m: Any) -> None:
    for name in ("log", "exp", "inv", "relu", "sigmoid"):
        function, back = getattr(m, name), getattr(m, f"{name}_back")
        for x in (x for x in NUMBERS if x > 0 or name != "log"):
            slope = (function(x + 1e-5) - function(x - 1e-5)) / 2e-5
            for d in (1.0, -2.5):
                returns(back, x, d, wanted=d * slope, tolerance=1e-5,
                        hint=f"{name} rises by {slope:.4g} for each step of 1 at {x}; the d that comes in scales that")
    returns(m.relu_back, 0.0, 3.0, wanted=0.0, hint="at 0 the derivative is taken as 0")


LISTS: tuple[list[float], ...] = ([], [2.0], [1.0, -2.0, 3.0], [0.5] * 7)


@check("0.2", "map_list gives a function of lists")
def _(m: Any) -> None:
    made = m.map_list(lambda x: 10 * x)
    if not callable(made):
        raise Wrong(f"map_list(f) is {made!r}", "it takes f and gives a function; that one takes the list")
    for xs in LISTS:
        expect(f"map_list(x -> 10 x)({xs})", made(xs), [10 * x for x in xs], "f of each element, in a list")


@check("0.2", "zip_lists pairs elements, and refuses lists of two lengths")
def _(m: Any) -> None:
    made = m.zip_lists(lambda x, y: x - y)
    for xs in LISTS:
        expect(f"zip_lists(x, y -> x - y)({xs}, {xs[::-1]})", made(xs, xs[::-1]),
               [x - y for x, y in zip(xs, xs[::-1], strict=True)])
    refuses(made, [1.0, 2.0], [1.0], error=ValueError, hint="zip stops at the shorter list and says nothing; strict=True")


@check("0.2", "reduce_list goes from the left, and starts with start")
def _(m: Any) -> None:
    made = m.reduce_list(lambda x, y: x - y, 100.0)
    for xs in LISTS:
        expect(f"reduce_list(x, y -> x - y, 100.0)({xs})", made(xs), 100.0 - sum(xs),
               "the result so far is f's first argument, and `start` is the result of an empty list")
    made([1.0, 2.0])
    expect("the same function called once more", made([1.0, 2.0]), 97.0, "the result so far must begin again at each call")


@check("0.2", "neg_list, add_lists, sum_list, prod_list and dot")
def _(m: Any) -> None:
    rng = random.Random(0)
    for n in (0, 1, 2, 9):
        xs, ys = ([rng.uniform(-2, 2) for _ in range(n)] for _ in range(2))
        returns(m.neg_list, xs, wanted=[-x for x in xs])
        returns(m.add_lists, xs, ys, wanted=[x + y for x, y in zip(xs, ys, strict=True)])
        returns(m.sum_list, xs, wanted=sum(xs), hint="an empty sum is 0")
        returns(m.prod_list, xs, wanted=math.prod(xs), hint="an empty product is 1: what changes nothing")
        returns(m.dot, xs, ys, wanted=sum(x * y for x, y in zip(xs, ys, strict=True)))


def tree(m: Any) -> Any:
    class Leaf(m.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.weight = m.Parameter(value)
            self.bias = m.Parameter(value + 0.5)
            self.width = 3

    class Tree(m.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = m.Parameter(1.0)
            self.left, self.right = Leaf(2.0), Leaf(3.0)
            self.right.deep = Leaf(4.0)

        def forward(self, x: float) -> float:
            return x * self.scale.value

    return Tree()


@check("0.3", "attributes are found again, whatever they are")
def _(m: Any) -> None:
    t = tree(m)
    expect("t.scale.value", t.scale.value, 1.0)
    expect("t.left.width", t.left.width, 3)
    expect("t.right.deep.bias.value", t.right.deep.bias.value, 4.5)
    expect("t(3.0)", t(3.0), 3.0)


@check("0.3", "an attribute that is nowhere raises AttributeError with its name")
def _(m: Any) -> None:
    t = tree(m)
    refuses(lambda: t.scael, error=AttributeError, naming="scael",
            hint="a __getattr__ that comes to its end gives None, and the mistake shows far from where it was made")
    expect("hasattr(t, 'nothing')", hasattr(t, "nothing"), False)


@check("0.3", "named_parameters: its own, then each child's, with dotted names")
def _(m: Any) -> None:
    wanted = ["scale", "left.weight", "left.bias", "right.weight", "right.bias", "right.deep.weight", "right.deep.bias"]
    expect("names", [name for name, _ in tree(m).named_parameters()], wanted,
           "a child's names get the child's own name and a dot before them, at every level")
    expect("values", [p.value for _, p in tree(m).named_parameters()], [1.0, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5])


@check("0.3", "parameters gives a shared parameter once")
def _(m: Any) -> None:
    t = tree(m)
    t.right.weight = t.left.weight
    expect("how many there are", len(t.parameters()), 6,
           "left.weight and right.weight are one object now: an optimizer that had it twice would step twice")
    expect("how many names", len(t.named_parameters()), 7)


@check("0.3", "what is assigned last counts")
def _(m: Any) -> None:
    t = tree(m)
    t.scale = 5.0
    expect("t.scale after t.scale = 5.0", t.scale, 5.0)
    expect("names", [name for name, _ in t.named_parameters()][:1], ["left.weight"],
           "scale is no parameter any more: take the name out of the other tables")
    t.left = m.Parameter(9.0)
    expect("t.left.value after t.left = Parameter(9.0)", t.left.value, 9.0)
    expect("children", len(t.children()), 1)


@check("0.3", "train and eval reach every module below")
def _(m: Any) -> None:
    t = tree(m)
    modes = lambda: [t.training, t.left.training, t.right.deep.training]
    expect("training at first", modes(), [True] * 3)
    t.eval()
    expect("training after eval()", modes(), [False] * 3, "a module tells its children, and those theirs")
    t.train()
    expect("training after train()", modes(), [True] * 3)
