"""What loop kernels become as machine code for GPUs: how many loads, what is kept in registers. Where numba-cuda is
installed."""
from __future__ import annotations

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from gpu_kernels import kernels_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.toolchain import assemble, to_ptx
from flambeau.ir.gpu import SM80, SM90

ROWS = {                                # rows that a warp, a block of 128 and one of 1024 keep
    "softmax": (lambda x: F.softmax(x, 1), [(64, 128), (512, 1024), (64, 32768)]),
    "norm": (lambda x: F.layer_norm(x, x.shape[1:]), [(64, 96), (512, 768), (8, 8192)]),
    "log": (lambda x: F.log_softmax(x.to(fb.bfloat16), 1), [(64, 100), (512, 1000)]),
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name, (_, shapes) in ROWS.items() for shape in shapes])
def test_rows_are_loaded_once_and_stay_in_registers(name: str, shape: tuple[int, int]) -> None:
    (kernel,) = kernels_of(ROWS[name][0], fb.zeros(*shape))
    assert kernel.schedule.kept and kernel.schedule.width == 4
    for target in (SM90, SM80):
        ptx = to_ptx(kernel_text(kernel), target)
        made = assemble(ptx, target)
        chunks = -(-shape[1] // (kernel.schedule.lanes * 4))
        assert made.spilled_bytes == made.stack_bytes == 0
        assert ptx.count("ld.global") == ptx.count("ld.global.v4") == chunks
