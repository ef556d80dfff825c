"""PyTorch's samples of its operators (torch_samples.py) traced with names for the sizes of their tensors, and held against
eager code at the traced sizes and at others.

    python tests/frontend/size_samples.py [NAME or "GLOB" ...] [--limit N]

tells what each operator is fixed to, and what differs; test_size_samples.py runs one sample of each.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import symbolic
import torch_samples
from torch_samples import Absent, function_of, translated

import flambeau as fb
from flambeau.frontend.pytree import flatten

# Their results depend on more than shapes and elements: memory that is not set, random draws of other sizes, directions.
LOOSE = torch_samples.LOOSE | {"linalg.eig", "linalg.eigvals", "linalg.ldl_factor"}
REFUSED = torch_samples.REFUSED
LOOPS = ("ctc", "polynomial")                  # what loops within programs


@dataclass
class Outcome:
    """What came of an operator's samples."""

    traced: int = 0
    free: int = 0                               # with a size at least that is not fixed to a number
    elsewhere: int = 0                          # other sizes that were compared
    wrong: list[str] = field(default_factory=list)


def samples_of(name: str, limit: int) -> Iterator[tuple[Any, Callable[..., Any], list[fb.Tensor]]]:
    """(the sample, a function of its tensors, the tensors) of an operator."""
    for op in torch_samples.operators()[name]:
        for sample in torch_samples._samples(op, "f32", limit):
            with contextlib.suppress(Absent, AttributeError):
                function = function_of(op)
                tensors: list[fb.Tensor] = []
                call = _call_of(function, translated((sample.input, *sample.args)), translated(sample.kwargs), tensors)
                if tensors:
                    yield sample, call, tensors


def _call_of(function: Callable[..., Any], args: Any, kwargs: Any, tensors: list[fb.Tensor]) -> Callable[..., Any]:
    def taken(value: Any) -> Any:
        if isinstance(value, fb.Tensor):
            tensors.append(value.detach().contiguous())
            return torch_samples._Place(len(tensors) - 1)
        return torch_samples._rebuilt(value, taken)

    rest, named = taken(args), taken(kwargs)

    def call(*given: fb.Tensor) -> Any:
        def filled(value: Any) -> Any:
            if isinstance(value, torch_samples._Place):
                return given[value.number]
            return torch_samples._rebuilt(value, filled)

        return function(*filled(rest), **filled(named))

    return call


def differentiated(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function's results, and the gradients of its arguments."""
    def both(*given: fb.Tensor) -> Any:
        results = function(*given)
        found = [r for r in flatten(results)[0] if isinstance(r, fb.Tensor) and r.requires_grad]
        if not found:
            return results
        total = sum(r.sin().sum() for r in found)
        return results, [g for g in fb.autograd.grad(total, [t for t in given if t.requires_grad], allow_unused=True)
                         if g is not None]

    return both


def run(name: str, limit: int, others: int = 2, gradients: bool = False) -> Outcome:
    outcome = Outcome()
    for sample, call, tensors in samples_of(name, limit):
        if any(t.is_complex() for t in tensors):
            continue
        try:
            fb.manual_seed(0)
            call(*[t.clone() for t in tensors])
        except Exception:                       # which other tests tell of
            continue
        if gradients:
            call = differentiated(call)
            tensors = [t.requires_grad_() if t.is_floating_point() else t for t in tensors]
            try:
                call(*[t.detach().clone().requires_grad_(t.requires_grad) for t in tensors])
            except Exception:
                continue
        for dims in (lambda d: True, lambda d: d == 0):
            shapes = symbolic.named(tensors, dims)
            if not any(isinstance(size, symbolic.Dim) for shape in shapes for size in shape):
                continue
            try:
                program = symbolic.check(call, tensors, shapes, others, name in LOOSE, any(word in name for word in LOOPS))
            except fb.errors.TraceError as error:
                if name not in REFUSED:
                    outcome.wrong.append(f"{torch_samples.told(sample)}: {error.message[:200]}")
                continue
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome.wrong.append(f"{torch_samples.told(sample)}: {type(error).__name__}: "
                                     f"{str(error).splitlines()[0][:200] if str(error) else ''} "
                                     f"[{place.filename.rpartition('/')[2]}:{place.lineno}]")
                continue
            outcome.traced += 1
            outcome.free += len(program.fixed) < len(program.facts.sizes)
            outcome.elsewhere += program.compared - 1
            if not program.fixed:
                break
    return outcome


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["*"])
    parser.add_argument("--limit", type=int, default=2, help="samples of each (2)")
    parser.add_argument("--gradients", action="store_true", help="with the gradients of their tensors")
    options = parser.parse_args()
    wrong = 0
    for name in torch_samples.operators():
        if any(fnmatch.fnmatch(name, pattern) for pattern in options.names):
            started = time.time()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = run(name, options.limit, gradients=options.gradients)
            wrong += len(outcome.wrong)
            print(f"{name}: {outcome.traced} traced, {outcome.free} free, {outcome.elsewhere} other sizes"
                  f"{f', {time.time() - started:.1f} s' if time.time() - started > 2 else ''}", flush=True)
            for line in dict.fromkeys(outcome.wrong):
                print("   ", line, flush=True)
    print(f"{wrong} wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
