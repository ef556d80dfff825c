"""The product of matrices, (m, k) times (k, n), as flat rows. Share: the rows of the result from begin to end."""
from numba import njit


@njit(nogil=True)
def dot_kernel(out, x, y, k, n, begin, end):
    """Each element by itself: right, and slow, because it walks down the columns of y. Each step is n places further, and
    memory comes in lines of eight numbers, of which one is used."""
    for i in range(begin, end):
        for j in range(n):
            total = 0.0
            for p in range(k):
                total += x[i * k + p] * y[p * n + j]
            out[i * n + j] = total


@njit(nogil=True)
def rows_kernel(out, x, y, k, n, begin, end):
    """The same, with the two inner loops swapped: a row of out is the sum of the rows of y, each times a number of x. The
    innermost loop walks along rows; eight of its steps are one instruction of a processor."""
    # <solution: pass  # your code>
    for i in range(begin, end):
        for j in range(n):
            out[i * n + j] = 0.0
        for p in range(k):
            scale = x[i * k + p]
            for j in range(n):
                out[i * n + j] += scale * y[p * n + j]
    # </solution>


@njit(nogil=True)
def tiled_kernel(out, x, y, k, n, begin, end, tile=64):
    """The same in tiles: `tile` rows of y at a time are used for all rows of the share before the next ones come, so that
    they are still in the cache when the next row of out wants them."""
    # <solution: pass  # your code>
    for i in range(begin * n, end * n):
        out[i] = 0.0
    for first in range(0, k, tile):
        last = min(k, first + tile)
        for i in range(begin, end):
            for p in range(first, last):
                scale = x[i * k + p]
                for j in range(n):
                    out[i * n + j] += scale * y[p * n + j]
    # </solution>
