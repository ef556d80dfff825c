"""Functions that make functions of lists out of functions of numbers. Tensors are computed with these three, whatever
machine they lie on."""
from ember.operators import add, mul, neg


def map_list(f):
    """A function of a list: f of each element."""
    # <solution>
    return lambda xs: [f(x) for x in xs]
    # </solution>


def zip_lists(f):
    """A function of two lists: f of each pair. Raises ValueError if one list is longer."""
    # <solution>
    return lambda xs, ys: [f(x, y) for x, y in zip(xs, ys, strict=True)]
    # </solution>


def reduce_list(f, start):
    """A function of a list: f(... f(f(start, xs[0]), xs[1]) ..., xs[-1]), which is `start` for an empty one."""
    # <solution>
    def reduced(xs):
        result = start
        for x in xs:
            result = f(result, x)
        return result

    return reduced
    # </solution>


# What follows needs no loop.

def neg_list(xs):
    # <solution>
    return map_list(neg)(xs)
    # </solution>


def add_lists(xs, ys):
    # <solution>
    return zip_lists(add)(xs, ys)
    # </solution>


def sum_list(xs):
    # <solution>
    return reduce_list(add, 0.0)(xs)
    # </solution>


def prod_list(xs):
    # <solution>
    return reduce_list(mul, 1.0)(xs)
    # </solution>


def dot(xs, ys):
    """The sum of the products of pairs."""
    # <solution>
    return sum_list(zip_lists(mul)(xs, ys))
    # </solution>
