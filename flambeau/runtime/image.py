"""A Program laid out in memory for the native runner: what all executables of one program share."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer, allocate
from flambeau.runtime.native.layout import LaunchRecord
from flambeau.runtime.program import Program, Slot

__all__ = ["ProgramImage"]

# Below this many bytes touched, a call is over before another thread could make use of the GIL.
_SHORT_CALL_BYTES = 64 * 1024
_SHORT_CALL_LAUNCHES = 64


class ProgramImage:
    """Launch records, constants and the order of the pointer table: arguments, outputs, then everything else.

    Immutable once made. `keep` is whatever holds the kernels' code, such as loaded libraries.
    """

    def __init__(self, program: Program, addresses: Mapping[str, int], keep: object = None) -> None:
        program.check()
        self.program = program
        self.keep = keep
        self.consts = tuple(_constant(data) for data in program.consts)
        self.fixed_slots: dict[tuple[str, int], int] = {}
        self._table_index = [self._place(slot) for slot in program.slots]
        self.table_length = program.n_args + len(program.out_bytes) + len(self.fixed_slots)
        self.most_parameters = max((len(launch.slots) for launch in program.launches), default=0)
        self._arrays: list[ctypes.Array[ctypes.c_int32] | ctypes.Array[ctypes.c_int64]] = []
        self.launches = (LaunchRecord * len(program.launches))()
        for number, launch in enumerate(program.launches):
            if launch.symbol not in addresses:
                raise VerificationError(f"no address for kernel {launch.symbol}")
            slots = (ctypes.c_int32 * len(launch.slots))(*(self._table_index[slot] for slot in launch.slots))
            sizes = (ctypes.c_int64 * len(launch.sizes))(*launch.sizes)
            self._arrays += [slots, sizes]
            self.launches[number] = LaunchRecord(
                addresses[launch.symbol],
                launch.tasks,
                launch.grain,
                len(launch.slots),
                int(launch.parallel and launch.tasks > launch.grain),
                ctypes.addressof(slots),
                ctypes.addressof(sizes),
            )
        self.parallel = any(record.parallel for record in self.launches)

    @property
    def is_long(self) -> bool:
        """Whether a call may take long enough that other Python threads should run meanwhile."""
        launches = self.program.launches
        touched = sum(self.program.slots[slot].nbytes for launch in launches for slot in launch.slots)
        return self.parallel or touched > _SHORT_CALL_BYTES or len(launches) > _SHORT_CALL_LAUNCHES

    def _place(self, slot: Slot) -> int:
        """The slot's index in the pointer table; equal buffers share one."""
        if slot.kind == "arg":
            return slot.index
        if slot.kind == "out":
            return self.program.n_args + slot.index
        first = self.program.n_args + len(self.program.out_bytes)
        return first + self.fixed_slots.setdefault((slot.kind, slot.index), len(self.fixed_slots))


def _constant(data: bytes) -> Buffer:
    buffer = allocate(len(data))
    ctypes.memmove(buffer.ptr, data, len(data))
    return buffer
