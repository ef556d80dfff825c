"""Random calls of every public function and method, most of them wrong, and what counts as a clear refusal."""

from __future__ import annotations

import contextlib
import inspect
import io
import linecache
import random
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.errors import FlambeauError

SKIPPED = {"compile", "seed", "initial_seed", "fork_rng", "set_default_dtype", "set_num_threads", "manual_seed",
           "set_rng_state", "set_grad_enabled", "set_autocast_enabled", "set_autocast_dtype", "no_grad", "enable_grad",
           "inference_mode", "numpy", "backward", "register_hook", "retain_grad", "called"}
REFUSALS = (FlambeauError, TypeError, ValueError, IndexError, RuntimeError)


def functions() -> list[tuple[str, Callable[..., Any], bool]]:
    """(name, function, whether its first argument is a tensor's self) of all that users call."""
    found: list[tuple[str, Callable[..., Any], bool]] = []
    for prefix, module in (("fb", fb), ("F", F)):
        for name in sorted(dir(module)):
            value = getattr(module, name)
            if isinstance(value, types.FunctionType) and not name.startswith("_") and name not in SKIPPED:
                found.append((f"{prefix}.{name}", value, False))
    for name, value in sorted(vars(fb.Tensor).items()):
        if isinstance(value, types.FunctionType) and not name.startswith("_") and name not in SKIPPED:
            found.append((f"Tensor.{name}", value, True))
    for name in sorted(dir(fb.nn)):
        kind = getattr(fb.nn, name)
        if isinstance(kind, type) and issubclass(kind, fb.nn.Module) and kind is not fb.nn.Module:
            found.append((f"nn.{name}", kind, False))
    return found


_PYTHONS = ("positional argument", "unexpected keyword", "required argument", "multiple values for argument")


class Foreign:
    def __dlpack__(self) -> Any:
        raise AssertionError("never asked")

    def __repr__(self) -> str:
        return "Foreign()"


def _tensor(rng: random.Random) -> fb.Tensor:
    shape = rng.choice([(), (3,), (2, 3), (3, 2), (2, 3, 4), (1, 2, 5, 5), (0,), (2, 0)])
    kind = rng.random()
    if kind < 0.6:
        return fb.ones(shape, dtype=rng.choice([fb.float32, fb.float32, fb.float64, fb.float16]))
    if kind < 0.85:
        return fb.zeros(shape, dtype=rng.choice([fb.int64, fb.int64, fb.int32, fb.uint8]))
    return fb.ones(shape, dtype=fb.bool)


def value(rng: random.Random, name: str) -> Any:
    """An argument for a parameter: mostly of the right kind, often with a wrong value."""
    kind = rng.random()
    if kind < 0.12:
        return rng.choice(["a", "mean", None, np.ones(3), np.ones((2, 3)), Foreign(), [1, "a"], object(), {}, b"x", 1j,
                           float("nan"), float("inf"), fb.float32, ..., [], (), [None], range(2), len])
    if name in ("dim", "dim0", "dim1", "dim2", "dims", "start_dim", "end_dim", "axis0", "axis1", "source", "destination"):
        return rng.choice([0, 1, -1, 2, 7, -7, (0, 1), (0, 0), [1], True, 1.0])
    if name in ("size", "shape", "sizes", "repeats", "normalized_shape", "output_size", "kernel_size"):
        return rng.choice([2, (2, 3), (3,), (-1,), (-1, -1), (6,), -1, 0, [2, 2], (2.5,), (2, 3, 4)])
    if name in ("tensors", "indices") and rng.random() < 0.8:
        return [_tensor(rng) for _ in range(rng.randrange(4))]
    if name in ("keepdim", "training", "inplace", "descending", "largest", "sorted", "accumulate", "unbiased", "as_tuple"):
        return rng.choice([True, False, None, 1])
    if name == "dtype":
        return rng.choice([None, fb.float64, fb.int64, float, "float32", np.float32])
    if name in ("input", "other", "weight", "target", "index", "mask", "condition", "src", "query", "key", "value",
                "end", "tensor", "tensor1", "tensor2", "mat2", "vec", "bias", "running_mean", "running_var", "x", "y"):
        return _tensor(rng) if rng.random() < 0.85 else rng.choice([1, 2.5, -1, True])
    return rng.choice([0, 1, 2, 3, -1, 5, 0.5, -0.5, _tensor(rng), (1, 1), "mean", True])


def arguments(rng: random.Random, function: Callable[..., Any], is_method: bool) -> tuple[list[Any], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for place, p in enumerate(inspect.signature(function).parameters.values()):
        if place == 0 and is_method:
            args.append(_tensor(rng))
        elif p.kind is p.VAR_POSITIONAL:
            args += [value(rng, p.name) for _ in range(rng.randrange(3))]
        elif p.kind is p.VAR_KEYWORD or p.name in ("device", "generator"):
            continue
        elif p.default is p.empty or rng.random() < 0.35:
            if p.kind is p.KEYWORD_ONLY or len(kwargs) or (p.default is not p.empty and rng.random() < 0.5):
                kwargs[p.name] = value(rng, p.name)
            else:
                args.append(value(rng, p.name))
        else:
            kwargs.setdefault("", None)         # from here on by name
    kwargs.pop("", None)
    return args, kwargs


def fault(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> str | None:
    """What is wrong with how a call was refused: None when it was not, or clearly so. An error is clear when our code
    raised it on purpose, or Python refused the call itself."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()), \
                fb.config.set(deterministic=fb.config.deterministic, tf32=fb.config.tf32):
            warnings.simplefilter("ignore")
            function(*args, **kwargs)
    except (MemoryError, OSError):              # the system's words: they name the file
        return None
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/flambeau/')[2]}:{frame.lineno}: {frame.line}"
        if isinstance(error, AssertionError) and frame.line and "raise AssertionError(" in frame.line:
            return None                         # PyTorch's kind of error for some checks, on purpose; an assert is a fault
        if not isinstance(error, REFUSALS):
            return f"{type(error).__name__}: {error}  at {where}"
        if isinstance(error, FlambeauError) or "raise " in _statement(frame) or frame.filename == __file__:
            return None
        if isinstance(error, TypeError) and any(words in str(error) for words in _PYTHONS):
            return None
        return f"{type(error).__name__}: {error}  at {where}"
    return None


def _statement(frame: traceback.FrameSummary) -> str:
    """The lines of the statement that failed, and some before: a raise may span several."""
    last = frame.end_lineno or frame.lineno or 1
    return "".join(linecache.getline(frame.filename, n) for n in range(max((frame.lineno or 1) - 2, 1), last + 1))


def faults(seed: int, count: int, compiled: bool = False) -> Iterator[tuple[str, list[Any], dict[str, Any], str]]:
    """(function, its arguments, what was wrong) for each of `count` calls that was not clearly refused."""
    rng, everything = random.Random(seed), functions()
    for _ in range(count):
        name, function, is_method = rng.choice(everything)
        args, kwargs = arguments(rng, function, is_method)
        called = fb.compile(lambda *a, f=function, **k: f(*a, **k)) if compiled else function
        found = fault(called, args, kwargs)
        if found is not None:
            yield name, args, kwargs, found
