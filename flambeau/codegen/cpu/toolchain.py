"""LLVM IR text -> relocatable objects. The only file that drives llvmlite's compiler.

Kernels arrive already vectorised, so the pass list is short: clean up the IR, then let LLVM select instructions.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

from flambeau.ir.target import Target

# llvmlite versions whose private function table we know well enough to lift the process-wide lock.
_LOCK_FREE_VERSIONS = ("0.50.",)
_HEAVY_CALLS = ("LLVMPY_ParseAssembly", "LLVMPY_RunNewModulePassManager", "LLVMPY_TargetMachineEmitToMemory")

_per_thread = threading.local()


@functools.cache
def llvm_binding() -> Any:
    """llvmlite.binding with every linked-in target initialised. Imported once, at first use."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    return llvm


def target_machine(target: Target) -> Any:
    """A target machine of the calling thread, made once per thread and target (0.4 ms each)."""
    machines: dict[str, Any] = _per_thread.__dict__.setdefault("machines", {})
    key = target.cache_key
    if key not in machines:
        machines[key] = new_target_machine(target)
    return machines[key]


def new_target_machine(target: Target) -> Any:
    """A fresh position-independent target machine, so objects can be loaded anywhere or linked into a library."""
    return (
        llvm_binding()
        .Target.from_triple(target.triple)
        .create_target_machine(
            cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="small"
        )
    )


def emit_object(module: Any, target: Target, simplify: bool = True) -> bytes:
    """A relocatable object. module: an llvmlite ir.Module or its text. Raises RuntimeError on invalid IR.

    simplify: run the pass list. Code that needs no inlining and keeps its variables in SSA is as fast without, and
    compiles in two thirds of the time.
    """
    machine = target_machine(target)
    return machine.emit_object(_optimize(str(module), machine, simplify))


def emit_assembly(module: Any, target: Target, simplify: bool = True) -> str:
    """The assembly that `emit_object` would encode."""
    machine = target_machine(target)
    return machine.emit_assembly(_optimize(str(module), machine, simplify))


def optimized_ir(module: Any, target: Target) -> str:
    """The LLVM IR text after our pass list, just before instruction selection."""
    return str(_optimize(str(module), target_machine(target)))


def compile_modules(
    texts: Sequence[Any], target: Target, threads: int = 1, simplify: Sequence[bool] | None = None
) -> list[bytes]:
    """Objects of many modules, in order, on up to `threads` threads. Raises what the first failing module raised.

    simplify: for each module, see `emit_object`; all of them if None.
    """
    texts = [str(text) for text in texts]
    simplify = [True] * len(texts) if simplify is None else simplify
    workers = min(threads, len(texts)) if can_compile_in_parallel() else 1
    # Longest first: a big module that starts last would leave the other threads idle.
    queue = iter(sorted(range(len(texts)), key=lambda i: -len(texts[i])))
    objects: list[bytes | None] = [None] * len(texts)
    failures: dict[int, BaseException] = {}
    claim = threading.Lock()

    def work() -> None:
        _per_thread.lock_free = workers > 1
        try:
            while not failures:
                with claim:
                    index = next(queue, None)
                if index is None:
                    return
                try:
                    objects[index] = emit_object(texts[index], target, simplify[index])
                except Exception as error:
                    failures[index] = error
        finally:
            _per_thread.lock_free = False

    helpers = [threading.Thread(target=work, daemon=True) for _ in range(workers - 1)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failures:
        raise failures[min(failures)]
    return [_present(code) for code in objects]


def _present(code: bytes | None) -> bytes:
    assert code is not None, "every module was claimed by a worker and none failed, so each has its object"
    return code


def _optimize(text: str, machine: Any, simplify: bool = True) -> Any:
    """Parse in a context of its own, verify, and run the short pass list."""
    llvm = llvm_binding()
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    if not simplify:
        return module
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    _pass_manager(llvm).run(module, builder)
    return module


def _pass_manager(llvm: Any) -> Any:
    """SROA, GVN, instcombine, CFG and strength reduction; no vectorisers, no unrolling, no inliner heuristics."""
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.add_new_gvn_pass()
    passes.add_loop_strength_reduce_pass()
    passes.add_dead_code_elimination_pass()
    return passes


class _LockUnlessExempt:
    """llvmlite's process-wide lock, passed by only while a `compile_modules` worker of ours holds private contexts.

    LLVM itself is safe with one context and one target machine per thread; everything else still locks.
    """

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not getattr(_per_thread, "lock_free", False):
            self._lock.__enter__()

    def __exit__(self, *exc: Any) -> None:
        if not getattr(_per_thread, "lock_free", False):
            self._lock.__exit__(*exc)


@functools.cache
def can_compile_in_parallel() -> bool:
    """Whether this llvmlite is one whose lock we can set aside; if not, compilation is serial and still right."""
    import llvmlite
    from llvmlite.binding import ffi

    llvm_binding()
    if not llvmlite.__version__.startswith(_LOCK_FREE_VERSIONS):
        return False
    try:
        for name in _HEAVY_CALLS:
            wrapper = getattr(ffi.lib, name)
            wrapper._lock = _LockUnlessExempt(wrapper._lock)
    except AttributeError:
        return False
    return True
