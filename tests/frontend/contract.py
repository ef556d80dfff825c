"""What the tests of the contract of @fb.compile share: cases that must not be told apart from eager code.

A case is a generator that is given a decorator, `fb.compile` or one that does nothing, and yields what can be seen."""
from __future__ import annotations

import math

import flambeau as fb


class Cases:
    """`@cases.same` must yield the same compiled; `@cases.refused(Error)` the same until the compiled one raises."""

    def __init__(self):
        self.same_cases, self.refused_cases = [], []

    def same(self, case):
        self.same_cases.append(case)
        return case

    def refused(self, error):
        def add(case):
            self.refused_cases.append((case, error))
            return case
        return add


def leaf(*values):
    return fb.tensor(list(values), requires_grad=True)


def seen(value):
    """A comparable picture of what a case yields: dtypes, shapes, values and gradients of tensors too."""
    if isinstance(value, fb.Tensor):
        return ("tensor", str(value.dtype), tuple(value.shape), value.requires_grad, value.detach().tolist(),
                None if value.grad is None else value.grad.tolist())
    if isinstance(value, (list, tuple)):
        return [seen(v) for v in value]
    if isinstance(value, dict):
        return {key: seen(v) for key, v in value.items()}
    return (type(value).__name__, value)


def is_same(a, b) -> bool:
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(is_same, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-8) or a != a and b != b
    return type(a) is type(b) and a == b


def observed(case, decorator):
    """(all that the case yields, the error that ended it)."""
    fb.manual_seed(0)
    found = []
    try:
        found.extend(map(seen, case(decorator)))
    except Exception as error:
        return found, error
    return found, None


def check_same(case) -> None:
    """The case yields the same eagerly and compiled."""
    expected, error = observed(case, lambda f: f)
    assert error is None
    found, error = observed(case, fb.compile)
    if error is not None:
        raise error
    assert is_same(found, expected), f"{found} is not {expected}"


def check_refused(case, error) -> None:
    """The compiled case yields what the eager one does, until it raises `error`."""
    expected, _ = observed(case, lambda f: f)
    found, raised = observed(case, fb.compile)
    assert isinstance(raised, error), f"{found}, then {raised!r}"
    assert is_same(found, expected[:len(found)]), f"{found} is not {expected}"


def name_of(value) -> str:
    """The id of a parameter."""
    return value.__name__
