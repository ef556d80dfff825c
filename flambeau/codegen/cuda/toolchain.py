"""Text of a kernel -> PTX -> cubin, by numba-cuda and nvJitLink, without a GPU or a driver.

Everything of numba-cuda's that is not a public function is in this file. It is imported where kernels are compiled, which
is in processes of their own: it takes seconds to load, and is told which GPU to compile for.

numba compiles all of Python, and kernels are little of it. Here it goes through the passes that such a text needs, which
give the same PTX, and remembers what a function gives for operands of some types.
"""
# mypy: ignore-errors
from __future__ import annotations

import linecache
import math
import re
import zlib
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from cuda.core import Linker, LinkerOptions, ObjectCode
from numba import cuda
from numba.core.types.functions import BaseFunction
from numba.cuda import compiler, dispatcher, libdevice, types
from numba.cuda.core import typed_passes, typeinfer, untyped_passes
from numba.cuda.core.compiler_machinery import PassManager
from numba.cuda.cudadrv import nvvm

from flambeau.codegen.cuda.intrinsics import INTRINSICS
from flambeau.codegen.cuda.text import Assembled, KernelText
from flambeau.ir.gpu import GpuTarget

__all__ = ["assemble", "to_ptx", "warm_up"]


def to_ptx(text: KernelText, target: GpuTarget) -> str:
    """The PTX of a kernel. Raises what numba raises for a text that has no types."""
    _compile_for(target)
    _shorten()
    filename = f"<kernel {text.name}>"
    linecache.cache[filename] = (len(text.source), None, text.source.splitlines(keepends=True), filename)
    names = dict(_names())
    exec(compile(text.source, filename, "exec"), names)
    signature = types.void(*[_type(kind) for kind in text.types])
    options = {"device": False, "abi": "numba", "cc": target.capability, "output": "ptx",
               "launch_bounds": (text.threads, text.resident)}
    try:
        ptx, _ = cuda.compile(names[text.name], signature, **options)
    except _TwoTypes:
        _Passes.ssa = True
        try:
            ptx, _ = cuda.compile(names[text.name], signature, **options)
        finally:
            _Passes.ssa = False
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
                     number(r"(\d+) bytes stack frame"), _shared_bytes(ptx), zlib.compress(ptx.encode(), 1))


def _shared_bytes(ptx: str) -> int:
    """Of the arrays that the PTX declares: the assembler's log doesn't tell, and its code counts the system's part too."""
    arrays = re.findall(r"\.shared \.align (\d+) \.b8 \w+\[(\d+)\]", ptx)
    return sum([-(-int(nbytes) // int(align)) * int(align) for align, nbytes in arrays])


def warm_up(target: GpuTarget) -> None:
    """Load what the first kernel would wait for."""
    lines = ["def k(status, b0):", "    t = uint32(cuda.threadIdx.x + cuda.blockIdx.x * 32)", "    if t < 32:",
             "        x = float32(0.0)", "        for i in range(3):", "            x = float_max(x, b0[t] * x + x)",
             "        b0[t] = libdevice.expf(cuda.shfl_xor_sync(0xffffffff, x, 1))", ""]
    assemble(to_ptx(KernelText("k", "\n".join(lines), ("int64*", "float32*"), (32,), (32,), 32, 32), target), target)


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
    _round_once()


@cache
def _round_once() -> None:
    """A product and a sum stay two roundings, as they are on the CPU; NVVM would make one instruction of them."""
    compile_ir = nvvm.compile_ir
    nvvm.compile_ir = lambda llvmir, **options: compile_ir(llvmir, **{**options, "fma": False})


# -- numba's way through a kernel, made short -------------------------------------------------------------------------


class _TwoTypes(Exception):
    """A variable has values of more than one type: each value of it must be a variable of its own."""


class _Passes(compiler.CUDACompiler):
    """What is left of numba's passes. Nothing is inlined, pruned or rewritten in numba's IR; NVVM does all that. Values of
    a variable become variables (SSA) where they differ in type, which they do in few texts."""

    ssa = False

    def define_pipelines(self):
        passes = PassManager("kernel")
        ssa = _Passes.ssa
        for each in (compiler.CUDATranslateBytecode, untyped_passes.FixupArgs, untyped_passes.IRProcessing,
                     *([untyped_passes.ReconstructSSA] if ssa else []), typed_passes.NopythonTypeInference,
                     *([typed_passes.PreLowerStripPhis] if ssa else []), typed_passes.IRLegalization,
                     compiler.CreateLibrary, compiler.CUDANativeLowering, compiler.CUDABackend):
            passes.add_pass(each, each.__name__)
        passes.finalize()
        return [passes]


@cache
def _shorten() -> None:
    """Put these passes, and two memories, into numba."""
    add_type, call_type = typeinfer.TypeVar.add_type, BaseFunction.get_call_type
    known: dict[object, object] = {}

    def strict(self, kind, loc):
        before = self.type
        if not _Passes.ssa and before is not None and before is not types._undef_var and "$" not in self.var and (
                types.unliteral(before) != types.unliteral(kind)):
            raise _TwoTypes(self.var)
        return add_type(self, kind, loc)

    def remembered(self, context, operands, keywords):
        if keywords:
            return call_type(self, context, operands, keywords)
        key = (self, context, tuple(operands))
        if key not in known:
            known[key] = call_type(self, context, operands, keywords)
        return known[key]

    compiler.CUDACompiler = _Passes
    typeinfer.TypeVar.add_type, BaseFunction.get_call_type = strict, remembered
