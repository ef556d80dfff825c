"""Shapes that fit each other: aligned at the last dim, a dim of 1 is as long as it has to be."""


class ShapeError(ValueError):
    """Shapes that do not fit."""


def broadcast_shape(a, b):
    """The shape of a result of both: (3, 1) and (4,) give (3, 4). Raises ShapeError, which names both shapes."""
    # <solution>
    rank = max(len(a), len(b))
    result = []
    for m, n in zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True):
        if m != n and 1 not in (m, n):
            raise ShapeError(f"shapes {tuple(a)} and {tuple(b)} do not fit: {m} is not {n}")
        result.append(n if m == 1 else m)
    return tuple(result)
    # </solution>


def broadcast_strides(shape, strides, wanted):
    """The strides with which a tensor of `shape` is read as one of `wanted`: 0 along dims that repeat, so that the same
    numbers are read again. Nothing is copied. Raises ShapeError if it does not fit."""
    # <solution>
    new = len(wanted) - len(shape)
    if new < 0 or any(m not in (1, n) for m, n in zip(shape, wanted[new:], strict=True)):
        raise ShapeError(f"a tensor of shape {tuple(shape)} can't be read as {tuple(wanted)}")
    kept = tuple(0 if m != n else stride for m, n, stride in zip(shape, wanted[new:], strides, strict=True))
    return (0,) * new + kept
    # </solution>


def repeated_dims(shape, wanted):
    """The dims of `wanted` along which a tensor of `shape` is repeated: what a derivative is summed over on its way back."""
    # <solution>
    new = len(wanted) - len(shape)
    return tuple(dim for dim, n in enumerate(wanted) if dim < new or shape[dim - new] != n)
    # </solution>
