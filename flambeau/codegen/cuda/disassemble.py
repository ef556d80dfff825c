"""Cubin -> SASS, the instructions of the machine, by NVIDIA's nvdisasm."""
from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

from flambeau.errors import FlambeauError, UnsupportedError

__all__ = ["disassembled"]

INSTALL = "pip install nvidia-cuda-nvdisasm"


def disassembled(cubin: bytes) -> str:
    """The instructions of a kernel. Raises UnsupportedError with the command to run where there is no nvdisasm."""
    tool = _tool()
    if tool is None:
        raise UnsupportedError("the instructions of a kernel are shown by nvdisasm, which is not here", hint=INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        done = subprocess.run([tool, "-c", str(file)], capture_output=True, text=True, encoding="utf-8", errors="replace")
    if done.returncode:
        raise FlambeauError(f"nvdisasm failed: {done.stderr.strip()[:500]}")
    return done.stdout


def _tool() -> str | None:
    """On the path, in CUDA's own folder, or in one of NVIDIA's packages."""
    found = shutil.which("nvdisasm")
    folders = [Path(home) / "bin" for name in ("CUDA_HOME", "CUDA_PATH") if (home := os.environ.get(name))]
    spec = find_spec("nvidia")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        folders += [path.parent for path in Path(place).glob("*/bin/nvdisasm*")]
    return found or shutil.which("nvdisasm", path=os.pathsep.join(map(str, folders)))
