"""A Program ready to run: native code, bound states, and memory for each call in flight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Never

import numpy as np

from flambeau import config
from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer, allocate
from flambeau.runtime.image import ProgramImage, filled
from flambeau.runtime.instances import CallMemory
from flambeau.runtime.native.builtin import builtins_possible, make_builtin
from flambeau.runtime.native.support import support
from flambeau.runtime.program import Program

__all__ = ["Executable"]


class Executable:
    """Runs a program. Immutable; any number of Python threads may call it at once.

    addresses: where each kernel symbol of the program is (host functions too, unless they are registered); keep: what
    holds that code alive. A program with
    states must be bound first: `bound = executable.bind_states(pointers)`.

    `fast_call(*arg_pointers, *scalars, *out_pointers, *sizes)` is the hot path: a native builtin that takes
    pointers as integers (`buffer.ptr`, plus an offset for a view) and scalars as floats, runs the program and
    gives None. It raises KernelError if a kernel or a host function fails, and TypeError, before anything runs,
    for a wrong number or type of arguments and a size beyond the program's. It does not check what the pointers
    point at: the caller vouches for sizes, and holds a reference to every buffer until the call returns, since
    the GIL may be released meanwhile.

    Signals are seen to after the call, and between two turns of a loop that runs for more than 50 ms: Ctrl-C then
    ends the call, with outputs and states as far as they have come.
    """

    def __init__(
        self,
        program: Program,
        addresses: Mapping[str, int],
        *,
        keep: object = None,
        release_gil: bool | None = None,
    ) -> None:
        """release_gil: let other Python threads run during a call; None lets the program's size decide, and programs
        that loop or call the host always do. With `config.poison` the arena is filled before each call."""
        image = ProgramImage(program, addresses, keep)
        self._once = None if program.once is None else Executable(program.once, addresses, keep=keep)
        self._poisons = config.poison and bool(program.arena_bytes)
        self._setup(image, (), image.waits or (image.is_long if release_gil is None else release_gil))

    def _setup(self, image: ProgramImage, states: tuple[int, ...], release_gil: bool) -> None:
        self._image = image
        self._release_gil = release_gil
        self._memory = CallMemory(image, states, release_gil)
        self.fast_call: Callable[..., None]
        if image.program.n_states != len(states):
            self.fast_call = _raise_unbound
        elif _trampoline_works():
            self.fast_call = _trampoline(self._memory)
        else:
            self.fast_call = self._memory.call
        if self._poisons:
            self.fast_call = _poisoning(self._memory, self.fast_call)

    @property
    def program(self) -> Program:
        return self._image.program

    @property
    def arena_bytes(self) -> int:
        """Scratch memory of one call in flight."""
        return self._image.program.arena_bytes

    @property
    def allocated_arena_bytes(self) -> int:
        """Scratch memory held now: arena_bytes for each call that was ever in flight at the same time."""
        return self.arena_bytes * len(self._memory.instances)

    def bind_states(self, pointers: Sequence[int]) -> Executable:
        """The same code over these states, one pointer each; the caller keeps their memory alive. What the program makes of
        them once is made here, and is as old as this call."""
        expected = self.program.n_states - self.program.n_kept
        if len(pointers) != expected:
            raise VerificationError(f"the program has {expected} states, not {len(pointers)}")
        bound = Executable.__new__(Executable)
        bound._poisons, bound._once = self._poisons, self._once
        kept: list[Buffer] = []
        if self._once is not None:
            once = self._once.bind_states(pointers)
            kept = [allocate(nbytes) for nbytes in once.program.out_bytes]
            once.fast_call(*[buffer.ptr for buffer in kept])
        bound._setup(self._image, (*pointers, *[buffer.ptr for buffer in kept]), self._release_gil)
        bound._memory.kept = kept
        return bound

    def bind_initial(self) -> Executable:
        """The same code over states of its own, which begin with the values that the program brings. Raises
        VerificationError if it lacks one."""
        specs = self.program.signature.states[:self.program.n_states - self.program.n_kept]
        lacking = [spec.name for spec in specs if spec.initial is None]
        if lacking:
            raise VerificationError(f"the program brings no initial value of {', '.join(lacking)}")
        buffers = [filled(spec.initial or b"") for spec in specs]
        bound = self.bind_states([buffer.ptr for buffer in buffers])
        bound._memory.states_owner = buffers
        return bound

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """Run the program. The outputs' memory is the caller's: program.out_bytes says how much. sizes: those that the
        program's signature leaves open, in its order; calls with different ones may overlap."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def profile(
        self,
        arg_ptrs: Sequence[int],
        scalars: Sequence[float] = (),
        out_ptrs: Sequence[int] = (),
        sizes: Sequence[int] = (),
        *,
        repeats: int = 10,
    ) -> tuple[float, ...]:
        """Run the program `repeats` times, writing states each time; the median seconds of each of its launches, in
        the order of `program.launches`: of all turns of one in a loop, 0 for one that did not run."""
        if self.fast_call is _raise_unbound:
            _raise_unbound()
        values = (*arg_ptrs, *scalars, *out_ptrs, *sizes)
        runs = [self._memory.run_through_ctypes(values, timed=True) for _ in range(repeats)]
        return tuple(float(np.median(times)) * 1e-9 for times in zip(*runs, strict=True))


def _trampoline(memory: CallMemory) -> Callable[..., None]:
    """The native builtin that runs a program with this memory, and keeps it alive."""
    return make_builtin("call", support().library["flambeau_call"], (memory.address, memory.event))


def _poisoning(memory: CallMemory, run: Callable[..., None]) -> Callable[..., None]:
    """`run` on arenas that hold nothing of earlier calls."""

    def call(*values: object) -> None:
        memory.poison()
        run(*values)

    return call


@cache
def _trampoline_works() -> bool:
    """Whether builtins made at run time do what they should here: tried once, on a program that does nothing."""
    if not builtins_possible():
        return False
    call = _trampoline(CallMemory(ProgramImage(Program((), ()), {}), (), release_gil=True))
    try:
        call(0)
    except TypeError:
        return call() is None
    return False


def _raise_unbound(*_values: object) -> Never:
    raise AssertionError("the program has states: call what bind_states(pointers) returns")
