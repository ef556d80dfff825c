"""Convolution, by a view: all windows of an image are one tensor with two more dims, over the same numbers."""
import numpy as np
from ember.broadcast import ShapeError
from ember.storage import View
from ember.tensor import Function, Machine, constant


def window_view(x, height, width):
    """x: a contiguous View (n, c, h, w). A view (n, c, h - height + 1, w - width + 1, height, width) over the same numbers:
    element [..., i, j, a, b] is x[..., i + a, j + b]. Raises ShapeError if the window is larger than the image."""
    # <solution>
    n, c, h, w = x.shape
    if height > h or width > w:
        raise ShapeError(f"a window of {height} x {width} in images of {h} x {w}")
    shape = (n, c, h - height + 1, w - width + 1, height, width)
    return View(x.numbers, shape, (*x.strides, *x.strides[2:]))
    # </solution>


def add_back(d, shape):
    """The derivative by an image of `shape`, given that by all of its windows, an array. A number that lies in nine windows
    gets the sum of nine. Few steps of NumPy: one for each place in the window, for all windows at once."""
    # <solution>
    out = np.zeros(shape)
    rows, columns, height, width = d.shape[2:]
    for a in range(height):
        for b in range(width):
            out[:, :, a:a + rows, b:b + columns] += d[..., a, b]
    return out
    # </solution>


class Windows(Function):
    @staticmethod
    def forward(context, x, height, width):
        context.save(x.shape)
        return window_view(Machine.kernels.contiguous(x), height, width)

    @staticmethod
    def backward(context, d):
        return (constant(add_back(d.to_numpy(), context.saved[0])),)


def conv2d(x, weight):
    """x: (n, c, h, w), weight: (out, c, height, width); gives (n, out, h - height + 1, w - width + 1). Each element is the sum
    of the products of a window, in all channels, with one kernel: so the whole is one product of matrices, a row for each
    window and a column for each kernel."""
    # <solution>
    n, c, h, w = x.shape
    out, _, height, width = weight.shape
    rows, columns = h - height + 1, w - width + 1
    windows = Windows.apply(x, height=height, width=width)
    matrix = windows.permute(0, 2, 3, 1, 4, 5).reshape(n * rows * columns, c * height * width)
    product = matrix @ weight.reshape(out, c * height * width).permute(1, 0)
    return product.reshape(n, rows, columns, out).permute(0, 3, 1, 2)
    # </solution>
