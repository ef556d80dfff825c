"""Random programs of views, in-place writes, grad modes and backwards, as source text: each runs in PyTorch, eagerly and
compiled, and what can be seen afterwards must be the same. A program prints as it can be pasted into a test."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

SHAPES: dict[str, tuple[int, ...]] = {"a": (2, 3), "b": (2, 3), "c": (3,), "s": (), "m": (3, 3), "d": (2, 3), "e": (4,)}
LEAVES = ("a", "b", "c", "s", "m")  # these require grad; the others don't
UNARY = ("tanh", "sigmoid", "sin", "exp", "abs", "neg", "relu", "floor", "sign", "square", "round", "trunc", "cos")
BINARY = ("add", "sub", "mul")


@dataclass
class Program:
    """lines: statements over the tensors of SHAPES, `lib` and `f64`; names: every tensor they made."""

    lines: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join(self.lines)


class Generator:
    """Draws one program from a seed."""

    def __init__(self, seed: int, size: int = 8):
        self.random = random.Random(seed)
        self.program = Program(shapes=dict(SHAPES))
        self.size = size
        self.count = 0
        self.expanded: set[str] = set()  # PyTorch writes to some of their parts; here they are refused
        self.viewed: set[str] = set()
        self.memory: dict[str, str] = {}  # views -> what they are views of
        self.views: set[str] = set()  # after their base was changed, watching them may crash PyTorch 2.13

    def make(self) -> Program:
        self.let(f"{self.any_name(LEAVES)} * 1.5")
        if self.chance(0.5):
            self.let(f"lib.zeros({self.random.choice([(2, 3), (3,), (3, 3)])}, dtype=f64)")
        for _ in range(self.random.randrange(2, self.size)):
            self.statement()
        self.backward(final=True)
        return self.program

    # -- drawing ----------------------------------------------------------------------------------------------------

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def put(self, line: str) -> None:
        self.program.lines.append(line)

    def let(self, expression: str, shape: tuple[int, ...] | None = None) -> str:
        name = f"h{self.count}"
        self.count += 1
        self.put(f"{name} = {expression}")
        self.program.shapes[name] = self.shape_of(expression) if shape is None else shape
        return name

    def shape_of(self, expression: str) -> tuple[int, ...]:
        values = {n: np.ones(s) for n, s in self.program.shapes.items()}
        return tuple(np.shape(eval(expression, {"lib": np, "f64": float}, values)))

    def any_name(self, among: Any = None) -> str:
        return self.random.choice(list(among or self.program.shapes))

    def made(self, to_write: bool = False) -> str:
        """A tensor that the program made, mostly."""
        made = [n for n in self.program.shapes if n.startswith("h") and not (to_write and n in self.expanded)]
        return self.random.choice(made if self.chance(0.93) else list(SHAPES))

    def fitting(self, shape: tuple[int, ...], target: str = "") -> str:
        """Something that broadcasts to `shape`: a tensor or a number. What overlaps the memory of `target`, which is
        to be written, is copied: PyTorch may read it while it writes."""
        names = [n for n, s in self.program.shapes.items() if _broadcasts(s, shape)]
        if not names or self.chance(0.15):
            return str(self.random.choice([0.5, -1.5, 2, 0.0]))
        name = self.random.choice(names)
        if target and name != target and self.memory.get(name, name) == self.memory.get(target, target):
            return f"{name}.clone()"
        return self.random.choice([name, name, f"({name} * 0.5)", f"{name}.detach()"])

    # -- statements -------------------------------------------------------------------------------------------------

    def statement(self) -> None:
        kinds = (
            (self.compute, 3),
            (self.view, 5),
            (self.write, 8),
            (self.assign, 4),
            (self.unrecorded, 2),
            (self.detached, 1),
            (self.watched, 1),
            (self.backward, 0.4),
            (self.gradient, 0.4),
            (self.joined, 0.7),
        )
        self.random.choices([k for k, _ in kinds], [w for _, w in kinds])[0]()

    def compute(self) -> None:
        x = self.any_name()
        if self.chance(0.4):
            self.let(f"{x}.{self.random.choice(UNARY)}()", self.program.shapes[x])
            return
        y = self.fitting(self.program.shapes[x])
        self.let(f"{x} {self.random.choice('+-*')} {y}", self.program.shapes[x])

    def view(self) -> None:
        x = self.made()
        expression, shape = self.random.choice(self.views_of(x))
        self.viewed.add(x)
        name = f"h{self.count}"
        self.views.add(name)
        self.memory[name] = self.memory.get(x, x)
        if ".expand(" in expression or (x in self.expanded and ".reshape" not in expression):
            self.expanded.add(name)
        if self.chance(0.1):
            self.put("with lib.no_grad():")
            name = self.let(expression, shape)
            self.program.lines[-1] = "    " + self.program.lines[-1]
            assert name
            return
        self.let(expression, shape)
        if self.chance(0.1):
            self.put(f"if {name}.requires_grad: {name}.retain_grad()")

    def views_of(self, x: str) -> list[tuple[str, tuple[int, ...]]]:
        shape = self.program.shapes[x]
        rank = len(shape)
        found = [
            (f"{x}.unsqueeze(0)", (1, *shape)),
            (f"{x}.expand({(2, *shape)})", (2, *shape)),
            (f"{x}[...]", shape),
            (f"{x}.detach()", shape),
        ]
        if rank >= 1 and 0 not in shape:
            d = self.random.randrange(rank)
            i = self.random.randrange(shape[d])
            rest = (*shape[:d], *shape[d + 1 :])
            found += [
                (f"{x}.select({d}, {i})", rest),
                (f"{x}[{i % shape[0]}]", shape[1:]),
                (f"{x}[1:]", (shape[0] - 1, *shape[1:])),
                (f"{x}[::2]", (-(-shape[0] // 2), *shape[1:])),
                (f"{x}[..., {shape[-1] - 1}]", shape[:-1]),
                (f"{x}[None]", (1, *shape)),
                (f"{x}.narrow({d}, {i}, 1)", (*shape[:d], 1, *shape[d + 1 :])),
                (f"{x}.unbind({d})[{i}]", rest),
                (f"{x}.split(2, {d})[0]", (*shape[:d], min(2, shape[d]), *shape[d + 1 :])),
                (f"{x}.reshape(-1)", (int(np.prod(shape)),)),
                (f"{x}.squeeze()", tuple(s for s in shape if s != 1)),
                (f"{x}.flatten()", (int(np.prod(shape)),)),
            ]
        if rank >= 2:
            square = min(shape[0], shape[1])
            found += [
                (f"{x}.transpose(0, {rank - 1})", (shape[-1], *shape[1:-1], shape[0])),
                (f"{x}.movedim(0, -1)", (*shape[1:], shape[0])),
                (f"{x}.mT", (*shape[:-2], shape[-1], shape[-2])),
                (f"{x}.diagonal()", (*shape[2:], square)),
                (f"{x}[:, 1:]", (shape[0], max(shape[1] - 1, 0), *shape[2:])),
                (f"{x}.flatten(0, 1)", (shape[0] * shape[1], *shape[2:])),
            ]
        if shape and shape[-1] == 6:
            found.append((f"{x}.unflatten(-1, (2, 3))", (*shape[:-1], 2, 3)))
        return found

    def write(self, target: str | None = None) -> None:
        x = target or self.made(to_write=True)
        y = self.fitting(self.program.shapes[x], x)
        self.put(self.random.choice(self.writes_to(x, y)))

    def writes_to(self, x: str, y: str) -> list[str]:
        shape = self.program.shapes[x]
        wide = f"(lib.zeros({shape}, dtype=f64) + {y})"
        found = [
            *[f"{x}.{op}_()" for op in self.random.sample(UNARY, 3)],
            *[f"{x}.{op}_({y})" for op in BINARY],
            *[f"{x} {op}= {y}" for op in "+-*"],
            f"{x}.div_(3)",
            f"{x}.pow_(2)",
            f"{x} **= 3",
            f"{x}.zero_()",
            f"{x}.fill_(0.75)",
            f"{x}.fill_({self.random.choice(['s', 's * 2'])})",
            f"{x}.copy_({wide})",
            f"{x}.clamp_(-0.5, 0.5)",
            f"{x}.lerp_({wide}, 0.25)",
            f"{x}.addcmul_({wide}, {x}.detach().clone(), value=0.5)",
            f"{x}.masked_fill_({x}.detach() > 0.3, 0.25)",
            f"{x}.add_({wide}, alpha=2)",
            f"lib.nn.functional.relu({x}, inplace=True)",
            f"{x}.mul_({x})",
            f"{x}.add_({x})",
        ]
        if y.isidentifier():
            found += [f"{x}.copy_({y})", f"{x}.mul_({y})", f"{x}.copy_({y})"]
        if shape and shape[0] >= 2:
            row = f"{wide}[:2]"
            found += [
                f"{x}.index_add_(0, lib.tensor([1, 0]), {row})",
                f"{x}.index_copy_(0, lib.tensor([1, 0]), {row})",
                f"{x}.index_fill_(0, lib.tensor([1]), 0.5)",
                f"{x}.index_put_((lib.tensor([1, 0]),), {row})",
            ]
            found += [f"{x}.index_put_((lib.tensor([1, 1]),), {row}, accumulate=True)"]
        if len(shape) >= 2:
            found += [f"{x}.tril_()", f"{x}.triu_(1)"]
            found += [f"{x}.scatter_(0, lib.zeros({(1, *shape[1:])}, dtype=lib.int64), 0.5)"] if 0 not in shape else []
        if len(shape) == 1 and shape[0] >= 2:
            found += [
                f"{x}.scatter_(0, lib.tensor([1]), {wide}[:1])",
                f"{x}.scatter_add_(0, lib.tensor([1, 1]), {wide}[:2])",
            ]
        return found

    def assign(self) -> None:
        x = self.made(to_write=True)
        shape = self.program.shapes[x]
        if not shape or 0 in shape:
            self.put(f"{x}[...] = {self.fitting(shape, x)}")
            return
        i = self.random.randrange(shape[0])
        choices: list[tuple[str, tuple[int, ...]]] = [
            (f"{i}", shape[1:]),
            ("...", shape),
            (":", shape),
            ("1:", (shape[0] - 1, *shape[1:])),
            ("::2", (-(-shape[0] // 2), *shape[1:])),
            (f"..., {shape[-1] - 1}", shape[:-1]),
            (f"lib.tensor([{i}])", (1, *shape[1:])),
            (f"lib.tensor([{i}]), ...", (1, *shape[1:])),
            (f"{x}.detach() > 0.2", ()),
        ]
        if shape[0] >= 2:
            choices.append(("lib.tensor([1, 0])", (2, *shape[1:])))
        if len(shape) >= 2:
            choices += [(":, 1:", (shape[0], max(shape[1] - 1, 0), *shape[2:])), (f"{i}, 0", shape[2:])]
        index, part = self.random.choice(choices)
        value = self.fitting(part, x)
        if part == () and index.endswith("0.2"):
            value = self.random.choice(["0.25", "s", "(s * 2)"])
        op = self.random.choice(["=", "=", "=", "+=", "*="])
        if index.endswith("0.2"):
            op = "="
        self.put(f"{x}[{index}] {op} {value}")

    def unrecorded(self) -> None:
        self.put("with lib.no_grad():")
        x = self.any_name(SHAPES) if self.chance(0.3) else self.made(to_write=True)
        self.write(x)
        self.program.lines[-1] = "    " + self.program.lines[-1]

    def detached(self) -> None:
        x = self.made(to_write=True)
        ways = [f"{x}.detach().mul_(2)", f"{x}.detach().zero_()", f"{x}.data.mul_(0.5)"]
        self.put(self.random.choice(ways if x in self.viewed else [*ways, f"{x}.detach_()"]))

    def watched(self) -> None:
        x = self.any_name() if self.chance(0.3) else self.made()
        if x not in self.views:
            self.put(self.random.choice([f"{x}.retain_grad()", f"{x}.register_hook(lambda g: g * 2)"]))

    def backward(self, final: bool = False) -> None:
        names = [n for n in self.program.shapes if n.startswith("h") or final]
        some = names if final else self.random.sample(names, self.random.randrange(1, len(names) + 1))
        terms = " + ".join(f"({n} * {round(0.3 + 0.1 * k, 2)}).sum()" for k, n in enumerate(some))
        self.put(f"({terms}).backward({'' if final else 'retain_graph=True'})")


    def gradient(self) -> None:
        """Gradients as tensors, of a result with respect to some of what it may have come from."""
        x, y = self.made(), self.any_name()
        kept = self.random.choice(["retain_graph=True", "create_graph=True"])
        self.let(
            f"lib.autograd.grad(({x} * {x}).sum(), {y}, allow_unused=True, materialize_grads=True, {kept})[0]",
            self.program.shapes[y],
        )

    def joined(self) -> None:
        x = self.made()
        shape = self.program.shapes[x]
        others = [n for n, s in self.program.shapes.items() if s == shape]
        self.let(f"lib.stack([{x}, {self.random.choice(others)}])", (2, *shape))


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    return len(shape) <= len(to) and all(s in (1, t) for s, t in zip(reversed(shape), reversed(to), strict=False))


def inputs(lib: Any, f64: Any) -> dict[str, Any]:
    """The tensors a program starts from."""
    made = {}
    for number, (name, shape) in enumerate(SHAPES.items()):
        array = np.random.default_rng(number).uniform(-1, 1, shape)
        made[name] = lib.tensor(array, dtype=f64, requires_grad=name in LEAVES)
    return made


def run(program: Program, lib: Any, f64: Any, tensors: dict[str, Any]) -> tuple[int, Exception | None]:
    """Execute until a statement raises: (number of the line, the error). Tensors are left in `tensors`."""
    blocks, number = [], 0
    while number < len(program.lines):
        size = 2 if program.lines[number].startswith("with") else 1
        blocks.append((number, "\n".join(program.lines[number : number + size])))
        number += size
    scope = {"lib": lib, "f64": f64}
    for number, block in blocks:
        try:
            exec(block, scope, tensors)
        except Exception as error:
            return number, error
    return len(program.lines), None


def as_function(program: Program, lib: Any, f64: Any, tensors: dict[str, Any]) -> Any:
    """The program as a function of the tensors that don't require grad, over the others as globals; it gives what it
    made."""
    names = [n for n in program.shapes if n.startswith("h")]
    body = "\n".join(f"    {line}" for line in program.lines)
    captured = {n: t for n, t in tensors.items() if n in LEAVES}
    source = f"def program(d, e):\n    global {', '.join(captured)}\n{body}\n    return {', '.join(names)},\n"
    scope = {"lib": lib, "f64": f64, **captured}
    exec(compile(source, "<program>", "exec"), scope)
    return scope["program"]
