"""Slow values that several stages of a kernel need are computed once, and lie where a result will."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.ir.kernel import Kernel, LoopKernel
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.parser import parse_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.kinds import loop
from flambeau.passes.cpu.keep_between_stages import keep_between_stages
from flambeau.runtime.host import host_target
from tests.ir.kernel_samples import SOFTMAX_OF_ROWS


def kept(text: str) -> Any:
    kernel = parse_kernel(text)
    assert isinstance(kernel, LoopKernel)
    return keep_between_stages(kernel, host_target())


def test_a_softmax_calls_exp_once() -> None:
    kernel = kept(SOFTMAX_OF_ROWS)
    verify_kernel(kernel)
    assert [[i.op for i in stage.body] for stage in kernel.stages] == [["load"], ["load", "sub", "exp"], ["load", "div"]]
    assert [len(stage.stores) for stage in kernel.stages] == [0, 1, 1] and kernel.may_share(0, 1)


def test_what_comes_after_a_first_store_may_not_load_what_it_overwrites() -> None:
    assert parse_kernel(SOFTMAX_OF_ROWS).may_share(0, 1)
    again = kept(SOFTMAX_OF_ROWS.replace("%9 = div %8, %5", "%9 = add %8, %6"))
    assert len(again.stages[1].stores) == 1 and not again.may_share(0, 1)


@pytest.mark.parametrize("change", [("exp", "neg"), ("out y: f32[8192]", "inout y: f32[8192]"),
                                    ("y[%i0*128 + %i1]", "y[%i0 + %i1*64]"), ("%7 = sub %6, %1", "%7 = add %6, %1")],
                         ids=["cheap", "not only a result", "columns", "another value"])
def test_others_stay_as_they_are(change: tuple[str, str]) -> None:
    text = SOFTMAX_OF_ROWS.replace(*change)
    assert kept(text) == parse_kernel(text)


# -- random rows ------------------------------------------------------------------------------------------------------


class Rows:
    """A random function of rows, as source."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.lines: list[str] = []
        names = ["x"]
        for number in range(self.random.randrange(2, 7)):
            v, w = self.random.choice(names[-2:]), self.random.choice(names)
            names.append(f"v{number}")
            self.lines.append(f"v{number} = " + self.random.choice([
                f"({v} - {v}.amax(-1, keepdim=True)).exp()", f"{v} / ({v}.abs().sum(-1, keepdim=True) + 1)", f"F.gelu({v})",
                f"{v}.sigmoid() * {w}", f"{v} - {v}.mean(-1, keepdim=True)", f"({v}.square() + 1).log()",
                f"F.softmax({v}, -1)",
                f"F.layer_norm({v}, x.shape[-1:])", f"{v}.tanh() + {w}", f"({v} * 0.5).exp() * g",
                f"F.log_softmax({v} + {w}, -1)",
                f"{v}.sin()[:, ::1] + {w}.sum(-1, keepdim=True).tanh()", f"F.softmax({v}, 0)"]))
        self.returned = [names[-1], *[name for name in names[1:-1] if self.random.random() < 0.25]]
        if self.random.random() < 0.3:
            self.returned[-1] += ".sum(-1)"

    def function(self) -> Any:
        scope: dict[str, Any] = {"F": F}
        exec("def f(x, g):\n    " + "\n    ".join([*self.lines, f"return {', '.join(self.returned)},"]), scope)
        return scope["f"]


def check_pair(before: Kernel, after: Kernel, seed: int) -> None:
    verify_kernel(after)
    rng = np.random.default_rng(seed)
    buffers = [np.ones(p.elements, p.dtype.storage) if not p.dtype.is_floating_point else
               rng.standard_normal(p.elements).astype(p.dtype.storage) for p in before.params]
    found, wanted = ([b.copy() for b in buffers] for _ in range(2))
    interpret(after, found)
    interpret(before, wanted)
    for param, a, b in zip(before.params, found, wanted, strict=True):
        assert a.tobytes() == b.tobytes(), f"{param} differs\n{before}\n{after}"


def test_random_rows(seeds: Iterator[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit what the kernels meant before, and to rounding what eager code gives, gradients too."""
    pairs: list[tuple[Kernel, Kernel]] = []

    def noted(kernel: LoopKernel, target: Any) -> LoopKernel:
        made = keep_between_stages(kernel, target)
        if made is not kernel:
            pairs.append((kernel, made))
        return made

    monkeypatch.setattr(loop, "keep_between_stages", noted)
    for seed in seeds:
        rows = Rows(seed)
        f, draw = rows.function(), rows.random
        dtype = draw.choice([fb.float64, fb.float64, fb.float32])
        x = fb.randn(draw.choice([1, 3, 8]), draw.choice([1, 5, 16, 33, 200]), dtype=dtype, requires_grad=True)
        g = fb.randn(x.shape[-1], dtype=dtype)

        def step(x: fb.Tensor, g: fb.Tensor, f: Any = f) -> Any:
            results = f(x, g)
            (gradient,) = fb.autograd.grad(sum((r * r.detach().cos()).sum() for r in results), x)
            return (*results, gradient)

        pairs.clear()
        for a, b in zip(fb.compile(step)(x, g), step(x, g), strict=True):
            limit = 1e-8 if dtype is fb.float64 else 5e-3
            wanted = b.detach().numpy()
            assert np.allclose(a.detach().numpy(), wanted, rtol=limit, atol=limit * (1 + np.abs(wanted).max(initial=0))), \
                f"seed {seed}\n" + "\n".join([*rows.lines, str(rows.returned)])
        for before, after in pairs:
            check_pair(before, after, seed)
