"""A compiled step as data: which kernels run, when, on which buffers. Printable, picklable, and bytes on demand; checked
before native code runs it.

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

from collections.abc import Collection, Iterator, Sequence
from dataclasses import field

from flambeau.errors import stands
from flambeau.ir.records import dataclass
from flambeau.runtime.program_bytes import decode, encode
from flambeau.runtime.program_check import check_program
from flambeau.runtime.signature import Signature, SizeSpec, TensorSpec
from flambeau.runtime.steps import (
    Blocks,
    Branch,
    Extent,
    HostCall,
    Launch,
    Loop,
    SizeOf,
    Slot,
    SlotKind,
    Step,
)

__all__ = ["Blocks", "Branch", "Extent", "HostCall", "Launch", "Loop", "Program", "Signature", "SizeOf", "SizeSpec",
           "Slot", "SlotKind", "Step", "TensorSpec"]


@dataclass(frozen=True, slots=True)
class Program:
    """A tree of steps over slots.

    consts: the bytes of each constant. writes_state: calls must not overlap. locations: lines of the user's code, for
    messages; programs that differ in them alone are equal. once: the program that makes the last states of this one, its
    outputs, of the others. It runs when those are bound, and again when what lies in them changed.
    """

    slots: tuple[Slot, ...]
    steps: tuple[Step, ...]
    signature: Signature = Signature()
    arena_bytes: int = 0
    consts: tuple[bytes, ...] = field(default=(), repr=False)
    writes_state: bool = False
    locations: tuple[str, ...] = field(default=(), compare=False)
    once: Program | None = None

    @property
    def n_args(self) -> int:
        return len(self.signature.args)

    @property
    def n_states(self) -> int:
        return len(self.signature.states)

    @property
    def n_kept(self) -> int:
        """How many of the states `once` makes."""
        return 0 if self.once is None else self.once.n_outs

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
        told = [message for known, message in launch.errors if known == status]
        told = [message for message in told if stands(message, details)] or told
        message = ", or ".join(told) or otherwise or f"{what} {launch.symbol} failed with status {status}"
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

    def check(self, devices: Collection[str] = ("cpu",), asked: Collection[str] = ("cpu",)) -> None:
        """Every number refers to something that exists and fits. devices: those whose memory the runner can reach; asked:
        those that it asks for conditions. Raises VerificationError; native code looks no more."""
        check_program(self, devices, asked)

    def to_bytes(self) -> bytes:
        """What `from_bytes` reads back, user lines and all: JSON, then constants and initial states."""
        return encode(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """Raises ParseError for bytes that are no program of this version, whole and unchanged. Whether it can run,
        `check` says."""
        return cls(**decode(data, cls))
