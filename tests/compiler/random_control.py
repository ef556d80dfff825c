"""Seeded random programs with nested `fb.cond` and `fb.while_loop`: compiled, they must give eager code's very bits.

Numbers are small integers, clamped after every step, so nothing rounds in any dtype. Branches and bodies read and change
what lies around them: arguments, tensors from outside, runtime numbers, views, the state of random numbers.
"""
from __future__ import annotations

import itertools
import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.frontend.pytree import flatten
from flambeau.frontend.trace.binder import trace_call
from flambeau.frontend.trace.call_plan import Again, Fixed, Given, Made
from flambeau.ir.graph.interpreter import interpret
from flambeau.ir.graph.parser import parse

SHAPES = [(), (3,), (2, 3), (0, 3), (4, 1), (5, 4, 3)]
DTYPES = ["float32", "float32", "float64", "int64", "int32", "bool", "float16", "bfloat16"]
CALLS = 3                           # of each program, with other arguments

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Variable:
    name: str
    shape: Shape
    dtype: str
    writable: bool = True


@dataclass
class Program:
    """Arguments and tensors from outside, by type; `lines` are the body of `program(x0, ..., n)`. differentiated: it gives
    gradients of its floating-point arguments too."""

    seed: int
    differentiated: bool = False
    arguments: list[Variable] = field(default_factory=list)
    outside: list[Variable] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def text(self) -> str:
        names = ", ".join([*[v.name for v in self.arguments], "n"])
        lines = self.lines
        if self.differentiated:
            floats = [v.name for v in self.arguments if "float" in v.dtype]
            *body, given = lines
            lines = [*[line for name in floats for line in (f"a{name} = {name}.detach().clone().requires_grad_()",
                                                            f"{name} = a{name} * 1")],
                     *body, f"results = {given.removeprefix('return ')}",
                     "loss = sum([t.double().sum() for t in results if t.requires_grad], fb.zeros((), dtype=fb.float64))",
                     "if loss.requires_grad:", "    loss.backward()",
                     f"return [t.detach() for t in results] + [{', '.join(f'a{name}.grad' for name in floats)}]"]
        return "\n".join([f"def program({names}):", *[f"    {line}" for line in lines]]) + "\n"

    def built(self) -> tuple[Callable[..., Any], list[fb.Tensor]]:
        """The function, and tensors from outside of its own."""
        filename = f"<random control {self.seed}.{next(_versions)}>"
        text = self.text()
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        rng = np.random.default_rng(self.seed)
        scope: dict[str, Any] = {"fb": fb, **{v.name: tensor(rng, v) for v in self.outside}}
        exec(compile(text, filename, "exec"), scope)
        return scope["program"], [scope[v.name] for v in self.outside]

    def given(self, call: int) -> list[Any]:
        """The arguments of one call."""
        rng = np.random.default_rng(1000 * self.seed + call)
        return [*[tensor(rng, v) for v in self.arguments], int(rng.integers(0, 4))]


_versions = itertools.count()


def tensor(rng: np.random.Generator, v: Variable) -> fb.Tensor:
    values = rng.integers(-4, 5, v.shape) if v.dtype != "bool" else rng.integers(0, 2, v.shape).astype(bool)
    return fb.tensor(values.tolist() if v.shape else values.item(), dtype=getattr(fb, v.dtype)).reshape(v.shape)


class Writer:
    """Writes one program. Scopes are lists of what can be read; names are never used twice."""

    def __init__(self, seed: int, differentiated: bool = False):
        self.rng = random.Random(seed)
        self.names = itertools.count()
        self.program = Program(seed, differentiated)
        for group, letter in ((self.program.arguments, "x"), (self.program.outside, "w")):
            group += [Variable(f"{letter}{i}", *self.type()) for i in range(self.rng.randint(1, 3))]
        scope = [*self.program.arguments, *self.program.outside]
        lines = self.block(scope, self.rng.randint(2, 5), 3)
        results = self.rng.sample(scope, min(len(scope), 5))
        self.program.lines = [*lines, f"return [{', '.join(v.name for v in results)}]"]

    def type(self) -> tuple[Shape, str]:
        return self.rng.choice(SHAPES), self.rng.choice(DTYPES)

    def fresh(self, prefix: str = "v") -> str:
        return f"{prefix}{next(self.names)}"

    # -- expressions ------------------------------------------------------------------------------------------------

    def of_type(self, scope: list[Variable], shape: Shape, dtype: str, depth: int = 2) -> str:
        """An expression of that type, small in magnitude."""
        like = [v for v in scope if v.shape == shape]
        exact = [v for v in like if v.dtype == dtype]
        kind = self.rng.randrange(7)
        if depth and kind == 0 and dtype != "bool":
            op = self.rng.choice(["+", "-", "*"])
            a, b = (self.of_type(scope, shape, dtype, depth - 1) for _ in "ab")
            return f"({a} {op} {b}).clamp(-8, 8)"
        if depth and kind == 1:
            a, b = (self.of_type(scope, shape, dtype, depth - 1) for _ in "ab")
            return f"fb.where({self.of_type(scope, shape, 'bool', depth - 1)}, {a}, {b})"
        if depth and kind == 2 and dtype == "int64" and not shape:
            v = self.rng.choice(scope)
            return f"{v.name}.to(fb.int64).sum().clamp(-8, 8)"
        if depth and kind == 3 and dtype == "bool":
            return f"({self.of_type(scope, shape, 'int32', depth - 1)} {self.rng.choice('<>')} {self.rng.randint(-2, 2)})"
        if kind == 4 and dtype not in ("bool", "int32"):
            return f"({self.of_type(scope, shape, dtype, 0)} + n).clamp(-8, 8){self.cast(dtype)}"
        if exact and kind < 6:
            return self.rng.choice(exact).name
        if like:
            return f"{self.rng.choice(like).name}{self.cast(dtype)}"
        number = self.rng.choice([0, 1, 2, -3])
        return f"fb.full({shape}, {bool(number) if dtype == 'bool' else number}, dtype=fb.{dtype})"

    def cast(self, dtype: str) -> str:
        return f".to(fb.{dtype})" if dtype != "bool" else ".to(fb.bool)"

    def predicate(self, scope: list[Variable]) -> str:
        v = self.rng.choice(scope)
        text = self.rng.choice([f"({v.name}.to(fb.int64).sum() > {self.rng.randint(-3, 3)})", f"({v.name} != 0).any()",
                                f"({v.name}.to(fb.int64).sum() > n)", self.of_type(scope, (), "bool")])
        return f"{text}.reshape(1)" if self.rng.random() < 0.1 else text

    # -- statements -------------------------------------------------------------------------------------------------

    def block(self, scope: list[Variable], count: int, depth: int) -> list[str]:
        """Lines that add to the scope."""
        lines: list[str] = []
        for _ in range(count):
            kinds = [self.assign, self.assign, self.change, self.view, self.draw]
            if depth:
                kinds += [self.choice, self.choice, self.loop, self.loop]
            lines += self.rng.choice(kinds)(scope, depth)
        return lines

    def assign(self, scope: list[Variable], depth: int) -> list[str]:
        made = Variable(self.fresh(), *self.type())
        text = self.of_type(scope, made.shape, made.dtype)
        scope.append(made)
        return [f"{made.name} = {text if not text.isidentifier() else text + '.clone()'}"]

    def change(self, scope: list[Variable], depth: int) -> list[str]:
        targets = [v for v in scope if v.writable]
        if not targets:
            return []
        v = self.rng.choice(targets)
        place = f"{v.name}[{self.rng.choice(['0', '-1:', '1:'])}]" if v.shape and v.shape[0] and self.rng.random() < 0.4 \
            else v.name
        return [f"{place}.copy_({self.of_type(scope, v.shape, v.dtype, 1)}{place[len(v.name):]})"]

    def view(self, scope: list[Variable], depth: int) -> list[str]:
        v = self.rng.choice(scope)
        name = self.fresh()
        size, turned = int(np.prod(v.shape)), tuple(range(len(v.shape)))[::-1]
        shape, text = self.rng.choice([((size,), ".reshape(-1)"), (v.shape[::-1], f".permute({turned})"),
                                       (v.shape[1:], "[0]"), (v.shape[1:], "[-1]")])
        if not v.shape or (text.startswith("[") and not v.shape[0]):
            shape, text = v.shape, ".detach()"
        scope.append(Variable(name, shape, v.dtype, v.writable and "reshape" not in text))
        return [f"{name} = {v.name}{text}"]

    def draw(self, scope: list[Variable], depth: int) -> list[str]:
        made = Variable(self.fresh(), self.rng.choice(SHAPES), "int64")
        scope.append(made)
        return [f"{made.name} = fb.randint(-4, 5, {made.shape})"]

    def function(self, scope: list[Variable], parameters: list[Variable], results: list[tuple[Shape, str]], depth: int,
                 count: int) -> tuple[str, list[str]]:
        name = self.fresh("f")
        inner = [*scope, *parameters]
        lines = self.block(inner, count, depth)
        given = [self.of_type(inner, *type) for type in results]
        body = [*lines, f"return ({''.join(f'{text}, ' for text in given)})"]
        return name, [f"def {name}({', '.join(v.name for v in parameters)}):", *[f"    {line}" for line in body]]

    def choice(self, scope: list[Variable], depth: int) -> list[str]:
        results = [self.type() for _ in range(self.rng.randint(0, 3))]
        given = self.rng.sample(scope, self.rng.randint(0, min(2, len(scope))))
        lines: list[str] = []
        names = []
        for _ in range(2):
            parameters = [Variable(self.fresh("p"), v.shape, v.dtype, v.writable) for v in given]
            name, text = self.function(scope, parameters, results, depth - 1, self.rng.randint(0, 3))
            names.append(name)
            lines += text
        return lines + self.bound(scope, results, f"fb.cond({self.predicate(scope)}, {', '.join(names)}, "
                                  f"({''.join(f'{v.name}, ' for v in given)}))")

    def loop(self, scope: list[Variable], depth: int) -> list[str]:
        start = self.rng.sample(scope, self.rng.randint(0, min(3, len(scope))))
        counter = Variable(self.fresh("i"), (), "int64", False)
        types = [((), "int64"), *[(v.shape, v.dtype) for v in start]]

        def parameters() -> list[Variable]:
            return [counter, *[Variable(self.fresh("c"), *type) for type in types[1:]]]

        limit = self.rng.choice(["n", str(self.rng.randint(0, 3)), "2 * n"])
        told = parameters()
        name, condition = self.function(list(scope), told, [], 0, 0)
        extra = f" & {self.predicate([*scope, *told])}" if self.rng.random() < 0.3 else ""
        condition[-1] = f"    return ({counter.name} < {limit}){extra}"
        carried = parameters()
        fixed = [replace(v, writable=False) for v in scope] if self.program.differentiated else scope   # or no derivative
        body_name, body = self.function(fixed, carried, types[1:], depth - 1, self.rng.randint(0, 3))
        body[-1] = body[-1].replace("return (", f"return ({counter.name} + 1, ", 1)
        first = self.rng.choice(["0", "fb.tensor(0)"])
        is_bounded = self.program.differentiated or self.rng.random() < 0.2
        bound = f", max_steps={self.rng.choice([0, 1, 2, 3, 4, 5, 6, 70])}" if is_bounded else ""
        return [*condition, *body, *self.bound(scope, types, f"fb.while_loop({name}, {body_name}, "
                                               f"({first}, {''.join(f'{v.name}, ' for v in start)}){bound})")]

    def bound(self, scope: list[Variable], types: list[tuple[Shape, str]], call: str) -> list[str]:
        made = [Variable(self.fresh(), *type) for type in types]
        scope += made
        return [f"({''.join(f'{v.name}, ' for v in made)}) = {call}" if made else call]


# -- running ----------------------------------------------------------------------------------------------------------


def bits(tensors: list[Any]) -> list[tuple[str, bytes]]:
    return [(str(t._type), np.ascontiguousarray(t._data()).tobytes()) for t in tensors]


def runs(program: Program, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> list[list[tuple[str, bytes]]]:
    """What the calls of a program give and leave: results, arguments, tensors from outside, random state."""
    function, outside = program.built()
    function = wrap(function)
    fb.manual_seed(program.seed)
    found = []
    for call in range(CALLS):
        given = program.given(call)
        results = function(*given)
        found.append(bits([*results, *given[:-1], *outside, fb.get_rng_state()]))
    return found


def interpreted(function: Callable[..., Any]) -> Callable[..., Any]:
    """Each call traced anew, printed, parsed and interpreted."""

    def call(*given: Any) -> Any:
        leaves, paths, structure = flatten((given, {}))
        traced = trace_call(function, "program", leaves, paths, structure)
        graph, plan = parse(str(traced.graph)), traced.plan
        tensors = {"arg": [leaves[a.leaf] for a in plan.arguments], "state": [s.memory for s in plan.states]}
        arrays = {kind: [t._data() for t in found] for kind, found in tensors.items()}
        arrays["scalar"] = [np.array(float(number.read(leaves))) for number in plan.numbers]
        kinds = [v.node.op.kind for v in graph.inputs]                                      # type: ignore[attr-defined]
        places = [(kind, kinds[:n].count(kind)) for n, kind in enumerate(kinds)]
        outputs, writes = interpret(graph, [arrays[kind][number] for kind, number in places])
        changed = [array.copy() for array in writes]                                        # they may be inputs
        results: list[Any] = []
        for result in plan.results:
            match result:
                case Made(output):
                    results.append(fb.Tensor._from_array(outputs[output].copy(), graph.outputs[output].dtype))
                case Given(leaf):
                    results.append(leaves[leaf])
                case Again(position):
                    results.append(results[position])
                case Fixed(value):
                    results.append(value)
        for state, array in zip(graph.writes, changed, strict=True):
            kind, number = places[graph.inputs.index(state)]
            tensors[kind][number]._data()[...] = array
        return results

    return call


def gradients(program: Program, wrap: Callable[[Callable[..., Any]], Callable[..., Any]], call: int) -> list[Any]:
    """What one call of a differentiated program gives, as arrays; a gradient that there is not is None."""
    function, _ = program.built()
    fb.manual_seed(program.seed)
    return [None if t is None else t.double().numpy() for t in wrap(function)(*program.given(call))]


def gradient_difference(program: Program, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> str | None:
    """What is wrong with the gradients of a program; None where eager code refuses it, or compiled code does so in words:
    a branch that is not taken may have changed what was saved. A gradient that is zero compiled may be none at all in
    eager code, which knows what was not chosen."""
    for call in range(CALLS):
        try:
            expected = gradients(program, lambda function: function, call)
        except RuntimeError:                # a saved tensor was changed in place
            return None
        try:
            found = gradients(program, wrap, call)
        except RuntimeError as error:
            if not any(words in str(error) for words in ("in place by something that requires grad",
                                                         "modified by an inplace operation",
                                                         "no derivative in a compiled function; carry them")):
                raise
            return None
        for place, (a, b) in enumerate(zip(expected, found, strict=True)):
            if a is None and (b is None or not b.any()):
                continue
            if a is None or b is None or not np.allclose(a, b, rtol=1e-2, atol=1e-9):
                return f"call {call}, place {place}: {a}, {b}"
    return ""


def difference(program: Program, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> str:
    """What is wrong with a program; nothing if all is well."""
    expected = runs(program, lambda function: function)
    try:
        found = runs(program, wrap)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    for call, (a, b) in enumerate(zip(expected, found, strict=True)):
        for place, (left, right) in enumerate(zip(a, b, strict=True)):
            if left != right:
                return f"call {call}, place {place}: {left[0]}, {right[0]}"
    return ""
