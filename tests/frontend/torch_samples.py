"""PyTorch's own samples of its operators (`torch.testing._internal`, op_db), run through Flambeau: results, dtypes,
methods, in-place methods, compiled functions, gradients and errors, each beside what PyTorch gives.

    python tests/frontend/torch_samples.py [NAME or "GLOB" ...] [--limit N] [--dtypes f32,f64,i64,bool,bf16,c64]

tells of the samples that differ; test_torch_samples.py runs a few of each operator.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import importlib
import sys
import types
import unittest
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np

import flambeau as fb

TOLERANCES = {"f16": 1e-2, "bf16": 4e-2, "f32": 2e-4, "c64": 2e-4, "f64": 1e-6, "c128": 1e-6}
NAMES = {"f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "i8": "int8", "u8": "uint8",
         "i16": "int16", "i32": "int32", "i64": "int64", "bool": "bool", "c64": "complex64", "c128": "complex128"}
COMPILED = ("f32", "c64")                   # dtypes whose samples are compiled too
# Results that are random, whose memory is not set, or that are determined up to a sign, an order or a rotation: shapes and
# dtypes are compared.
LOOSE = frozenset("""
    argsort bernoulli empty empty_like empty_permuted empty_strided geqrf kthvalue linalg.eig linalg.eigh linalg.eigvals
    linalg.householder_product linalg.lu linalg.qr linalg.svd mode multinomial new_empty new_empty_strided normal
    nn.functional.alpha_dropout nn.functional.dropout nn.functional.dropout2d nn.functional.dropout3d
    nn.functional.feature_alpha_dropout nn.functional.fractional_max_pool2d nn.functional.fractional_max_pool3d
    nn.functional.gumbel_softmax nn.functional.rrelu pca_lowrank poisson qr rand rand_like randint randint_like randn
    randn_like randperm resize_ resize_as_ sort svd svd_lowrank topk zero_""".split())
# Not for users: internals, other libraries' kernels, other layouts.
LEFT_OUT = ("_", "aten.", "jiterator", "masked.", "max_pool2d_with_indices_backward", "native_", "ops.aten", "sparse.",
            "to_sparse", "torch._", "torch.ops")
RANDOM_IN_PLACE = ("cauchy", "exponential", "geometric", "log_normal", "uniform")       # methods alone: tested elsewhere
DUNDERS = ("__getitem__", "__radd__", "__rdiv__", "__rmatmul__", "__rmod__", "__rmul__", "__rpow__", "__rsub__", "__rand__",
           "__ror__", "__rxor__")


# What a compiled function can't give: a number, or a tensor whose size depends on data. It says so.
REFUSED = frozenset("""
    allclose argwhere bincount equal index_put is_nonzero item linspace logspace masked_select nn.functional.one_hot nonzero
    repeat_interleave tensor_split unique unique_consecutive __getitem__ narrow histogram histogramdd geqrf""".split())


class Absent(Exception):
    """A sample that has no counterpart: of another layout, quantized, or with a generator."""


@dataclass
class Report:
    """What came of an operator's samples."""

    passed: Counter[str] = field(default_factory=Counter)
    differences: list[str] = field(default_factory=list)

    def note(self, mode: str, difference: str | None, sample: Any) -> None:
        if difference is None:
            self.passed[mode] += 1
        else:
            self.differences.append(f"{mode}: {difference.splitlines()[0][:200]}  <- {told(sample)}")


def database(module: str, name: str) -> list[Any]:
    """A list of samples out of PyTorch's test helpers."""
    stub: Any = types.ModuleType("expecttest")          # which those import, and samples don't need
    stub.TestCase, stub.assert_expected_inline = unittest.TestCase, None
    sys.modules.setdefault("expecttest", stub)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: list[Any] = getattr(importlib.import_module(f"torch.testing._internal.{module}"), name)
    return found


@functools.cache
def operators() -> dict[str, list[Any]]:
    """PyTorch's operators by name, each with its variants."""
    found: dict[str, list[Any]] = {}
    for op in database("common_methods_invocations", "op_db"):
        if op.name in DUNDERS or not op.name.startswith(LEFT_OUT) and op.name not in RANDOM_IN_PLACE:
            found.setdefault(op.name, []).append(op)
    return found


# -- from PyTorch to here ---------------------------------------------------------------------------------------------


def translated(value: Any, pairs: list[tuple[Any, fb.Tensor]] | None = None) -> Any:
    """A sample's argument with our tensors in the place of PyTorch's; `pairs` gets those that require grad."""
    import torch

    if isinstance(value, torch.Tensor):
        return _tensor(value, pairs)
    if isinstance(value, torch.dtype):
        return getattr(fb, str(value).removeprefix("torch."))
    if isinstance(value, (torch.layout, torch.memory_format)):
        return getattr(fb, str(value).removeprefix("torch."))
    if isinstance(value, torch.Size):
        return tuple(value)
    if isinstance(value, torch.device):
        return fb.device("cpu")
    if isinstance(value, torch.Generator):
        raise Absent("generator")
    if isinstance(value, torch.nn.Module):
        return getattr(fb.nn, type(value).__name__)()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*[translated(item, pairs) for item in value])
    if isinstance(value, (list, tuple)):
        return type(value)([translated(item, pairs) for item in value])
    if isinstance(value, dict):
        return {key: translated(item, pairs) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*[translated(part, pairs) for part in (value.start, value.stop, value.step)])
    return value


def _tensor(value: Any, pairs: list[tuple[Any, fb.Tensor]] | None) -> fb.Tensor:
    import torch

    if value.layout is not torch.strided or value.is_quantized or value.device.type != "cpu":
        raise Absent("layout")
    data = value.detach().resolve_conj().resolve_neg()
    dtype = getattr(fb, str(value.dtype).removeprefix("torch."))
    if data.is_contiguous() or not data.numel() or data.dtype is torch.bfloat16:
        made = fb.tensor((data.float() if data.dtype is torch.bfloat16 else data).numpy(), dtype=dtype)
    else:                                               # as far from contiguous as the sample is
        array = np.zeros([2 * size for size in data.shape], data.numpy().dtype)[tuple([slice(None, None, 2)] * data.ndim)]
        array[...] = data.numpy()
        made = fb.from_numpy(array)
    if value.requires_grad:
        made.requires_grad_()
        if pairs is not None:
            pairs.append((value, made))
    return made


def function_of(op: Any) -> Callable[..., Any]:
    """Ours of the name of PyTorch's; where its samples go through a lambda, that lambda over our names."""
    import torch

    at: Any = torch
    for part in op.name.split("."):
        at = getattr(at, part, None)
    given = op.op
    if isinstance(given, types.FunctionType) and given.__module__.startswith("torch.testing") and (
            "torch" in given.__code__.co_names and given.__closure__ is None):
        return types.FunctionType(given.__code__, {**given.__globals__, "torch": fb}, given.__name__, given.__defaults__)
    if isinstance(at, torch.dtype) or op.name in ("svd_lowrank", "pca_lowrank", "slice"):
        at = None
    ours: Any = fb
    if at is None:
        if not hasattr(torch.Tensor, op.name):
            raise Absent(f"{op.name}: neither a function nor a method of PyTorch's")
        if not callable(getattr(torch.Tensor, op.name)):
            return lambda input: getattr(input, op.name)
        getattr(fb.Tensor, op.name)
        return lambda input, *args, **kwargs: getattr(input, op.name)(*args, **kwargs)
    for part in op.name.split("."):
        ours = getattr(ours, part)
    return ours if callable(ours) else lambda input: getattr(input, op.name)


def leaves(tree: Any, kind: type) -> Iterator[Any]:
    if isinstance(tree, kind):
        yield tree
    elif isinstance(tree, dict):
        for item in tree.values():
            yield from leaves(item, kind)
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from leaves(item, kind)
    elif tree is not None:
        yield tree


def told(sample: Any) -> str:
    """A sample in a few words."""
    import torch

    def part(value: Any) -> str:
        if isinstance(value, torch.Tensor):
            return f"{str(value.dtype)[6:]}{list(value.shape)}"
        if isinstance(value, (list, tuple)):
            return f"({', '.join(map(part, value))})"
        return repr(value)[:40]

    words = [part(sample.input), *map(part, sample.args), *(f"{k}={part(v)}" for k, v in sample.kwargs.items())]
    return ", ".join(words)[:160]


# -- comparing --------------------------------------------------------------------------------------------------------


def difference(name: str, expected: Any, found: Any, tolerance: float) -> str | None:
    """How ours differs from PyTorch's result, in words."""
    import torch

    theirs, ours = list(leaves(expected, torch.Tensor)), list(leaves(found, fb.Tensor))
    if len(theirs) != len(ours):
        return f"{len(ours)} results, not {len(theirs)}"
    for x, y in zip(theirs, ours, strict=True):
        if isinstance(x, torch.Tensor):
            if not isinstance(y, fb.Tensor):
                return f"a {type(y).__name__}, not a Tensor"
            if tuple(x.shape) != tuple(y.shape):
                return f"shape {tuple(y.shape)}, not {tuple(x.shape)}"
            if y.dtype is not translated(x.dtype):
                return f"dtype {y.dtype!r}, not {x.dtype}"
            if name not in LOOSE and (wrong := _values_differ(x, y, tolerance)) is not None:
                return wrong
        elif isinstance(x, (bool, int, str)) and x != y:
            return f"{y!r}, not {x!r}"
    return None


def _values_differ(x: Any, y: fb.Tensor, tolerance: float) -> str | None:
    import torch

    x, y = x.detach().resolve_conj().resolve_neg(), y.detach()
    p = (x.double() if x.dtype is torch.bfloat16 else x).numpy(force=True)
    q = (y.double() if y.dtype is fb.bfloat16 else y).numpy()
    with np.errstate(all="ignore"):
        size = np.abs(np.where(np.isfinite(p), p, 0)).max(initial=0) if p.size else 0
        off = ~np.isclose(q, p, rtol=tolerance, atol=tolerance * min(max(1.0, float(size)), 1e3), equal_nan=True)
    if not off.any():
        return None
    place = tuple(np.argwhere(off)[0])
    return f"{q[place]!r}, not {p[place]!r} ({int(off.sum())} of {off.size})"


# -- running ----------------------------------------------------------------------------------------------------------


def run(name: str, dtypes: tuple[str, ...], limit: int, errors: bool = True) -> Report:
    """Up to `limit` samples of each dtype of an operator, spread over all that there are."""
    report = Report()
    for op in operators()[name]:
        for dtype in dtypes:
            for sample in _samples(op, dtype, limit):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    _run_sample(op, dtype, sample, report)
        if errors and "f32" in dtypes:
            _run_errors(op, report)
    return report


def _samples(op: Any, dtype: str, limit: int) -> list[Any]:
    import torch

    kind = getattr(torch, NAMES[dtype])
    if kind not in op.dtypes:
        return []
    differentiated = dtype in ("f64", "c128") and op.supports_autograd
    # Each sample is preceded by a seed, which PyTorch tells all the devices that are not there, with a stack for each.
    with patch.object(torch, "manual_seed", torch.default_generator.manual_seed):
        torch.manual_seed(0)
        fixed = (sample for sample in op.sample_inputs("cpu", kind, requires_grad=differentiated) if not _is_random(sample))
        if limit == 1:
            return list(islice(fixed, 1))               # the others, hundreds of some operators, are not made
        found = list(fixed)
    step = max(1.0, len(found) / limit)
    return [found[int(n * step)] for n in range(min(limit, len(found)))]


def _is_random(sample: Any) -> bool:
    """Attention with dropout, told by an argument."""
    return any("dropout" in key and value for key, value in sample.kwargs.items()) or (
        len(sample.args) > 9 and sample.args[9] == 0.5)


def _attempt(name: str, report: Report, mode: str, sample: Any, compared: Callable[[], str | None]) -> bool:
    try:
        wrong = compared()
    except Absent:
        return False
    except fb.errors.TraceError as error:
        wrong = None if mode == "compiled" and name in REFUSED else f"TraceError: {error}"
    except Exception as error:
        wrong = f"{type(error).__name__}: {error}"
    report.note(mode, wrong, sample)
    return wrong is None


def _run_sample(op: Any, dtype: str, sample: Any, report: Report) -> None:
    import torch

    tolerance = TOLERANCES.get(dtype, 1e-6)
    given = (sample.input, *sample.args)
    try:
        expected = op.op(*given, **sample.kwargs)
    except Exception:
        return                              # PyTorch's own samples fail now and then
    pairs: list[tuple[Any, fb.Tensor]] = []
    results: list[Any] = []

    def eagerly() -> str | None:
        results.append(function_of(op)(*translated(given, pairs), **translated(sample.kwargs, pairs)))
        return difference(op.name, expected, results[0], tolerance)

    def as_method() -> str | None:
        own, *rest = translated(given)
        method = getattr(own, op.method_variant.__name__)
        return difference(op.name, expected, method(*rest, **translated(sample.kwargs)), tolerance)

    def in_place() -> str | None:
        wanted = op.inplace_variant(sample.input.detach().clone(), *sample.args, **sample.kwargs)
        own, *rest = translated((sample.input.detach(), *sample.args))
        method = getattr(own, op.inplace_variant.__name__)
        return difference(op.name, wanted, method(*rest, **translated(sample.kwargs)), tolerance)

    if not _attempt(op.name, report, "eager", sample, eagerly):
        return
    if dtype in COMPILED:
        _attempt(op.name, report, "compiled", sample,
                 lambda: _compiled_difference(op, given, sample.kwargs, expected, tolerance))
        if getattr(op.method_variant, "__name__", "<lambda>") != "<lambda>":
            _attempt(op.name, report, "method", sample, as_method)
        if getattr(op.inplace_variant, "__name__", "<lambda>") != "<lambda>" and isinstance(sample.input, torch.Tensor):
            try:
                op.inplace_variant(sample.input.detach().clone(), *sample.args, **sample.kwargs)
            except Exception:
                pass                        # a result of another shape or dtype
            else:
                _attempt(op.name, report, "in place", sample, in_place)
    if pairs and op.name not in LOOSE:
        _attempt(op.name, report, "gradient", sample, lambda: _gradients_differ(op.name, expected, results[0], pairs))


def _gradients_differ(name: str, expected: Any, found: Any, pairs: list[tuple[Any, fb.Tensor]]) -> str | None:
    import torch

    both = [(x, y) for x, y in zip(leaves(expected, torch.Tensor), leaves(found, fb.Tensor), strict=True)
            if isinstance(x, torch.Tensor) and x.requires_grad]
    if not both:
        return None
    torch.manual_seed(1)
    cotangents = [torch.randn_like(x) for x, _ in both]
    wanted = torch.autograd.grad([x for x, _ in both], [x for x, _ in pairs], cotangents, allow_unused=True)
    gradients = fb.autograd.grad([y for _, y in both], [y for _, y in pairs], [translated(c) for c in cotangents],
                                 allow_unused=True)
    for (x, _), p, q in zip(pairs, wanted, gradients, strict=True):
        if p is None and q is None or not x.numel():
            continue
        wrong = difference(name, torch.zeros_like(x) if p is None else p, fb.zeros(*x.shape, dtype=translated(x.dtype))
                           if q is None else q, 1e-6)
        if wrong is not None:
            return wrong
    return None


@dataclass(frozen=True)
class _Place:
    number: int


def _compiled_difference(op: Any, args: Any, kwargs: Any, expected: Any, tolerance: float) -> str | None:
    """The function compiled with the tensors among its arguments as arguments, and all else fixed."""
    tensors: list[fb.Tensor] = []

    def taken(value: Any) -> Any:
        if isinstance(value, fb.Tensor):
            tensors.append(value.detach())
            return _Place(len(tensors) - 1)
        return _rebuilt(value, taken)

    rest, named = taken(translated(args)), taken(translated(kwargs))
    if not tensors:
        raise Absent("no tensors")
    function = function_of(op)

    def call(*given: fb.Tensor) -> Any:
        def filled(value: Any) -> Any:
            return given[value.number] if isinstance(value, _Place) else _rebuilt(value, filled)

        return function(*filled(rest), **filled(named))

    return difference(op.name, expected, fb.compile(call)(*tensors), tolerance)


def _rebuilt(value: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(function, value))
    if isinstance(value, (list, tuple)):
        return type(value)(map(function, value))
    return {key: function(item) for key, item in value.items()} if isinstance(value, dict) else value


def _run_errors(op: Any, report: Report) -> None:
    """What PyTorch refuses is refused, by an error that says something. Which class it is of is not compared."""
    if op.error_inputs_func is None:
        return
    try:
        inputs = list(op.error_inputs("cpu"))
    except Exception:
        return
    for given in inputs:
        sample = given.sample_input
        if given.error_type is Exception:
            continue                        # numbers in the place of tensors, which ours take
        try:
            args, kwargs = translated((sample.input, *sample.args)), translated(sample.kwargs)
        except Exception:
            continue                        # tensors of kinds that ours have not
        if not any(isinstance(leaf, fb.Tensor) for leaf in leaves((args, kwargs), fb.Tensor)):
            continue                        # numbers and shapes alone, of which ours take more
        try:
            function_of(op)(*args, **kwargs)
        except (ArithmeticError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError):
            report.passed["error"] += 1
        else:
            report.note("error", f"none; PyTorch: {given.error_type.__name__} {str(given.error_regex)[:80]}", sample)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"])
    parser.add_argument("--limit", type=int, default=12, help="samples of each dtype (12)")
    parser.add_argument("--dtypes", default="f32,f64,i64,bool")
    options = parser.parse_args()
    total, wrong = Counter[str](), 0
    for name in operators():
        if any(fnmatch.fnmatch(name, pattern) for pattern in options.names):
            report = run(name, tuple(options.dtypes.split(",")), options.limit)
            total += report.passed
            wrong += len(report.differences)
            if report.differences:
                print(name, dict(report.passed), flush=True)
                for line in dict.fromkeys(report.differences):
                    print("   ", line, flush=True)
    print(f"{sum(total.values())} as in PyTorch ({dict(total)}), {wrong} not")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
