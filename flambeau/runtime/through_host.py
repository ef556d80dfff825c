"""A program over the host's memory, called with memory of another device: what it reads is copied to the host, what it
makes back. For executables that look at every value, and so have it where NumPy is."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer
from flambeau.runtime.devices import memory_on
from flambeau.runtime.program import Program

__all__ = ["ThroughHost"]


class _Inner(Protocol):
    @property
    def fast_call(self) -> Callable[..., None]: ...

    def bind_states(self, pointers: Sequence[int]) -> Any: ...

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]: ...


class ThroughHost:
    """device: whose pointers calls and states are. A call waits, and raises what it finds at once."""

    def __init__(self, inner: _Inner, program: Program, device: str, states: Sequence[int] = ()):
        self.program, self.device, self.memory = program, device, memory_on(device)
        signature = program.signature
        self.arg_bytes = [signature.nbytes(spec) for spec in signature.args]
        self.state_bytes = [signature.nbytes(spec) for spec in signature.states]
        self.states = [Buffer(pointer, nbytes, device, None) for pointer, nbytes in
                       zip(states, self.state_bytes, strict=bool(states))]
        self.here = [np.zeros(nbytes, np.uint8) for nbytes in self.state_bytes]
        self.unbound = inner
        self.inner = inner.bind_states([array.ctypes.data for array in self.here]) if states else inner

    def bind_states(self, pointers: Sequence[int]) -> ThroughHost:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        if len(pointers) != self.program.n_states:
            raise VerificationError(f"the program has {self.program.n_states} states, not {len(pointers)}")
        return ThroughHost(self.unbound, self.program, self.device, pointers)

    def fast_call(self, *values: float) -> None:
        """Run the program on pointers (as ints) and numbers."""
        self._through(values, lambda there: self.inner.fast_call(*there))

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """As the inner one's."""
        program, seconds = self.program, []

        def profile(there: Sequence[Any]) -> None:
            first_out = program.n_args + program.n_scalars
            outs = there[first_out:first_out + program.n_outs]
            seconds.append(self.inner.profile(there[:program.n_args], scalars, outs, sizes, repeats=repeats))

        self._through((*arg_ptrs, *scalars, *out_ptrs, *sizes), profile)
        return seconds[0]

    def _through(self, values: Sequence[float], run: Callable[[Sequence[Any]], None]) -> None:
        program, memory, device = self.program, self.memory, self.device
        first_out = program.n_args + program.n_scalars
        if len(values) != first_out + program.n_outs + program.n_sizes:
            raise TypeError(f"the program takes {first_out + program.n_outs + program.n_sizes} values, not {len(values)}")
        args = [memory.to_host(Buffer(int(pointer), nbytes, device, None))
                for pointer, nbytes in zip(values, self.arg_bytes, strict=False)]
        for array, buffer in zip(self.here, self.states, strict=True):
            array[:] = memory.to_host(buffer)
        outs = [np.zeros(nbytes, np.uint8) for nbytes in program.out_bytes]
        run((*[array.ctypes.data for array in args], *values[program.n_args:first_out],
             *[array.ctypes.data for array in outs], *values[first_out + program.n_outs:]))
        for pointer, array in zip(values[first_out:], outs, strict=False):
            memory.write(Buffer(int(pointer), array.nbytes, device, None), 0, array)
        if program.writes_state:
            for array, buffer in zip(self.here, self.states, strict=True):
                memory.write(buffer, 0, array)
