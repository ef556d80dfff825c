"""Program + loaded kernels -> how a call sets its parameters, and in which order it asks for what.

The parameters of all launches lie in one row of 64-bit words: of each a pointer for its status, its buffers, its sizes.
What a call brings (arguments, results, sizes) is written to the words that hold it, and only where it is not what it was.

    Segment     launches in a row, which the device gets one after the other, or as one graph
    HostStep    a kernel without code for the device: its meaning, on copies
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Union, assert_never

from flambeau.errors import VerificationError
from flambeau.ir.kernel import Kernel
from flambeau.ir.records import dataclass
from flambeau.runtime.program import Branch, Extent, HostCall, Launch, Loop, Program, SizeOf, Step

__all__ = ["HostStep", "If", "Layout", "Loaded", "Segment", "Walked", "While"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a launch runs: a function of the driver's, or None where the host runs the kernel. threads: of a block.
    reports: whether it may leave a status. shared_bytes: of shared memory that is not in its code."""

    kernel: Kernel
    function: Any
    threads: int
    reports: bool
    shared_bytes: int = 0


@dataclass(frozen=True)
class Segment:
    number: int
    launches: tuple[int, ...]


@dataclass(frozen=True)
class HostStep:
    launch: int


@dataclass(frozen=True)
class While:
    condition: int                  # a slot
    body: tuple[Walked, ...]


@dataclass(frozen=True)
class If:
    condition: int
    then: tuple[Walked, ...]
    otherwise: tuple[Walked, ...]


Walked = Union[Segment, HostStep, While, If]            # noqa: UP007 (evaluated, as the types of dataclass fields are)


class Layout:
    """first: the word of each launch's status. brought: of each pointer that a call brings its position among the values,
    the words that hold it, and the launches that read it. arena_words: (word, offset). slot_words: for each kind and index
    of the other slots, its words. sized_words: (word, extent). written: slots that some launch stores to."""

    def __init__(self, program: Program, loaded: Sequence[Loaded]):
        self.program, self.loaded = program, tuple(loaded)
        self.launches = program.launches
        if len(self.loaded) != len(self.launches):
            raise VerificationError("one function for each launch")
        self.n_values = program.n_args + program.n_scalars + program.n_outs + program.n_sizes
        self.first_out = program.n_args + program.n_scalars
        self.first_size = self.first_out + program.n_outs
        self.first: list[int] = []
        words_of: dict[int, list[int]] = {}
        launches_of: dict[int, set[int]] = {}
        self.arena_words: list[tuple[int, int]] = []
        self.arena_launches: list[int] = []
        self.slot_words: dict[tuple[str, int], list[int]] = {}
        self.sized_words: list[tuple[int, Extent]] = []
        self.written: set[int] = set()
        self.n_words = 0
        for number, (launch, part) in enumerate(zip(self.launches, self.loaded, strict=True)):
            roles = [param.role for param in part.kernel.params]            # scratch memory comes after them
            self.written |= {slot for slot, role in zip(launch.slots, roles, strict=False) if role in ("out", "inout")}
            self._place(number, launch, words_of, launches_of)
        self.brought = [(position, words_of[position], sorted(launches_of[position])) for position in sorted(words_of)]
        self.reporting = [number for number, part in enumerate(self.loaded) if part.reports]
        self.n_segments = 0
        self.steps = tuple(self._walked(program.steps, iter(range(len(self.launches)))))
        self.is_plain = all(isinstance(step, Segment) for step in self.steps)
        self.has_open_sizes = program.n_sizes > 0

    def _place(self, number: int, launch: Launch | HostCall, words_of: dict[int, list[int]],
               launches_of: dict[int, set[int]]) -> None:
        self.first.append(self.n_words)
        word = self.n_words + 1                     # after the status
        for slot in [self.program.slots[place] for place in launch.slots]:
            if slot.kind == "arena":
                self.arena_words.append((word, slot.index))
                self.arena_launches += [number] if number not in self.arena_launches[-1:] else []
            elif slot.kind in ("arg", "out"):
                position = slot.index + (self.first_out if slot.kind == "out" else 0)
                words_of.setdefault(position, []).append(word)
                launches_of.setdefault(position, set()).add(number)
            else:
                self.slot_words.setdefault((slot.kind, slot.index), []).append(word)
            word += 1
        for extent in launch.sizes:
            self.sized_words.append((word, extent))
            word += 1
        self.n_words = word

    def _walked(self, steps: Sequence[Step], numbers: Iterator[int]) -> list[Walked]:
        made: list[Walked] = []
        row: list[int] = []

        def end_row() -> None:
            if row:
                made.append(Segment(self.n_segments, tuple(row)))
                self.n_segments += 1
                row.clear()

        for step in steps:
            match step:
                case Launch() | HostCall():
                    number = next(numbers)
                    if self.loaded[number].function is not None:
                        assert isinstance(step, Launch), f"{step.symbol} is a function of the host"
                        row.append(number)
                        continue
                    end_row()
                    made.append(HostStep(number))
                case Loop(condition, body):
                    end_row()
                    made.append(While(condition, tuple(self._walked(body, numbers))))
                case Branch(condition, then, otherwise):
                    end_row()
                    made.append(If(condition, tuple(self._walked(then, numbers)), tuple(self._walked(otherwise, numbers))))
                case _:
                    assert_never(step)
        end_row()
        return made


def evaluated(extent: Extent, sizes: Sequence[int]) -> int:
    """An extent, for the sizes of a call."""
    return extent.times * sizes[extent.number] if isinstance(extent, SizeOf) else extent
