"""Loops that Numba compiles. A kernel gets flat rows of numbers and the share that is its to do: places begin to end of the
result. So it can be cut in as many shares as there are threads, and none knows of another."""
import dis
import types

from numba import njit


def compiled(f):
    """f as machine code, together with the functions that it calls."""
    names = {step.argval for step in dis.get_instructions(f) if step.opname == "LOAD_GLOBAL"}
    called = {name: compiled(value) for name, value in f.__globals__.items()
              if name in names and isinstance(value, types.FunctionType)}
    return njit(types.FunctionType(f.__code__, f.__globals__ | called, f.__name__, f.__defaults__, f.__closure__))


def map_kernel(f):
    """kernel(out, x, begin, end): out[i] = f(x[i]) for the places of the share."""
    f = compiled(f)

    @njit(nogil=True)       # other threads may run Python or this meanwhile
    def kernel(out, x, begin, end):
        # <solution: pass  # your code>
        for i in range(begin, end):
            out[i] = f(x[i])
        # </solution>

    return kernel


def zip_kernel(f):
    """kernel(out, x, y, begin, end): out[i] = f(x[i], y[i])."""
    f = compiled(f)

    @njit(nogil=True)
    def kernel(out, x, y, begin, end):
        # <solution: pass  # your code>
        for i in range(begin, end):
            out[i] = f(x[i], y[i])
        # </solution>

    return kernel


def reduce_kernel(f):
    """kernel(out, x, n, inner, start, begin, end): x is a row of (outer, n, inner) elements, out one of (outer, inner).
    Element i of out reduces the n elements of x that lie `inner` apart, beginning with `start`."""
    f = compiled(f)

    @njit(nogil=True)
    def kernel(out, x, n, inner, start, begin, end):
        # <solution: pass  # your code>
        for i in range(begin, end):
            first = i // inner * n * inner + i % inner
            result = start
            for k in range(n):
                result = f(result, x[first + k * inner])
            out[i] = result
        # </solution>

    return kernel


@njit(nogil=True)
def gather_kernel(out, x, shape, strides, begin, end):
    """out[i] = the element of the view of x with that shape and those strides whose number is i. shape and strides are
    arrays; `index_of` and `position` of chapter 2 in one loop, without making the index."""
    # <solution: pass  # your code>
    for i in range(begin, end):
        rest, place = i, 0
        for d in range(len(shape) - 1, -1, -1):
            place += rest % shape[d] * strides[d]
            rest //= shape[d]
        out[i] = x[place]
    # </solution>
