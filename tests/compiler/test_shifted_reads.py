"""Values read at several places, step after step: what is compiled grows with the steps, never with the number of ways
back to the start. Two hundred chains, counted in instructions and in Python calls while compiling."""
from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from call_counts import python_calls

import flambeau as fb
import flambeau.nn.functional as F

Step = Callable[[fb.Tensor], fb.Tensor]
FEW, MANY = 4, 8                   # steps of a short and of a long chain
GROWTH = 2.6                        # of work when the steps double, at most
SIZE = 24


def rolled(x: fb.Tensor, by: int) -> fb.Tensor:
    return x.roll(by, -1)


def padded(x: fb.Tensor, low: int, high: int) -> fb.Tensor:
    return F.pad(x, (low, high))


def overwritten(x: fb.Tensor) -> fb.Tensor:
    y = x.clone()
    y[..., 1:] = x[..., :-1] * 0.5
    return y


STEPS: dict[str, Step] = {
    "heat by roll": lambda x: x + 0.1 * (rolled(x, 1) + rolled(x, -1) - 2 * x),
    "heat by cat": lambda x: x + 0.1 * (fb.cat([x[..., -1:], x[..., :-1]], -1) - x),
    "heat by pad": lambda x: x + 0.1 * (padded(x, 1, 0)[..., :-1] + padded(x, 0, 1)[..., 1:] - 2 * x),
    "heat with fixed ends": lambda x: fb.cat([x[..., :1], (x[..., 2:] + x[..., :-2]) / 2, x[..., -1:]], -1),
    "advection": lambda x: x - 0.2 * (x - rolled(x, 1)),
    "wave": lambda x: fb.tanh(2 * x - rolled(x, 2) * 0.3),
    "held first": lambda x: fb.cat([x[..., :1], x[..., :-1]], -1) * 1.01,
    "halves swapped": lambda x: fb.cat([x[..., SIZE // 2:], x[..., :SIZE // 2]], -1) + x,
    "rotary": lambda x: x * 0.9 + fb.cat([-x[..., SIZE // 2:], x[..., :SIZE // 2]], -1) * 0.4,
    "mirror": lambda x: 0.5 * (x + x.flip(-1)),
    "mirror and roll": lambda x: x.flip(-1) - 0.5 * rolled(x, 3),
    "even and odd": lambda x: fb.cat([x[..., ::2], x[..., 1::2]], -1) + 0.1 * x,
    "interleaved": lambda x: fb.stack([x[..., :SIZE // 2], x[..., SIZE // 2:]], -1).reshape(x.shape) + x,
    "butterfly": lambda x: fb.cat([x[..., :SIZE // 2] + x[..., SIZE // 2:],
                                   x[..., :SIZE // 2] - x[..., SIZE // 2:]], -1) * 0.7,
    "differences": lambda x: padded(x[..., 1:] - x[..., :-1], 1, 0) * 0.5,
    "smoothed": lambda x: (padded(x, 2, 2)[..., :-4] + padded(x, 2, 2)[..., 4:] + x) / 3,
    "written slice": overwritten,
    "chosen side": lambda x: fb.where(x > 0, rolled(x, 1), rolled(x, -1)),
    "largest neighbour": lambda x: fb.maximum(fb.maximum(rolled(x, 1), rolled(x, -1)), x * 0.9),
    "gathered": lambda x: x[..., (fb.arange(SIZE) + 1) % SIZE] + 0.5 * x,
    "running sum": lambda x: x.cumsum(-1) / SIZE,
    "running product": lambda x: (x * 0.1 + 0.9).cumprod(-1),
    "softmaxed": lambda x: (x + rolled(x, 1)).softmax(-1) * SIZE,
    "less its mean": lambda x: rolled(x, 1) - 0.5 * (x - x.mean(-1, keepdim=True)),
    "fivefold": lambda x: sum((rolled(x, k) for k in (-2, -1, 1, 2)), x) / 5,
}
VECTOR, ROWS = (SIZE,), (3, SIZE)


def along_rows(step: Step) -> Step:
    return lambda x: step(x.t()).t() if x.ndim == 2 else step(x)


def checked(step: Step) -> Step:
    return lambda x: fb.sin(step(x) * 1.5)


WAYS: dict[str, tuple[tuple[int, ...], Callable[[Step], Step], bool]] = {
    "a vector": (VECTOR, lambda step: step, False),
    "rows": (ROWS, lambda step: step, False),
    "columns": ((SIZE, 3), along_rows, False),
    "sines": (VECTOR, checked, False),
    "gradient": (VECTOR, lambda step: step, True),
    "gradient of rows": (ROWS, lambda step: step, True),
    "gradient of columns": ((SIZE, 3), along_rows, True),
    "gradient of sines": (ROWS, checked, True),
}


def chain(step: Step, steps: int, differentiated: bool) -> Callable[[fb.Tensor], fb.Tensor]:
    def forward(x: fb.Tensor) -> fb.Tensor:
        for _ in range(steps):
            x = step(x)
        return x

    def backward(x: fb.Tensor) -> fb.Tensor:
        x = x.detach().requires_grad_()
        (forward(x) ** 2).sum().backward()
        assert x.grad is not None
        return x.grad

    return backward if differentiated else forward


LONGEST = ("gradient of rows", "gradient of columns", "gradient of sines")
CHAINS = [pytest.param(name, way, marks=[pytest.mark.slow] if way in LONGEST else [])
          for name, way in itertools.product(STEPS, WAYS)]


@pytest.mark.parametrize(("name", "way"), CHAINS)
def test_work_grows_with_the_steps(name: str, way: str) -> None:
    shape, arranged, differentiated = WAYS[way]
    step = arranged(STEPS[name])
    x = fb.from_numpy(np.random.default_rng(0).standard_normal(shape).astype(np.float32))
    work, instrs = [], []
    for steps in (FEW, MANY):
        function = chain(step, steps, differentiated)
        compiled = fb.compile(function, backend="interpret")
        work.append(python_calls(lambda compiled=compiled: compiled(x)))        # type: ignore[misc]
        instrs.append(sum(len(list(kernel.instrs())) for kernel in compiled.signatures[0].compiled.kernels))
    assert work[1] <= GROWTH * work[0], f"{work} Python calls for {FEW} and {MANY} steps"
    assert instrs[1] <= GROWTH * instrs[0], f"{instrs} instructions for {FEW} and {MANY} steps"
    found, expected = compiled(x).numpy(), chain(step, steps, differentiated)(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-4 * np.abs(expected).max())


def test_what_follows_a_reduction_is_not_computed_beside_its_place() -> None:
    def gradient(x: fb.Tensor) -> fb.Tensor:
        x = x.detach().requires_grad_()
        y = fb.erf(x)
        (y.log_softmax(0) * y.cumprod(-1)).sum().backward()
        assert x.grad is not None
        return x.grad

    x = fb.from_numpy(np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32))
    np.testing.assert_allclose(fb.compile(gradient)(x).numpy(), gradient(x).numpy(), rtol=1e-5, atol=1e-5)
