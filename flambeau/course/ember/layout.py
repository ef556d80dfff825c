"""Where the element of a tensor lies in its row of numbers."""


def size_of(shape):
    """How many elements: 1 for (), the shape of a single number."""
    # <solution>
    size = 1
    for extent in shape:
        size *= extent
    return size
    # </solution>


def strides_of(shape):
    """How far apart in the row neighbours along each dim are, if the last dim is packed closest: (12, 4, 1) for (2, 3, 4)."""
    # <solution>
    strides, step = [], 1
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return tuple(reversed(strides))
    # </solution>


def position(index, strides):
    """The place in the row of the element at `index`."""
    # <solution>
    return sum(i * stride for i, stride in zip(index, strides, strict=True))
    # </solution>


def index_of(number, shape):
    """The index of the number-th element, counted from 0 in the order of the last dim first."""
    # <solution>
    index = []
    for extent in reversed(shape):
        index.append(number % extent)
        number //= extent
    return tuple(reversed(index))
    # </solution>


def indices(shape):
    """All indices, in that order."""
    return (index_of(number, shape) for number in range(size_of(shape)))
