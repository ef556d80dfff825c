"""Images become smaller: each tile of height x width becomes one number."""
import numpy as np
from ember import operators
from ember.broadcast import ShapeError
from ember.tensor import Function, Machine, constant


def tiles(x, height, width):
    """(n, c, h, w) -> (n, c, h / height, w / width, height * width): each tile's elements side by side, row by row. Raises
    ShapeError if tiles do not cover the image."""
    # <solution>
    n, c, h, w = x.shape
    if h % height or w % width:
        raise ShapeError(f"tiles of {height} x {width} do not cover images of {h} x {w}")
    split = x.reshape(n, c, h // height, height, w // width, width).permute(0, 1, 2, 4, 3, 5)
    return split.reshape(n, c, h // height, w // width, height * width)
    # </solution>


class Max(Function):
    """The maximum along a dim, which becomes 1."""

    @staticmethod
    def forward(context, x, dim):
        y = Machine.kernels.reduce_view(operators.maximum, -np.inf, x, dim)
        context.save(x, y, dim)
        return y

    @staticmethod
    def backward(context, d):
        """All goes to the element that was the maximum; to each an equal part, if there are several."""
        x, y, dim = context.saved
        # <solution>
        chosen = x.to_numpy() == y.to_numpy()
        return (constant(chosen / chosen.sum(dim, keepdims=True) * d.to_numpy()),)
        # </solution>


def max_pool2d(x, height, width):
    # <solution>
    parts = tiles(x, height, width)
    return Max.apply(parts, dim=4).reshape(*parts.shape[:4])
    # </solution>


def avg_pool2d(x, height, width):
    # <solution>
    parts = tiles(x, height, width)
    return parts.mean(4).reshape(*parts.shape[:4])
    # </solution>
