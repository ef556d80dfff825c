"""The geometry of convolution and pooling: which positions of a spatial dim each window covers."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flambeau.ir.op import Op
from flambeau.ir.types import TensorType

Pair = tuple[int, int]
Padding = tuple[Pair, Pair]                 # ((top, bottom), (left, right))

_SPATIAL: Final = {"NCHW": (2, 3), "NHWC": (1, 2)}


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one dim of `size`: tap t of window o stands at o*stride - low + t*dilation. Positions outside
    [0, size) are padding. With `ceil`, a last window that overhangs counts if it starts before the end padding."""

    size: int
    kernel: int
    stride: int = 1
    low: int = 0
    high: int = 0
    dilation: int = 1
    ceil: bool = False

    @property
    def span(self) -> int:
        """Positions from the first tap to the last."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def count(self) -> int:
        """How many windows there are (not positive if none fits)."""
        room = self.size + self.low + self.high - self.span
        count = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        return count - (self.ceil and (count - 1) * self.stride >= self.size + self.low)

    @property
    def overhang(self) -> int:
        """Zeros needed after the end so that every tap of every window exists."""
        return max(0, (self.count - 1) * self.stride + self.span - self.low - self.size)

    def first(self, tap: int) -> int:
        """Where the tap of window 0 stands."""
        return tap * self.dilation - self.low

    def places(self, tap: int) -> slice:
        """The tap's positions, over all windows, in an input padded by `low` and `overhang`."""
        start = tap * self.dilation
        return slice(start, start + (self.count - 1) * self.stride + 1, self.stride)

    def is_inside(self, tap: int) -> np.ndarray:
        """bool[count]: whether the tap of each window stands on a real element."""
        position = np.arange(self.count) * self.stride + self.first(tap)
        return (position >= 0) & (position < self.size)

    def covered(self, *, with_padding: bool) -> np.ndarray:
        """i64[count]: real elements (or, with padding, elements before the end of the padding) of each window."""
        start = np.arange(self.count) * self.stride - self.low
        stop = np.minimum(start + self.span, self.size + (self.high if with_padding else 0))
        return stop - (start if with_padding else np.maximum(start, 0))


def spatial_dims(op: Op, layout: str) -> Pair:
    """The dims of height and width. Raises TypeInferenceError for an unknown layout."""
    if layout not in _SPATIAL:
        raise op.fail(f"layout {layout!r} is neither 'NCHW' nor 'NHWC'")
    return _SPATIAL[layout]


def spatial(op: Op, x: TensorType, layout: str) -> Pair:
    """(height, width) of an image batch; the batch size may be symbolic."""
    h, w = spatial_dims(op, layout)
    if x.rank != 4:
        raise op.fail(f"takes a batch of images of rank 4 ({layout}), found {x}")
    if not all(isinstance(size, int) for size in x.shape[1:]):
        raise op.fail(f"needs sizes that are numbers beside the batch size, found {x}", "mark these dims as static")
    return x.shape[h], x.shape[w]  # type: ignore[return-value]


def check_geometry(op: Op, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[Sequence[int]],
                   dilation: Sequence[int] = (1, 1)) -> None:
    """Raise TypeInferenceError unless these are pairs of positive ints, and padding two pairs that aren't negative."""
    for name, pair in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if len(pair) != 2 or min(pair) < 1:
            raise op.fail(f"{name} {pair} is not a pair of positive sizes")
    if len(padding) != 2 or any(not isinstance(p, tuple) or len(p) != 2 or min(p) < 0 for p in padding):
        raise op.fail(f"padding {padding} is not ((top, bottom), (left, right))")


def with_spatial(x: TensorType, layout: str, size: Pair) -> TensorType:
    """x with another height and width."""
    h, w = _SPATIAL[layout]
    shape = list(x.shape)
    shape[h], shape[w] = size
    return x.with_shape(tuple(shape))


def to_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if layout == "NCHW" else x


def from_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if layout == "NCHW" else x


def padded(x: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """NHWC images with zeros (False) around, so that every tap has its element."""
    return np.pad(x, ((0, 0), (rows.low, rows.overhang), (columns.low, columns.overhang), (0, 0)))


def cropped(x: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Inverse of `padded`."""
    return x[:, rows.low:rows.low + rows.size, columns.low:columns.low + columns.size]
