"""What `python -m flambeau doctor` says of GPUs: each link of the chain from the driver's library to a kernel that ran."""
from __future__ import annotations

import ctypes
import importlib.metadata
import sys
from collections.abc import Callable, Iterator

import numpy as np

from flambeau import config
from flambeau.backends.cuda.backend import kernel_text
from flambeau.codegen.cuda.compile import compile_texts
from flambeau.compiler import compile_graph
from flambeau.ir import parse
from flambeau.ir.gpu import SM90
from flambeau.runtime.cuda.api import INSTALL, count_devices, why_unavailable
from flambeau.runtime.cuda.device import device_on
from flambeau.runtime.devices import memory_on

PACKAGES = ("cuda-bindings", "numba-cuda", "nvidia-nvjitlink", "nvidia-nvvm", "cuda-toolkit")
_KERNELS = """graph @doctor {
  %0 = input arg "x" : f32[1000]DEVICE
  %1 = exp(%0) : f32[1000]DEVICE
  %2 = add(%1, %0) : f32[1000]DEVICE
  %3 = sum(%2, dims=(0,)) : f32[]DEVICE
  return %2, %3
}"""


def facts() -> Iterator[tuple[str, str]]:
    """(name, what it is), nothing of which is needed on a machine without a GPU."""
    yield "CUDA driver", "Flambeau's emulator" if config.cuda == "emulator" else driver_version()
    found = {name: version for name in PACKAGES if (version := _version(name))}
    missing = [name for name in PACKAGES if name not in found]
    said = ", ".join([f"{name} {version}" for name, version in found.items()])
    lacking = f"without {', '.join(missing)}: {INSTALL}" if missing else ""
    yield "CUDA packages", "; ".join(filter(None, [said, lacking]))
    reason = why_unavailable()
    if reason is not None:
        yield "GPUs", "; ".join(filter(None, [f"none: {reason.message}", reason.hint]))
        return
    for number in range(count_devices()):
        device = device_on(number)
        free, total = device.memory_info()
        major, minor = device.capability
        yield f"GPU {number}", (f"{device.product}, compute capability {major}.{minor}, {device.multiprocessors} "
                                f"multiprocessors, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free")


def checks() -> Iterator[tuple[str, Callable[[], None]]]:
    """Those that can be tried here."""
    if _version("numba-cuda") and _version("nvidia-nvjitlink"):
        yield "kernels are compiled for a GPU", check_compiled
    if why_unavailable() is None:
        yield "a GPU computes what NumPy does", check_computed


def driver_version() -> str:
    """Of the driver's library, which comes with the driver; asked without any package."""
    name = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return f"none: there is no {name}"
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)):
        return f"{name}, which does not tell its version"
    return f"{name} for CUDA {version.value // 1000}.{version.value % 1000 // 10}"


def check_compiled() -> None:
    """Numba-cuda and nvJitLink make machine code, which needs no GPU."""
    made = compile_graph(parse(_KERNELS.replace("DEVICE", "")), backend="cuda-emulator")
    for code in compile_texts([kernel_text(kernel) for kernel in made.kernels], SM90, 1):
        assert code.cubin[:4] == b"\x7fELF", f"{code.entry} is no machine code"


def check_computed() -> None:
    """Kernels are loaded and launched, one by one and as a graph, and their results come back right."""
    made = compile_graph(parse(_KERNELS.replace("DEVICE", "@cuda:0")))
    memory, values = memory_on("cuda:0"), np.linspace(-1, 1, 1000, dtype=np.float32)
    x, y, total = memory.from_host(values), memory.allocate(4000), memory.allocate(4)
    expected = np.exp(values.astype(np.float64)) + values
    for _ in range(3):
        made.executable.fast_call(x.ptr, y.ptr, total.ptr)
        found = memory.to_host(y).view(np.float32)
        # exp errs by a few units in the last place, the sum of 1000 terms by a few more
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-6), f"{found} is not {expected}"
        assert np.allclose(memory.to_host(total).view(np.float32), expected.sum(), rtol=1e-5), "the sum is wrong"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
