"""Every op's samples, forward and backward, compiled for the GPU and for the CPU: the same numbers."""

from __future__ import annotations

import time
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

import flambeau as fb
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.ir import dtypes as dt
from flambeau.ir.op import OPS, Sample

NOT_SAMPLED = ("input", "fusion", "custom", "cond", "while_loop", "place")
NAMES = [name for name in OPS if name not in NOT_SAMPLED]
EPS = {"f64": 2.0**-52, "f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}


def samples_of(name: str, small: bool) -> list[Sample]:
    """Of an op; on the emulated device a few small ones of one op in twelve."""
    samples = [sample for sample in OPS[name].samples() if sample.types]
    if small:
        few = [sample for sample in samples if sum(t.numel for t in sample.types) <= 40][:3]
        return few if zlib.crc32(name.encode()) % 12 == 0 else []
    return samples


def results(samples: list[Sample], device: str) -> list[fb.Tensor]:
    """Of all samples in one program: what they give, and the gradients of the sum of it."""
    operands = [
        fb.Tensor._from_array(np.array(a, order="C"), t.dtype).to(device)
        for sample in samples
        for a, t in zip(sample.operands, sample.types, strict=True)
    ]

    def program(*tensors: fb.Tensor) -> list[fb.Tensor]:
        found: list[fb.Tensor] = []
        given = iter(tensors)
        for sample in samples:
            mine = [_leaf(next(given)) for _ in sample.types]
            made = dispatch(sample.op, *mine)
            outs: list[Any] = [made] if isinstance(made, fb.Tensor) else list(made)
            found += [out.detach() for out in outs]
            roots, leaves = [o for o in outs if o.requires_grad], [x for x in mine if x.requires_grad]
            if roots:
                gradients = fb.autograd.grad(roots, leaves, [fb.ones_like(o) for o in roots], allow_unused=True)
                found += [g for g in gradients if g is not None]
        return found

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return list(fb.compile(program)(*operands))


def _leaf(x: fb.Tensor) -> fb.Tensor:
    return x.detach().requires_grad_() if x.is_floating_point() else x


def difference(found: fb.Tensor, wanted: fb.Tensor, tolerance: float) -> str:
    """Where they are further apart than roundings of the largest number in them; or ""."""
    ours, theirs = (dt.to_compute(x.cpu()._data(), x.dtype) for x in (found, wanted))
    if wanted.dtype.name not in EPS:
        return "" if np.array_equal(ours, theirs) else f"{ours.tolist()} is not {theirs.tolist()}"[:300]
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    most = float(np.abs(theirs[np.isfinite(theirs)]).max(initial=0.0))
    bound = 64 * max(1.0, tolerance) * EPS[wanted.dtype.name]
    with np.errstate(all="ignore"):
        close = np.isclose(ours, theirs, rtol=bound, atol=bound * max(1.0, most), equal_nan=True)
    return "" if close.all() else f"{ours[~close][:5].tolist()} is not {theirs[~close][:5].tolist()}"


def mistake_of(samples: list[Sample], wanted: list[fb.Tensor]) -> str:
    """What is wrong of the device's results; or ""."""
    found = results(samples, "cuda")
    if len(found) != len(wanted):
        return f"{len(found)} results, not {len(wanted)}"
    tolerance = max(sample.tolerance for sample in samples)
    for number, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
        if not (ours.is_cuda and ours.shape == theirs.shape and ours.dtype is theirs.dtype):
            return f"result {number} is {ours._type}, not {theirs._type}"
        if wrong := difference(ours, theirs, tolerance):
            return f"result {number}: {wrong}"
    return ""


def section(small: bool, until: float) -> Iterator[dict[str, Any]]:
    """A result for each op that is wrong, and how many were tried."""
    tried, left = 0, 0
    for name in NAMES:
        if time.monotonic() > until:
            left += 1
            continue
        if not (samples := samples_of(name, small)):
            continue
        try:
            wanted = results(samples, "cpu")
        except Exception:  # not on the CPU either
            continue
        tried += 1
        try:
            wrong = mistake_of(samples, wanted)
        except Exception as error:
            wrong = f"{type(error).__name__}: {str(error)[:300]}"
        if wrong:
            yield {"name": name, "wrong": wrong}
    yield {"name": "all ops", "tried": tried, "left for want of time": left}
