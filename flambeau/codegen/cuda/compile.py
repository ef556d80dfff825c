"""Texts of kernels -> machine code: by worker processes, kept on disk by what they say."""
from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.errors import UnsupportedError
from flambeau.ir.gpu import GpuTarget

__all__ = ["INSTALL", "code_key", "compile_texts", "require_packages"]

INSTALL = 'pip install "flambeau[cuda]"'
_PACKAGES = ("numba-cuda", "cuda-core", "cuda-bindings", "nvidia-nvjitlink", "nvidia-nvvm")


def require_packages() -> None:
    """Raises UnsupportedError naming the command that installs what is missing."""
    missing = [name for name, module in (("numba-cuda", "numba_cuda"), ("cuda-core", "cuda")) if find_spec(module) is None]
    if missing:
        raise UnsupportedError(f"code for GPUs needs {' and '.join(missing)}", hint=INSTALL)


def code_key(text: KernelText, target: GpuTarget) -> str:
    """What the code of a kernel depends on: not on comments, which say what a program calls things and where it lies."""
    lines = [line for line in text.source.split("\n") if not line.lstrip().startswith("#")]
    said = json.dumps([lines, text.types, text.threads, text.resident, target.arch, _versions()])
    return hashlib.sha256(said.encode()).hexdigest()


def compile_texts(texts: Sequence[KernelText], target: GpuTarget, workers: int,
                  kept: Callable[[str], bytes | None] = lambda key: None,
                  keep: Callable[[str, bytes], None] = lambda key, data: None) -> list[Assembled]:
    """The code of each. workers: processes at once, at most. kept, keep: bytes that were made before, by key; whoever calls
    knows where they lie."""
    found: dict[int, Assembled] = {}
    for number, text in enumerate(texts):
        data = kept(code_key(text, target))
        if data is not None:
            found[number] = _read(data)
    wanted = [number for number in range(len(texts)) if number not in found]
    if wanted:
        require_packages()
        jobs = [(texts[number], target) for number in wanted]
        for number, made in zip(wanted, _pool(workers).map(_compiled, jobs), strict=True):
            found[number] = made
            keep(code_key(texts[number], target), _written(made))
    return [found[number] for number in range(len(texts))]


def _compiled(job: tuple[KernelText, GpuTarget]) -> Assembled:
    """In a worker, which has numba-cuda for itself."""
    text, target = job
    toolchain = import_module("flambeau.codegen.cuda.toolchain")
    made: Assembled = toolchain.assemble(toolchain.to_ptx(text, target), target)
    return made


@cache
def _pool(workers: int) -> ProcessPoolExecutor:
    """Workers start when they are needed, as processes of their own: a fork would have the locks and the devices of this
    one."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))


@cache
def _versions() -> str:
    """Of all that makes code, our own texts of functions too."""
    here = Path(__file__).parent
    own = hashlib.sha256(b"".join((here / name).read_bytes() for name in ("library.py", "intrinsics.py", "toolchain.py")))
    return " ".join([*[f"{name}=={_version(name)}" for name in _PACKAGES], own.hexdigest()])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _written(made: Assembled) -> bytes:
    head = [made.entry, made.registers, made.spilled_bytes, made.stack_bytes, made.shared_bytes]
    return json.dumps(head).encode() + b"\n" + made.cubin


def _read(data: bytes) -> Assembled:
    head, _, cubin = data.partition(b"\n")
    return Assembled(cubin, *json.loads(head))
