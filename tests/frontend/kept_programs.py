"""Random functions of arguments and captured tensors, and random ways to change those between calls: what a compiled
function keeps of them must never be old. A program prints as it can be pasted into a test."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F

STATES: dict[str, tuple[int, ...]] = {"w": (6, 6), "u": (6, 6), "h": (6, 4), "b": (6,), "g": (6,), "s": (),
                                      "k": (5, 3, 3, 3), "m": (5,), "v": (5,)}
ARGUMENTS: dict[str, tuple[int, ...]] = {"x": (3, 6), "y": (6,), "z": (2, 3, 5, 5)}


@dataclass
class Program:
    """lines: of the function; changes: statements between its calls."""

    dtype: str
    views: dict[str, str] = field(default_factory=dict)     # states that are views of others
    shared: list[str] = field(default_factory=list)         # states over rows of arrays that stay at hand
    lines: list[str] = field(default_factory=list)
    returned: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([f"# {self.dtype}, views {self.views}, shared {self.shared}", *self.lines,
                          f"return {', '.join(self.returned)}", "# between calls:", *self.changes])


class Generator:
    """Draws one program from a seed."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.program = Program("float64" if self.random.random() < 0.7 else "float32")
        self.shape = dict(STATES)
        self.count = 0

    def make(self) -> Program:
        program, rng = self.program, self.random
        if rng.random() < 0.3:
            program.views["u"] = "w.t()"
        if rng.random() < 0.2:
            program.views["g"] = "w[1]"
        if rng.random() < 0.2:
            program.views["b"] = "u[:, 2]" if "u" not in program.views else "w[:, 2]"
        program.shared = [n for n in STATES if n not in program.views and rng.random() < 0.1]
        for _ in range(rng.randrange(1, 6)):
            self.of_states()
        results = [self.of_arguments() for _ in range(rng.randrange(1, 4))]
        if rng.random() < 0.2:
            results.append(rng.choice(list(self.shape)))
        program.returned = results
        program.changes = [self.change() for _ in range(rng.randrange(3, 7))]
        return program

    def let(self, expression: str, shape: tuple[int, ...] | None) -> str:
        name = f"t{self.count}"
        self.count += 1
        self.program.lines.append(f"{name} = {expression}")
        if shape is not None:
            self.shape[name] = shape
        return name

    def of(self, *shapes: tuple[int, ...]) -> str:
        return self.random.choice([n for n, s in self.shape.items() if s in shapes])

    def of_states(self) -> None:
        """Something of states, or of what was made of them."""
        a, b = self.of((6, 6)), self.of((6, 6))
        p, q = self.of((6,)), self.of((6,))
        kernel, m, v = self.of((5, 3, 3, 3)), self.of((5,)), self.of((5,))
        expression, shape = self.random.choice([
            (f"{a}.t() * 0.5", (6, 6)), (f"{a} + {b}", (6, 6)), (f"{a} @ {b}", (6, 6)), (f"{a}.softmax(0)", (6, 6)),
            (f"{a} / ({a}.square().sum(1, keepdim=True) + 1).sqrt() * {p}[:, None]", (6, 6)), (f"{a}.tanh()", (6, 6)),
            (f"fb.cat([{a}[:3], {b}[3:]])", (6, 6)),
            (f"{a}.to(fb.float32).to({a}.dtype)", (6, 6)), (f"{a}[[2, 0, 1, 5, 4, 3]]", (6, 6)),
            (f"{a}.sum(0)", (6,)), (f"{p} * {q}", (6,)), (f"({p}.square() + 1).rsqrt() * {q}", (6,)),
            (f"{p}.cumsum(0)", (6,)), (f"{p} * {self.of(())}", (6,)), (f"{self.of(())}.exp()", ()),
            (f"{self.of((6, 4))}.sum(1)", (6,)),
            (f"{kernel} * ({v}.square() + 1).rsqrt()[:, None, None, None]", (5, 3, 3, 3)),
            (f"{kernel}.flip(2)", (5, 3, 3, 3)),
            (f"{m} - {v} * 2", (5,)), (f"{kernel}.mean((1, 2, 3))", (5,)), (f"{a}.reshape(4, 9).t().reshape(6, 6)", (6, 6)),
            (f"fb.where({a} > 0, {a}, {b})", (6, 6)), (f"{a}[:, :4] + 1", (6, 4))])
        self.let(expression, shape)

    def of_arguments(self) -> str:
        a, p, q, h = self.of((6, 6)), self.of((6,)), self.of((6,)), self.of((6, 4))
        kernel, m, v = self.of((5, 3, 3, 3)), self.of((5,)), self.of((5,))
        return self.let(self.random.choice([
            f"F.linear(x, {a}, {p})", f"x @ {a}", f"x @ {h}", f"{a} @ y", f"F.linear(x, {a}, {p}) * {q} + {p}",
            f"x * {p} + {q}",
            f"F.layer_norm(x @ {a}, (6,), {p}, {q})", f"(x @ {a}).relu() @ {self.of((6, 6))}", f"x + {self.of(())}",
            f"F.conv2d(z, {kernel}, {m})", f"F.batch_norm(F.conv2d(z, {kernel}, padding=1), {m}, {v}.square(), {m}, {v})",
            f"F.batch_norm(x @ {a}, {p}, {q}.square(), {q}, {p}).relu()", f"F.linear(x, {a})[:2]", f"x[:, :3] @ {a}[:3]",
            f"F.scaled_dot_product_attention((x @ {a})[None], x[None], (x @ {self.of((6, 6))})[None])",
            f"F.batch_norm(F.conv2d(z, {kernel}, {v}), {m}, {v}.square(), None, {v}).relu()"]), None)

    def change(self) -> str:
        name = self.random.choice(list(STATES))
        by = self.random.choice(["0.5", "1.5", "-1.0"])
        choices = ["pass", "pass", f"{name}.mul_({by})", f"{name}.data.mul_({by})", f"{name}.data = fb.randn_like({name})",
                   f"{name}.copy_(fb.randn_like({name}))", f"update({name})", f"{name}.add_(update_of({name}))",
                   f"{name}.detach().numpy()[...] *= {by}", f"held.append({name}.detach().numpy()); held[-1][...] += {by}",
                   f"{name}.detach()[...] = {by}", f"load({name!r}, fb.randn_like({name}))", "held.clear()",
                   "for array in held: array += 0.25", f"np.copyto(fb.from_numpy({name}.detach().numpy()).numpy(), {by})",
                   f"{name}.fill_({by})", f"{name}.set_(fb.randn_like({name}))", f"fb.nn.init.normal_({name})"]
        if STATES[name]:
            choices += [f"{name}[1] = {by}", f"{name}.flip(0)[0:1].zero_(); {name}[0:1].zero_()",
                        f"{name}.t_(); {name}.t_()" if len(STATES[name]) == 2 else "pass"]
        if self.program.shared:
            choices += [f"arrays[{self.random.choice(self.program.shared)!r}][0, ...] -= {by}"] * 3
        return self.random.choice(choices)


def run(program: Program, seed: int, compiled: Callable[..., Any]) -> str | None:
    """What differs between eager calls and compiled ones, in words. compiled: what compiles a function."""
    rng = np.random.default_rng(seed)
    arrays = {name: rng.standard_normal((2, *shape)).astype(program.dtype) for name, shape in STATES.items()}
    states: dict[str, Any] = {n: fb.from_numpy(a[0, ...]) if n in program.shared else fb.tensor(a[0])
                              for n, a in arrays.items()}
    scope: dict[str, Any] = {"fb": fb, "F": F, "np": np, "arrays": arrays, "held": [], **states}
    for name, view in program.views.items():
        scope[name] = eval(view, scope)
    body = "\n    ".join([*program.lines, f"return {', '.join(program.returned)},"])
    exec(f"def function(x, y, z):\n    {body}", scope)

    class Holder(fb.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in STATES:
                self.register_buffer(name, scope[name])

    holder = Holder()
    scope["load"] = lambda name, value: holder.load_state_dict({**holder.state_dict(), name: value})
    scope["update"] = fb.compile(lambda t: t.sub_(0.125))
    scope["update_of"] = fb.compile(lambda t: t * 0.5)
    call, eager = compiled(scope["function"]), scope["function"]
    for number, change in enumerate(["pass", *program.changes, "pass"]):
        exec(change, scope)
        for _ in range(rng.integers(1, 3)):
            given = [fb.tensor(rng.standard_normal(s).astype(program.dtype)) for s in ARGUMENTS.values()]
            wanted, found = eager(*given), call(*given)
            for place, (a, b) in enumerate(zip(wanted, found, strict=True)):
                if a is b:
                    continue
                a, b = (np.array(t.tolist(), np.float64).reshape(tuple(t.shape)) for t in (a, b))
                is_exact = program.dtype == "float64" and "float32" not in str(program)
                tolerance = (1e-9 if is_exact else 2e-3) * (1 + np.nanmax(np.abs(a), initial=0))
                if not np.allclose(a, b, rtol=0, atol=tolerance, equal_nan=True):
                    return f"after change {number} ({change}), result {place}: {a} and {b}"
    return None
