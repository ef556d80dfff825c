"""What is told of a kernel's code: PTX, SASS, what it takes of a multiprocessor."""
from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

import flambeau as fb
from flambeau.codegen.cuda import compile, disassemble
from flambeau.codegen.cuda.occupancy import blocks_at_once, occupancy
from flambeau.codegen.cuda.text import Assembled
from flambeau.errors import FlambeauError, UnsupportedError
from flambeau.ir.gpu import SM80, SM90, GpuTarget

has_toolchain = pytest.mark.skipif(importlib.util.find_spec("numba_cuda") is None, reason="numba-cuda is not installed")


@pytest.mark.parametrize(("registers", "shared", "threads", "target", "blocks", "share"), [
    (32, 0, 256, SM90, 8, 1.0),                 # all threads
    (33, 0, 256, SM90, 6, 0.75),                # 40 registers are given: 12 warps to a part
    (64, 0, 256, SM90, 4, 0.5),
    (64, 0, 1024, SM90, 1, 0.5),
    (128, 0, 128, SM90, 4, 0.25),
    (255, 0, 1024, SM90, 0, 0.0),               # such a block can't be had
    (16, 0, 32, SM90, 32, 0.5),                 # as many places for blocks as there are
    (16, 0, 33, SM90, 32, 1.0),                 # a second warp for one thread
    (16, 48 << 10, 256, SM90, 4, 0.5),          # 4 * 49 KiB of 228
    (16, 48 << 10, 256, SM80, 3, 0.375),        # 3 * 49 KiB of 164
    (16, 227 << 10, 256, SM90, 1, 0.125),
])
def test_occupancy_is_what_cuda_counts(registers: int, shared: int, threads: int, target: GpuTarget, blocks: int,
                                       share: float) -> None:
    code = Assembled(b"", "k", registers, 0, 0, shared)
    assert blocks_at_once(code, threads, target) == blocks and occupancy(code, threads, target) == share


def soft() -> fb.Tensor:
    made = fb.compile(lambda x, w: fb.softmax(x @ w, 1), backend="cuda-emulator")
    made(fb.ones(4, 8), fb.ones(8, 20))
    return made


@has_toolchain
def test_ptx_is_there_for_every_kernel_and_explain_tells_what_each_takes() -> None:
    made = soft()
    ptx = made.ir("ptx")
    assert ptx.count(".visible .entry kernel_") == 2 and ".target sm_90" in ptx
    words = made.explain()
    assert "on the device:" in words and " registers, " in words and "% of the threads that fit a multiprocessor" in words


@has_toolchain
def test_sass_or_the_command_that_brings_it() -> None:
    made = soft()
    if disassemble._tool() is None:
        with pytest.raises(UnsupportedError, match="pip install nvidia-cuda-nvdisasm"):
            made.ir("sass")
    else:
        assert made.ir("sass").count("EXIT") >= 2


def test_without_packages_ptx_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile, "find_spec", lambda name: None)
    monkeypatch.setattr(compile, "_known", {})
    with fb.config.set(cache_dir=tmp_path):
        made = soft()
        with pytest.raises(UnsupportedError, match=r'pip install "flambeau\[cuda\]"'):
            made.ir("ptx")
        assert "threads a block" in made.explain() and "registers" not in made.explain()


def test_nvdisasm_is_looked_for_in_cudas_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "nvdisasm"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\nif [ $(wc -c < $2) = 3 ]; then echo EXIT; else echo no kernel >&2; exit 1; fi\n")
    tool.chmod(0o700)
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, path=None: which(name, path=path) if path else None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert disassemble.disassembled(b"abc") == "EXIT\n"
    with pytest.raises(FlambeauError, match="nvdisasm failed: no kernel"):
        disassemble.disassembled(b"ab")


def test_kernels_that_run_on_the_host_are_told() -> None:
    made = fb.compile(lambda x: fb.linalg.inv(x) * 2, backend="cuda-emulator")
    made(fb.eye(3))
    assert "on the host, on copies" in made.explain()
    plain = fb.compile(lambda x: x * 2)
    plain(fb.eye(3))
    assert "on the device" not in plain.explain()
