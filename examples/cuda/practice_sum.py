"""Practice: sums of 32 numbers each, by one block each. The smallest kernel whose threads need each other.

    python examples/cuda/practice_sum.py                          on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/practice_sum.py   in numba's simulator, without one
"""
import numpy as np
from numba import cuda, float32

BLOCK = 32


@cuda.jit
def kernel(out, x, count):
    part = cuda.shared.array(BLOCK, float32)
    thread = cuda.threadIdx.x
    i = cuda.grid(1)
    part[thread] = x[i] if i < count else 0.0   # beyond the end: what a sum does not see
    cuda.syncthreads()
    step = 1
    while step < BLOCK:                         # 0+1, 2+3, ...; then 0+2, 4+6, ...
        if thread % (2 * step) == 0:
            part[thread] += part[thread + step]
        cuda.syncthreads()
        step *= 2
    if thread == 0:
        out[cuda.blockIdx.x] = part[0]


def sums(x):
    """x: f32[n] -> f32[ceil(n / 32)]."""
    out = np.empty(-(-len(x) // BLOCK), np.float32)
    kernel[len(out), BLOCK](out, x, len(x))
    return out


def main():
    x = np.random.default_rng(0).normal(size=75).astype(np.float32)
    wanted = [x[first:first + BLOCK].sum() for first in range(0, len(x), BLOCK)]
    np.testing.assert_allclose(sums(x), wanted, rtol=1e-5, atol=1e-6)
    print("practice sum agrees with NumPy")


if __name__ == "__main__":
    main()
