"""Functions of numbers. The second half is what each does to a derivative on its way back: f_back(x, d) is d * f'(x)."""
import math

EPS = 1e-6      # added before a logarithm, so that log(0) is a number


def mul(x, y):
    # <solution>
    return x * y
    # </solution>


def add(x, y):
    # <solution>
    return x + y
    # </solution>


def neg(x):
    # <solution>
    return -x
    # </solution>


def lt(x, y):
    """1.0 if x is less than y, else 0.0."""
    # <solution>
    return 1.0 if x < y else 0.0
    # </solution>


def eq(x, y):
    """1.0 if they are equal, else 0.0."""
    # <solution>
    return 1.0 if x == y else 0.0
    # </solution>


def maximum(x, y):
    """The larger of the two; NaN if either is."""
    # <solution>
    if x != x or y != y:
        return math.nan
    return x if x > y else y
    # </solution>


def is_close(x, y):
    """Whether they differ by less than 0.01."""
    # <solution>
    return abs(x - y) < 1e-2
    # </solution>


def sigmoid(x):
    """1 / (1 + e**-x). e**-x overflows where x is far below 0; there the same number is e**x / (1 + e**x)."""
    # <solution>
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    power = math.exp(x)
    return power / (1.0 + power)
    # </solution>


def relu(x):
    """x where it is positive, else 0.0."""
    # <solution>
    return x if x > 0 else 0.0
    # </solution>


def log(x):
    """The logarithm of x + EPS."""
    # <solution>
    return math.log(x + EPS)
    # </solution>


def exp(x):
    # <solution>
    return math.exp(x)
    # </solution>


def inv(x):
    # <solution>
    return 1.0 / x
    # </solution>


def log_back(x, d):
    # <solution>
    return d / (x + EPS)
    # </solution>


def exp_back(x, d):
    # <solution>
    return d * math.exp(x)
    # </solution>


def inv_back(x, d):
    # <solution>
    return -d / (x * x)
    # </solution>


def relu_back(x, d):
    """At 0 itself the derivative is taken as 0."""
    # <solution>
    return d if x > 0 else 0.0
    # </solution>


def sigmoid_back(x, d):
    # <solution>
    s = sigmoid(x)
    return d * s * (1.0 - s)
    # </solution>
