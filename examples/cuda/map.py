"""map: a function of each element, a thread for each.

    python examples/cuda/map.py                             on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/map.py      in numba's simulator, without one
"""
import math

import numpy as np
from numba import cuda
from strided import blocks, place, storage, strides

THREADS = 32


def mapped(function):
    """function: from a number to a number. -> a function of arrays."""
    function = cuda.jit(device=True)(function)

    @cuda.jit
    def kernel(out, x, x_strides, shape, count):
        i = cuda.grid(1)                        # blockIdx.x * blockDim.x + threadIdx.x
        if i < count:                           # the last block may have threads to spare
            out[i] = function(x[place(i, shape, x_strides)])

    def run(x):
        out = np.empty(x.shape, x.dtype)
        kernel[blocks(out.size, THREADS), THREADS](
            out.reshape(-1), storage(x), strides(x, x.shape), np.array(x.shape, np.int64), out.size)
        return out

    return run


def main():
    gelu = mapped(lambda x: x * 0.5 * (1 + math.erf(x * 0.7071067811865476)))
    x = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    wanted = np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v * 0.7071067811865476)))
    np.testing.assert_allclose(gelu(x), wanted(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gelu(x.T), wanted(x.T), rtol=1e-5, atol=1e-6)
    print("map agrees with NumPy")


if __name__ == "__main__":
    main()
