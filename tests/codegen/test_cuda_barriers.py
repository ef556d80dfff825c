"""Each barrier of the kernels that share memory is needed: where one waits for the warp alone, the emulator says what is
read too early."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from gpu_kernels import kernels_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.backends.cuda.backend import kernel_texts
from flambeau.codegen.cuda.emulator import emulate
from flambeau.errors import VerificationError
from flambeau.ir.kernel import BlockSchedule

BARRIER = "cuda.syncthreads()\n"
ROW, COLUMNS = BlockSchedule(1, 256, width=4, kept=True), BlockSchedule(32, 16, lanes_inner=False)
CASES: dict[str, tuple[Callable[[fb.Tensor], object], tuple[int, int], BlockSchedule | None]] = {
    "rows": (lambda x: F.softmax(x, 1), (2, 2048), ROW), "columns": (lambda x: x.sum(0), (256, 64), COLUMNS),
    "positions": (lambda x: x.argmax(1), (2, 2048), ROW), "transpose": (lambda x: x.t().contiguous(), (64, 96), None),
    "sort": (lambda x: fb.sort(x, 1), (2, 200), None),
}


@pytest.mark.parametrize("name", CASES)
def test_each_barrier_is_needed(name: str) -> None:
    function, shape, schedule = CASES[name]
    kernel = kernels_of(function, fb.zeros(*shape))[0]
    (text,) = kernel_texts(kernel if schedule is None else replace(kernel, schedule=schedule)).phases   # type: ignore[call-arg]
    kinds = [kind[:-1] for kind in text.types[1:]]
    data = np.random.default_rng(0)
    buffers = [data.normal(size=count).astype(kind) for count, kind in zip(text.elements, kinds, strict=True)]
    emulate(text, [buffer.copy() for buffer in buffers])
    parts = text.source.split(BARRIER)
    assert len(parts) > 1
    for number in range(1, len(parts)):
        source = BARRIER.join(parts[:number]) + "cuda.syncwarp()\n" + BARRIER.join(parts[number:])
        with pytest.raises(VerificationError, match="without a barrier"):
            emulate(replace(text, source=source), [buffer.copy() for buffer in buffers])
