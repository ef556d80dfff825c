"""The geometry of convolution and pooling: which positions of a spatial dim each window covers."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from flambeau.ir.dims import Dim, Size
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

Pair = tuple[int, int]
Numbers = tuple[int, ...]                   # one for each spatial dim
Sizes = tuple[Size, ...]                    # likewise
Padding = tuple[Pair, ...]                  # ((top, bottom), (left, right)); of volumes ((front, back), ...) first

IMAGES: Final = ("NCHW", "NHWC")            # layouts: channels first, channels last
VOLUMES: Final = ("NCDHW", "NDHWC")
CHANNELS_LAST: Final = dict([IMAGES, VOLUMES])
_SPATIAL: Final = {"NCHW": (2, 3), "NHWC": (1, 2), "NCDHW": (2, 3, 4), "NDHWC": (1, 2, 3)}
_PLACES: Final = {4: "a batch of images", 5: "a batch of volumes"}


@dataclass(frozen=True, slots=True)
class Axis:
    """Windows along one dim of `size`: tap t of window o stands at o*stride - low + t*dilation. Positions outside
    [0, size) are padding. With `ceil`, a last window that overhangs counts if it starts before the end padding."""

    size: Any
    kernel: Any
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
    def count(self) -> Any:
        """How many windows there are (not positive if none fits)."""
        room = self.size + self.low + self.high - self.span
        count = (-(-room // self.stride) if self.ceil else room // self.stride) + 1
        return count - (self.ceil and (count - 1) * self.stride >= self.size + self.low)

    @property
    def overhang(self) -> Any:
        """Zeros needed after the end so that every tap of every window exists."""
        return max(0, (self.count - 1) * self.stride + self.span - self.low - self.size)

    def first(self, tap: int) -> int:
        """Where the tap of window 0 stands."""
        return tap * self.dilation - self.low

    def places(self, tap: int) -> slice:
        """The tap's positions, over all windows, in an input padded by `low` and `overhang`."""
        start = tap * self.dilation
        return slice(start, start + (self.count - 1) * self.stride + 1, self.stride)

    def is_always_inside(self, tap: int) -> bool:
        """Whether the tap of every window stands on a real element."""
        return self.first(tap) >= 0 and (self.count - 1) * self.stride + self.first(tap) < self.size

    @property
    def is_covering(self) -> bool:
        """Whether every window holds a real element."""
        if not self.low and not self.overhang:
            return True
        if self.dilation <= self.size:                  # taps step over no dim
            return self.low < self.span and (self.count - 1) * self.stride - self.low < self.size
        return bool(np.any([self.is_inside(tap) for tap in range(self.kernel)], axis=0).all())

    def is_inside(self, tap: int) -> np.ndarray:
        """bool[count]: whether the tap of each window stands on a real element."""
        position = np.arange(self.count) * self.stride + self.first(tap)
        return (position >= 0) & (position < self.size)

    def cover(self, *, with_padding: bool) -> int | None:
        """How many elements each window has, as `covered`; None where not all have as many."""
        if not self.low and not self.overhang:
            return self.span
        covered = np.zeros(0) if isinstance(self.size, Dim) else self.covered(with_padding=with_padding)
        return int(covered[0]) if len(covered) and (covered == covered[0]).all() else None

    def covered(self, *, with_padding: bool) -> np.ndarray:
        """i64[count]: real elements (or, with padding, elements before the end of the padding) of each window."""
        start = np.arange(self.count) * self.stride - self.low
        stop = np.minimum(start + self.span, self.size + (self.high if with_padding else 0))
        return stop - (start if with_padding else np.maximum(start, 0))


def spatial_dims(op: Op, layout: str, layouts: tuple[str, str] = IMAGES) -> Any:
    """The dims of height and width (of volumes: depth first). Raises TypeInferenceError for an unknown layout."""
    if layout not in layouts:
        raise op.fail(f"layout {layout!r} is neither {layouts[0]!r} nor {layouts[1]!r}")
    return _SPATIAL[layout]


def spatial(op: Op, x: TensorType, layout: str, layouts: tuple[str, str] = IMAGES) -> Any:
    """(height, width) of an image batch, (depth, height, width) of volumes."""
    dims = spatial_dims(op, layout, layouts)
    if x.rank != len(layout):
        raise op.fail(f"takes {_PLACES[len(layout)]} of rank {len(layout)} ({layout}), found {x}")
    return tuple([x.shape[dim] for dim in dims])


def check_geometry(op: Op, kernel: Sequence[Size], stride: Sequence[int], padding: Sequence[Sequence[int]],
                   dilation: Sequence[int] = (1, 1), rank: int = 2) -> None:
    """Raise TypeInferenceError unless these are a positive int for each of `rank` dims, and padding as many pairs that
    aren't negative."""
    for name, sizes in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if len(sizes) != rank or min(sizes) < 1:
            raise op.fail(f"{name} {sizes} is not {'a pair' if rank == 2 else 'a triple'} of positive sizes")
    if len(padding) != rank or any(not isinstance(p, tuple) or len(p) != 2 or min(p) < 0 for p in padding):
        wanted = "((front, back), (top, bottom), (left, right))" if rank == 3 else "((top, bottom), (left, right))"
        raise op.fail(f"padding {padding} is not {wanted}")


def with_spatial(x: TensorType, layout: str, size: Sizes) -> TensorType:
    """x with another height and width (of volumes: and depth)."""
    shape = list(x.shape)
    for dim, wanted in zip(_SPATIAL[layout], size, strict=True):
        shape[dim] = wanted
    return x.with_shape(tuple(shape))


def to_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout not in CHANNELS_LAST else np.ascontiguousarray(np.moveaxis(x, 1, -1))


def from_nhwc(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout not in CHANNELS_LAST else np.moveaxis(x, -1, 1)


def padded(x: np.ndarray, *axes: Axis) -> np.ndarray:
    """Channels-last images with zeros (False) around, so that every tap has its element."""
    return np.pad(x, ((0, 0), *[(axis.low, axis.overhang) for axis in axes], (0, 0)))


def cropped(x: np.ndarray, *axes: Axis) -> np.ndarray:
    """Inverse of `padded`."""
    return x[:, *[slice(axis.low, axis.low + axis.size) for axis in axes]]
