"""Tests of a real GPU, skipped where there is none. `FLAMBEAU_CUDA=emulator pytest -m gpu` runs them on the emulated
device, with sizes that it can bear: that tells whether the tests are right, not whether a GPU is."""
from __future__ import annotations

import pytest

from flambeau import config


@pytest.fixture
def small() -> bool:
    """Whether the device is emulated."""
    return config.cuda == "emulator"
