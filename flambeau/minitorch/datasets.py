"""Module 0: points of the unit square in two classes. `random.seed(n)` of Python's chooses the points."""
from __future__ import annotations

import math
import random
from collections.abc import Callable

from flambeau.ir.records import dataclass

Point = tuple[float, float]


@dataclass
class Graph:
    """N points X, and the class (0 or 1) of each in y."""

    N: int
    X: list[Point]
    y: list[int]


def make_pts(N: int) -> list[Point]:
    """N points, uniform in the unit square."""
    return [(random.random(), random.random()) for _ in range(N)]


def _by_rule(N: int, is_one: Callable[[float, float], bool]) -> Graph:
    points = make_pts(N)
    return Graph(N, points, [int(is_one(*point)) for point in points])


def simple(N: int) -> Graph:
    """Left of the middle."""
    return _by_rule(N, lambda a, b: a < 0.5)


def diag(N: int) -> Graph:
    """Below a diagonal."""
    return _by_rule(N, lambda a, b: a + b < 0.5)


def split(N: int) -> Graph:
    """Near the left or the right edge."""
    return _by_rule(N, lambda a, b: a < 0.2 or a > 0.8)


def xor(N: int) -> Graph:
    """Upper left and lower right quarter."""
    return _by_rule(N, lambda a, b: (a < 0.5 < b) or (a > 0.5 > b))


def circle(N: int) -> Graph:
    """Outside of a circle around the middle."""
    return _by_rule(N, lambda a, b: (a - 0.5) ** 2 + (b - 0.5) ** 2 > 0.1)


def spiral(N: int) -> Graph:
    """Two arms of N // 2 points each, from the middle outwards; nothing is random."""
    half = N // 2
    turns = [10 * i / half for i in range(5, 5 + half)]
    first = [(t * math.cos(t) / 20 + 0.5, t * math.sin(t) / 20 + 0.5) for t in turns]
    second = [(t * math.sin(t) / 20 + 0.5, 0.5 - t * math.cos(t) / 20) for t in turns]
    return Graph(2 * half, first + second, [0] * half + [1] * half)


datasets: dict[str, Callable[[int], Graph]] = {
    "Simple": simple, "Diag": diag, "Split": split, "Xor": xor, "Circle": circle, "Spiral": spiral}
