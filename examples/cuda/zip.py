"""zip: a function of two elements, a thread for each pair; operands broadcast.

    python examples/cuda/zip.py                             on a GPU
    NUMBA_ENABLE_CUDASIM=1 python examples/cuda/zip.py      in numba's simulator, without one
"""
import numpy as np
from numba import cuda
from strided import blocks, place, storage, strides

THREADS = 32


def zipped(function):
    """function: from two numbers to a number. -> a function of two arrays whose shapes broadcast."""
    function = cuda.jit(device=True)(function)

    @cuda.jit
    def kernel(out, a, a_strides, b, b_strides, shape, count):
        i = cuda.grid(1)
        if i < count:
            out[i] = function(a[place(i, shape, a_strides)], b[place(i, shape, b_strides)])

    def run(a, b):
        shape = np.broadcast_shapes(a.shape, b.shape)
        out = np.empty(shape, a.dtype)
        kernel[blocks(out.size, THREADS), THREADS](
            out.reshape(-1), storage(a), strides(a, shape), storage(b), strides(b, shape), np.array(shape, np.int64),
            out.size)
        return out

    return run


def main():
    add = zipped(lambda a, b: a + b)
    rng = np.random.default_rng(0)
    for a_shape, b_shape in (((4, 7), (4, 7)), ((4, 7), (7,)), ((4, 1), (1, 7))):
        a, b = rng.normal(size=a_shape).astype(np.float32), rng.normal(size=b_shape).astype(np.float32)
        np.testing.assert_array_equal(add(a, b), a + b)
    np.testing.assert_array_equal(add(a.T, b.T), a.T + b.T)
    print("zip agrees with NumPy")


if __name__ == "__main__":
    main()
