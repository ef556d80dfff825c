"""The random numbers of GPUs: the default generator of each, as `torch.cuda.random`. From the same seed they draw the bits
that the CPU's draws."""
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flambeau.cuda.devices import device_count, index_of, is_available
from flambeau.frontend import random
from flambeau.frontend.tensor.tensor import Tensor

__all__ = ["get_rng_state", "get_rng_state_all", "initial_seed", "manual_seed", "manual_seed_all", "seed", "seed_all",
           "set_rng_state", "set_rng_state_all"]


def _generator(device: Any) -> random.Generator:
    return random.generator_on(f"cuda:{index_of(device)}")


def manual_seed(seed: int) -> None:
    """Start the stream of `seed` from its beginning on the current GPU. Nothing where there is none."""
    if is_available():
        _generator(None).manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """On all GPUs."""
    for number in range(device_count()):
        _generator(number).manual_seed(int(seed))


def seed() -> None:
    """Start a stream that nobody can foresee on the current GPU."""
    if is_available():
        _generator(None).seed()


def seed_all() -> None:
    """One and the same on all GPUs."""
    if is_available():
        _generator(0).seed()
        manual_seed_all(_generator(0).initial_seed())


def initial_seed() -> int:
    """The seed of the current GPU's stream."""
    return _generator(None).initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """Where the stream of a GPU is."""
    return _generator(device).get_state()


def get_rng_state_all() -> list[Tensor]:
    """Of all GPUs."""
    return [get_rng_state(number) for number in range(device_count())]


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Go on from a state that `get_rng_state` gave."""
    _generator(device).set_state(new_state)


def set_rng_state_all(new_states: Iterable[Tensor]) -> None:
    """On all GPUs."""
    for number, state in enumerate(new_states):
        set_rng_state(state, number)
