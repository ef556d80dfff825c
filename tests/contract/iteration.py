"""Iterators, generators, clocks and other sources that give something else each time."""
from __future__ import annotations

import itertools
import os

import flambeau as fb
from tests.contract.harness import same


def ones():
    return fb.ones(2)


@same
def iterator_as_argument(compiled):
    f = compiled(lambda x, values: x * next(values))
    yield f(ones(), iter([2.0, 3.0]))


@same
def generator_as_argument(compiled):
    f = compiled(lambda x, values: x * sum(values))
    yield f(ones(), (v for v in (2.0, 3.0)))


@same
def generator_as_result(compiled):
    f = compiled(lambda x: (x * n for n in range(3)))
    yield list(f(ones()))
    yield list(f(ones() * 2))


@same
def map_as_result(compiled):
    f = compiled(lambda x: map(lambda n: x * n, range(3)))
    yield list(f(ones()))


@same
def zip_and_enumerate_inside(compiled):
    scales = [1.0, 2.0]
    names = ["a", "b"]
    f = compiled(lambda x: {name: x * s * n for n, (name, s) in enumerate(zip(names, scales))})
    yield f(ones())
    names[1] = "c"
    yield f(ones())
    scales[1] = 7.0
    yield f(ones())


@same
def list_iterated_while_it_is_changed_outside(compiled):
    layers = [lambda x: x * 2]
    f = compiled(lambda x: [layer(x) for layer in layers])
    yield f(ones())
    layers.append(lambda x: x * 3)
    yield f(ones())
    layers.clear()
    yield f(ones())


@same
def range_object_in_a_cell(compiled):
    steps = range(2)

    def g(x):
        for n in steps:
            x = x + n
        return x

    f = compiled(g)
    yield f(ones())
    steps = range(4)
    yield f(ones())


@same
def product_and_accumulate(compiled):
    values = [1.0, 2.0]
    f = compiled(lambda x: x * sum(a * b for a, b in itertools.product(values, repeat=2))
                 + list(itertools.accumulate(values))[-1])
    yield f(ones())
    values.append(3.0)
    yield f(ones())


@same
def iterable_object_with_state(compiled):
    class Steps:
        def __init__(self):
            self.n = 2

        def __iter__(self):
            for i in range(self.n):
                yield i

    steps = Steps()
    f = compiled(lambda x: sum(x * s for s in steps))
    yield f(ones())
    steps.n = 4
    yield f(ones())


@same
def iterator_object_that_moves_on(compiled):
    class Steps:
        def __init__(self):
            self.n = 0

        def __iter__(self):
            return self

        def __next__(self):
            self.n += 1
            return self.n

    steps = Steps()
    f = compiled(lambda x: x * next(steps))
    yield f(ones())
    yield f(ones())
    yield steps.n


@same
def counter_object_called(compiled):
    class Ticket:
        def __init__(self):
            self.n = 0

        def __call__(self):
            self.n += 1
            return self.n

    ticket = Ticket()
    f = compiled(lambda x: x * ticket())
    yield f(ones())
    yield f(ones())


@same
def generator_of_the_users_inside(compiled):
    def batches(x, size):
        for start in range(0, x.shape[0], size):
            yield x[start:start + size]

    f = compiled(lambda x, size: [b.sum() for b in batches(x, size)])
    yield f(fb.arange(6.0), 2)
    yield f(fb.arange(6.0), 3)
    yield f(fb.arange(4.0), 2)


@same
def loop_over_a_tensor(compiled):
    f = compiled(lambda x: [row * n for n, row in enumerate(x)])
    yield f(fb.ones(2, 2))
    yield f(fb.ones(3, 2))


@same
def loop_until_a_number(compiled):
    limit = 3

    def g(x):
        n = 0
        while n < limit:
            x = x * 2
            n += 1
        else:
            x = x + 1
        return x

    f = compiled(g)
    yield f(ones())
    limit = 5
    yield f(ones())


@same
def any_and_all_over_settings(compiled):
    flags = {"a": False, "b": True}
    f = compiled(lambda x: x * 2 if all(flags.values()) else x * 3 if any(flags.values()) else x)
    yield f(ones())
    flags["a"] = True
    yield f(ones())
    flags.update(a=False, b=False)
    yield f(ones())


@same
def file_position_inside(compiled):
    """Reading on in an open file is an effect that no later call repeats: refused, or read at every call."""
    source, sink = os.pipe()
    os.write(sink, b"23")
    os.close(sink)
    with os.fdopen(source, "rb", buffering=0) as file:
        digits = [int(file.read(1)), int(file.read(1))]
    f = compiled(lambda x: x * digits[0])
    yield f(ones())
    digits.reverse()
    yield f(ones())


@same
def print_of_a_number_inside(compiled):
    said = []

    def g(x, n):
        said.append(f"step {n}")
        return x * n

    f = compiled(g)
    f(ones(), 1)
    f(ones(), 2)
    yield said


@same
def sentinel_iter(compiled):
    values = [3.0, 2.0, None]
    f = compiled(lambda x: x * sum(iter(list(values)[::-1].pop, None)))
    yield f(ones())
    values[0] = 5.0
    yield f(ones())
