"""What loop kernels become as machine code for GPUs: how many loads, what is kept in registers. Where numba-cuda is
installed."""
from __future__ import annotations

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from codegen.transpose_kernels import random_transpose
from gpu_kernels import kernels_of

import flambeau as fb
import flambeau.nn.functional as F
from flambeau.backends.cuda.backend import kernel_text, kernel_texts
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


def test_products_and_sums_are_rounded_one_by_one() -> None:
    """As on the CPU, and as in eager code: a multiplication and an addition that become one instruction round once."""
    (kernel,) = kernels_of(lambda x, y, z: x * y + z, *[fb.zeros(4, 1000)] * 3)
    ptx = to_ptx(kernel_text(kernel), SM90)
    assert "fma" not in ptx and "mul.rn.f32" in ptx and "add.rn.f32" in ptx
    (kernel,) = kernels_of(lambda x, y, z: x * y + z, *[fb.zeros(4, 1000).to(fb.float64)] * 3)
    assert "fma" not in to_ptx(kernel_text(kernel), SM80)


@pytest.mark.parametrize("seed", range(8))
def test_transposes_become_code_that_does_not_spill(seed: int) -> None:
    target = (SM90, SM80)[seed % 2]
    made = assemble(to_ptx(kernel_text(random_transpose(seed)[0]), target), target)
    assert made.spilled_bytes == made.stack_bytes == 0 and made.shared_bytes <= 48 << 10


def test_divisions_by_known_sizes_are_multiplications() -> None:
    """What a thread's place in a tensor of several dims is worked out with: 32 bits, no division."""
    (kernel,) = kernels_of(lambda x: x.permute(1, 0, 2).contiguous() * 2, fb.zeros(90, 301, 110))
    ptx = to_ptx(kernel_text(kernel), SM90)
    assert "div." not in ptx and "rem." not in ptx and "mul.wide.u32" in ptx


DTYPES = (fb.float32, fb.float64, fb.bfloat16, fb.float16, fb.int8, fb.uint8, fb.int16, fb.int32, fb.int64)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_become_atomic_instructions(dtype: fb.dtype) -> None:
    (kernel, *_) = kernels_of(lambda x, i, y: x.index_add(0, i, y), fb.zeros(64, 128).to(dtype),
                              fb.zeros(32).to(fb.int64), fb.zeros(32, 128).to(dtype))
    fill, update = kernel_texts(kernel).phases
    for target in (SM90, SM80):
        made = [assemble(to_ptx(text, target), target) for text in (fill, update)]
        assert all(code.spilled_bytes == code.stack_bytes == 0 for code in made)
    name = {fb.float32: "atom.add.f32", fb.float64: "atom.add.f64", fb.int32: "add.u32", fb.int64: "add.u64"}
    ptx = to_ptx(update, SM90)
    assert ("atom" in ptx or "red" in ptx) and (name.get(dtype, "cas.b32").split(".")[-1] in ptx)
    assert "st.global.v" in to_ptx(fill, SM90)


@pytest.mark.parametrize("dtype", (fb.float32, fb.float64, fb.bfloat16, fb.int64, fb.uint8), ids=str)
def test_sorts_become_code_that_does_not_spill(dtype: fb.dtype) -> None:
    for length, launches in ((20, 1), (1000, 1), (10_000, 3 + (dtype.itemsize == 8))):
        (kernel,) = kernels_of(lambda x: fb.topk(x, 15), fb.zeros(3, length).to(dtype))
        texts = kernel_texts(kernel).phases
        assert len(texts) == launches
        for number, text in enumerate(texts):
            made = assemble(to_ptx(text, (SM90, SM80)[number % 2]), (SM90, SM80)[number % 2])
            assert made.spilled_bytes == made.stack_bytes == 0 and made.registers <= 64
