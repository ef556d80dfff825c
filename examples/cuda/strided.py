"""Where elements of strided arrays lie: what the kernels beside this file share.

An array is its storage, one long row of numbers, and strides: how far apart in it neighbours along each dim are. A dim of
size 1 that is broadcast has stride 0; so the same kernel reads plain, transposed and broadcast arrays.
"""
import numpy as np
from numba import cuda


@cuda.jit(device=True)
def place(number, shape, strides):
    """Where in the storage element `number` of an array lies, counted row by row."""
    at = 0
    for dim in range(len(shape) - 1, -1, -1):
        at += number % shape[dim] * strides[dim]
        number //= shape[dim]
    return at


def storage(array):
    """The row of numbers that an array is a view of."""
    return (array if array.base is None else array.base).reshape(-1)


def strides(array, shape):
    """In elements, of an array broadcast to `shape`."""
    return np.array([nbytes // array.itemsize for nbytes in np.broadcast_to(array, shape).strides], np.int64)


def blocks(count, threads):
    """Enough for a thread each."""
    return -(-count // threads)
