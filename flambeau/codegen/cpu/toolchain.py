"""LLVM IR text -> relocatable objects. The only file that drives llvmlite's compiler.

Kernels arrive already vectorised, with every value where it is to be computed: LLVM only selects instructions.
"""

from __future__ import annotations

import functools
import heapq
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from flambeau.ir.target import Target

# llvmlite versions whose private function table we know well enough to lift the process-wide lock, and LLVM's options.
_KNOWN_VERSIONS = ("0.50.",)
_HEAVY_CALLS = ("LLVMPY_ParseAssembly", "LLVMPY_RunNewModulePassManager", "LLVMPY_TargetMachineEmitToMemory")

# Passes of the code generator that modules may do without, by their `-disable-` options: strength reduction, which takes a
# tenth of LLVM's time, and some that leave all code of ours as it is (docs/decisions/060-llvm-time.md).
_LEFT_OUT = ("lsr", "mergeicmps", "select-optimize", "constant-hoisting", "partial-libcall-inlining", "tail-duplicate")

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


def emit_object(module: Any, target: Target) -> bytes:
    """A relocatable object. module: an llvmlite ir.Module or its text. Raises RuntimeError on invalid IR.

    LLVM's mid-level passes do not run: kernels need no inlining and keep their variables in SSA from the start.
    """
    machine = target_machine(target)
    return machine.emit_object(_parsed(str(module), machine))


def emit_assembly(module: Any, target: Target, steps_itself: bool = False) -> str:
    """The assembly that `compile_modules` would encode."""
    machine = target_machine(target)
    parsed = _parsed(str(module), machine)
    with _short_pipeline if steps_itself else nullcontext():
        return machine.emit_assembly(parsed)


def compile_modules(
    texts: Iterable[Any], target: Target, threads: int = 1, steps_itself: bool = False
) -> list[bytes]:
    """Objects of many modules, in order, on up to `threads` threads. Raises what the first failing module raised.

    texts may be made on demand: with several threads, the others compile what is there while this one makes the next.
    steps_itself: loops carry what steps with them, and hide their counters: LLVM looks for nothing to step.
    """
    with _short_pipeline if steps_itself else nullcontext():
        if threads <= 1 or sys.is_finalizing() or not can_compile_in_parallel():     # when Python ends no thread starts
            return [emit_object(text, target) for text in texts]
        return _compiled_in_parallel(texts, target, threads)


def _compiled_in_parallel(texts: Iterable[Any], target: Target, threads: int) -> list[bytes]:
    workshop = _Workshop(target)
    helpers = [threading.Thread(target=workshop.work, daemon=True) for _ in range(threads - 1)]
    with _frequent_switches():
        for helper in helpers:
            helper.start()
        try:
            for text in texts:
                workshop.bring(str(text))
        finally:
            workshop.close()
            workshop.work()
            for helper in helpers:
                helper.join()
    return workshop.objects()


class _Workshop:
    """Modules waiting to be compiled. `work` on any number of threads until it is closed and empty."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._waiting: list[tuple[int, int, str]] = []
        self._outcomes: list[bytes | Exception | None] = []
        self._changed = threading.Condition()
        self._is_open = True

    def bring(self, text: str) -> None:
        """Add a module."""
        with self._changed:
            # Longest first: a big module that starts last would leave the other threads idle.
            heapq.heappush(self._waiting, (-len(text), len(self._outcomes), text))
            self._outcomes.append(None)
            self._changed.notify()

    def close(self) -> None:
        """No more modules will come."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()

    def work(self) -> None:
        """Compile modules until there are none left. A module that fails is remembered, for `objects` to raise."""
        _per_thread.lock_free = True
        try:
            while (job := self._next()) is not None:
                index, text = job
                try:
                    self._outcomes[index] = emit_object(text, self._target)
                except Exception as error:
                    self._outcomes[index] = error
        finally:
            _per_thread.lock_free = False

    def _next(self) -> tuple[int, str] | None:
        with self._changed:
            while self._is_open and not self._waiting:
                self._changed.wait()
            if not self._waiting:
                return None
            _, index, text = heapq.heappop(self._waiting)
            return index, text

    def objects(self) -> list[bytes]:
        """The objects of all modules, in the order they were brought."""
        done: list[bytes] = []
        for outcome in self._outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            assert outcome is not None, "every module was taken by a worker, and none failed"
            done.append(outcome)
        return done


@contextmanager
def _frequent_switches() -> Iterator[None]:
    """Let Python threads take turns every 0.2 ms instead of 5: a thread back from LLVM would wait that long for the one
    that emits, several times a module."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(min(before, 0.0002))
    try:
        yield
    finally:
        sys.setswitchinterval(before)


class _ShortPipeline:
    """While some thread is inside, LLVM leaves out the passes of _LEFT_OUT. Options belong to the process: what others
    compile meanwhile is right, and lacks these passes too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._set("true")

    def __exit__(self, *exc: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set("false")

    def _set(self, value: str) -> None:
        if _is_known_llvm():                            # an option that it does not know ends the process
            for name in _LEFT_OUT:
                llvm_binding().set_option("flambeau", f"-disable-{name}={value}")


_short_pipeline = _ShortPipeline()


def _parsed(text: str, machine: Any) -> Any:
    """A module in a context of its own, verified."""
    llvm = llvm_binding()
    module = llvm.parse_assembly(text, context=llvm.create_context())
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    module.verify()
    return module


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
def _is_known_llvm() -> bool:
    import llvmlite

    return llvmlite.__version__.startswith(_KNOWN_VERSIONS)


@functools.cache
def can_compile_in_parallel() -> bool:
    """Whether this llvmlite is one whose lock we can set aside; if not, compilation is serial and still right."""
    from llvmlite.binding import ffi

    llvm_binding()
    if not _is_known_llvm():
        return False
    try:
        for name in _HEAVY_CALLS:
            wrapper = getattr(ffi.lib, name)
            wrapper._lock = _LockUnlessExempt(wrapper._lock)
    except AttributeError:
        return False
    return True
