"""A step length that satisfies the strong Wolfe conditions. Nocedal and Wright, "Numerical Optimization", algorithms 3.5
and 3.6, with the safeguards of Schmidt's minFunc (2005), which PyTorch's LBFGS follows too."""
from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import NamedTuple

from flambeau.frontend.tensor.tensor import Tensor

DECREASE, CURVATURE = 1e-4, 0.9             # c1 and c2


class Point(NamedTuple):
    """A place on the line: how far along it, the loss, its gradient there and its slope along the line."""

    at: float
    loss: float
    gradient: Tensor
    slope: float


def strong_wolfe(evaluate: Callable[[float], Point], start: Point, step: float, extent: float, tolerance: float,
                 most: int) -> tuple[Point, int]:
    """The point to go to, and how often the loss was evaluated. extent: the largest element of the direction;
    intervals in which nothing moves by more than `tolerance` are not divided. After the first, the loss is evaluated
    `most` times at most."""
    previous, now, count = start, evaluate(step), 1
    bracket: list[Point] = []
    while not bracket:
        if count > most:
            bracket = [start, now]
        elif _is_too_high(now, start) or (count > 2 and now.loss >= previous.loss):
            bracket = [previous, now]
        elif abs(now.slope) <= -CURVATURE * start.slope:
            return now, count
        elif now.slope >= 0:
            bracket = [previous, now]
        else:
            bounds = now.at + 0.01 * (now.at - previous.at), now.at * 10
            previous, now = now, evaluate(cubic_minimum(previous, now, bounds))
            count += 1
    return _zoom(evaluate, start, bracket, count, extent, tolerance, most)


def _is_too_high(point: Point, start: Point) -> bool:
    return point.loss > start.loss + DECREASE * point.at * start.slope


def _zoom(evaluate: Callable[[float], Point], start: Point, bracket: list[Point], count: int, extent: float,
          tolerance: float, most: int) -> tuple[Point, int]:
    """Narrow an interval that holds an acceptable point, its better end being `low`."""
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    is_stuck = False
    while count <= most and abs(bracket[1].at - bracket[0].at) * extent >= tolerance:
        left, right = sorted((bracket[0].at, bracket[1].at))
        step, margin = cubic_minimum(bracket[0], bracket[1], (left, right)), 0.1 * (right - left)
        if min(right - step, step - left) >= margin:
            is_stuck = False
        elif is_stuck or step >= right or step <= left:             # the second time: away from the end
            step = right - margin if abs(step - right) < abs(step - left) else left + margin
            is_stuck = False
        else:
            is_stuck = True
        now = evaluate(step)
        count += 1
        if _is_too_high(now, start) or now.loss >= bracket[low].loss:
            bracket[high] = now
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        is_done = abs(now.slope) <= -CURVATURE * start.slope
        if not is_done and now.slope * (bracket[high].at - bracket[low].at) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = now
        if is_done:
            break
    return bracket[low], count


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """Where the cubic through both points and their slopes is least within the bounds; their middle when it has no
    minimum. Nocedal and Wright, equation 3.59."""
    first, second = (a, b) if a.at <= b.at else (b, a)
    bend = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.at - b.at)
    square = bend**2 - a.slope * b.slope
    if not square >= 0:
        return (bounds[0] + bounds[1]) / 2.0
    root = sqrt(square)
    share = (second.slope + root - bend) / (second.slope - first.slope + 2 * root)
    return min(max(second.at - (second.at - first.at) * share, bounds[0]), bounds[1])
