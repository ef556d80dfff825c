"""Random training-like programs, as source: leaves, hooks, .grad set by hand, partial backward, in-place changes.

`program(seed)` is the text of a generator function `case(compiled)` in the manner of contract.py: what it yields must
not depend on `compiled`."""
from __future__ import annotations

import random

LEAVES = ["w0", "w1", "w2"]
SETUP = '''def case(compiled):
    fb.manual_seed(0)
    def leaf(*values): return fb.tensor(list(values), dtype=fb.float64, requires_grad=True)
    w0, w1, w2 = leaf(0.5, 1.5, -0.75), leaf(1.25, -0.5, 0.25), leaf(0.1, 0.2, 0.3)
    v = leaf(2.0, 3.0, 4.0)
    c = fb.tensor([1.0, 2.0, 0.5], dtype=fb.float64)
    flat, kept, made = fb.zeros(6, dtype=fb.float64), [], []
    class Doubled(fb.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            ctx.save_for_backward(a)
            return a * 2
        @staticmethod
        def backward(ctx, g):
            (a,) = ctx.saved_tensors
            return g * 2 + a * 0 + c
    def attempt(action):
        try:
            action()
        except fb.errors.UnsupportedError:
            raise
        except RuntimeError as error:
            return "RuntimeError"
'''
OPTIMIZERS = ["optim.SGD([w0, w1, w2], lr=0.1, weight_decay=0.1)", "optim.SGD([w0, w1], lr=0.1, momentum=0.9)",
              "optim.AdamW([w0, w1, w2], lr=0.01)", "optim.RMSprop([w0, w2], lr=0.01)"]
UNARY = ["{a}.sin()", "{a}.exp()", "{a} * 2", "{a} + 1", "{a}.sigmoid()", "{a}.square()", "{a}.flip(0)", "{a}.abs()",
         "Doubled.apply({a})", "{a}.detach() * 1", "{a}.clone()", "{a}.cumsum(0)", "-{a}", "{a}[fb.tensor([2, 0, 1])]",
         "fb.cat([{a}[1:], {a}[:1]])", "({a} + 0).view(3)", "{a}.tanh()", "{a} / {a}.sum()", "{a}.softmax(0)"]
BINARY = ["{a} * {b}", "{a} + {b}", "{a} - {b}", "fb.where({a} > 0, {a}, {b})", "fb.maximum({a}, {b})", "{a} * {b}.sum()",
          "fb.stack([{a}, {b}]).sum(0)"]
OTHERS = ["(w0 * x * w1).sum().backward()", "w0.grad = w1.grad = None; (w0 * x * w1).sum().backward()",
          "opt.zero_grad(); (w0 * w0 * x + w2).sum().backward(); opt.step()", "opt.step(); return w0.grad",
          "h = w0 * x; h.sum().backward(); w1.grad = h.detach() * 1; return h", "return (w0 * x).sin() * w1",
          "w0.grad, w1.grad = w1.grad, w0.grad", "w2.grad = w0.grad; return x * w0"]
HOOKS = ["lambda g: g * 2", "lambda g: g.clamp(-0.5, 0.5)", "lambda g: None", "lambda g: g + c", "lambda g: c * 1"]


class Program:
    """One program, line by line."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.values = [*LEAVES, "x", "y", "c"]
        self.losses: list[str] = []

    def put(self, line: str, depth: int = 1) -> None:
        self.lines.append("    " * depth + line)

    def pick(self, values) -> str:
        return self.random.choice(list(values))

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def text(self) -> str:
        r = self.random
        if self.chance(0.3):
            self.put(f"{self.pick(LEAVES)}.register_hook({self.pick(HOOKS)})")
        if self.chance(0.1):
            self.put("v.register_hook(lambda g: g * 3)")
        self.put(f"opt = {self.pick(OPTIMIZERS)}")
        self.put("@compiled")
        self.put("def f(x, y):")
        for n in range(r.randint(2, 8)):
            self.statement(n)
        self.put(self.result(), 2)
        plain = "fb.tensor([1.0, n + 1.0, 2.0], dtype=fb.float64)"
        self.put("@compiled")
        self.put("def other(x):")
        self.put(self.pick(OTHERS), 2)
        x = self.pick([plain, plain, "leaf(1.0, n + 1.0, 2.0)", "v", "w0", "(v if n % 2 else w1)", "w0 * 2"])
        y = self.pick(["fb.tensor([0.5, -1.0, n], dtype=fb.float64)", "v", "fb.ones(3, dtype=fb.float64)", "x", "w0"])
        self.put(f"for n in range({r.choice([2, 3, 3, 4])}):")
        for _ in range(r.choice([0, 0, 1, 1, 2])):
            self.before()
        self.put(f"x = {x}", 2)
        self.put(f"y = {y}", 2)
        self.put("results = f(x, y)", 2)
        self.put("yield results", 2)
        if self.chance(0.4):
            self.put(self.pick(["yield attempt(lambda: made.append(other(c)))",
                                "yield attempt(lambda: made.append(other(v)))",
                                "if n != 1: yield attempt(lambda: made.append(other(v * 2)))"]), 2)
        for _ in range(r.choice([0, 1, 1, 2, 3])):
            self.after()
        self.put("yield w0, w1, w2, v, x, y, c, kept, flat, made, [r.grad for r in results if r.is_leaf]", 2)
        return SETUP + "\n".join(self.lines) + "\n"

    # -- inside the function ----------------------------------------------------------------------------------------

    def statement(self, n: int) -> None:
        kind = self.random.random()
        h = f"h{n}"
        if kind < 0.45:
            template = self.pick(UNARY) if self.chance(0.5) else self.pick(BINARY)
            self.put(f"{h} = {template.format(a=self.pick(self.values), b=self.pick(self.values))}", 2)
            self.values.append(h)
        elif kind < 0.6:
            self.put(f"{h} = ({self.pick(self.values)} * {self.pick(self.values)}).sum()", 2)
            self.losses.append(h)
        elif kind < 0.66:
            own = [v for v in self.values if v.startswith("h")]
            if own:
                hook = self.pick([f"register_hook({self.pick(HOOKS)})", "retain_grad()"])
                name = self.pick(own)
                self.put(f"if {name}.requires_grad: {name}.{hook}", 2)
        elif kind < 0.78:
            if self.losses:
                loss = self.pick(self.losses)
                options = self.pick(["", "", "retain_graph=True", "retain_graph=True", "inputs=[w0, w1]"])
                self.put(f"if {loss}.requires_grad: {loss}.backward({options})", 2)
        elif kind < 0.84:
            self.put(self.pick([f"{self.pick(LEAVES)}.grad = None", "opt.zero_grad()", "opt.zero_grad(set_to_none=False)",
                                "w0.grad = w1.grad = None", "w1.grad = c * 1", "x.grad = None"]), 2)
        elif kind < 0.9:
            self.put(self.pick(["opt.step()", "nn.utils.clip_grad_norm_([w0, w1, w2], 1.0)",
                                "with fb.no_grad(): w1.mul_(0.5)", "with fb.no_grad(): c.add_(1)"]), 2)
        elif kind < 0.95:
            own = [v for v in self.values if v.startswith("h")]
            if own:
                self.put(self.pick(["{}.mul_(2)", "{}[0] = 1.5", "{}.add_(c)", "{}[1:].mul_({}.sum())"])
                         .format(*[self.pick(own)] * 2), 2)
        elif self.losses:
            self.put(f"{h} = fb.autograd.grad({self.pick(self.losses)}, [w0, x], allow_unused=True, retain_graph=True)[0] "
                     f"if {self.losses[-1]}.requires_grad and x.requires_grad else None", 2)
            self.put(f"{h} = c if {h} is None else {h}", 2)
            self.values.append(h)

    def result(self) -> str:
        own = [v for v in (*self.values, *self.losses) if v.startswith("h")] or ["x * 2"]
        given = [self.pick(own) for _ in range(self.random.randint(1, 3))]
        if self.chance(0.1):
            given.append("(w0.grad if w0.grad is not None else c)")
        if self.chance(0.05):
            given.append("w0")
        if self.chance(0.3):
            given.append(f"{given[0]} * 2")
        return f"return ({', '.join(given)},)"

    # -- around the call --------------------------------------------------------------------------------------------

    def before(self) -> None:
        a, b = self.random.sample(LEAVES, 2)
        self.put(self.pick([
            f"{a}.grad = None", f"{a}.grad = {b}.grad = None", "opt.zero_grad()",
            f"{a}.grad = {b}.grad = fb.zeros(3, dtype=fb.float64)", f"{a}.grad, {b}.grad = flat[:3], flat[3:]",
            f"kept.append(c * n); {a}.grad = kept[-1]", f"if {a}.grad is not None: kept.append({a}.grad)",
            f"if {a}.grad is not None: kept.append({a}.grad.view(3)[1:])", f"{a}.grad, {b}.grad = {b}.grad, {a}.grad",
            f"if {a}.grad is not None: {a}.grad.mul_(0.5)", f"if {a}.grad is not None: {a}.grad.zero_()",
            f"if {a}.grad is not None: kept.append(float({a}.grad.sum()))", f"if n == 1: {a}.requires_grad_(False)",
            f"if n == 1: {a}.register_hook({self.pick(HOOKS)})",
        ]), 2)

    def after(self) -> None:
        r = self.pick(["results[0]", "results[-1]"])
        options = self.pick(["", "", "retain_graph=True", "inputs=[w0, w1]"])
        self.put(self.pick([
            *[f"yield attempt(lambda: {r}.sum().backward({options}))"] * 2,
            f"yield attempt(lambda: sum(r.sum() for r in results).backward({options}))",
            f"with fb.no_grad(): {r}.mul_(2)", "with fb.no_grad(): w0.mul_(0.9)", "opt.step()", "opt.zero_grad()",
            f"if {r}.requires_grad: {r}.register_hook({self.pick(HOOKS)})",
            f"if {r}.requires_grad: {r}.retain_grad(); made.append({r})",
            f"yield attempt(lambda: made.append(fb.autograd.grad({r}.sum(), [w0, results[-1]], allow_unused=True, "
            f"retain_graph=True)))",
            f"yield attempt(lambda: ({r} * w0).sum().backward({options}))", "with fb.no_grad(): c.mul_(1.5)",
            f"made.append({r})",
        ]), 2)


def program(seed: int) -> str:
    """The text of one program."""
    return Program(seed).text()
