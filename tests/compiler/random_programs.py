"""Seeded random programs in the user's language, of exact arithmetic: compiled, they must give eager code's very bits.

Every number is a small integer or a half of one, so no sum or product rounds, whatever its order, and no tolerance
hides a difference. A program is text, made line by line while it runs eagerly: a line that raises, or whose values grow
too large, is left out.
"""
from __future__ import annotations

import itertools
import linecache
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import flambeau as fb

LARGEST = 64.0                      # of a value that may be multiplied or summed on
SUM_LIMIT = {"float16": 512, "bfloat16": 64}        # exact integers of the short floats, with halves
ELEMENTS = 700
SIZES = [(4,), (3, 4), (1, 3), (2, 5, 1), (7, 2), (4, 8), (0, 3), (8,), (5, 6), (16, 3)]

Env = dict[str, Any]


@dataclass
class Written:
    """A program: the arrays of its arguments, and its lines; `results` are what it returns."""

    seed: int
    arguments: list[tuple[np.ndarray, str]]         # values, dtype
    lines: list[str]
    results: list[str]
    differentiated: bool = False
    names: list[str] = field(default_factory=list)

    @property
    def slack(self) -> float:
        """0, but for gradients of extrema and medians: equal ones share the cotangent, and a third of it rounds."""
        shares = any(kind in line for line in self.lines for kind in ("amax", "amin", "median()"))
        return 1e-5 if self.differentiated and shares else 0.0

    def text(self) -> str:
        arguments = ", ".join(f"x{n}" for n in range(len(self.arguments)))
        body = [f"a{n} = x{n}.detach().clone().requires_grad_()" for n in self.leaves()] if self.differentiated else []
        body += self.lines
        if self.differentiated:
            floats = [name for name in self.results if name in self.names]
            body.append("loss = " + " + ".join(f"({name}.float() * 0.5).sum()" for name in floats))
            body.append("loss.backward()")
        gradients = [f"a{n}.grad" for n in self.leaves()] if self.differentiated else []
        body.append(f"return [{', '.join([*self.results, *gradients])}]")
        return f"def program({arguments}):\n" + "".join(f"    {line}\n" for line in body)

    def leaves(self) -> list[int]:
        return [n for n, (_, dtype) in enumerate(self.arguments) if "float" in dtype]

    def function(self) -> Callable[..., Any]:
        text, filename = self.text(), f"<random program {self.seed}.{next(_versions)}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(True), filename)
        scope: Env = {"fb": fb}
        exec(compile(text, filename, "exec"), scope)
        return scope["program"]                                                     # type: ignore[no-any-return]

    def tensors(self) -> list[fb.Tensor]:
        return [tensor_of(values, dtype) for values, dtype in self.arguments]

    def __str__(self) -> str:
        made = [f"x{n} = fb.tensor({values.tolist()}, dtype=fb.{dtype}).reshape({values.shape})"
                for n, (values, dtype) in enumerate(self.arguments)]
        arguments = ", ".join(f"x{n}" for n in range(len(self.arguments)))
        return "\n".join(["import flambeau as fb", self.text(), *made, f"print(fb.compile(program)({arguments}))"])


_versions = itertools.count()


def tensor_of(values: np.ndarray, dtype: str) -> fb.Tensor:
    return fb.from_numpy(np.array(values)).to(getattr(fb, dtype))


class Writer:
    """Writes one program. `program` is ready once it is made."""

    def __init__(self, seed: int, size: int | None = None, favoured: Callable[[Writer], str | None] | None = None):
        self.random = random.Random(seed)
        self.numpy = np.random.default_rng(seed)
        self.sizes = self.random.choice(SIZES)
        self.differentiated = self.random.random() < 0.35
        self.dtypes = self.random.choice([["float32"], ["float32", "int64"], ["float32", "float64"],
                                          ["float32", "float16", "bfloat16"], ["float32", "int32", "bool"]])
        self.env: Env = {"fb": fb}
        self.lines: list[str] = []
        self.arguments: list[tuple[np.ndarray, str]] = []
        self.tensors: dict[str, fb.Tensor] = {}
        for _ in range(self.random.randint(1, 3)):
            self.argument()
        weights = [weight * (12 if step is favoured else 1) for step, weight in _STEPS.items()]
        for _ in range(size or self.random.randint(3, 16)):
            step = self.random.choices(list(_STEPS), weights=weights)[0]
            try:
                text = step(self)
            except (IndexError, ValueError):        # nothing fits this step
                text = None
            if text:
                self.run(text, in_place=step in _IN_PLACE)
        names = list(self.tensors)
        results = [n for n in names[-4:] if self.random.random() < 0.7] or names[-1:]
        results += self.random.sample(names, self.random.randint(0, 1))
        floats = [n for n in names if self.tensors[n].dtype.is_floating_point and self.tensors[n].requires_grad]
        if self.differentiated and not any(n in floats for n in results):
            results += floats[-1:]
        differentiated = self.differentiated and any(n in floats for n in results)
        self.program = Written(seed, self.arguments, self.lines, list(dict.fromkeys(results)), differentiated, floats)

    # -- values -----------------------------------------------------------------------------------------------------

    def argument(self) -> None:
        dtype, number = self.random.choice(self.dtypes), len(self.arguments)
        shape = tuple(self.random.choice(self.sizes) for _ in range(self.random.randint(0 if number else 1, 3)))
        if dtype == "bool":
            values = self.numpy.integers(0, 2, shape).astype(bool)
        else:
            values = np.asarray(self.numpy.integers(-3, 4, shape)).astype("int64" if "int" in dtype else "float32")
        values = np.asarray(values)
        self.arguments.append((values, dtype))
        tensor = tensor_of(values, dtype)
        name = f"x{number}"
        if self.differentiated and "float" in dtype:
            name, tensor = f"a{number}", tensor.requires_grad_()
        self.env[name] = self.tensors[name] = tensor

    def pick(self, *, rank: int = 0, number: bool = False) -> str:
        names = [n for n, t in self.tensors.items() if t.ndim >= rank and not (number and t.dtype == fb.bool)]
        return self.random.choice(names[-4:] if self.random.random() < 0.5 else names)

    def like(self, name: str) -> str:
        """Something that broadcasts with a value: another one, a part or a reduction of one, or a number."""
        shape = self.tensors[name].shape
        fitting = [n for n, t in self.tensors.items() if _broadcasts(t.shape, shape)]
        roll = self.random.random()
        if roll < 0.6 and fitting:
            return self.random.choice(fitting)
        for other in self.random.sample(list(self.tensors), len(self.tensors)):
            part = self.part_to_fit(other, shape)
            if part is not None:
                return part
        return self.random.choice(["2", "0.5", "-1", "3"]) if self.tensors[name].dtype.is_floating_point else "2"

    def part_to_fit(self, name: str, shape: tuple[int, ...]) -> str | None:
        """A part of a value, cut at constants so that it broadcasts with `shape`."""
        t, places = self.tensors[name], []
        if t.ndim == 0 or t.ndim > len(shape) + 1:
            return None
        wanted = [*([None] * max(0, t.ndim - len(shape))), *shape[max(0, len(shape) - t.ndim):]]
        for size, want in zip(t.shape, wanted, strict=True):
            if size == 0 and want != 0:
                return None
            if want is None:
                places.append(str(self.random.randrange(size)) if size else "0:0")
            elif size >= want:
                start = self.random.choice([0, 0, size - want, self.random.randint(0, size - want)])
                places.append(":" if size == want else f"{start}:{start + want}")
            else:
                places.append(":1")
        return f"{name}[{', '.join(places)}]"

    def dims(self, name: str) -> str:
        rank = self.tensors[name].ndim
        found = tuple(sorted(self.random.sample(range(rank), self.random.randint(1, rank))))
        return str(found) if len(found) > 1 else str(found[0])

    def place(self, name: str) -> str:
        """A basic index of a value: constants, prefixes, steps."""
        t, places = self.tensors[name], []
        for size in t.shape:
            if size == 0:
                places.append(":")
                continue
            at, stop = self.random.randrange(size), self.random.randint(1, size)
            places.append(self.random.choice([":", ":", f"{at}", f"-{at + 1}", f":{stop}", f"{at}:", f"{at}:{at + 1}",
                                              "::2", "None, :", f"{-stop}:"]))
        return ", ".join(places[:self.random.randint(1, max(1, t.ndim))]) if places else "..."

    # -- running lines ------------------------------------------------------------------------------------------------

    def run(self, text: str, in_place: bool) -> None:
        name = f"v{len(self.lines)}"
        line = text if in_place else f"{name} = {text}"
        before = {n: t.detach().clone() for n, t in self.tensors.items()} if in_place else {}
        try:
            exec(line, self.env)
            found = list(self.tensors.values()) if in_place else [self.env[name]]
            fits = all(isinstance(t, fb.Tensor) and self.fits(t) for t in found)
        except Exception:
            fits = False
        if fits:
            self.lines.append(line)
            if not in_place:
                self.tensors[name] = self.env[name]
        elif in_place and before:
            self.replay()

    def replay(self) -> None:
        """A line that was left out may have changed what it wrote to: everything is made anew."""
        for number, (values, dtype) in enumerate(self.arguments):
            name, tensor = f"x{number}", tensor_of(values, dtype)
            if f"a{number}" in self.tensors:
                name, tensor = f"a{number}", tensor.requires_grad_()
            self.env[name] = self.tensors[name] = tensor
        for line in self.lines:
            exec(line, self.env)
        for name in self.tensors:
            self.tensors[name] = self.env[name]

    def fits(self, t: fb.Tensor) -> bool:
        limit = SUM_LIMIT.get(str(t.dtype).rpartition(".")[2], 1e5)
        if t.numel() > ELEMENTS or t.ndim > 4:
            return False
        if t.dtype == fb.bool or t.numel() == 0:
            return True
        values = t.detach().to(fb.float64).numpy()
        return bool(np.isfinite(values).all() and np.abs(values).max() <= limit
                    and (values * 16 == np.rint(values * 16)).all())


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(x == y or 1 in (x, y) for x, y in zip(reversed(a), reversed(b), strict=False))


# -- steps: each gives the text of an expression, or of a statement for those in _IN_PLACE --------------------------------


def unary(w: Writer) -> str:
    return w.random.choice(["-{0}", "{0}.abs()", "{0}.relu()", "{0}.clamp(-2, 3)", "{0}.sign()", "({0} * {0}).clamp(-9, 9)",
                            "{0} * 0.5", "{0}.clamp(-4, 4)", "{0}.floor()"]).format(w.pick(number=True))


def binary(w: Writer) -> str:
    x = w.pick()
    y = w.like(x)
    return w.random.choice(["{0} + {1}", "{0} - {1}", "({0} * {1}).clamp(-16, 16)", "{1} - {0}", "{0} + {1}",
                            "fb.maximum({0}, {1})", "fb.minimum({0}, {1})"]).format(x, y)


def choice(w: Writer) -> str:
    x, test = w.pick(), w.random.choice(["{0} > 0", "{0} == 0", "{0} <= {1}", "{0} != 1"])
    other = w.like(x)
    return f"fb.where({test.format(x, w.like(x))}, {x}, {other})"


def part(w: Writer) -> str:
    x = w.pick(rank=1)
    return f"{x}[{w.place(x)}]"


def part_beside(w: Writer) -> str:
    """A reduction of one value beside a part of another, or of the same."""
    x, y = w.pick(rank=1, number=True), w.pick(rank=1)
    kind = w.random.choice(["sum", "sum", "amax", "amin"])
    reduced = f"{x}.{kind}({w.dims(x)})"
    shape = eval(reduced, w.env).shape
    found = w.part_to_fit(y, shape)
    return f"{reduced} + {found}" if found else reduced


def moved(w: Writer) -> str:
    x = w.pick(rank=1)
    d = w.random.randrange(w.tensors[x].ndim)
    size = w.tensors[x].shape[d]
    at = (":, " * d)
    k = w.random.randint(1, 3)
    return w.random.choice([f"{x}.roll({w.random.choice([1, -1, 2])}, {d})", f"{x}.flip({d})",
                            f"fb.cat([{x}[{at}{k}:], {x}[{at}:{k}]], {d})",
                            f"fb.cat([{x}[{at}:1], {x}[{at}:{size - 1}]], {d})",
                            f"fb.nn.functional.pad({x}, ({k}, 0))[..., :{w.tensors[x].shape[-1]}]",
                            f"fb.cat([{x}, {x}], {d})", f"fb.stack([{x}, {x}.flip({d})], {d})"])


def stencil(w: Writer) -> str:
    """A value beside its neighbours."""
    x = w.pick(rank=1, number=True)
    d = w.random.randrange(w.tensors[x].ndim)
    at = (":, " * d)
    return w.random.choice([f"({x}.roll(1, {d}) + {x}.roll(-1, {d}) - 2 * {x}).clamp(-8, 8)",
                            f"{x}[{at}1:] - {x}[{at}:-1]", f"{x} - {x}.flip({d})", f"{x} + {x}[{at}:1]",
                            f"({x} - {x}.amax({d}, keepdim=True)).clamp(-8, 8) + {x}.roll(1, {d})"])


def arranged(w: Writer) -> str:
    x = w.pick()
    t = w.tensors[x]
    order = w.random.sample(range(t.ndim), t.ndim)
    sizes = list(t.shape)
    d = w.random.randint(0, t.ndim)
    if len(sizes) > 1 and w.random.random() < 0.6:
        at = w.random.randrange(len(sizes) - 1)
        sizes[at:at + 2] = [sizes[at] * sizes[at + 1]]
    else:
        at = w.random.randrange(max(1, len(sizes)))
        factors = [f for f in range(1, sizes[at] + 1) if sizes[at] and sizes[at] % f == 0] if sizes else []
        if factors:
            f = w.random.choice(factors)
            sizes[at:at + 1] = [f, sizes[at] // f]
    return w.random.choice([f"{x}.permute({tuple(order)})", f"{x}.reshape({tuple(sizes)})", f"{x}.unsqueeze({d})",
                            f"{x}.reshape(-1)" if t.numel() else x + ".clone()",
                            f"{x}.unsqueeze({d}).expand({(*t.shape[:d], w.random.choice(w.sizes), *t.shape[d:])})"])


def reduced(w: Writer) -> str:
    x = w.pick(rank=1, number=True)
    kind = w.random.choice(["sum", "sum", "sum", "amax", "amin"])
    keep = w.random.choice(["", ", keepdim=True"])
    made = f"{x}.{kind}({w.dims(x)}{keep})"
    return f"({x} - {x}.{kind}({w.dims(x)}, keepdim=True)).clamp(-9, 9)" if w.random.random() < 0.25 else made


def counted(w: Writer) -> str:
    x = w.pick(rank=1, number=True)
    d = w.random.randrange(w.tensors[x].ndim)
    return w.random.choice([f"{x}.cumsum({d}).clamp(-9, 9)", f"{x}.argmax({d})", f"({x} > 0).sum({d})",
                            f"({x} > 0).any({d})"])


def multiplied(w: Writer) -> str:
    x = w.pick(rank=2, number=True)
    t = w.tensors[x]
    return f"({x}.clamp(-2, 2) @ {x}.clamp(-2, 2).transpose(-1, -2)).clamp(-16, 16)" if t.ndim >= 2 else ""


def taken(w: Writer) -> str:
    x = w.pick(rank=1)
    d = w.random.randrange(w.tensors[x].ndim)
    size = w.tensors[x].shape[d]
    indices = [w.random.randrange(size) for _ in range(w.random.randint(1, 4))]
    listed = f"fb.tensor({indices})"
    return w.random.choice([f"{x}.index_select({d}, {listed})", f"{x}[{':, ' * d}{listed}]",
                            f"{x}.index_add({d}, {listed}, {x}.index_select({d}, {listed})).clamp(-9, 9)"])


def converted(w: Writer) -> str:
    return f"{w.pick()}.to(fb.{w.random.choice(w.dtypes)})"


def written(w: Writer) -> str:
    """A value changed in place, whole or in part."""
    x = w.pick()
    t = w.tensors[x]
    target = f"{x}[{w.place(x)}]" if t.ndim and w.random.random() < 0.7 else x
    if target == x:
        y = w.like(x)
        return w.random.choice([f"{x}.add_({y})", f"{x}.mul_(0.5)", f"{x}.zero_()", f"{x}.copy_({y})",
                                f"{x}.clamp_(-2, 2)", f"{x} += {y}"])
    shape = eval(target, w.env).shape
    parts = [w.part_to_fit(n, shape) for n in w.random.sample(list(w.tensors), len(w.tensors))]
    y = next((p for p in parts if p), "2")
    return w.random.choice([f"{target} = {y}", f"{target} += {y}", f"{target} = {target} * 0.5", f"{target} = 3",
                            f"{target}.zero_()", f"{target}.add_({y})"])


def ordered(w: Writer) -> str:
    """What comes of a sort; ties abound, and rows are short or, flattened and joined, long."""
    x = w.pick(rank=1)
    t = w.tensors[x]
    if w.random.random() < 0.3 and 0 < t.numel() <= ELEMENTS:
        x, t = f"{x}.reshape(-1).repeat({w.random.randint(1, ELEMENTS // t.numel())})", t.reshape(-1)
    d = w.random.randrange(t.ndim)
    size = max(1, t.shape[d])
    k, way = w.random.choice([1, size, w.random.randint(1, size)]), w.random.choice(["True", "False"])
    places = f"{x}.argsort({d}, {way})"
    return w.random.choice([f"{x}.sort({d}, {way}).values", f"{x}.sort({d}, {way}).values", places, f"{x}.msort()",
                            f"fb.topk({x}, {k}, {d}, {way}).values", f"fb.topk({x}, {k}, {d}, {way}).indices",
                            f"{x}.kthvalue({k}, {d}).values", f"{x}.kthvalue({k}, {d}, True).indices",
                            f"{x}.median({d}).values", f"{x}.median()", f"{x}.nanmedian({d}).indices",
                            f"{x}.mode({d}).values", f"{x}.mode({d}, True).indices",
                            f"fb.gather({x}.flip({d}), {d}, {places})", f"{places}.argsort({d})",
                            f"{x}.float().quantile(0.5, {d}, interpolation='lower')",
                            f"{x}.sort({d}, {way}).values.roll(1, {d}) + {x}"])


def copied(w: Writer) -> str:
    return f"{w.pick()}.clone()"


_STEPS: dict[Callable[[Writer], str | None], float] = {
    unary: 3, binary: 5, choice: 1.2, part: 2.5, part_beside: 3, moved: 2.5, stencil: 1.5, arranged: 3, reduced: 3,
    counted: 0.8, multiplied: 0.8, taken: 0.8, ordered: 0.6, converted: 1, written: 2, copied: 0.3,
}
_IN_PLACE = (written,)


# -- running and shrinking --------------------------------------------------------------------------------------------


def results(function: Callable[..., Any], arguments: list[fb.Tensor]) -> list[np.ndarray]:
    """What a program returns, and its arguments after it."""
    found = function(*arguments)
    return [t.detach().to(fb.float64).numpy() if t is not None else np.zeros(0) for t in [*found, *arguments]]


def difference(program: Written, **how: Any) -> str:
    """What compiled code gives differently, in one line; nothing if all is well, or if the program is refused or
    raises eagerly."""
    function = program.function()
    try:
        expected = results(function, program.tensors())
    except Exception:
        return ""
    compiled = fb.compile(function, **how)
    try:
        for call in range(2):
            found = results(compiled, program.tensors())
            for number, (left, right) in enumerate(zip(found, expected, strict=True)):
                if left.shape != right.shape:
                    return f"call {call}: result {number} has shape {left.shape}, not {right.shape}"
                bad = ~(np.abs(left - right) <= program.slack * np.abs(right).max(initial=0.0))
                if bad.any():
                    at = tuple(int(i) for i in np.argwhere(bad)[0])
                    return f"call {call}: result {number} at {at} is {left[at]}, not {right[at]}"
    except (fb.errors.UnsupportedError, fb.errors.TraceError, fb.errors.CaptureError) as error:
        return "" if how.get("refusals", True) else str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def shrink(program: Written, fails: Callable[[Written], bool]) -> Written:
    """A shorter program that still fails: lines, results and gradients left out as long as it does."""
    shrunk = True
    while shrunk:
        shrunk = False
        for smaller in _smaller(program):
            if fails(smaller):
                program, shrunk = smaller, True
                break
    return program


def _smaller(p: Written) -> Any:
    def made(lines: list[str], results: list[str], differentiated: bool) -> Written:
        return Written(p.seed, p.arguments, lines, results, differentiated, p.names)

    if p.differentiated:
        lines = [f"a{n} = x{n}.clone()" for n in p.leaves()] + p.lines
        yield made(lines, p.results, False)
    for n in range(len(p.results)):
        if len(p.results) > 1:
            yield made(p.lines, p.results[:n] + p.results[n + 1:], p.differentiated)
    for n in reversed(range(len(p.lines))):
        yield made(p.lines[:n] + p.lines[n + 1:], p.results, p.differentiated)
    for n, line in enumerate(p.lines):
        name, _, text = line.partition(" = ")
        if name.isidentifier() and text:
            for other in [f"x{k}" for k in range(len(p.arguments))] + [o.partition(" = ")[0] for o in p.lines[:n]]:
                if other.isidentifier() and text != other:
                    yield made([*p.lines[:n], f"{name} = {other}", *p.lines[n + 1:]], p.results, p.differentiated)
