"""map, zip, reduce and matmul over views: what every tensor op is made of. The operands may have any strides."""
from ember.broadcast import ShapeError
from ember.layout import indices
from ember.storage import View


def map_view(f, x):
    """A new view: f of each element."""
    out = View.empty(x.shape)
    # <solution>
    for index in indices(out.shape):
        out[index] = f(x[index])
    # </solution>
    return out


def zip_views(f, x, y):
    """A new view: f of each pair. Both have one shape already."""
    out = View.empty(x.shape)
    # <solution>
    for index in indices(out.shape):
        out[index] = f(x[index], y[index])
    # </solution>
    return out


def reduce_view(f, start, x, dim):
    """A new view, in which `dim` has extent 1: f over the elements along it, in order, beginning with `start`."""
    # <solution>
    out = View.empty(x.shape[:dim] + (1,) + x.shape[dim + 1:])
    for index in indices(out.shape):
        result = start
        for i in range(x.shape[dim]):
            result = f(result, x[index[:dim] + (i,) + index[dim + 1:]])
        out[index] = result
    return out
    # </solution>


def contiguous(x):
    return x.contiguous()


def matmul_views(x, y):
    """(m, k) times (k, n): (m, n). Raises ShapeError, which names both shapes, if there are two k."""
    # <solution>
    if len(x.shape) != 2 or len(y.shape) != 2 or x.shape[1] != y.shape[0]:
        raise ShapeError(f"matmul of {x.shape} and {y.shape}: the columns of one are not the rows of the other")
    out = View.empty((x.shape[0], y.shape[1]))
    for i, j in indices(out.shape):
        out[i, j] = sum(x[i, k] * y[k, j] for k in range(x.shape[1]))
    return out
    # </solution>
