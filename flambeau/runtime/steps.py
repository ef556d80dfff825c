"""What the text of a Program is made of: slots, and steps over them. `runtime.program` says what they mean together."""
from __future__ import annotations

from dataclasses import field
from typing import Literal, Union

from flambeau.ir.records import dataclass

__all__ = ["Blocks", "Branch", "Extent", "HostCall", "Launch", "Loop", "SizeOf", "Slot", "SlotKind", "Step"]

SlotKind = Literal["arg", "state", "out", "scalar", "const", "arena"]


@dataclass(frozen=True, slots=True)
class Slot:
    """One buffer that steps read or write.

    kind and index: which one, counting arguments, states, outputs, scalars and constants from 0; in the
    arena, index is a byte offset. nbytes: its size, for the largest sizes. device: whose memory it is.
    """

    kind: SlotKind
    index: int
    nbytes: int
    device: str = "cpu"


@dataclass(frozen=True, slots=True)
class SizeOf:
    """`times` the size number `number` of those that come with a call."""

    number: int
    times: int = 1


Extent = Union[int, SizeOf]         # noqa: UP007 (evaluated, as the types of dataclass fields are)


@dataclass(frozen=True, slots=True)
class Blocks:
    """A factor of a task count: ceil(extent / block)."""

    extent: Extent
    block: int = 1


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel call over [0, tasks).

    symbol: the kernel's name in the object code. tasks: how many, or the factors of it where it depends on the
    sizes of the call. grain: tasks per chunk when it is cut up, which is allowed if `parallel`. slots: numbers in
    Program.slots, one per kernel parameter. sizes: runtime extents. errors: what each nonzero status of the kernel
    means, or may mean; "{0}" and "{1}" in a message stand for the two details. location: of the user's lines that it
    computes, in Program.locations.
    """

    symbol: str
    tasks: int | tuple[Blocks, ...]
    grain: int
    parallel: bool
    slots: tuple[int, ...]
    sizes: tuple[Extent, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()
    location: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class HostCall:
    """One call of a function that the host gives under the name `symbol`; the rest as in Launch."""

    symbol: str
    slots: tuple[int, ...]
    sizes: tuple[Extent, ...] = ()
    errors: tuple[tuple[int, str], ...] = ()
    location: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Loop:
    """While the bool in slot `condition` is true: the body."""

    condition: int
    body: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Branch:
    """The first body if the bool in slot `condition` is true, else the second."""

    condition: int
    then: tuple[Step, ...]
    otherwise: tuple[Step, ...] = ()


Step = Union[Launch, HostCall, Loop, Branch]        # noqa: UP007
