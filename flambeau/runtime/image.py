"""A Program laid out in memory for the native runner: what all executables of one program share."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Final, assert_never

from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer, allocate
from flambeau.runtime.host_functions import host_address, is_python
from flambeau.runtime.native.layout import LaunchRecord, StepRecord
from flambeau.runtime.program import Blocks, Branch, Extent, HostCall, Launch, Loop, Program, Slot, Step

__all__ = ["ProgramImage", "filled"]

# Below this many bytes touched, a call is over before another thread could make use of the GIL.
_SHORT_CALL_BYTES = 64 * 1024
_SHORT_CALL_LAUNCHES = 64

_IN_ONE_PIECE: Final = 0            # how a LaunchRecord is called
_THROUGH_THE_POOL: Final = 1
_PYTHON: Final = 2

_LAUNCH: Final = 0                  # the kinds of StepRecord
_GO_ON_IF_FALSE: Final = 1
_GO_ON: Final = 2
_REPEAT: Final = 3


class ProgramImage:
    """Launch records, constants and the order of the pointer table: arguments, outputs, then everything else.

    The tree of steps becomes one list, in which a loop or a branch is a jump; a program that is launches in order has
    none (steps is None). addresses: of every kernel by symbol, and of host functions that are not registered. Immutable
    once made. `keep` is whatever holds the code, such as loaded libraries.
    """

    def __init__(self, program: Program, addresses: Mapping[str, int], keep: object = None) -> None:
        program.check()
        self.program = program
        self.keep = keep
        self.consts = tuple(filled(data) for data in program.consts)
        self.fixed_slots: dict[tuple[str, int], int] = {}
        self._table_index = [self._place(slot) for slot in program.slots]
        self.table_length = program.n_args + program.n_outs + len(self.fixed_slots)
        launches = program.launches
        self.most_parameters = max((len(launch.slots) for launch in launches), default=0)
        self.most_extents = max((len(launch.sizes) for launch in launches), default=0)
        self._arrays: list[ctypes.Array[ctypes.c_int32] | ctypes.Array[ctypes.c_int64]] = []
        self.launches = (LaunchRecord * len(launches))()
        for number, launch in enumerate(launches):
            python = False
            if launch.symbol in addresses:
                address = addresses[launch.symbol]
            elif isinstance(launch, HostCall):
                address, python = host_address(launch.symbol), is_python(launch.symbol)
            else:
                raise VerificationError(f"no address for kernel {launch.symbol}")
            self.launches[number] = self._launch_record(launch, address, python)
        self.parallel = any(record.how == _THROUGH_THE_POOL for record in self.launches)
        self.largest_sizes = (ctypes.c_int64 * program.n_sizes)(*[size.most for size in program.signature.sizes])
        self.steps: ctypes.Array[StepRecord] | None = None
        if not program.is_flat:
            records: list[StepRecord] = []
            self._add_steps(program.steps, records, 0)
            self.steps = (StepRecord * len(records))(*records)

    @property
    def is_long(self) -> bool:
        """Whether a call may take long enough that other Python threads should run meanwhile."""
        launches = self.program.launches
        touched = sum(self.program.slots[slot].nbytes for launch in launches for slot in launch.slots)
        return self.parallel or touched > _SHORT_CALL_BYTES or len(launches) > _SHORT_CALL_LAUNCHES

    @property
    def waits(self) -> bool:
        """Whether a call may wait for the GIL: a host function for itself, a loop for Python to see to signals."""
        return any(isinstance(step, HostCall | Loop) for step in self.program.walk())

    def _place(self, slot: Slot) -> int:
        """The slot's index in the pointer table; equal buffers share one."""
        if slot.kind == "arg":
            return slot.index
        if slot.kind == "out":
            return self.program.n_args + slot.index
        first = self.program.n_args + self.program.n_outs
        return first + self.fixed_slots.setdefault((slot.kind, slot.index), len(self.fixed_slots))

    def _launch_record(self, launch: Launch | HostCall, address: int, python: bool) -> LaunchRecord:
        """Sizes and tasks that wait for the call are 0 here, and in the extents of its step."""
        slots = (ctypes.c_int32 * len(launch.slots))(*[self._table_index[slot] for slot in launch.slots])
        sizes = self._words([extent if isinstance(extent, int) else 0 for extent in launch.sizes])
        self._arrays.append(slots)
        tasks, grain, how = 1, 1, _PYTHON if python else _IN_ONE_PIECE
        if isinstance(launch, Launch):
            tasks, grain = launch.tasks if isinstance(launch.tasks, int) else 0, launch.grain
            if launch.parallel and (not isinstance(launch.tasks, int) or tasks > grain):
                how = _THROUGH_THE_POOL
        return LaunchRecord(address, tasks, grain, len(launch.slots), how, ctypes.addressof(slots), sizes)

    def _words(self, numbers: Sequence[int]) -> int:
        """The address of an array of these, which lives as long as the image."""
        array = (ctypes.c_int64 * len(numbers))(*numbers)
        self._arrays.append(array)
        return ctypes.addressof(array)

    def _add_steps(self, steps: Sequence[Step], records: list[StepRecord], launches: int) -> int:
        """Append the records of `steps`, whose first launch is number `launches`; the number of the next one."""
        for step in steps:
            match step:
                case Launch() | HostCall():
                    records.append(StepRecord(_LAUNCH, 0, launches, self._extents(step)))
                    launches += 1
                case Loop(condition, body):
                    test = self._test(condition, records)
                    launches = self._add_steps(body, records, launches)
                    records.append(StepRecord(_REPEAT, 0, test, None))
                    records[test].target = len(records)
                case Branch(condition, then, otherwise):
                    test = self._test(condition, records)
                    launches = self._add_steps(then, records, launches)
                    end = len(records)
                    records.append(StepRecord(_GO_ON, 0, 0, None))
                    records[test].target = len(records)
                    launches = self._add_steps(otherwise, records, launches)
                    records[end].target = len(records)
                case _:
                    assert_never(step)
        return launches

    def _test(self, condition: int, records: list[StepRecord]) -> int:
        records.append(StepRecord(_GO_ON_IF_FALSE, self._table_index[condition], 0, None))
        return len(records) - 1

    def _extents(self, launch: Launch | HostCall) -> int | None:
        """What run_sized (runner.ll) reads, or None if the launch's own record says all."""
        tasks = launch.tasks if isinstance(launch, Launch) else 1
        if isinstance(tasks, int) and all(isinstance(extent, int) for extent in launch.sizes):
            return None
        factors = (Blocks(tasks),) if isinstance(tasks, int) else tasks
        words = [len(launch.sizes), len(factors)]
        for extent in launch.sizes:
            words += _pair(extent)
        for factor in factors:
            words += [*_pair(factor.extent), factor.block]
        return self._words(words)


def _pair(extent: Extent) -> tuple[int, int]:
    return (extent, -1) if isinstance(extent, int) else (extent.times, extent.number)


def filled(data: bytes) -> Buffer:
    """Memory that holds these bytes."""
    buffer = allocate(len(data))
    ctypes.memmove(buffer.ptr, data, len(data))
    return buffer
