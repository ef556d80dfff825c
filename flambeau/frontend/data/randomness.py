"""Orders and seeds: drawn in NumPy, from whichever generator the user gave."""
from __future__ import annotations

import numpy as np

from flambeau.frontend import random
from flambeau.ir import dtypes as dt

Generator = random.Generator | np.random.Generator | int | None


def checked(generator: Generator) -> random.Generator | np.random.Generator | None:
    """A generator as it is; a seed as NumPy's generator of that seed. Raises TypeError for anything else."""
    if generator is None or isinstance(generator, (random.Generator, np.random.Generator)):
        return generator
    if not isinstance(generator, (int, np.integer)):
        raise TypeError(f"generator must be a Generator, a seed or None, got {type(generator).__name__}")
    return np.random.default_rng(generator)


def seed_from(generator: Generator) -> int:
    """A seed in [0, 2**63): a draw, which moves the generator on. None is the default generator."""
    source = checked(generator)
    if isinstance(source, np.random.Generator):
        return int(source.integers(2**63))
    return int((source or random.default_generator).bits((1,), dt.u64)._data()[0]) >> 1


def numpy_generator(generator: Generator) -> np.random.Generator:
    """NumPy's generators as they are; ours moves on by a draw, which is the seed of one."""
    source = checked(generator)
    return source if isinstance(source, np.random.Generator) else np.random.default_rng(seed_from(source))
