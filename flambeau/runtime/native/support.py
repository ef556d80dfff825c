"""Native support code: the .ll files beside this one, compiled and loaded once per process, at first need."""

from __future__ import annotations

import ctypes
import platform
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from flambeau.errors import UnsupportedError
from flambeau.runtime.disk_cache import disk_cache
from flambeau.runtime.forking import ForkSafeLock, no_forks
from flambeau.runtime.loader import Library, binding, load
from flambeau.runtime.sources import compiler_digest

__all__ = ["Support", "source", "support"]

_FUTEX_NUMBERS = {"x86": 202, "aarch64": 98}
_FUNCTIONS = (
    "flambeau_abandon",
    "flambeau_allocate",
    "flambeau_call",
    "flambeau_clock_ns",
    "flambeau_execute",
    "flambeau_execute_steps",
    "flambeau_give_back",
    "flambeau_memory",
    "flambeau_pause_time",
    "flambeau_release_kept",
    "flambeau_set_kept_limit",
    "flambeau_set_pool",
    "flambeau_stop_pool",
    "flambeau_take",
    "flambeau_worker",
)
_PYTHON_SYMBOLS = (
    "PyCapsule_GetContext",
    "PyCapsule_GetPointer",
    "PyCapsule_New",
    "PyCapsule_SetContext",
    "PyErr_CheckSignals",
    "PyErr_Clear",
    "PyErr_Format",
    "PyErr_Occurred",
    "PyEval_RestoreThread",
    "PyEval_SaveThread",
    "PyExc_MemoryError",
    "PyFloat_AsDouble",
    "PyLong_AsSize_t",
    "PyLong_AsVoidPtr",
    "PyLong_FromVoidPtr",
    "PyObject_CallFunction",
    "PyThread_get_thread_ident",
    "PyTuple_GetItem",
    "PyType_GenericAlloc",
    "Py_DecRef",
    "Py_IncRef",
    "_Py_NoneStruct",
)


def source(system: str | None = None, machine: str | None = None) -> str:
    """The LLVM IR text for an operating system ("linux", "darwin", "win32") and CPU ("x86_64", "aarch64")."""
    system = system or sys.platform
    cpu = _cpu_family(machine or platform.machine())
    if system.startswith("linux") and cpu in _FUTEX_NUMBERS:
        os_file = "os_linux.ll"
    else:
        os_file = "os_windows.ll" if system == "win32" else "os_posix.ll"
    constants = (
        f"@futex_number = internal constant i64 {_FUTEX_NUMBERS.get(cpu, 0)}\n"
        f"@clock_id = internal constant i32 {getattr(time, 'CLOCK_MONOTONIC', 0)}\n"
    )
    files = ("types.ll", f"pause_{cpu}.ll", os_file, "pool.ll", "runner.ll", "trampoline.ll", "memory.ll")
    folder = Path(__file__).parent
    return constants + "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in files)


class Support:
    """Addresses of the native functions, and those that Python calls itself, ready to call.

    Functions made with CFUNCTYPE let go of the GIL while they run; those made with PYFUNCTYPE keep it.
    """

    def __init__(self, library: Library) -> None:
        self.library = library
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self.execute = ctypes.CFUNCTYPE(i32, pointer)(library["flambeau_execute"])
        self.execute_steps = ctypes.CFUNCTYPE(i32, pointer)(library["flambeau_execute_steps"])
        self.abandon = ctypes.PYFUNCTYPE(None, pointer)(library["flambeau_abandon"])
        self.worker = ctypes.CFUNCTYPE(None, pointer)(library["flambeau_worker"])
        self.stop_pool = ctypes.CFUNCTYPE(None, pointer)(library["flambeau_stop_pool"])
        self.set_pool = ctypes.PYFUNCTYPE(None, pointer, i32)(library["flambeau_set_pool"])
        self.take = ctypes.PYFUNCTYPE(pointer, pointer)(library["flambeau_take"])
        self.give_back = ctypes.PYFUNCTYPE(None, pointer)(library["flambeau_give_back"])
        self.clock_ns = ctypes.PYFUNCTYPE(i64)(library["flambeau_clock_ns"])
        self.pause_time = ctypes.PYFUNCTYPE(i64)(library["flambeau_pause_time"])
        self.memory = ctypes.PYFUNCTYPE(None, pointer, i32)(library["flambeau_memory"])
        self.release_kept = ctypes.PYFUNCTYPE(None)(library["flambeau_release_kept"])
        self.set_kept_limit = ctypes.PYFUNCTYPE(None, i64)(library["flambeau_set_kept_limit"])


def support() -> Support:
    """The process's support code; compiled by the first caller. Raises UnsupportedError if it cannot be."""
    if _made:
        return _made[0]
    with _lock, no_forks:
        if not _made:
            _made.append(_build())
    return _made[0]


def _build() -> Support:
    cache, compiler = disk_cache(), compiler_digest()
    key = None if compiler is None else f"support {compiler} {sys.platform} {platform.machine()}"
    image = None if key is None else cache.get(key)
    if image is None:
        image = _compile(binding(), source())
        if key is not None:
            cache.put(key, image, "support code of the runtime")
    imports = {name: _python_symbol(name) for name in _PYTHON_SYMBOLS} | _windows_symbols()
    return Support(load([image], _FUNCTIONS, imports=imports))


def _compile(llvm: Any, text: str) -> bytes:
    """IR text -> object bytes for any CPU of this machine's family."""
    module = llvm.parse_assembly(text)
    # Level 0 compiles five times faster than level 2, and calls and launches take the same time (measured).
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0, codemodel="jitdefault", jit=True)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=0))
    manager = builder.getModulePassManager()  # Level 0 is the always-inliner alone: the text is SSA already.
    manager.run(module, builder)
    image: bytes = machine.emit_object(module)
    return image


def _python_symbol(name: str) -> int:
    if name == "_Py_NoneStruct":
        return id(None)
    address = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
    if address is None:
        raise UnsupportedError(f"this Python does not export {name}")
    return address


def _windows_symbols() -> dict[str, int]:
    if sys.platform != "win32":
        return {}
    kernel32, crt = ctypes.WinDLL("kernel32"), ctypes.CDLL("ucrtbase")
    names: dict[str, Any] = {
        name: getattr(kernel32, name)
        for name in ("SwitchToThread", "Sleep", "QueryPerformanceCounter", "QueryPerformanceFrequency")
    }
    names |= {name: getattr(crt, name) for name in ("_aligned_malloc", "_aligned_free", "memset", "memcpy")}
    return {name: ctypes.cast(function, ctypes.c_void_p).value or 0 for name, function in names.items()}


@cache
def _cpu_family(machine: str) -> str:
    name = machine.lower()
    if name in ("x86_64", "amd64", "i686", "i386"):
        return "x86"
    return "aarch64" if name in ("aarch64", "arm64") else "generic"


_made: list[Support] = []
_lock = ForkSafeLock()
