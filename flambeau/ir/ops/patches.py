"""The NumPy meaning of convolution and its gradients: what the windows see laid out as a matrix, then one product.

Here images are [N, H, W, C] and weights [R, S, I, O] (I and O: input channels of a group, output channels); volumes
have a depth before the height. A row of the matrix is a window, a column one of its taps and channels:
[groups, N*OH*OW, R*S*I]. A few images, or some rows of one, are laid out at a time, since the matrix holds each element
R*S times.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Final

import numpy as np

from flambeau.ir.ops.windows import Axis, cropped, padded

_CHUNK_BYTES: Final = 1 << 22
_MOST_BYTES_OF_ONE: Final = 1 << 26         # what one image may take before it is cut up too

Chunk = tuple[slice, slice]                 # of the images, and of the windows along their first dim


def convolved(x: np.ndarray, w: np.ndarray, axes: Sequence[Axis], groups: int) -> np.ndarray:
    """-> [N, OH, OW, O]"""
    images, matrix, outputs = padded(x, *axes), _weight_matrix(w, groups), w.shape[-1]
    y = np.empty((x.shape[0], *_counts(axes), outputs), x.dtype)
    for chunk in _chunks(images, axes):
        product = _laid_out(images, chunk, axes, groups) @ matrix
        part = y[chunk]
        part[...] = product.transpose(1, 0, 2).reshape(part.shape)
    return y


def input_grad(ct: np.ndarray, w: np.ndarray, axes: Sequence[Axis], groups: int) -> np.ndarray:
    """ct: [N, OH, OW, O] -> [N, H, W, C]: every window's share added to the elements that it saw."""
    channels = w.shape[-2] * groups
    total = padded(np.zeros((ct.shape[0], *[axis.size for axis in axes], channels), ct.dtype), *axes)
    taps = {tap: _weight_matrix(w[tap], groups).transpose(0, 2, 1) for tap in np.ndindex(*w.shape[:-2])}
    for images, rows in _chunks(total, axes):
        flowing = _grouped(ct[images, rows], groups)
        for tap, matrix in taps.items():
            first, *rest = [axis.places(t) for axis, t in zip(axes, tap, strict=True)]
            seen = total[images, _part(first, rows), *rest]
            seen += (flowing @ matrix).transpose(1, 0, 2).reshape(seen.shape)
    return cropped(total, *axes)


def weight_grad(x: np.ndarray, ct: np.ndarray, axes: Sequence[Axis], groups: int) -> np.ndarray:
    """x: [N, H, W, C], ct: [N, OH, OW, O] -> [R, S, I, O]"""
    images, per_group, outputs = padded(x, *axes), x.shape[-1] // groups, ct.shape[-1]
    taps = _taps(axes)
    total = np.zeros((groups, prod(taps) * per_group, outputs // groups), x.dtype)
    for chunk in _chunks(images, axes):
        total += _laid_out(images, chunk, axes, groups).transpose(0, 2, 1) @ _grouped(ct[chunk], groups)
    return total.transpose(1, 0, 2).reshape(*taps, per_group, outputs)


def _counts(axes: Sequence[Axis]) -> tuple[int, ...]:
    return tuple([axis.count for axis in axes])


def _taps(axes: Sequence[Axis]) -> tuple[int, ...]:
    return tuple([axis.kernel for axis in axes])


def _part(places: slice, rows: slice) -> slice:
    """The places of some of the windows."""
    return slice(places.start + rows.start * places.step, places.start + (rows.stop - 1) * places.step + 1, places.step)


def _chunks(images: np.ndarray, axes: Sequence[Axis]) -> Iterator[Chunk]:
    """What to lay out together: images, and windows along their first dim."""
    rows = axes[0].count
    bytes_of_one = prod(_counts(axes)) * prod(_taps(axes)) * images.shape[-1] * images.itemsize
    count = max(1, _CHUNK_BYTES // max(1, bytes_of_one))
    step = rows if bytes_of_one <= _MOST_BYTES_OF_ONE else max(1, rows * _CHUNK_BYTES // bytes_of_one)
    for start in range(0, len(images), count):
        for row in range(0, rows, step):
            yield slice(start, start + count), slice(row, min(row + step, rows))


def _laid_out(images: np.ndarray, chunk: Chunk, axes: Sequence[Axis], groups: int) -> np.ndarray:
    """Padded images -> [groups, N*OH*OW, R*S*I] for one chunk."""
    which, rows = chunk
    images = images[which, rows.start * axes[0].stride:]
    counts, taps, per_group = (rows.stop - rows.start, *_counts(axes[1:])), _taps(axes), images.shape[-1] // groups
    by_image, *by_place, by_channel = images.strides
    windows = np.lib.stride_tricks.as_strided(
        images,
        (groups, len(images), *counts, *taps, per_group),
        (per_group * by_channel, by_image,
         *[step * axis.stride for step, axis in zip(by_place, axes, strict=True)],
         *[step * axis.dilation for step, axis in zip(by_place, axes, strict=True)], by_channel),
        writeable=False)
    return np.ascontiguousarray(windows).reshape(groups, len(images) * prod(counts), prod(taps) * per_group)


def _grouped(ct: np.ndarray, groups: int) -> np.ndarray:
    """[N, OH, OW, O] -> [groups, N*OH*OW, O/groups]"""
    outputs = ct.shape[-1]
    return np.ascontiguousarray(ct.reshape(prod(ct.shape[:-1]), groups, outputs // groups).transpose(1, 0, 2))


def _weight_matrix(w: np.ndarray, groups: int) -> np.ndarray:
    """[..., I, O] -> [groups, ...*I, O/groups]. Contiguous: matmul has a slow path for what BLAS can't read."""
    outputs = w.shape[-1]
    return np.ascontiguousarray(w.reshape(-1, groups, outputs // groups).transpose(1, 0, 2))
