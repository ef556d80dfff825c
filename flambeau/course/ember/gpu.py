"""Kernels for a GPU, in the words of numba.cuda. A block of threads runs each, all of them the same lines; they meet at
cuda.syncthreads(), and share small arrays that lie near. Without a GPU flambeau.course.emulator runs them, and finds races.

On a GPU: cuda.jit(map_threads)[blocks, THREADS](out, x)."""
from math import exp

from numba import cuda, float64

THREADS = 8         # in a block, along each of its dims
TILE = THREADS


def sigmoid_threads(out, x):
    """out[i] = sigmoid(x[i]): each thread does one place. There may be more threads than places."""
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    # <solution: pass  # your code>
    if i < len(out):
        out[i] = 1.0 / (1.0 + exp(-x[i]))
    # </solution>


def sum_block(out, x):
    """out[b] = the sum of the THREADS elements of x from b * THREADS on (those that are there).

    All threads put one element each into the shared array; then half of them add the other half's to theirs, then a quarter,
    until thread 0 has the sum. Between two rounds all must meet."""
    shared = cuda.shared.array(THREADS, float64)
    t = cuda.threadIdx.x
    i = cuda.blockIdx.x * THREADS + t
    # <solution: pass  # your code>
    shared[t] = x[i] if i < len(x) else 0.0
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if t < half:
            shared[t] += shared[t + half]
        cuda.syncthreads()
        half //= 2
    if t == 0:
        out[cuda.blockIdx.x] = shared[0]
    # </solution>


def matmul_tiles(out, x, y):
    """out = x @ y, a block for each TILE x TILE tile of it, a thread for each element.

    The block walks along k. For each tile of x and of y all threads bring one element of both into shared arrays (0 beyond the
    edges), meet, add TILE products each, and meet again before the next tiles take the place of these."""
    lhs = cuda.shared.array((TILE, TILE), float64)
    rhs = cuda.shared.array((TILE, TILE), float64)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    i, j = cuda.blockIdx.y * TILE + row, cuda.blockIdx.x * TILE + column
    m, k, n = x.shape[0], x.shape[1], y.shape[1]
    total = 0.0
    # <solution: pass  # your code>
    for first in range(0, k, TILE):
        lhs[row, column] = x[i, first + column] if i < m and first + column < k else 0.0
        rhs[row, column] = y[first + row, j] if first + row < k and j < n else 0.0
        cuda.syncthreads()
        for p in range(TILE):
            total += lhs[row, p] * rhs[p, column]
        cuda.syncthreads()
    if i < m and j < n:
        out[i, j] = total
    # </solution>
