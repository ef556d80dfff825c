"""A compiled step as data: which kernels run, in which order, on which buffers. Printable and picklable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from flambeau.errors import VerificationError

__all__ = ["Launch", "Program", "Slot", "SlotKind"]

SlotKind = Literal["arg", "state", "out", "scalar", "const", "arena"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One buffer that kernels read or write.

    kind and index: which one, counting arguments, states, outputs, scalars and constants from 0; in the
    arena, index is a byte offset. nbytes: its size.
    """

    kind: SlotKind
    index: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel call over [0, tasks).

    symbol: the kernel's name in the object code. grain: tasks per chunk when it is cut up, which is allowed
    if `parallel`. slots: numbers in Program.slots, one per kernel parameter. sizes: runtime extents. errors:
    what each nonzero status of the kernel means; "{0}" and "{1}" in a message stand for the two details.
    """

    symbol: str
    tasks: int
    grain: int
    parallel: bool
    slots: tuple[int, ...]
    sizes: tuple[int, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """Launches over slots.

    consts: the bytes of each constant; out_bytes: the size of each output, whose memory the caller brings;
    writes_state: calls must not overlap.
    """

    slots: tuple[Slot, ...]
    launches: tuple[Launch, ...]
    arena_bytes: int = 0
    n_args: int = 0
    n_states: int = 0
    n_scalars: int = 0
    out_bytes: tuple[int, ...] = ()
    consts: tuple[bytes, ...] = ()
    writes_state: bool = False

    def check(self) -> None:
        """Every number refers to something that exists and fits. Raises VerificationError: native code looks no more."""
        counts = {
            "arg": self.n_args,
            "state": self.n_states,
            "out": len(self.out_bytes),
            "scalar": self.n_scalars,
            "const": len(self.consts),
        }
        for number, slot in enumerate(self.slots):
            if slot.nbytes < 0:
                raise VerificationError(f"slot {number} has a negative size: {slot}")
            if slot.kind == "arena":
                fits = 0 <= slot.index and slot.index + slot.nbytes <= self.arena_bytes
                if not fits:
                    raise VerificationError(f"slot {number} leaves the arena of {self.arena_bytes} bytes: {slot}")
            else:
                if slot.kind not in counts:
                    raise VerificationError(f"slot {number} has an unknown kind: {slot}")
                known = 0 <= slot.index < counts[slot.kind]
                if not known:
                    raise VerificationError(f"slot {number} names a missing {slot.kind}, of {counts[slot.kind]}: {slot}")
            self._check_size(number, slot)
        for launch in self.launches:
            self._check_launch(launch)

    def _check_size(self, number: int, slot: Slot) -> None:
        if slot.kind == "out":
            size = self.out_bytes[slot.index]
        elif slot.kind == "const":
            size = len(self.consts[slot.index])
        elif slot.kind == "scalar":
            size = 8
        else:
            return
        if slot.nbytes > size:
            raise VerificationError(f"slot {number} is larger than its {slot.kind} of {size} bytes: {slot}")

    def _check_launch(self, launch: Launch) -> None:
        name = launch.symbol
        if launch.tasks < 0:
            raise VerificationError(f"{name}: negative tasks {launch.tasks}")
        if launch.grain < 1:
            raise VerificationError(f"{name}: grain {launch.grain} is not at least 1")
        if -(-launch.tasks // launch.grain) >= 2**32 - 1:
            raise VerificationError(f"{name}: too many chunks, {launch.tasks} tasks")
        for slot in launch.slots:
            if not 0 <= slot < len(self.slots):
                raise VerificationError(f"{name}: no slot {slot} among {len(self.slots)}")
