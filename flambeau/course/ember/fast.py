"""What loops.py does, by compiled kernels and all threads. tensor.Machine.kernels = fast makes every Tensor use it."""
import functools

import numpy as np
from ember.broadcast import ShapeError
from ember.kernels import gather_kernel, map_kernel, reduce_kernel, zip_kernel
from ember.layout import size_of
from ember.products import rows_kernel
from ember.storage import View
from ember.threads import parallel

# One kernel for each function, however often it is asked for: compiling takes longer than most runs.
MAPS, ZIPS, REDUCES = (functools.lru_cache(None)(make) for make in (map_kernel, zip_kernel, reduce_kernel))


def row_of(x):
    """The elements of a view as a row, in the order of their indices: its own numbers if it is contiguous, else gathered."""
    # <solution>
    if x.is_contiguous():
        return x.numbers
    out = np.empty(size_of(x.shape))
    parallel(gather_kernel, len(out), out, x.numbers, np.array(x.shape, np.int64), np.array(x.strides, np.int64))
    return out
    # </solution>


def contiguous(x):
    return x if x.is_contiguous() else View(row_of(x), x.shape)


def map_view(f, x):
    out = View.empty(x.shape)
    # <solution>
    parallel(MAPS(f), len(out.numbers), out.numbers, row_of(x))
    # </solution>
    return out


def zip_views(f, x, y):
    out = View.empty(x.shape)
    # <solution>
    parallel(ZIPS(f), len(out.numbers), out.numbers, row_of(x), row_of(y))
    # </solution>
    return out


def reduce_view(f, start, x, dim):
    out = View.empty((*x.shape[:dim], 1, *x.shape[dim + 1:]))
    # <solution>
    inner = size_of(x.shape[dim + 1:])
    parallel(REDUCES(f), len(out.numbers), out.numbers, row_of(x), x.shape[dim], inner, float(start))
    # </solution>
    return out


def matmul_views(x, y):
    """Raises ShapeError as the one of loops does. Its shares are rows of the result."""
    # <solution>
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[0]:
        raise ShapeError(f"matmul of {x.shape} and {y.shape}: the columns of one are not the rows of the other")
    (m, k), n = x.shape, y.shape[1]
    out = View.empty((m, n))
    parallel(rows_kernel, m, out.numbers, row_of(x), row_of(y), k, n, least=20_000 // max(1, k * n) + 2)
    return out
    # </solution>
