"""reduce: a block for each row. Its threads take every 32nd element each, then merge what they have in shared memory: at
each step half of them, until one is left.

    python examples/cuda/reduce.py                          on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/reduce.py   in numba's simulator, without one
"""
import numpy as np
from numba import cuda, float32
from strided import place, storage, strides

THREADS = 32                                    # a power of two


def reduced(function, start):
    """function: of two numbers, in any order. start: what changes nothing. -> a function of (array, dim)."""
    function = cuda.jit(device=True)(function)

    @cuda.jit
    def kernel(out, x, x_strides, shape, dim_size, dim_stride):
        part = cuda.shared.array(THREADS, float32)
        thread = cuda.threadIdx.x
        first = place(cuda.blockIdx.x, shape, x_strides)
        total = float32(start)
        for i in range(thread, dim_size, THREADS):
            total = function(total, x[first + i * dim_stride])
        part[thread] = total
        cuda.syncthreads()                      # everyone has stored its part
        half = THREADS // 2
        while half > 0:
            if thread < half:
                part[thread] = function(part[thread], part[thread + half])
            cuda.syncthreads()                  # outside the `if`: a barrier is for all threads of the block
            half //= 2
        if thread == 0:
            out[cuda.blockIdx.x] = part[0]

    def run(x, dim):
        steps = strides(x, x.shape)
        shape, others = np.delete(np.array(x.shape, np.int64), dim), np.delete(steps, dim)
        out = np.empty(tuple(shape), np.float32)
        kernel[out.size, THREADS](out.reshape(-1), storage(x), others, shape, x.shape[dim], steps[dim])
        return out

    return run


def main():
    x = np.random.default_rng(0).normal(size=(3, 70)).astype(np.float32)
    total, most = reduced(lambda a, b: a + b, 0.0), reduced(lambda a, b: max(a, b), float("-inf"))
    np.testing.assert_allclose(total(x, 1), x.sum(1), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(most(x, 1), x.max(1))
    np.testing.assert_array_equal(most(x[:, :5], 0), x[:, :5].max(0))
    print("reduce agrees with NumPy")


if __name__ == "__main__":
    main()
