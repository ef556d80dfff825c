"""Scores become probabilities. e**1000 is no float, and e**-1000 is 0, whose logarithm is none: so nothing here takes the
exponential of a score, but of its distance from the largest one, which is 0 at most."""
import numpy as np
from ember.tensor import constant


def largest(x, dim):
    """The maxima along dim, as a constant. What is subtracted above and below cancels, so no derivative goes through it."""
    return constant(x.to_numpy().max(dim, keepdims=True))


def softmax(x, dim):
    """e**x by the sum of e**x along dim."""
    # <solution>
    powers = (x - largest(x, dim)).exp()
    return powers / powers.sum(dim)
    # </solution>


def log_softmax(x, dim):
    """Its logarithm, x - log(sum(e**x)), without ever taking the logarithm of a probability, which may be 0."""
    # <solution>
    moved = x - largest(x, dim)
    return moved - moved.exp().sum(dim).log()
    # </solution>


def cross_entropy(scores, classes):
    """scores: a Tensor (n, k), classes: n ints. The mean of minus the logarithm of the probability of the right class."""
    # <solution>
    chosen = np.zeros(scores.shape)
    chosen[np.arange(len(classes)), classes] = 1.0
    return (log_softmax(scores, 1) * constant(chosen)).sum() * (-1.0 / len(classes))
    # </solution>
