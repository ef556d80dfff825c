"""Numbers left out by chance, so that a network does not lean on any one of them."""
from ember.module import Module
from ember.tensor import constant


def dropout(x, rate, rng):
    """Each element is 0 with probability `rate`; the others are divided by 1 - rate, so that the mean stays. rng: a NumPy
    Generator, rng.random(shape) gives numbers from 0 to 1. With rate 1 all is 0."""
    # <solution>
    if rate >= 1.0:
        return x * 0.0
    kept = rng.random(x.shape) >= rate
    return x * constant(kept / (1.0 - rate))
    # </solution>


class Dropout(Module):
    """Does that while training, and nothing in eval mode."""

    def __init__(self, rate, rng):
        super().__init__()
        self.rate, self.rng = rate, rng

    def forward(self, x):
        # <solution>
        return dropout(x, self.rate, self.rng) if self.training else x
        # </solution>
