"""Random programs of functions, methods, views and writes in place over the whole surface: eager, compiled and in PyTorch;
and what such programs found."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from against_torch import Library, ours, theirs

import flambeau as fb

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]

# -- random programs --------------------------------------------------------------------------------------------------

UNARY = """abs neg sin cos tanh sigmoid exp expm1 square erf atan asinh sinc relu sign floor round trunc frac logit
    reciprocal positive log2 sqrt nan_to_num digamma logical_not isnan softmax(-1) log_softmax(0) cumsum(-1) cummax(0)[0]
    logcumsumexp(0) sort(-1)[0] argsort(0) flip(0) roll(1,-1) mT ravel() flatten() squeeze() unsqueeze(0) unsqueeze(-1)
    transpose(0,-1) repeat_interleave(2,-1) unfold(-1,2,1) tril() diag_embed() clone() contiguous() detach() sum(-1)
    mean(0,keepdim=True) amax(-1) prod(0) var(-1) norm() any(-1) count_nonzero(0) median() nansum(0) logsumexp(-1)
    double() float() bool() masked_fill(1,0) clamp(-0.5,0.5) aminmax(dim=0).max movedim(0,-1) argmax(-1)
    max(-1)[0] min(0)[1] topk(2,-1)[0] chunk(2,-1)[0] split(2)[-1] view(-1)[1:] T""".split()
BINARY = """add sub mul div maximum fmin fmax atan2 hypot remainder floor_divide eq lt logical_and logaddexp xlogy copysign
    ldexp matmul where lerp cdist outer kron bucketize isin""".split()
LOSSES = "mse_loss l1_loss smooth_l1_loss huber_loss kl_div soft_margin_loss poisson_nll_loss".split()
WRITES = (
    "{a}.mul_(2)", "{a}.t_()", "{a}.unsqueeze_(0)", "{a}[..., :1] = 0.5", "{a}.T.add_(1)", "{a}.copy_({b})", "{a}.tanh_()",
    "lib.sin({a}, out={a})", "lib.add({a}, {a}, out={a})", "{a}.ravel().mul_(3)", "{a}.squeeze_()", "{a}[0].zero_()",
    "lib.cumsum({a}, -1, out={a})", "{a}.transpose_(0, -1)", "{a}.diagonal().add_(1)", "{a}.sub_({b}.mean())",
)
DTYPES = ("float64",) * 4 + ("float32", "int64", "bool", "int32")


def step(rng: random.Random, names: list[str], at: int) -> str:
    a, b, kind = rng.choice(names), rng.choice(names), rng.random()
    made = [name for name in names if name.startswith("v")]
    if made and kind < 0.25:
        return rng.choice(WRITES).format(a=rng.choice(made), b=b)
    if kind < 0.55:
        name = rng.choice(UNARY)
        return f"v{at} = {a}.{name}" if not name.isidentifier() or name in ("T", "mT") else f"v{at} = lib.{name}({a})"
    if kind < 0.75:
        return f"v{at} = lib.{rng.choice(BINARY)}({a}, {b})".replace("where(", "where(x0 > 0, ").replace(
            "lerp(", "lerp(0.5 * x0, ")
    if kind < 0.85:
        return f"v{at} = {a}[{rng.choice(['::2', '..., 0', 'None', ':, 1:', '[0, -1]', '-1', '..., ::2'])}]"
    if kind < 0.93:
        return f"v{at} = lib.{rng.choice(['cat', 'stack', 'hstack'])}([{a}, {b}])"
    return f"v{at} = lib.F.{rng.choice(LOSSES)}({a}, {b}, reduction='{rng.choice(['none', 'sum'])}')"


def drawn_inputs(rng: random.Random) -> list[tuple[np.ndarray, bool]]:
    """Arrays, and whether they come as every other element of a wider one."""
    found = []
    for _ in range(rng.randint(1, 3)):
        shape = [rng.choice((1, 2, 3, 3, 4, 0 if rng.random() < 0.1 else 3)) for _ in range(rng.choice((0, 1, 2, 2, 3)))]
        values = np.random.default_rng(rng.randrange(2**32)).normal(size=shape) * 1.5
        dtype = rng.choice(DTYPES)
        found.append((np.asarray(values if "float" in dtype else np.round(values)).astype(dtype), rng.random() < 0.4))
    return found


def made(lib: Library, given: list[tuple[np.ndarray, bool]]) -> list[Any]:
    tensors = []
    for array, is_wide in given:
        t = lib.tensor(array)
        t = lib.stack([t, t], -1)[..., 0] if is_wide else t
        tensors.append(t.detach().requires_grad_() if "float" in str(array.dtype) else t)
    return tensors


def outcome(function: Any, lib: Library, given: list[tuple[np.ndarray, bool]]) -> list[Any]:
    """Arrays of the results, and of the inputs and their gradients afterwards; None where there is none."""
    tensors = made(lib, given)
    results = function(lib, *tensors)
    floats = [r.double() for r in results if r.requires_grad]
    if floats:
        sum(((n + 1) * 0.3 * r.sum() for n, r in enumerate(floats)), lib.zeros(())).backward()
    return [None if t is None else t.detach().numpy()
            for t in (*results, *tensors, *(t.grad if t.is_floating_point() else None for t in tensors))]


def agree(found: list[Any], wanted: list[Any], tolerance: float) -> bool:
    def same(x: Any, y: Any) -> bool:
        if x is None or y is None:
            return x is y
        size = np.abs(np.where(np.isfinite(y), y, 0)).max(initial=0)
        return x.dtype == y.dtype and x.shape == y.shape and (
            np.array_equal(x, y) if x.dtype.kind != "f"
            else np.allclose(x, y, rtol=tolerance, atol=tolerance * max(size, 1), equal_nan=True))

    return len(found) == len(wanted) and all(map(same, found, wanted))


def program_of(seed: int, given: list[tuple[np.ndarray, bool]]) -> str:
    """Lines that PyTorch runs, as the source of a function."""
    rng, names, lines = random.Random(seed + 1), [f"x{n}" for n in range(len(given))], []
    space = {"lib": theirs(), **dict(zip(names, made(theirs(), given), strict=True))}
    for _ in range(20):
        line = step(rng, names, len(lines))
        try:
            exec(line, space)
        except (RuntimeError, IndexError, TypeError, NotImplementedError):
            continue
        name = line.split(" = ")[0]
        if name.isidentifier() and space[name].numel() < 2000 and space[name].dim() < 5:
            names.append(name)
        lines.append(line)
        if len(lines) == 6:
            break
    return f"def f(lib, {', '.join(names[:len(given)])}):\n    " + "\n    ".join(
        [*lines, f"return [{', '.join(names[len(given):])}]"])


def test_random_programs_agree(seeds) -> None:
    for seed in seeds:
        given = drawn_inputs(random.Random(seed))
        source = program_of(seed, given)
        space: dict[str, Any] = {}
        exec(source, space)
        f = space["f"]
        try:
            wanted = outcome(f, theirs(), given)
        except RuntimeError:                # PyTorch's own refusals of gradients
            continue
        is_rough = any(a.dtype == np.float32 for a, _ in given) or "float()" in source
        tolerance = 2e-3 if is_rough else 1e-6
        try:
            found = outcome(f, ours, given)
        except (RuntimeError, NotImplementedError):     # ours: said, not silent
            continue
        told = f"seed {seed}: {[(a.dtype, a.shape, w) for a, w in given]}\n{source}"
        assert agree(found, wanted, tolerance), told
        compiled = fb.compile(lambda *tensors, f=f: f(ours, *tensors))
        for _ in range(2):
            try:
                again = outcome(lambda lib, *tensors, c=compiled: c(*tensors), ours, given)
            except fb.errors.FlambeauError:
                break
            assert agree(again, found, tolerance), "compiled, " + told


# -- what they found --------------------------------------------------------------------------------------------------

CASES = {
    "logit's gradient is NaN outside [0, 1]": lambda lib: gradient(lib, lib.logit, [-0.5, 0.25, 1.5]),
    "ravel copies what is not contiguous": lambda lib: written_through(lib, lambda x: x.ravel()),
    "ravel of what is contiguous is a view": lambda lib: written_through(lib, lambda x: x.T.contiguous().ravel()),
    "pixel_shuffle by 1 copies": lambda lib: written_through(lib, lambda x: lib.F.pixel_shuffle(x.unsqueeze(1), 1)),
    "pixel_unshuffle by 1 copies": lambda lib: written_through(lib, lambda x: lib.F.pixel_unshuffle(x.unsqueeze(1), 1)),
    "chain_matmul of one copies": lambda lib: written_through(lib, lambda x: lib.chain_matmul(x)),
    "einsum of one is a view": lambda lib: written_through(lib, lambda x: lib.einsum("ij->ij", x).unsqueeze_(0)),
    "expand to its own shape is written through": lambda lib: written_through(lib, lambda x: x.expand(3, 2)),
    "l1_loss of integers": lambda lib: lib.F.l1_loss(lib.tensor([1, 2]), lib.tensor([3, 1]), reduction="none"),
    "fmin of bools": lambda lib: lib.fmin(lib.tensor([True, False]), lib.tensor([True, True])),
    "fmax of bools": lambda lib: lib.fmax(lib.tensor([True, False]), lib.tensor([False, False])),
    "aminmax by name": lambda lib: lib.aminmax(lib.tensor([[3.0, 1.0]]), dim=1).max,
    "movedim without dims": lambda lib: lib.movedim(lib.tensor(1.0), 0, -1),
    "ldexp beyond one power": lambda lib: lib.ldexp(lib.tensor([1e-30, 1.0]), lib.tensor([150, -3])),
    "ldexp of float64": lambda lib: lib.ldexp(lib.ones(2, dtype=lib.float64), lib.tensor([1000, -3])),
    "ldexp of float16": lambda lib: lib.ldexp(lib.ones(2, dtype=lib.float16), lib.tensor([20, -3])),
    "searchsorted of other values": lambda lib: lib.searchsorted(lib.tensor([1, 2]), lib.tensor([1.5, 2.5])),
    "bucketize of integers": lambda lib: lib.bucketize(lib.tensor([1, 2]), lib.tensor([0.5, 1.5])),
    "sum into integers": lambda lib: lib.sum(lib.tensor([1.5, 1.5]), 0, out=lib.zeros((), dtype=lib.int64)),
    "sum into bools": lambda lib: lib.sum(lib.tensor([0, 2]), 0, out=lib.zeros((), dtype=lib.bool)),
    "prod into bools": lambda lib: lib.prod(lib.tensor([0.0, 2.0]), 0, out=lib.ones((), dtype=lib.bool)),
    "sum of bools as bools": lambda lib: lib.sum(lib.tensor([[True], [True]]), 0, dtype=lib.bool),
    **{f"{name} of a 0-d tensor": lambda lib, name=name: getattr(lib.F, name)(
        lib.tensor(1.0), lib.ones(2, dtype=lib.bfloat16), reduction="none").double()
       for name in ("mse_loss", "l1_loss", "huber_loss", "smooth_l1_loss")},
}


def gradient(lib: Library, function: Any, values: list[float]) -> Any:
    x = lib.tensor(values, requires_grad=True)
    function(x).sum().backward()
    return x.grad


def written_through(lib: Library, function: Any) -> Any:
    x = lib.arange(12.0).reshape(3, 2, 2)[..., 0]
    function(x).zero_()
    return x.clone()


@pytest.mark.parametrize("name", CASES)
def test_values_are_pytorchs(name: str) -> None:
    case = CASES[name]
    wanted = case(theirs())
    for found in (case(ours), fb.compile(lambda: case(ours))()):
        assert found.dtype.torch_name == str(wanted.dtype).removeprefix("torch.")
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-6)


@pytest.mark.parametrize("make", [
    lambda: fb.arange(4.0).reshape(2, 2).requires_grad_(),
    lambda: fb.nn.Parameter(fb.arange(4.0).reshape(2, 2)),
    lambda: fb.ones(2, 2).t().requires_grad_(),
], ids=["reshaped", "parameter", "transposed"])
@pytest.mark.parametrize("view", [lambda x: x.unsqueeze(0), lambda x: x.t()[0], lambda x: x[0]])
def test_views_of_leaves_that_are_views_are_not_written_through(make, view) -> None:
    leaf = make()
    with pytest.raises(RuntimeError, match="a view of a leaf"):
        view(leaf).mul_(2)
    with fb.no_grad():
        view(leaf).mul_(2)
