"""Random nets of convolutions, compiled for inference and not, against eager calls."""

from __future__ import annotations

import pytest
from random_convolutions import check


@pytest.mark.parametrize("seed", range(4))
def test_compiled_nets_of_convolutions_give_what_eager_ones_do(seed: int) -> None:
    check(seed, threads=1 + seed % 3)
