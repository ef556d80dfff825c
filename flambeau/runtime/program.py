"""A compiled step as data: which kernels run, when, on which buffers. Printable and picklable; `check_program` says
whether native code can run it.

A Program is a signature, slots (buffers), and a tree of steps:

- `Launch`: a kernel over [0, tasks).
- `HostCall`: a function of the host, by a name that whoever loads the program has an address for. It is called as a
  kernel is, `i32 f(ctx, buffers, sizes, 0, 1)`, in the calling thread and without the GIL: native code needs none, and a
  ctypes callback takes it itself. Nonzero is an error, with two integers at `ctx + 8` and `ctx + 16` as its details.
- `Loop`: while the bool in the slot `condition` is true, the body. The condition is looked at first, so what stands before
  the loop must compute it, and so must the end of the body.
- `Branch`: the bool in the slot `condition` chooses one of two bodies.

Values that a loop carries have slots like all others. They are set before the loop, and the end of the body stores the
next ones there: by launches that copy, or in place by the kernel that computes them, where that is right. Slots are
never swapped, so a slot is one place in memory throughout a call. The results of a branch are what both bodies store.

    while_loop(lambda i, x: i < n, lambda i, x: (i + 1, x * x), (0, x))

    Launch  copy     arg 0 -> x         the carried values
    Launch  fill     i
    Launch  less     i, n -> more       the condition
    Loop    more
        Launch  square   x -> x         in place: element by element
        Launch  count    i -> i
        Launch  less     i, n -> more

The slots that a body alone uses may share memory with what is dead before it and after it, and with the other body of a
branch. What is alive over a loop (the carried values, the condition, and all that the body reads from outside) is alive
through the whole of it, since the body comes again.

Sizes that a program leaves open come with each call. Extents and task counts may then be a `SizeOf` such a size; slots,
outputs and the arena are as large as the largest sizes make them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Union

from flambeau.errors import VerificationError
from flambeau.ir.dims import Dim
from flambeau.ir.types import TensorType

__all__ = ["Blocks", "Branch", "Extent", "HostCall", "Launch", "Loop", "Program", "Signature", "SizeOf", "SizeSpec",
           "Slot", "SlotKind", "Step", "TensorSpec"]

SlotKind = Literal["arg", "state", "out", "scalar", "const", "arena"]
LARGEST = (1 << 63) - 1             # of all sizes and counts, which native code holds in 64 bits


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
    means; "{0}" and "{1}" in a message stand for the two details. location: of the user's lines that it computes,
    in Program.locations.
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


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a caller passes or gets. initial: the bytes that a state begins with, if the program brings them."""

    name: str
    type: TensorType
    initial: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SizeSpec:
    """A size that comes with each call: from 0 to `most`. Dims of this name in the signature stand for it."""

    name: str
    most: int


@dataclass(frozen=True, slots=True)
class Signature:
    """Everything that a call brings: pointers to arguments, numbers, pointers to the memory of outputs, sizes; and the
    states, whose memory is bound before."""

    args: tuple[TensorSpec, ...] = ()
    states: tuple[TensorSpec, ...] = ()
    scalars: tuple[TensorSpec, ...] = ()
    outs: tuple[TensorSpec, ...] = ()
    sizes: tuple[SizeSpec, ...] = ()

    def nbytes(self, spec: TensorSpec) -> int:
        """Bytes of its memory when every size is at its most. Raises VerificationError where that is no number."""
        sizes = [self._largest(size) if isinstance(size, Dim) else size for size in spec.type.shape]
        count = math.prod(sizes) * spec.type.dtype.itemsize
        if min(sizes, default=0) < 0 or count > LARGEST:
            raise VerificationError(f"no memory holds {spec.name} : {spec.type}")
        return count

    def _largest(self, dim: Dim) -> int:
        most = {size.name: size.most for size in self.sizes}
        if any(times < 0 for _, times in dim.terms):
            raise VerificationError(f"the size {dim} does not grow with its parts")
        try:
            return dim.evaluate(most)
        except KeyError as error:
            raise VerificationError(f"the size {dim} names {error}, which no call brings") from None


@dataclass(frozen=True, slots=True)
class Program:
    """A tree of steps over slots.

    consts: the bytes of each constant. writes_state: calls must not overlap. locations: lines of the user's code, for
    messages; programs that differ in them alone are equal.
    """

    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    signature: Signature = Signature()
    arena_bytes: int = 0
    consts: tuple[bytes, ...] = field(default=(), repr=False)
    writes_state: bool = False
    locations: tuple[str, ...] = field(default=(), compare=False)

    @property
    def n_args(self) -> int:
        return len(self.signature.args)

    @property
    def n_states(self) -> int:
        return len(self.signature.states)

    @property
    def n_scalars(self) -> int:
        return len(self.signature.scalars)

    @property
    def n_outs(self) -> int:
        return len(self.signature.outs)

    @property
    def n_sizes(self) -> int:
        return len(self.signature.sizes)

    @property
    def out_bytes(self) -> tuple[int, ...]:
        """The size of each output, whose memory the caller brings; for the largest sizes."""
        return tuple([self.signature.nbytes(spec) for spec in self.signature.outs])

    @property
    def launches(self) -> tuple[Launch | HostCall, ...]:
        """Everything that runs, in the order of the text; bodies where they stand."""
        return tuple([step for step in self.walk() if isinstance(step, Launch | HostCall)])

    @property
    def is_flat(self) -> bool:
        """Whether every step is a launch, and no number waits for a call."""
        return not self.signature.sizes and all(isinstance(step, Launch) for step in self.steps)

    def message(self, launch: Launch | HostCall, status: int, details: Sequence[int] = (), otherwise: str = "") -> str:
        """Words for a launch that ended with `status`. otherwise: where it has none of its own for that."""
        what = "kernel" if isinstance(launch, Launch) else "host function"
        message = dict(launch.errors).get(status) or otherwise or f"{what} {launch.symbol} failed with status {status}"
        for number, detail in enumerate(details):
            message = message.replace(f"{{{number}}}", str(detail))
        where = self.locations[launch.location] if launch.location is not None and status in dict(launch.errors) else ""
        return f"{message} (in the kernel of {where})" if where else message

    def walk(self) -> Iterator[Step]:
        """All steps, those of bodies after the step that they belong to."""
        waiting = list(reversed(self.steps))
        while waiting:
            step = waiting.pop()
            yield step
            match step:
                case Loop(_, body):
                    waiting += reversed(body)
                case Branch(_, then, otherwise):
                    waiting += [*reversed(otherwise), *reversed(then)]
