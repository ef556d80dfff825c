"""Kernels' text becomes machine code for GPUs, without one: numba-cuda types it, nvJitLink assembles it, nothing spills.
Where numba-cuda is installed (`pip install -e ".[cuda]"`)."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from typing import Any

from codegen.contraction_kernels import Conv, gemm, input_grad
from codegen.row_kernels import RowKernel
from test_loops_random import RandomKernel

import flambeau as fb
from flambeau.backends import BuiltKernel
from flambeau.backends.cuda.backend import EmulatedKernel, NvidiaBackend, kernel_text
from flambeau.codegen.cuda import compile
from flambeau.codegen.cuda.text import KernelText
from flambeau.codegen.cuda.toolchain import assemble, to_ptx
from flambeau.ir import dtypes as dt
from flambeau.ir.gpu import SM80, SM90, GpuTarget
from flambeau.ir.kernel import BlockSchedule, ContractionKernel, Kernel, TileSchedule
from flambeau.ir.kernel.parser import parse_kernel
from flambeau.passes.cuda.schedule_contraction import (
    MATRIX_TILES,
    TF32_TILES,
    TILES,
    TILES_OF_8_BYTES,
    tiles_for,
)
from flambeau.runtime.cuda.api import emulated_api
from flambeau.runtime.cuda.copying import CopyingExecutable
from flambeau.runtime.cuda.device import emulated_device
from flambeau.runtime.cuda.executable import CudaExecutable
from flambeau.runtime.program import Program

TILE = TileSchedule(64, 64, 16, 4, 4)
ROOM = 232448                           # bytes of shared memory that the blocks of an H100's multiprocessor share
BLOCKS = (BlockSchedule(256), BlockSchedule(8, 32), BlockSchedule(32, 4, lanes_inner=False))
KEPT = (BlockSchedule(8, 32, width=4, kept=True), BlockSchedule(1, 256, width=2, kept=True))
KERNELS: list[Kernel] = [
    *[replace(RandomKernel(seed).build(), schedule=schedule) for seed in range(12) for schedule in BLOCKS],
    *[replace(RowKernel(seed).build(), schedule=schedule) for seed in range(12) for schedule in KEPT
      if any(stage.dims for stage in RowKernel(seed).build().stages)],
    *[replace(kernel, schedule=TILE) for kernel in (
        gemm(100, 90, 70), gemm(40, 50, 60, dtype=dt.bf16, acc=dt.f32), gemm(40, 50, 60, dtype=dt.f16, acc=dt.f32),
        gemm(40, 50, 60, dtype=dt.f64), Conv(2, 9, 9, 8, 16).forward())],
]


@pytest.mark.parametrize("number", range(len(KERNELS)))
def test_text_becomes_code_that_does_not_spill(number: int) -> None:
    target = (SM90, SM80)[number % 2]
    made = assemble(to_ptx(kernel_text(KERNELS[number]), target), target)
    assert made.cubin[:4] == b"\x7fELF" and made.entry
    assert made.spilled_bytes == 0 and 0 < made.registers <= 128


# The schedules of products, the threads of a block, and the most registers that a thread may take: so many that `resident`
# blocks are on a multiprocessor at once, which has 65536.
CAPS = {(128, 128): (256, 128), (128, 64): (256, 128), (64, 128): (256, 128), (64, 64): (256, 80), (128, 32): (128, 128),
        (32, 128): (128, 128), (32, 64): (128, 128), (32, 32): (128, 80), (16, 16): (128, 80), (8, 128): (128, 80),
        (128, 8): (128, 80)}
PRODUCTS = (gemm(1024, 1024, 1024), gemm(1023, 1021, 1022), gemm(1024, 1024, 1024, True, True),
            Conv(8, 58, 58, 64, 64).forward(), Conv(8, 58, 58, 64, 64).weight_grad(), input_grad(8, 56, 56, 64, 64))


@pytest.mark.parametrize("number", range(len(TILES)))
def test_tiles_keep_to_their_registers(number: int) -> None:
    tile = TILES[number]
    threads, most = CAPS[tile.m, tile.n]
    for which, target in ((number, SM90), (number + 1, SM80), (number + 3, SM90)):
        text = kernel_text(replace(PRODUCTS[which % len(PRODUCTS)], schedule=tile))
        ptx = to_ptx(text, target)
        made = assemble(ptx, target)
        shared = sum(int(n) for n in re.findall(r"\.shared \.align 16 \.b8 \S+\[(\d+)\]", ptx))
        assert (text.threads, made.spilled_bytes, made.stack_bytes) == (threads, 0, 0) and made.registers <= most
        assert threads * most * tile.resident <= 65536 and 0 < shared <= 48 << 10 and shared * tile.resident <= ROOM


# The same for tensor cores.
MATRIX_CAPS = {(128, 128, 32): (256, 128), (128, 64, 32): (256, 128), (64, 128, 32): (256, 128), (64, 64, 64): (128, 128),
               (64, 64, 32): (128, 128), (128, 32, 32): (128, 128), (32, 128, 32): (128, 128), (32, 32, 64): (128, 128),
               (16, 64, 64): (128, 128), (64, 16, 64): (128, 128)}


def of_16_bits(kernel: ContractionKernel, dtype: dt.DType) -> ContractionKernel:
    return replace(kernel, params=tuple([p if p.role == "out" else replace(p, dtype=dtype) for p in kernel.params]))


@pytest.mark.parametrize("number", range(len(MATRIX_TILES)))
def test_tiles_of_matrices_keep_to_their_registers(number: int) -> None:
    tile = MATRIX_TILES[number]
    threads, most = MATRIX_CAPS[tile.m, tile.n, tile.k]
    for which, target in ((number, SM90), (number + 1, SM80), (number + 3, SM90)):
        kernel = of_16_bits(PRODUCTS[which % len(PRODUCTS)], (dt.bf16, dt.f16)[which % 2])
        known = tiles_for(kernel, target)
        text = kernel_text(replace(kernel, schedule=tile if tile in known else known[0]))
        ptx = to_ptx(text, target)
        made = assemble(ptx, target)
        shared = sum(int(n) for n in re.findall(r"\.shared \.align 16 \.b8 \S+\[(\d+)\]", ptx))
        assert (made.spilled_bytes, made.stack_bytes) == (0, 0) and made.registers <= most
        assert text.threads * most * text.resident <= 65536 and 0 < shared <= 48 << 10 and shared * text.resident <= ROOM
        assert ptx.count("mma.sync") >= 8 and ptx.count("ldmatrix") >= 4 and text.threads in (128, 256, threads)


@pytest.mark.parametrize("number", range(len(TF32_TILES)))
def test_tiles_of_tf32_keep_to_their_registers(number: int) -> None:
    for which, target in ((number, SM90), (number + 2, SM80)):
        text = kernel_text(replace(PRODUCTS[which % len(PRODUCTS)], schedule=TF32_TILES[number]))
        ptx = to_ptx(text, target)
        made = assemble(ptx, target)
        assert (made.spilled_bytes, made.stack_bytes) == (0, 0) and made.registers <= 128
        assert text.threads * 128 * text.resident <= 65536 and ptx.count("m16n8k8") >= 2


def test_sums_of_eight_bytes_keep_to_their_registers() -> None:
    for tile in TILES_OF_8_BYTES:
        made = assemble(to_ptx(kernel_text(replace(gemm(512, 512, 512, dtype=dt.f64), schedule=tile)), SM90), SM90)
        assert (made.spilled_bytes, made.stack_bytes) == (0, 0) and made.registers <= 128


@pytest.mark.parametrize(("dtype", "width", "instruction"), [
    (dt.f32, 4, "v4.f32"), (dt.f64, 2, "v2.f64"), (dt.bf16, 8, "v4.u32"), (dt.f16, 2, "u32"), (dt.u8, 16, "v4.u32")])
def test_neighbours_move_sixteen_bytes_at_once(dtype: dt.DType, width: int, instruction: str) -> None:
    kernel = parse_kernel(f"""loop @k {{
        in a: {dtype}[4096]
        out b: {dtype}[4096]
        parallel %i0 = 4096
        stage () {{
          %0 = load a[%i0] : {dtype}
          %1 = add %0, %0 : {dtype}
          store %1 to b[%i0]
        }}
        blocks points=256, width={width}
      }}""")
    ptx = to_ptx(kernel_text(kernel), SM90)
    assert ptx.count("ld.global") == ptx.count("st.global") == ptx.count(f"ld.global.{instruction}") == 1
    assert assemble(ptx, SM90).stack_bytes == 0


def test_functions_of_16_bits_and_reports_become_code() -> None:
    source = """def k(status, b0, b1, b2):
    t = uint32(cuda.threadIdx.x)
    if b2[t] < 0:
        report(status, 1, t)
    x = f16_from(b0[t]) + bf16_from(b1[t])
    b0[t] = f16_to(f16(x))
    b1[t] = bf16_to(bf16(x))
    b2[t] = float64(f16_of_f64(b2[t]))
"""
    text = KernelText("k", source, ("int64*", "uint16*", "uint16*", "float64*"), (32,) * 3, (1,), 1, 32)
    assert assemble(to_ptx(text, SM90), SM90).spilled_bytes == 0



class Half(NvidiaBackend):
    """The real toolchain, and a device that is the emulator's."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["device"] = self
        self.loaded: list[tuple[bytes, str]] = []

    def load(self, code: bytes, entry: str) -> Any:
        self.loaded.append((code, entry))
        return emulated_device(0).load(code, entry)

    def host(self) -> GpuTarget:
        return SM90

    def assemble(self, texts: Sequence[KernelText], target: GpuTarget) -> list[bytes]:
        emulated_api().kernels.update({text.name: EmulatedKernel(text) for text in texts})
        return super().assemble(texts, target)

    def executable(self, program: Program, built: Sequence[BuiltKernel]) -> Any:
        return CopyingExecutable(CudaExecutable(program, [self._loaded(b) for b in built], emulated_device(0)))


def test_programs_are_compiled_by_worker_processes_and_kept_on_disk(tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = fb.randn(7, 33), fb.randn(33, 9)
    with fb.config.set(cache_dir=tmp_path, cache=True):
        for _ in range(2):
            backend = Half()
            made = fb.compile(lambda x, w: fb.softmax(x @ w, 1), backend=backend)
            np.testing.assert_allclose(made(x, w).numpy(), fb.softmax(x @ w, 1).numpy(), rtol=1e-5)
            assert len(backend.loaded) == 2
            assert all(code[:4] == b"\x7fELF" and entry.encode() in code for code, entry in backend.loaded)
            monkeypatch.setattr(compile, "_workers", None)      # the second time all lies on disk
            compile._known.clear()
