"""What runs on the CPU runs on a device: the registry's samples, and PyTorch's of its operators, each eagerly on both.

    FLAMBEAU_CUDA=emulator python tests/frontend/device_samples.py registry [NAME ...]
    FLAMBEAU_CUDA=emulator python tests/frontend/device_samples.py surface ["GLOB" ...] [--limit N] [--dtypes f32,i64]

tells of those that differ: in values, in where results lie, in what is refused.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import moved
from flambeau.ir import dtypes as dt
from flambeau.ir.op import OPS, Sample

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "ir"))
MOST = 600                                  # elements of a sample: the emulator is slow
DEVICE = "cuda:0"


# -- the registry -----------------------------------------------------------------------------------------------------


def registry(names: list[str]) -> Iterator[tuple[str, Sample]]:
    for name, entry in list(OPS.items()):
        if names and name not in names:
            continue
        for number, sample in enumerate(entry.samples()):
            if sample.types and sum(t.numel for t in sample.types) <= MOST:
                yield f"{name}-{number}", sample


def registry_difference(sample: Sample) -> str | None:
    """How an op on the device differs from the same on the CPU, in words."""
    if sample.op.name == "place":
        return None
    here = [fb.Tensor._from_array(np.array(a, order="C"), t.dtype)
            for a, t in zip(sample.operands, sample.types, strict=True)]
    there = [moved(t, DEVICE) for t in here]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        expected, found = _listed(dispatch(sample.op, *here)), _listed(dispatch(sample.op, *there))
    return next((wrong for e, f in zip(expected, found, strict=True)
                 if (wrong := difference(e, f, sample.tolerance)) is not None), None)


def _listed(results: Any) -> list[fb.Tensor]:
    return [results] if isinstance(results, fb.Tensor) else list(results)


_EPS = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}


def difference(expected: fb.Tensor, found: fb.Tensor, tolerance: float = 1.0) -> str | None:
    if found._type.device != DEVICE:
        return f"lies on {found._type.device}"
    if found._type.on("cpu") != expected._type:
        return f"is {found._type}, not {expected._type}"
    x, y = (dt.to_compute(t._data(), t.dtype) for t in (expected, found))
    if expected.dtype.name not in _EPS:
        return None if np.array_equal(x, y) else f"{y.tolist()}, not {x.tolist()}"
    finite = np.abs(np.where(np.isfinite(x), x, 0)).astype(np.float64)
    bound = 64 * tolerance * _EPS[expected.dtype.name]
    with np.errstate(all="ignore"):
        is_close = np.isclose(y.astype(np.float64), x.astype(np.float64), rtol=bound,
                              atol=bound * max(1.0, float(finite.max(initial=0))), equal_nan=True)
    return None if is_close.all() else f"{y.tolist()}, not {x.tolist()}"[:300]


# -- PyTorch's samples ------------------------------------------------------------------------------------------------


def surface(patterns: list[str], dtypes: tuple[str, ...], limit: int) -> Iterator[tuple[str, Any, str, Any]]:
    import torch_samples

    for name, variants in torch_samples.operators().items():
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            continue
        for op in variants:
            for dtype in dtypes:
                taken = 0
                for sample in torch_samples._samples(op, dtype, 4 * limit):
                    if taken < limit and _size(sample) <= MOST:
                        taken += 1
                        yield name, op, dtype, sample


def _size(sample: Any) -> int:
    import torch
    import torch_samples

    return sum(t.numel() for t in torch_samples.leaves((sample.input, sample.args, sample.kwargs), torch.Tensor)
               if isinstance(t, torch.Tensor))


def surface_difference(op: Any, sample: Any) -> str | None:
    import torch_samples

    given = (sample.input, *sample.args)
    pairs: list[tuple[Any, fb.Tensor]] = []
    try:
        function, args = torch_samples.function_of(op), torch_samples.translated(given, pairs)
        kwargs = torch_samples.translated(sample.kwargs, pairs)
        fb.manual_seed(0)
        expected = function(*args, **kwargs)
    except Exception:
        return None                         # not here either
    try:
        leaves: list[tuple[fb.Tensor, fb.Tensor]] = []
        args = _moved(torch_samples.translated(given), leaves)
        kwargs = _moved(torch_samples.translated(sample.kwargs), leaves)
        if not leaves:
            return None
        fb.manual_seed(0)
        found = function(*args, **kwargs)
    except Exception as error:
        return _told(error)
    kinds = [list(torch_samples.leaves(result, fb.Tensor)) for result in (expected, found)]
    if len(kinds[0]) != len(kinds[1]):
        return f"{len(kinds[1])} results, not {len(kinds[0])}"
    loose = op.name in torch_samples.LOOSE
    for x, y in zip(*kinds, strict=True):
        if not isinstance(x, fb.Tensor):
            continue
        x, y = (getattr(t, "_pair", t) for t in (x, y))
        if loose:
            if y._type != x._type.on(DEVICE):
                return f"is {y._type}, not {x._type}"
        elif (wrong := difference(x, y, 16.0)) is not None:
            return wrong
    if pairs and not loose:
        return _gradients_differ(kinds[0], kinds[1], [y for _, y in pairs], [t for t, _ in leaves if t.requires_grad])
    return None


def _told(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {str(error)[:120]} at {last.filename[-40:]}:{last.lineno}"


def _moved(value: Any, leaves: list[Any]) -> Any:
    import torch_samples

    if isinstance(value, fb.Tensor):
        requires = value.requires_grad
        made = value.detach().to(DEVICE)
        made = made.requires_grad_() if requires else made
        leaves.append((made, value))
        return made
    if isinstance(value, str) and value == "cpu":
        return fb.device(DEVICE)
    return torch_samples._rebuilt(value, lambda item: _moved(item, leaves))


def _gradients_differ(expected: list[Any], found: list[Any], here: list[fb.Tensor], there: list[fb.Tensor]) -> str | None:
    both = [(x, y) for x, y in zip(expected, found, strict=True) if isinstance(x, fb.Tensor) and x.requires_grad]
    if not both or len(here) != len(there):
        return None
    try:
        wanted = fb.autograd.grad([x.sum() if not x.is_complex() else fb.view_as_real(x).sum() for x, _ in both], here,
                                  allow_unused=True)
    except Exception:
        return None
    try:
        given = fb.autograd.grad([y.sum() if not y.is_complex() else fb.view_as_real(y).sum() for _, y in both], there,
                                 allow_unused=True)
    except Exception as error:
        return f"gradient: {_told(error)}"
    for x, y in zip(wanted, given, strict=True):
        if (x is None) != (y is None):
            return "gradient: one is None"
        if x is not None:
            x, y = (getattr(t, "_pair", t) for t in (x, y))
            if (wrong := difference(x, y, 64.0)) is not None:
                return f"gradient: {wrong}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["registry", "surface"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=int, default=2, help="samples of each dtype (2)")
    parser.add_argument("--dtypes", default="f32,i64")
    options = parser.parse_args()
    count = wrong = 0
    if options.what == "registry":
        for name, sample in registry(options.names):
            count += 1
            try:
                told = registry_difference(sample)
            except Exception as error:
                told = _told(error)
            if told is not None:
                wrong += 1
                print(f"{name}: {told}", flush=True)
    else:
        import torch_samples

        for name, op, dtype, sample in surface(options.names or ["*"], tuple(options.dtypes.split(",")), options.limit):
            count += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                told = surface_difference(op, sample)
            if told is not None:
                wrong += 1
                print(f"{name} {dtype}: {told}  <- {torch_samples.told(sample)}", flush=True)
    print(f"{count} samples, {wrong} differ")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
