"""Random programs whose tensors lie here and there: each runs on the CPU alone, eagerly with tensors moved between the CPU
and an emulated GPU, and compiled on the GPU. All must agree, in numbers, dtypes, and where results lie.

    FLAMBEAU_CUDA=emulator python tests/frontend/device_programs.py [COUNT] [--seed N] [--compiled SHARE]
"""

from __future__ import annotations

import argparse
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F

# What is exact on multiples of 1/4 may be followed by anything; what rounds, only by what a last bit does not flip.
EXACT = """neg abs relu square positive nan_to_num cumsum(-1) flip(0) roll(1,-1) mT ravel() flatten() squeeze() unsqueeze(0)
    unsqueeze(-1) transpose(0,-1) tril() diag_embed() clone() contiguous() detach() sum(-1) sum() amax(-1) amin(0) double()
    clamp(-0.5,0.5) movedim(0,-1) chunk(2,-1)[0] view(-1)[1:] T diagonal() unfold(-1,2,1) masked_fill(1,0) repeat(2,1)
    expand(2,-1,-1) triu(1) select(0,0) narrow(-1,0,1) new_ones(2) new_full((2,),3)""".split()
JUMPING = """sign floor round trunc ceil sort(-1)[0] argsort(0) topk(1,-1)[0] argmax(-1) max(-1)[0] min(0)[1]
    cummax(0)[0] median() mode(-1)[0] any(-1) all() count_nonzero(0) logical_not isnan long() bool() nonzero() unique()
    heaviside""".split()
SOFT = """sin tanh sigmoid exp atan softmax(-1) log_softmax(0) mean(0,keepdim=True) var(-1) norm() logsumexp(-1) erf
    silu gelu reciprocal_safe sqrt_safe std(0) layer_norm half_there""".split()
BINARY = "add sub mul maximum minimum matmul".split()
COMPARING = "eq lt ge ne".split()
WRITES = ("{a}.mul_(2)", "{a}.add_({b})", "{a}[..., :1] = 0.5", "{a}.T.add_(1)", "{a}.copy_({b})", "{a}.zero_()",
          "{a}[0] = {b}", "{a}.ravel().mul_(2)", "{a}[0].neg_()", "{a}.diagonal().add_(1)", "{a}.sub_({b}.sum())",
          "{a}[{a} > 0] = -1", "{a}.masked_fill_({a} < 0, 0.25)", "{a}.clamp_(min=-1)", "{a}.t_()", "{a}.unsqueeze_(0)",
          "{a}[:, ::2].add_({a}[:, ::2])", "{a}.index_fill_(0, fb.tensor([0], device={a}.device), 1)")
INDICES = ("::2", "..., 0", "None", ":, 1:", "[0, -1]", "-1", "..., ::2", "fb.tensor([0, 0])", "0", "1:")
MADE = ("fb.arange(3, dtype=fb.float32, device={d})", "fb.ones(2, 3, device={d})", "fb.full((3,), 0.5, device={d})",
        "fb.eye(3, device={d})", "fb.tensor([[1.0, -2.0]], device={d})", "fb.zeros_like({a})",
        "fb.linspace(0, 2, 5, device={d})",
        "{a}.new_zeros(3)", "fb.randint(4, (2, 3), device={d}).float()", "F.dropout(fb.ones(2, 3, device={d}))")


@dataclass
class Program:
    """Lines over x0, x1, ... and what they make; `at` of a name is where it lies in the run on two devices."""

    seed: int
    inputs: list[np.ndarray]
    requires_grad: list[bool]
    lines: list[str] = field(default_factory=list)
    at: dict[str, str] = field(default_factory=dict)
    soft: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        given = [f"x{n} = fb.tensor({a.tolist()}, dtype=fb.float32{', requires_grad=True' * r})  # on {self.at[f'x{n}']}"
                 for n, (a, r) in enumerate(zip(self.inputs, self.requires_grad, strict=True))]
        return "\n".join([f"# seed {self.seed}", *given, *self.lines])


class Devices(dict[str, Any]):
    """What `D["a"]` of a line means: in the run on one device, that."""

    def __init__(self, only: str | None = None):
        super().__init__(cpu=only or "cpu", cuda=only or "cuda:0")


HELPERS: dict[str, Callable[[fb.Tensor], fb.Tensor]] = {
    "reciprocal_safe": lambda x: 1 / (x.abs() + 1), "sqrt_safe": lambda x: (x.abs() + 0.25).sqrt(),
    "layer_norm": lambda x: F.layer_norm(x, x.shape[-1:]), "silu": F.silu, "gelu": F.gelu,
    "heaviside": lambda x: fb.heaviside(x, fb.tensor(0.5)),
    "half_there": lambda x: fb.where(x > 100, x, fb.tensor(2.0)) * x.tanh()}


def generated(seed: int, steps: int = 8) -> Program:
    rng = random.Random(seed)
    numbers = np.random.default_rng(seed)
    shapes = [rng.choice([(3,), (2, 3), (3, 3), (2, 1), (), (1, 3), (2, 2, 3)]) for _ in range(rng.randint(1, 3))]
    program = Program(seed, [numbers.integers(-8, 9, shape).astype(np.float32) / 4 for shape in shapes],
                      [rng.random() < 0.4 for _ in shapes])
    for n in range(len(shapes)):
        program.at[f"x{n}"] = rng.choice(["cpu", "cuda", "cuda"])
    scope = scope_of(program, "cpu")
    fb.manual_seed(seed)
    while len(program.lines) < steps:
        line, made, place, is_soft = drawn(rng, program, scope)
        trial = dict(scope)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(line, trial)
        except Exception:
            if not is_write(line):          # a write that fails may have happened
                continue
            return program
        if made is not None:
            value = trial[made]
            if not isinstance(value, fb.Tensor) or value.numel() > 60:
                continue
            program.at[made] = place
            if is_soft:
                program.soft.add(made)
        elif is_soft:
            program.soft.add(line.split(".")[0].split("[")[0])
        scope = trial
        program.lines.append(line)
    return program


def is_write(line: str) -> bool:
    return " = " not in line or not line.startswith(("v", "fb.")) or line.split(" = ")[0].count("[") > 0


def drawn(rng: random.Random, program: Program, scope: dict[str, Any]) -> tuple[str, str | None, str, bool]:
    """(line, the name it makes or None, where that lies, whether its last bits may differ)"""
    names = list(program.at)
    a, b, at = rng.choice(names), rng.choice(names), program.at
    new, kind, soft = f"v{len(program.lines)}", rng.random(), program.soft

    def there(name: str, place: str) -> str:
        return name if at[name] == place else f"{name}.to(D[{place!r}])"

    if kind < 0.12:
        place = rng.choice(["cpu", "cuda"])
        return f"{new} = {a}.to(D[{place!r}], copy=True)", new, place, a in soft
    if kind < 0.32:
        kinds = [EXACT, SOFT] if a in soft else [EXACT, JUMPING, SOFT]
        chosen = rng.choice(kinds)
        name = rng.choice(chosen)
        call = f"H[{name!r}]({a})" if name in HELPERS else \
            f"{a}.{name}" if not name.isidentifier() or name in ("T", "mT") else f"{a}.{name}()"
        return f"{new} = {call}", new, at[a], a in soft or chosen is SOFT
    if kind < 0.55:
        place = at[a]
        exact = a not in soft and b not in soft
        name = rng.choice(BINARY + COMPARING if exact else BINARY)
        other = b if scope[b].ndim == 0 and rng.random() < 0.5 and at[b] == "cpu" and name != "matmul" else there(b, place)
        if rng.random() < 0.2 and name != "matmul":
            other = rng.choice(["2", "0.5", "-3", "True"])
        return f"{new} = fb.{name}({a}, {other})", new, place, not exact
    if kind < 0.63:
        return f"{new} = {a}[{rng.choice(INDICES)}]", new, at[a], a in soft
    if kind < 0.7:
        name = rng.choice(["cat", "stack"])
        return f"{new} = fb.{name}([{a}, {there(b, at[a])}])", new, at[a], a in soft or b in soft
    if kind < 0.77:
        condition = f"{a} > 0" if a not in soft else f"fb.ones_like({a}).bool()"
        return f"{new} = fb.where({condition}, {a}, {there(b, at[a])})", new, at[a], a in soft or b in soft
    if kind < 0.87:
        place = rng.choice(["cpu", "cuda"])
        made = rng.choice(MADE)
        line = f"{new} = {made.format(d=f'D[{place!r}]', a=a)}"
        if "rand" in made or "drop" in made:        # each device has a stream of its own
            line = f"fb.manual_seed({rng.randrange(99)}); {line}"
        return line, new, at[a] if "{a}" in made else place, False
    target = rng.choice([n for n in names if n.startswith("v")] or names)
    write = rng.choice(WRITES)
    if target in soft and ("<" in write or ">" in write):
        write = "{a}.mul_(2)"
    line = write.format(a=target, b=there(b, at[target]) if "copy_" not in write else b)
    return line, None, at[target], target in soft or "{b}" in write and b in soft


def scope_of(program: Program, run: str) -> dict[str, Any]:
    """run: "cpu", "mixed", "cuda"."""
    devices = Devices(None if run == "mixed" else "cpu" if run == "cpu" else "cuda:0")
    scope: dict[str, Any] = {"fb": fb, "F": F, "H": HELPERS, "D": devices}
    for n, (array, requires) in enumerate(zip(program.inputs, program.requires_grad, strict=True)):
        x = fb.tensor(array).to(devices[program.at[f"x{n}"]])
        scope[f"x{n}"] = x.requires_grad_() if requires else x
    return scope


def made(scope: dict[str, Any]) -> dict[str, fb.Tensor]:
    return {name: value for name, value in scope.items() if isinstance(value, fb.Tensor)}


def outcome(program: Program, run: str) -> tuple[dict[str, fb.Tensor], dict[str, fb.Tensor | None]]:
    """The tensors of a run, and the gradients of its inputs."""
    scope = scope_of(program, run)
    inputs = made(scope)
    fb.manual_seed(program.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line in program.lines:
            exec(line, scope)
        found = made(scope)
        ends = [t.double().sum().cpu() for name, t in found.items() if t.requires_grad and t.is_floating_point()]
        if ends:
            total = ends[0]
            for end in ends[1:]:
                total = total + end
            total.backward()
    return found, {name: t.grad for name, t in inputs.items() if t.is_leaf}


def compiled_outcome(program: Program) -> dict[str, fb.Tensor]:
    """The tensors of a compiled run on the GPU."""
    scope = scope_of(program, "cuda")
    inputs = {name: t.detach() for name, t in made(scope).items()}
    source = "def run({}):\n{}\n    return {{{}}}".format(
        ", ".join(inputs), "\n".join(f"    {line}" for line in program.lines),
        ", ".join(f"{n!r}: {n}" for n in program.at))
    exec(compile(source, "<program>", "exec"), scope)
    fb.manual_seed(program.seed)
    found: dict[str, fb.Tensor] = fb.compile(scope["run"])(**inputs)
    return found


def difference(program: Program) -> str | None:
    """How the runs of a program differ, in words."""
    try:
        expected, wanted = outcome(program, "cpu")
    except Exception:
        return None                         # nor on the CPU
    try:
        found, grads = outcome(program, "mixed")
    except Exception as error:
        return f"mixed: {type(error).__name__}: {error}"
    for name, x in expected.items():
        place = fb.device("cuda:0" if program.at[name] == "cuda" else "cpu")
        if found[name].device != place:
            return f"mixed: {name} lies on {found[name].device}, not {place}"
        if (wrong := _differ(x, found[name])) is not None:
            return f"mixed: {name}: {wrong}"
    for name, ct in wanted.items():
        other = grads[name]
        if (ct is None) != (other is None):
            return f"mixed: gradient of {name}: {other}, not {ct}"
        if ct is not None and other is not None:
            if other.device != found[name].device:
                return f"mixed: gradient of {name} lies on {other.device}"
            if (wrong := _differ(ct, other, 1e-3)) is not None:
                return f"mixed: gradient of {name}: {wrong}"
    return None


def compiled_difference(program: Program) -> str | None:
    """How a compiled run on the GPU differs from the CPU's, in words."""
    try:
        with fb.no_grad():
            expected, _ = outcome(program, "cpu")
    except Exception:
        return None
    try:
        found = compiled_outcome(program)
    except (fb.errors.TraceError, fb.errors.CaptureError, fb.errors.UnsupportedError) as error:
        return None if "moved" not in str(error) else f"compiled: {error}"
    except Exception as error:
        return f"compiled: {type(error).__name__}: {error}"
    for name in program.at:
        if found[name].device != "cuda:0":
            return f"compiled: {name} lies on {found[name].device}"
        if (wrong := _differ(expected[name], found[name])) is not None:
            return f"compiled: {name}: {wrong}"
    return None


def _differ(x: fb.Tensor, y: fb.Tensor, tolerance: float = 1e-4) -> str | None:
    if x.dtype is not y.dtype or x.shape != y.shape:
        return f"{y.dtype} {tuple(y.shape)}, not {x.dtype} {tuple(x.shape)}"
    p, q = np.array(x.tolist(), np.float64), np.array(y.tolist(), np.float64)
    with np.errstate(all="ignore"):
        size = float(np.abs(np.where(np.isfinite(p), p, 0)).max(initial=0))
        fine = np.isclose(q, p, rtol=tolerance, atol=tolerance * max(size, 1.0), equal_nan=True).all()
    return None if fine else f"{y.tolist()}, not {x.tolist()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", nargs="?", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compiled", type=float, default=0.3)
    options = parser.parse_args()
    wrong = compiled = 0
    for seed in range(options.seed, options.seed + options.count):
        program = generated(seed)
        told = difference(program)
        if told is None and random.Random(seed).random() < options.compiled:
            compiled += 1
            told = compiled_difference(program)
        if told is not None:
            wrong += 1
            print(f"{program}\n--> {told}\n", flush=True)
    print(f"{options.count} programs, {compiled} of them compiled, {wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
