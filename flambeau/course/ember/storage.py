"""A view: a row of numbers, a shape, and strides. Most ways to rearrange a tensor leave the numbers where they are."""
import numpy as np
from ember.broadcast import ShapeError, broadcast_strides
from ember.layout import index_of, indices, position, size_of, strides_of


class View:
    """numbers: f64[n], one row; element `index` is numbers[position(index, strides)]."""

    def __init__(self, numbers, shape, strides=None):
        self.numbers, self.shape = numbers, tuple(shape)
        self.strides = strides_of(self.shape) if strides is None else tuple(strides)

    @staticmethod
    def of(array):
        """From lists or an array."""
        array = np.array(array, np.float64)
        return View(array.reshape(-1), array.shape)

    @staticmethod
    def empty(shape):
        return View(np.zeros(size_of(shape)), shape)

    def __getitem__(self, index):
        return self.numbers[position(index, self.strides)]

    def __setitem__(self, index, value):
        self.numbers[position(index, self.strides)] = value

    def is_contiguous(self):
        """Whether the elements lie in the row in the order of their indices, without gaps. The stride of a dim of 1 is never
        used, so it does not matter."""
        # <solution>
        packed = strides_of(self.shape)
        return all(n == 1 or a == b for n, a, b in zip(self.shape, self.strides, packed, strict=True))
        # </solution>

    def permute(self, *order):
        """Dim d of the result is dim order[d] of this one, over the same numbers. Raises ShapeError if `order` is not each
        dim once."""
        # <solution>
        if sorted(order) != list(range(len(self.shape))):
            raise ShapeError(f"{order} is not an order of the dims of {self.shape}")
        return View(self.numbers, [self.shape[d] for d in order], [self.strides[d] for d in order])
        # </solution>

    def broadcast_to(self, shape):
        """Read as if it had that shape, over the same numbers."""
        # <solution>
        return View(self.numbers, shape, broadcast_strides(self.shape, self.strides, shape))
        # </solution>

    def contiguous(self):
        """This view if it is contiguous, else one of a row of its own in which it is."""
        # <solution>
        if self.is_contiguous():
            return self
        return View(np.array([self[index] for index in indices(self.shape)], np.float64), self.shape)
        # </solution>

    def reshape(self, shape):
        """The elements in the same order, under another shape of the same size: over the same numbers if this is
        contiguous, else over a copy. Raises ShapeError, which names both shapes, if the sizes differ."""
        # <solution>
        if size_of(shape) != size_of(self.shape):
            raise ShapeError(f"{self.shape} has {size_of(self.shape)} elements, {tuple(shape)} has {size_of(shape)}")
        return View(self.contiguous().numbers, shape)
        # </solution>

    def element(self, number):
        """The number-th, in the order of indices."""
        return self[index_of(number, self.shape)]

    def to_numpy(self):
        itemsize = self.numbers.itemsize
        return np.lib.stride_tricks.as_strided(self.numbers, self.shape, [s * itemsize for s in self.strides]).copy()

    def __repr__(self):
        return f"View({self.to_numpy().tolist()}, shape={self.shape}, strides={self.strides})"
