"""The state of random numbers: a tensor i64[2] = (seed, offset) like any other. Every draw reads its bits from a
counter (Philox-4x32-10, see `ops.RandomBits`) and moves the offset on by 1 in place, so a compiled function captures
the state and draws the same bits as eager code. What is made of the bits is in `functions/distributions.py`.
"""
from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from flambeau import config
from flambeau.errors import TraceError
from flambeau.frontend.active import active, traced_by
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.dispatch import constant, dispatch, write
from flambeau.frontend.tape.moves import moved, placed
from flambeau.frontend.tensor.device import Device, place_named
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.where import describe, user_location
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dtypes import DType
from flambeau.runtime.forking import after_fork_in_child

_DEFAULT_SEED = 67280421310721              # PyTorch's


class Generator:
    """A stream of random numbers. `state` is its tensor i64[2] = (seed, offset)."""

    __slots__ = ("__weakref__", "state")

    def __init__(self, device: Any = "cpu"):
        start = np.array([_DEFAULT_SEED, 0], np.int64)
        made = Tensor._from_array(start, dt.i64) if active.tracer is None else constant(start, dt.i64)
        self.state = placed(made, place_named(device))

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning. Returns the generator."""
        start = np.array([_as_i64(seed), 0], np.int64)
        write(self.state, constant(start, dt.i64))
        return self

    def seed(self) -> int:
        """Start a stream that nobody can foresee; its seed."""
        if active.tracer is not None:
            raise TraceError("seed() was called in a compiled function: its seed would be the same at every call",
                             where=describe(user_location()), hint="call it outside, or manual_seed(number) inside")
        fresh = int.from_bytes(os.urandom(8), "little") >> 1
        self.manual_seed(fresh)
        return fresh

    def initial_seed(self) -> int:
        """The seed of the stream, in [0, 2**64)."""
        return int(self.state._data()[0]) % 2**64

    def get_state(self) -> Tensor:
        """A copy of the state, on the CPU: i64[2]. (In a compiled function, where the generator draws.)"""
        state = self.state_now()
        return state if active.tracer is not None else moved(state, "cpu")

    def state_now(self) -> Tensor:
        """A copy of the state, where the generator draws."""
        found: Tensor = dispatch(ops.stop_gradient, self.state)
        return found

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from a state that get_state gave."""
        if new_state._type.on(self.state._type.device) != self.state._type:
            raise RuntimeError(f"set_state: expected a state i64[2] from get_state(), got {new_state._type}")
        write(self.state, new_state)
        return self

    def bits(self, shape: tuple[int, ...], dtype: DType) -> Tensor:
        """Uniform bits of `shape` (dtype u32 or u64); the stream moves on."""
        with set_grad_enabled(False):
            if active.tracer is not None:
                active.tracer.name_of.setdefault(id(self.state), "generator")
            drawn = dispatch(ops.RandomBits(shape, dtype), self.state)
            write(self.state, dispatch(ops.add, self.state, constant(_ONE_DRAW, dt.i64)))
        return drawn

    @property
    def device(self) -> Device:
        """Where it draws."""
        return self.state.device


_ONE_DRAW = np.array([0, 1], np.int64)
default_generator = Generator()
_of_devices: dict[str, Generator] = {}      # the default ones of other devices
config.watch("cuda", _of_devices.clear)
after_fork_in_child(_of_devices.clear)      # which has no device but the CPU


def generator_on(place: str) -> Generator:
    """The default generator of a device: it draws the bits that the CPU's draws from the same seed."""
    found = _of_devices.get(place)
    if found is None:
        with traced_by(None):
            found = _of_devices[place] = Generator(place).manual_seed(default_generator.initial_seed())
    return found


def default_generators() -> list[Generator]:
    """The CPU's, and those of the devices that were drawn on."""
    return [default_generator, *_of_devices.values()]


def stream_of(tensors: Iterable[Tensor]) -> Generator:
    """The default generator that functions of these tensors draw from: that of the device where some of them lie."""
    for t in tensors:
        if t._type.device.startswith("cuda:"):
            return generator_on(t._type.device)
    return default_generator


def _as_i64(seed: int) -> int:
    """A seed of any sign, as the signed number with the same 64 bits."""
    return (int(seed) + 2**63) % 2**64 - 2**63


def manual_seed(seed: int) -> Generator:
    """Seed the default generators of all devices; returns the CPU's."""
    for generator in _of_devices.values():
        generator.manual_seed(seed)
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator unforeseeably; the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The default generator's seed."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """A copy of the default generator's state, i64[2]."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Let the default generator go on from a state that get_rng_state gave."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices: Any = (), enabled: bool = True) -> Iterator[None]:
    """What is drawn inside does not move the default generators."""
    saved = [(generator, generator.get_state()) for generator in default_generators()] if enabled else []
    try:
        yield
    finally:
        for generator, state in saved:
            generator.set_state(state)


__all__ = ["Generator", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed",
           "set_rng_state"]
