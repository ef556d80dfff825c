"""What docs/surface.md knows of Modules, optimizers and transforms: what comes here of PyTorch's own samples of Modules
(`torch.testing._internal`, module_db) and settings of optimizers (optim_db), and of a function under each transform.

    python tests/frontend/torch_module_surface.py [GLOB ...]

writes torch_modules_measured.txt anew (minutes; of what the globs leave out, the old lines stay). Then run
surface_table.py.
"""
from __future__ import annotations

import fnmatch
import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from surface_table import MODULES_MEASURED, rows_of
from torch_samples import database

import flambeau as fb
from flambeau.frontend.pytree import flatten

DTYPES = {"f16": torch.float16, "bf16": torch.bfloat16, "f32": torch.float32, "f64": torch.float64}
RTOL = {"f16": 2e-2, "bf16": 1e-1, "f32": 2e-4, "f64": 1e-7}
SAMPLES = 4
LOOSE = {"Muon": 5e-3, "LBFGS": 5e-3}           # orthogonalizes in bf16; takes sixty steps, and in f32 they part
COLUMNS = ["name", "dtypes", "not", "compiled", "derivative", "batching"]


def ours(value: Any) -> Any:
    """Our copy of what PyTorch's samples hold: tensors, dtypes, Modules by their class, functions by their name."""
    match value:
        case torch.Tensor():
            made = fb.from_numpy(value.detach().float().numpy().copy()).to(getattr(fb, str(value.dtype)[6:])) \
                if value.dtype == torch.bfloat16 else fb.from_numpy(value.detach().numpy().copy())
            return made.requires_grad_() if value.requires_grad else made
        case torch.dtype():
            return getattr(fb, str(value)[6:])
        case tuple() | list():
            return type(value)(map(ours, value))
        case dict():
            return {key: ours(item) for key, item in value.items()}
        case _ if callable(value) and hasattr(fb.nn.functional, getattr(value, "__name__", "")):
            return getattr(fb.nn.functional, value.__name__)
    return value


def numbers(value: Any, kind: type) -> list[np.ndarray]:
    """The tensors in a result, as f64."""
    return [t.detach().to(torch.float64 if kind is torch.Tensor else fb.float64).numpy() for t in leaves(value, kind)]


def leaves(value: Any, kind: type) -> list[Any]:
    if isinstance(value, kind):
        return [value]
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in leaves(item, kind)]
    return [leaf for item in value for leaf in leaves(item, kind)] if isinstance(value, (tuple, list)) else []


def agree(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], dtype: str) -> bool:
    return _near(found, expected, RTOL[dtype])


def _near(found: Sequence[np.ndarray], expected: Sequence[np.ndarray], tolerance: float) -> bool:
    return len(found) == len(expected) and all(
        a.shape == b.shape and np.allclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
        for a, b in zip(found, expected, strict=True))


def told(outcomes: Sequence[bool | None]) -> str:
    said = [outcome for outcome in outcomes if outcome is not None]
    return "-" if not said else "yes" if all(said) else "in part" if any(said) else "no"


# -- Modules ----------------------------------------------------------------------------------------------------------


@functools.cache
def modules() -> dict[str, Any]:
    """PyTorch's samples of Modules, by name, but of those that have no weights before they are called, or are given a
    Module."""
    return {info.module_cls.__name__: info for info in database("common_modules", "module_db")
            if info.module_cls.__module__.startswith("torch.nn.modules") and hasattr(fb.nn, info.module_cls.__name__)
            and not info.module_cls.__name__.startswith("Lazy") and info.module_cls.__name__ != "TransformerEncoder"}


def pairs(name: str, dtype: str) -> list[tuple[Any, Any, Any, Any]]:
    """(PyTorch's Module, its arguments, ours, its arguments) for some samples."""
    info, made = modules()[name], []
    samples = info.module_inputs_func(info, device="cpu", dtype=DTYPES[dtype], requires_grad=dtype in ("f32", "f64"),
                                      training=False)
    for sample in list(samples)[:SAMPLES]:
        built = sample.constructor_input
        theirs = info.module_cls(*built.args, **built.kwargs).to(DTYPES[dtype]).eval()
        try:
            mine = getattr(fb.nn, name)(*ours(built.args), **ours(built.kwargs)).to(ours(DTYPES[dtype])).eval()
            mine.load_state_dict(ours(dict(theirs.state_dict())))
            given = sample.forward_input
            made.append((theirs, given, mine, (ours(given.args), ours(given.kwargs))))
        except Exception:
            made.append((theirs, sample.forward_input, None, None))
    return made


def attempt(look: Callable[[], bool | None]) -> bool | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return look()
        except Exception:
            return False


def measured_module(name: str) -> dict[str, str]:
    passed, failed = list[str](), list[str]()
    compiled = derivative = batching = list[bool | None]()
    for dtype in DTYPES:
        try:
            made = pairs(name, dtype)
            expected = [numbers(theirs(*given.args, **given.kwargs), torch.Tensor) for theirs, given, _, _ in made]
        except (RuntimeError, NotImplementedError, TypeError):
            continue                        # PyTorch has it for other dtypes
        rows = [(mine, args, right) for (_, _, mine, args), right in zip(made, expected, strict=True)]
        eager = [attempt(functools.partial(_called, *row, dtype)) for row in rows]
        (passed if eager and all(eager) else failed).append(dtype)
        if dtype == "f32":
            compiled = [attempt(functools.partial(_called, *row, dtype, True)) for row in rows]
            batching = [attempt(functools.partial(_batched, *row)) for row in rows]
        if dtype == "f64":
            derivative = [attempt(functools.partial(_differentiated, *row)) for row in made]
    return {"dtypes": " ".join(passed) or "-", "not": " ".join(failed) or "-", "compiled": told(compiled),
            "derivative": told(derivative), "batching": told(batching)}


def _called(mine: Any, args: Any, expected: Sequence[np.ndarray], dtype: str, compiles: bool = False) -> bool:
    function = fb.compile(lambda *given, **named: mine(*given, **named)) if compiles else mine
    return mine is not None and agree(numbers(function(*args[0], **args[1]), fb.Tensor), expected, dtype)


def _differentiated(theirs: Any, given: Any, mine: Any, args: Any) -> bool | None:
    expected = theirs(*given.args, **given.kwargs)
    roots = [t for t in leaves(expected, torch.Tensor) if t.requires_grad]
    wanted = [t for t in [*leaves((given.args, given.kwargs), torch.Tensor), *theirs.parameters()] if t.requires_grad]
    if not roots or not wanted:
        return None
    if mine is None:
        return False
    grads = torch.autograd.grad(sum((t * t).sum() for t in roots), wanted, allow_unused=True)
    found = [t for t in leaves(mine(*args[0], **args[1]), fb.Tensor) if t.requires_grad]
    variables = [t for t in [*leaves(args, fb.Tensor), *mine.parameters()] if t.requires_grad]
    own = fb.autograd.grad(sum((t * t).sum() for t in found), variables, allow_unused=True)
    return len(own) == len(grads) and all((a is None) == (b is None) for a, b in zip(own, grads, strict=True)) and agree(
        numbers([a for a in own if a is not None], fb.Tensor), numbers([b for b in grads if b is not None], torch.Tensor),
        "f64")


def _batched(mine: Any, args: Any, expected: Sequence[np.ndarray]) -> bool | None:
    """`vmap` over two copies of the arguments that are tensors of floats."""
    if mine is None:
        return False
    keywords, (values, _, structure) = args[1], flatten(args[0])
    places = [n for n, t in enumerate(values) if isinstance(t, fb.Tensor)]
    if not places:
        return None

    def call(*tensors: Any) -> Any:
        filled = list(values)
        for n, t in zip(places, tensors, strict=True):
            filled[n] = t
        return mine(*fb.frontend.pytree.unflatten(structure, filled), **keywords)

    both = fb.func.vmap(call)(*[fb.stack([values[n].detach()] * 2) for n in places])
    return agree([a[1] for a in numbers(both, fb.Tensor)], expected, "f32")


# -- optimizers -------------------------------------------------------------------------------------------------------


@functools.cache
def optimizers() -> dict[str, Any]:
    return {info.optim_cls.__name__: info for info in database("common_optimizers", "optim_db")
            if hasattr(fb.optim, info.optim_cls.__name__)}


def measured_optimizer(name: str) -> dict[str, str]:
    """Three steps of a small network, as PyTorch takes them, with each of PyTorch's settings."""
    info = optimizers()[name]
    passed, failed = list[str](), list[str]()
    settings = [setting.kwargs for setting in info.optim_inputs_func(device="cpu")
                if not set(setting.kwargs) & {"capturable", "differentiable", "fused", "foreach"}]
    compiled = []
    for dtype in ("f32", "f64"):
        tolerance = LOOSE.get(name, RTOL[dtype])

        def is_right(kwargs: dict[str, Any], compiles: bool, dtype: str = dtype,
                     tolerance: float = tolerance) -> bool | None:
            expected = _descended(torch, name, kwargs, dtype)
            return attempt(lambda: _near(_descended(fb, name, ours(kwargs), dtype, compiles), expected, tolerance))

        (passed if all(is_right(kwargs, False) for kwargs in settings) else failed).append(dtype)
        if dtype == "f64":
            compiled = [is_right(kwargs, True) for kwargs in settings]
    return {"dtypes": " ".join(passed) or "-", "not": " ".join(failed) or "-", "compiled": told(compiled),
            "derivative": "-", "batching": "-"}


def _descended(library: Any, name: str, kwargs: dict[str, Any], dtype: str, compiles: bool = False) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    kind = getattr(library, {"f32": "float32", "f64": "float64"}[dtype])
    weights = [library.from_numpy(rng.normal(size=shape)).to(kind).requires_grad_() for shape in ((4, 3), (4, 2))]
    x = library.from_numpy(rng.normal(size=(5, 4))).to(kind)
    opt = getattr(library.optim, name)(weights, **{"lr": 0.01, **kwargs})

    def closure() -> Any:
        opt.zero_grad()
        loss = sum(((x @ w).tanh() ** 2).sum() for w in weights)
        loss.backward()
        return loss

    step = (lambda: opt.step(closure)) if name == "LBFGS" else lambda: (closure(), opt.step())
    step = fb.compile(step) if compiles else step
    for _ in range(3):
        step()
    return numbers(weights, library.Tensor)


# -- transforms -------------------------------------------------------------------------------------------------------


def _of(library: Any) -> dict[str, Callable[[Any], Any]]:
    """A function of a tensor by each transform."""
    func, layer = library.func, library.nn.Linear(3, 3)

    def f(x: Any) -> Any:
        return (x.sin() * x).sum()

    def g(x: Any) -> Any:
        return x.sin() * x.sum()

    return {
        "grad": func.grad(f), "grad_and_value": lambda x: func.grad_and_value(f)(x),
        "vjp": lambda x: func.vjp(g, x)[1](x)[0], "jvp": lambda x: func.jvp(g, (x,), (x,))[1], "vmap": func.vmap(f),
        "jacrev": func.jacrev(g), "jacfwd": func.jacfwd(g), "hessian": func.hessian(f),
        "linearize": lambda x: func.linearize(g, x)[1](x),
        "functional_call": lambda x: func.functional_call(layer, {"weight": x, "bias": x[0]}, (x,)),
    }


def measured_transform(name: str) -> dict[str, str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 3))
    theirs, mine = _of(torch)[name], _of(fb)[name]

    def outcome(way: Callable[[Any, Any], Any], dtype: str = "f64", batch: bool = False) -> bool | None:
        def value(library: Any, function: Any, through: Any) -> list[np.ndarray]:
            kind = {"f32": "float32", "f64": "float64", "f16": "float16", "bf16": "bfloat16"}[dtype]
            given = library.from_numpy(np.stack([x, 2 * x]) if batch else x).to(getattr(library, kind))
            return numbers(through(library, function)(given), library.Tensor)

        try:
            expected = value(torch, theirs, way)
        except Exception:
            return None
        return attempt(lambda: agree(value(fb, mine, way), expected, dtype))

    plain = {dtype: outcome(lambda library, function: function, dtype) for dtype in DTYPES}
    compiled = outcome(lambda library, function: fb.compile(function) if library is fb else function)
    derivative = None if name == "linearize" else outcome(lambda library, function: library.func.grad(
        lambda x: sum((leaf * leaf).sum() for leaf in leaves(function(x), library.Tensor))))
    batching = outcome(lambda library, function: library.func.vmap(function), batch=True)
    return {"dtypes": " ".join(d for d, right in plain.items() if right) or "-",
            "not": " ".join(d for d, right in plain.items() if right is False) or "-", "compiled": told([compiled]),
            "derivative": told([derivative]), "batching": told([batching])}


# -- all --------------------------------------------------------------------------------------------------------------


def measured(name: str) -> dict[str, str]:
    torch.manual_seed(0)
    fb.manual_seed(0)
    space, _, last = name.rpartition(".")
    return {"nn": measured_module, "optim": measured_optimizer, "func": measured_transform}[space](last)


def names() -> list[str]:
    return [*[f"nn.{name}" for name in sorted(modules())], *[f"optim.{name}" for name in sorted(optimizers())],
            *[f"func.{name}" for name in sorted(_of(fb))]]


def write(globs: list[str]) -> None:
    rows = {row["name"]: row for row in rows_of(MODULES_MEASURED)} if MODULES_MEASURED.exists() else {}
    for name in names():
        if any(fnmatch.fnmatch(name, pattern) for pattern in globs or ["*"]):
            rows[name] = {"name": name, **measured(name)}
            print(rows[name], flush=True)
    lines = ["# What comes of PyTorch's samples of Modules, optimizers and transforms here. Written by "
             "tests/frontend/torch_module_surface.py.\n", "; ".join(COLUMNS) + "\n"]
    lines += ["; ".join(rows[name][column] for column in COLUMNS) + "\n" for name in names() if name in rows]
    MODULES_MEASURED.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    write(sys.argv[1:])
