"""Random programs with gradients, compiled and eager: equal call after call, or refused."""
from __future__ import annotations

from contract import is_same, observed
from gradient_programs import program

import flambeau as fb
from flambeau import nn, optim
from flambeau.errors import FlambeauError


def observed_of(seed: int, decorator):
    names = {"fb": fb, "nn": nn, "optim": optim}
    exec(compile(program(seed), f"<gradient program {seed}>", "exec"), names)
    return observed(names["case"], decorator)


def test_random_programs_leave_the_same_gradients(seeds) -> None:
    for seed in seeds:
        expected, error = observed_of(seed, lambda f: f)
        found, raised = observed_of(seed, fb.compile)
        if not isinstance(raised, FlambeauError):
            assert (error is None) == (raised is None), f"seed {seed}: {error!r}, compiled {raised!r}\n{program(seed)}"
        steps = [n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if not is_same(a, b)]
        assert not steps, f"seed {seed}: step {steps[0]} differs\n{found[steps[0]]}\n{expected[steps[0]]}\n{program(seed)}"
        assert raised is not None or len(found) == len(expected)
