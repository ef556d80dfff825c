"""Practice: the product of two small square matrices by one block, a thread for each element of the result. Each element of
the operands is read from memory once, and from shared memory as often as it is needed.

    python examples/cuda/practice_matmul.py                          on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/practice_matmul.py   in numba's simulator, without one
"""
import numpy as np
from numba import cuda, float32

MOST = 32                                       # rows: 32 * 32 threads are as many as a block may have


@cuda.jit
def kernel(out, a, b, size):
    lhs = cuda.shared.array((MOST, MOST), float32)
    rhs = cuda.shared.array((MOST, MOST), float32)
    row, column = cuda.threadIdx.y, cuda.threadIdx.x
    lhs[row, column] = a[row, column]
    rhs[row, column] = b[row, column]
    cuda.syncthreads()                          # all of both is there
    total = float32(0.0)
    for k in range(size):
        total += lhs[row, k] * rhs[k, column]
    out[row, column] = total


def product(a, b):
    """f32[n,n] times f32[n,n], n at most 32."""
    out = np.empty_like(a)
    kernel[1, a.shape](out, a, b, len(a))
    return out


def main():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(9, 9)).astype(np.float32) for _ in range(2))
    np.testing.assert_allclose(product(a, b), a @ b, rtol=1e-4, atol=1e-5)
    print("practice matmul agrees with NumPy")


if __name__ == "__main__":
    main()
