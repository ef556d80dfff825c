"""A Program on a GPU, called with memory of the host: arguments and states are copied to the device, results and states
back, and the call waits. Nothing is copied back where a kernel failed."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from flambeau.errors import VerificationError
from flambeau.runtime.buffer import Buffer, as_ndarray
from flambeau.runtime.cuda.executable import CudaExecutable
from flambeau.runtime.cuda.memory import CudaMemory
from flambeau.runtime.forking import ForkSafeLock

__all__ = ["CopyingExecutable"]


class CopyingExecutable:
    def __init__(self, inner: CudaExecutable, states: Sequence[int] = ()):
        self.inner, self.program, self.states = inner, inner.program, tuple(states)
        self.memory = CudaMemory(inner.device)
        signature = self.program.signature
        self.nbytes = {"arg": [signature.nbytes(spec) for spec in signature.args],
                       "state": [signature.nbytes(spec) for spec in signature.states],
                       "out": list(self.program.out_bytes)}
        written = {(slot.kind, slot.index) for number, slot in enumerate(self.program.slots)
                   if number in inner.layout.written}
        self.results = sorted(place for place in written if place[0] in ("arg", "state", "out"))
        self._lock = ForkSafeLock()
        self._states: list[Buffer] = []         # there, from the first call on
        self._bound = inner

    def bind_states(self, pointers: Sequence[int]) -> CopyingExecutable:
        """The same program over these states, one pointer each; the caller keeps their memory alive."""
        if len(pointers) != self.program.n_states:
            raise VerificationError(f"the program has {self.program.n_states} states, not {len(pointers)}")
        return CopyingExecutable(self.inner, pointers)

    def call(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
             sizes: Sequence[int] = ()) -> None:
        """As `CudaExecutable.call`."""
        self.fast_call(*arg_ptrs, *scalars, *out_ptrs, *sizes)

    def fast_call(self, *values: float) -> None:
        """As `CudaExecutable.fast_call`. Raises KernelError where a kernel finds bad data."""
        with self._lock:
            self._on_copies(values, lambda bound, there: bound.fast_call(*there))

    def profile(self, arg_ptrs: Sequence[int], scalars: Sequence[float] = (), out_ptrs: Sequence[int] = (),
                sizes: Sequence[int] = (), *, repeats: int = 10) -> tuple[float, ...]:
        """As `CudaExecutable.profile`."""
        program, seconds = self.program, []

        def profile(bound: CudaExecutable, there: Sequence[float]) -> None:
            first_out = program.n_args + program.n_scalars
            outs = there[first_out:first_out + program.n_outs]
            seconds.append(bound.profile(there[:program.n_args], scalars, outs, sizes, repeats=repeats))  # type: ignore[arg-type]

        with self._lock:
            self._on_copies((*arg_ptrs, *scalars, *out_ptrs, *sizes), profile)
        return seconds[0]

    def _on_copies(self, values: Sequence[float], run: Callable[[CudaExecutable, Sequence[float]], None]) -> None:
        program, memory = self.program, self.memory
        if len(self.states) != program.n_states:
            raise VerificationError("the program has states: call what bind_states(pointers) returns")
        first_out = program.n_args + program.n_scalars
        first_size = first_out + program.n_outs
        if len(values) != first_size + program.n_sizes:
            raise TypeError(f"the program takes {first_size + program.n_sizes} values, not {len(values)}")
        hosts = {"arg": values[:program.n_args], "state": self.states, "out": values[first_out:first_size]}
        arrays = {kind: [as_ndarray(Buffer(int(pointer), nbytes, "cpu", None), np.uint8, (nbytes,))
                         for pointer, nbytes in zip(pointers, self.nbytes[kind], strict=True)]
                  for kind, pointers in hosts.items()}
        if self.states and not self._states:
            self._states = [memory.allocate(array.nbytes) for array in arrays["state"]]
            self._bound = self.inner.bind_states([buffer.ptr for buffer in self._states])
        there = {"arg": [memory.from_host(array) for array in arrays["arg"]], "state": self._states,
                 "out": [memory.allocate(array.nbytes) for array in arrays["out"]]}
        for buffer, array in zip(self._states, arrays["state"], strict=True):
            memory.write(buffer, 0, array)
        run(self._bound, (*[buffer.ptr for buffer in there["arg"]], *values[program.n_args:first_out],
                          *[buffer.ptr for buffer in there["out"]], *values[first_size:]))
        memory.gpu.current_stream().synchronize()
        for kind, index in self.results:
            memory.read(arrays[kind][index], there[kind][index])
