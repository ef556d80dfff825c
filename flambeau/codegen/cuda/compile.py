"""Texts of kernels -> machine code: by worker processes, kept on disk by what they say."""
from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.codegen.cuda.worker import Failed
from flambeau.codegen.cuda.workers import Workers
from flambeau.errors import UnsupportedError, VerificationError
from flambeau.ir.gpu import GpuTarget

__all__ = ["INSTALL", "code_key", "compile_each", "compile_texts", "known_code", "require_packages"]

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
    knows where they lie. Raises VerificationError with the text of a kernel that does not compile."""
    found = []
    for text, code in zip(texts, compile_each(texts, target, workers, kept, keep), strict=True):
        if isinstance(code, Failed):
            raise VerificationError(f"kernel {text.name} does not compile: {code.words}\n{text.source}")
        found.append(code)
    return found


def compile_each(texts: Sequence[KernelText], target: GpuTarget, workers: int, kept: Callable[[str], bytes | None],
                 keep: Callable[[str, bytes], None]) -> list[Assembled | Failed]:
    """The same, with what failed among the answers."""
    keys = [code_key(text, target) for text in texts]
    found: dict[str, Assembled | Failed] = {key: made for key in keys if (made := known_code(key, kept)) is not None}
    wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
    if wanted:
        require_packages()
        jobs = list(wanted)
        with _one_at_a_time.lock:
            for number, code in _workers(workers).compiled([(wanted[key], target) for key in jobs]):
                found[jobs[number]] = code
                if isinstance(code, Assembled):
                    _remember({jobs[number]: code})
                    keep(jobs[number], _written(code))
    return [found[key] for key in keys]


def known_code(key: str, kept: Callable[[str], bytes | None]) -> Assembled | None:
    """Code that was made before, in this process or in another."""
    if key not in _known and (data := kept(key)) is not None and (made := _read(data)) is not None:
        _remember({key: made})
    return _known.get(key)


_KNOWN: Final = 4096                            # codes that this process keeps in memory
_known: dict[str, Assembled] = {}


def _remember(found: Mapping[str, Assembled]) -> None:
    _known.update(found)
    while len(_known) > _KNOWN:
        _known.pop(next(iter(_known)), None)


@cache
def _workers(most: int) -> Workers:
    return Workers(most)


class _OneAtATime:
    """Of threads that ask the workers. In the child of a fork nobody does."""

    def __init__(self) -> None:
        self.free()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.free)

    def free(self) -> None:
        self.lock = threading.Lock()


_one_at_a_time = _OneAtATime()


@cache
def _versions() -> str:
    """Of all that makes code, our own texts of functions too."""
    here = Path(__file__).parent
    files = [here / "library.py", here / "toolchain.py", *sorted(here.glob("*intrinsics*.py"))]
    own = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    return " ".join([*[f"{name}=={_version(name)}" for name in _PACKAGES], own.hexdigest()])


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _written(made: Assembled) -> bytes:
    head = [made.entry, made.registers, made.spilled_bytes, made.stack_bytes, made.shared_bytes, len(made.packed)]
    return json.dumps(head).encode() + b"\n" + made.packed + made.cubin


def _read(data: bytes) -> Assembled | None:
    """None for what is not whole, or of another version."""
    head, _, rest = data.partition(b"\n")
    try:
        entry, *numbers = json.loads(head)
    except (ValueError, TypeError):
        return None
    if not (isinstance(entry, str) and len(numbers) == 5 and all(type(n) is int for n in numbers)
            and len(rest) > numbers[-1] >= 0):
        return None
    registers, spilled, stack, shared, packed = numbers
    return Assembled(rest[packed:], entry, registers, spilled, stack, shared, rest[:packed])
