"""Memory of calls in flight: a call takes an instance (pointer table, scalars, sizes, arena) and gives it back."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from typing import Any, Never

from flambeau.errors import UnsupportedError, kernel_error
from flambeau.runtime.buffer import Buffer, allocate, poison
from flambeau.runtime.forking import ForkSafeLock, after_fork_in_child
from flambeau.runtime.host_functions import is_python, raise_kept
from flambeau.runtime.image import ProgramImage
from flambeau.runtime.native.layout import ExecutableRecord, InstanceRecord
from flambeau.runtime.native.support import support
from flambeau.runtime.program import Program
from flambeau.runtime.recording import Recorder, watch
from flambeau.runtime.threads import start_pool

__all__ = ["CallMemory"]

_LOWEST_ADDRESS = 4096
_END_OF_ADDRESSES = 2**64 - 1


class CallMemory:
    """An executable's native record and its instances. A new one is made when a call finds all others busy.

    `event` is how the native trampoline (trampoline.ll) reaches Python; `run_through_ctypes` is the same call
    made by Python, for timing and for interpreters that take no builtins of ours.
    """

    def __init__(self, image: ProgramImage, states: tuple[int, ...], release_gil: bool) -> None:
        program = image.program
        self._image = image
        self._states = states
        self.states_owner: object = None        # what keeps their memory alive, if not the caller
        self.kept: list[Buffer] = []            # the memory of those that the program made of the others
        self._lock = ForkSafeLock()
        self._recorder: Recorder | None = None
        self._is_recorded = False
        self.instances: list[tuple[Buffer, Buffer | None]] = []
        self.record = ExecutableRecord(
            launches=ctypes.addressof(image.launches),
            n_launches=len(program.launches),
            n_args=program.n_args,
            n_scalars=program.n_scalars,
            n_outs=program.n_outs,
            serialised=int(program.writes_state),
            way=int(release_gil) + (0 if image.steps is None else 2),
            parallel=int(image.parallel),
            steps=None if image.steps is None else ctypes.addressof(image.steps),
            n_steps=0 if image.steps is None else len(image.steps),
            n_sizes=program.n_sizes,
            largest_sizes=ctypes.addressof(image.largest_sizes),
        )
        self.address = ctypes.addressof(self.record)
        _live.add(self)
        watch(self)

    @property
    def program(self) -> Program:
        return self._image.program

    def record_into(self, recorder: Recorder | None) -> None:
        """As `recording.Recordable` says. A call in flight may write to the recorder it began with: that one stays."""
        with self._lock:
            self._is_recorded = recorder is not None
            self._recorder = recorder or self._recorder
            for memory, _ in self.instances:
                InstanceRecord.from_address(memory.ptr).recorder = self._recording

    @property
    def _recording(self) -> int | None:
        """What the instances' records say."""
        return self._recorder.address if self._is_recorded and self._recorder is not None else None

    def event(self, code: int, value: int) -> None:
        """What the trampoline leaves to Python; the codes are listed above flambeau_call."""
        match code:
            case 1:
                raise TypeError(f"the program takes {self._signature()}; {value} values came")
            case 2:
                raise TypeError(self._wrong_value(value))
            case 3:
                self._give_back(self._new_instance())
            case 4:
                start_pool()
            case 5:
                self._fail(value)
            case _:
                raise AssertionError(f"the trampoline sends no event {code}")

    def call(self, *values: Any) -> None:
        """The trampoline's work, through ctypes."""
        self.run_through_ctypes(values, timed=False)

    def run_through_ctypes(self, values: Sequence[Any], timed: bool) -> list[int]:
        """One run; the nanoseconds of each launch if `timed`, those of all its turns together."""
        recorder = Recorder(self._image.program, most_events=0) if timed else None
        instance = self._take()
        record = InstanceRecord.from_address(instance)
        try:
            self._fill(record, values)
        except BaseException:
            self._give_back(instance)
            raise
        if self._image.parallel:
            start_pool()
        if recorder is not None:
            record.recorder = recorder.address
        execute = support().execute if self._image.steps is None else support().execute_steps
        try:
            status = execute(instance)
            while record.resume:                # paused in a loop, so that Python sees to signals
                status = execute(instance)
        except BaseException:
            if record.resume:
                support().abandon(instance)
            self._give_back(instance)
            raise
        finally:
            if recorder is not None:
                record.recorder = self._recording
        if status:
            self._fail(instance)
        self._give_back(instance)
        return [] if recorder is None else recorder.nanoseconds.tolist()

    def _fill(self, record: InstanceRecord, values: Sequence[Any]) -> None:
        program = self._image.program
        first_out = program.n_args + program.n_scalars
        first_size = first_out + program.n_outs
        if len(values) != first_size + program.n_sizes:
            self.event(1, len(values))
        table = (ctypes.c_size_t * self._image.table_length).from_address(record.table)
        scalars = (ctypes.c_double * program.n_scalars).from_address(record.scalars)
        sizes = (ctypes.c_int64 * program.n_sizes).from_address(record.sizes)
        for i, value in enumerate(values):
            if i >= first_size:
                if not isinstance(value, int) or not 0 <= value <= program.signature.sizes[i - first_size].most:
                    self.event(2, i)
                sizes[i - first_size] = value
            elif program.n_args <= i < first_out:
                if not hasattr(value, "__float__"):
                    self.event(2, i)
                scalars[i - program.n_args] = float(value)
            else:
                if not isinstance(value, int) or not _LOWEST_ADDRESS <= value < _END_OF_ADDRESSES:
                    self.event(2, i)
                table[i if i < program.n_args else i - program.n_scalars] = value

    def poison(self) -> None:
        """Fill the arena that the next call will take (unless another thread takes it first, as good for it)."""
        instance = self._take()
        for memory, arena in self.instances:
            if memory.ptr == instance and arena is not None:
                poison(arena.ptr, arena.nbytes)
        self._give_back(instance)

    def _take(self) -> int:
        with self._lock:
            free: int | None = support().take(self.address)
        return free if free is not None else self._new_instance()

    def _give_back(self, instance: int) -> None:
        with self._lock:
            support().give_back(instance)

    def _new_instance(self) -> int:
        """Lay out an instance: record, pointer table, gathered pointers, scalars, sizes; and its arena apart."""
        image, program = self._image, self._image.program
        words = image.table_length + 1 + image.most_parameters + program.n_scalars + program.n_sizes + image.most_extents
        memory = allocate(ctypes.sizeof(InstanceRecord) + 8 * words)
        arena = allocate(program.arena_bytes) if program.arena_bytes else None
        record = InstanceRecord.from_address(memory.ptr)
        record.executable = self.address
        record.table = memory.ptr + ctypes.sizeof(InstanceRecord)
        record.gathered = record.table + 8 * (image.table_length + 1)      # run_timed (runner.ll) has the word between
        record.scalars = record.gathered + 8 * image.most_parameters
        record.sizes = record.scalars + 8 * program.n_scalars
        record.launch_sizes = record.sizes + 8 * program.n_sizes
        record.recorder = self._recording
        record.resume = 0
        table = (ctypes.c_size_t * image.table_length).from_address(record.table)
        first = program.n_args + program.n_outs
        for (kind, index), place in image.fixed_slots.items():
            if kind == "state":
                table[first + place] = self._states[index]
            elif kind == "const":
                table[first + place] = image.consts[index].ptr
            elif kind == "scalar":
                table[first + place] = record.scalars + 8 * index
            else:
                assert arena is not None, "a slot in an arena of no bytes"
                table[first + place] = arena.ptr + index
        self.instances.append((memory, arena))
        return memory.ptr

    def _fail(self, instance: int) -> Never:
        """Read what the failed launch left, return the instance, and raise."""
        record = InstanceRecord.from_address(instance)
        failed = record.failed_launch
        status = record.context.status
        details = (record.context.detail0, record.context.detail1)
        self._give_back(instance)
        if failed < 0:
            raise UnsupportedError("a signal handler called the compiled function that it interrupted, which updates "
                                   "captured state and has done so in part")
        program = self._image.program
        raise_kept(status, is_python(program.launches[failed].symbol))
        raise kernel_error(program.message(program.launches[failed], status, details), status, details)

    def _signature(self) -> str:
        program = self._image.program
        wanted = f"{program.n_args} argument pointers, {program.n_scalars} scalars and {program.n_outs} output pointers"
        return f"{wanted}, then {program.n_sizes} sizes" if program.n_sizes else wanted

    def _wrong_value(self, position: int) -> str:
        program = self._image.program
        first_out = program.n_args + program.n_scalars
        if position < program.n_args:
            return f"argument {position} of the program is not a pointer (an int)"
        if position < first_out:
            return f"scalar {position - program.n_args} of the program is not a number"
        if position < first_out + program.n_outs:
            return f"output {position - first_out} of the program is not a pointer (an int)"
        size = program.signature.sizes[position - first_out - program.n_outs]
        return f"size {size.name} of the program is not an int from 0 to {size.most}"


def _unlock_all() -> None:
    """In a forked child: the thread that held a state lock is not here to give it back."""
    for memory in list(_live):
        memory.record.lock = memory.record.paused = 0


_live: weakref.WeakSet[CallMemory] = weakref.WeakSet()
after_fork_in_child(_unlock_all)
