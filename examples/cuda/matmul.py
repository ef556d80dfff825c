"""matmul: a block for each tile of the result, a thread for each element. The block walks along k: a tile of each operand
goes to shared memory, all threads use it, and the next one takes its place.

    python examples/cuda/matmul.py                          on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/matmul.py   in numba's simulator, without one
"""
import numpy as np
from numba import cuda, float32

TILE = 16


@cuda.jit
def kernel(out, a, b):
    lhs = cuda.shared.array((TILE, TILE), float32)
    rhs = cuda.shared.array((TILE, TILE), float32)
    y, x = cuda.threadIdx.y, cuda.threadIdx.x
    batch = cuda.blockIdx.z
    row, column = cuda.blockIdx.y * TILE + y, cuda.blockIdx.x * TILE + x
    m, k, n = a.shape[1], a.shape[2], b.shape[2]
    total = float32(0.0)
    for first in range(0, k, TILE):
        # Zeros beyond the edges: they add nothing, and all threads reach the barriers.
        lhs[y, x] = a[batch, row, first + x] if row < m and first + x < k else 0.0
        rhs[y, x] = b[batch, first + y, column] if first + y < k and column < n else 0.0
        cuda.syncthreads()                      # both tiles are there
        for i in range(TILE):
            total += lhs[y, i] * rhs[i, x]
        cuda.syncthreads()                      # nobody needs them any more
    if row < m and column < n:
        out[batch, row, column] = total


def product(a, b):
    """f32[batch,m,k] times f32[batch,k,n]."""
    out = np.empty((len(a), a.shape[1], b.shape[2]), np.float32)
    tiles = -(-out.shape[2] // TILE), -(-out.shape[1] // TILE), len(a)
    kernel[tiles, (TILE, TILE)](out, a, b)
    return out


def main():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(1, 18, 21)).astype(np.float32), rng.normal(size=(1, 21, 5)).astype(np.float32)
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-4, atol=1e-5)
    print("matmul agrees with NumPy")


if __name__ == "__main__":
    main()
