"""Text of a kernel -> PTX -> cubin, by numba-cuda and nvJitLink, without a GPU or a driver.

Everything of numba-cuda's that is not a public function is in this file. It is imported where kernels are compiled, which
is in processes of their own: it takes seconds to load, and is told which GPU to compile for.
"""
# mypy: ignore-errors
from __future__ import annotations

import linecache
import math
import re
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.cuda import compiler, dispatcher, libdevice, types

from flambeau.codegen.cuda.intrinsics import INTRINSICS
from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.ir.gpu import GpuTarget

__all__ = ["assemble", "to_ptx"]


def to_ptx(text: KernelText, target: GpuTarget) -> str:
    """The PTX of a kernel. Raises what numba raises for a text that has no types."""
    _compile_for(target)
    filename = f"<kernel {text.name}>"
    linecache.cache[filename] = (len(text.source), None, text.source.splitlines(keepends=True), filename)
    names = dict(_names())
    exec(compile(text.source, filename, "exec"), names)
    signature = types.void(*[_type(kind) for kind in text.types])
    ptx, _ = cuda.compile(names[text.name], signature, device=False, abi="numba", cc=target.capability, output="ptx",
                          launch_bounds=(text.threads, text.resident))
    (mangled,) = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    return ptx.replace(mangled, text.name)


def assemble(ptx: str, target: GpuTarget) -> Assembled:
    """Machine code of a kernel's PTX, and what it takes of a multiprocessor."""
    (entry,) = re.findall(r"\.visible \.entry (\w+)\(", ptx)
    linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=LinkerOptions(arch=target.arch, ptxas_options=["-v"]))
    code = linker.link("cubin")
    log = linker.get_info_log() or ""

    def number(pattern: str) -> int:
        found = re.search(pattern, log)
        return int(found[1]) if found else 0

    return Assembled(bytes(code.code), entry, number(r"Used (\d+) registers"), number(r"(\d+) bytes spill stores"),
                     number(r"(\d+) bytes stack frame"), number(r"(\d+) bytes smem"))


def _type(kind: str):
    return types.CPointer(getattr(types, kind[:-1])) if kind.endswith("*") else getattr(types, kind)


@cache
def _names() -> dict[str, object]:
    """What the text of a kernel may name."""
    known = {name: getattr(types, name) for name in (
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64", "boolean")}
    names = {**known, **INTRINSICS, "cuda": cuda, "math": math, "libdevice": libdevice}
    path = Path(__file__).with_name("library.py")
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    for name, value in list(names.items()):
        if getattr(value, "__code__", None) is not None and value.__code__.co_filename == str(path):
            names[name] = cuda.jit(device=True)(value)
    return names


def _compile_for(target: GpuTarget) -> None:
    """Functions that a kernel calls are compiled for the device that numba takes for the current one, which need not be
    there."""
    device = SimpleNamespace(compute_capability=target.capability, name=b"", id=0)
    dispatcher.get_current_device = compiler.get_current_device = lambda: device
