"""The NumPy meaning of convolution and its gradients: what the windows see laid out as a matrix, then one product.

Here images are [N, H, W, C] and weights [R, S, I, O] (I and O: input channels of a group, output channels). A row of
the matrix is a window, a column one of its taps and channels: [groups, N*OH*OW, R*S*I]. A few images are laid out at
a time, since the matrix holds each element R*S times.
"""
from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from flambeau.ir.ops.windows import Axis, cropped, padded

_CHUNK_BYTES: Final = 1 << 22


def convolved(x: np.ndarray, w: np.ndarray, rows: Axis, columns: Axis, groups: int) -> np.ndarray:
    """-> [N, OH, OW, O]"""
    images, matrix, outputs = padded(x, rows, columns), _weight_matrix(w, groups), w.shape[3]
    y = np.empty((x.shape[0], rows.count, columns.count, outputs), x.dtype)
    for chunk in _chunks(images, rows, columns):
        product = _laid_out(images[chunk], rows, columns, groups) @ matrix
        y[chunk] = product.transpose(1, 0, 2).reshape(-1, *y.shape[1:])
    return y


def input_grad(ct: np.ndarray, w: np.ndarray, rows: Axis, columns: Axis, groups: int) -> np.ndarray:
    """ct: [N, OH, OW, O] -> [N, H, W, C]: every window's share added to the elements that it saw."""
    channels = w.shape[2] * groups
    total = padded(np.zeros((ct.shape[0], rows.size, columns.size, channels), ct.dtype), rows, columns)
    taps = {(r, s): _weight_matrix(w[r, s], groups).transpose(0, 2, 1) for r, s in np.ndindex(*w.shape[:2])}
    for chunk in _chunks(total, rows, columns):
        flowing = _grouped(ct[chunk], groups)
        for (r, s), matrix in taps.items():
            seen = total[chunk, rows.places(r), columns.places(s)]
            seen += (flowing @ matrix).transpose(1, 0, 2).reshape(seen.shape)
    return cropped(total, rows, columns)


def weight_grad(x: np.ndarray, ct: np.ndarray, rows: Axis, columns: Axis, groups: int) -> np.ndarray:
    """x: [N, H, W, C], ct: [N, OH, OW, O] -> [R, S, I, O]"""
    images, per_group, outputs = padded(x, rows, columns), x.shape[3] // groups, ct.shape[3]
    total = np.zeros((groups, rows.kernel * columns.kernel * per_group, outputs // groups), x.dtype)
    for chunk in _chunks(images, rows, columns):
        total += _laid_out(images[chunk], rows, columns, groups).transpose(0, 2, 1) @ _grouped(ct[chunk], groups)
    return total.transpose(1, 0, 2).reshape(rows.kernel, columns.kernel, per_group, outputs)


def _chunks(images: np.ndarray, rows: Axis, columns: Axis) -> Iterator[slice]:
    """Which images to lay out together."""
    bytes_of_one = rows.count * columns.count * rows.kernel * columns.kernel * images.shape[3] * images.itemsize
    count = max(1, _CHUNK_BYTES // max(1, bytes_of_one))
    for start in range(0, len(images), count):
        yield slice(start, start + count)


def _laid_out(images: np.ndarray, rows: Axis, columns: Axis, groups: int) -> np.ndarray:
    """Padded images -> [groups, N*OH*OW, R*S*I]"""
    n, _, _, channels = images.shape
    per_group, (by_image, by_row, by_column, by_channel) = channels // groups, images.strides
    windows = np.lib.stride_tricks.as_strided(
        images,
        (groups, n, rows.count, columns.count, rows.kernel, columns.kernel, per_group),
        (per_group * by_channel, by_image, by_row * rows.stride, by_column * columns.stride, by_row * rows.dilation,
         by_column * columns.dilation, by_channel),
        writeable=False)
    return np.ascontiguousarray(windows).reshape(
        groups, n * rows.count * columns.count, rows.kernel * columns.kernel * per_group)


def _grouped(ct: np.ndarray, groups: int) -> np.ndarray:
    """[N, OH, OW, O] -> [groups, N*OH*OW, O/groups]"""
    n, oh, ow, outputs = ct.shape
    return np.ascontiguousarray(ct.reshape(n * oh * ow, groups, outputs // groups).transpose(1, 0, 2))


def _weight_matrix(w: np.ndarray, groups: int) -> np.ndarray:
    """[..., I, O] -> [groups, ...*I, O/groups]. Contiguous: matmul has a slow path for what BLAS can't read."""
    outputs = w.shape[-1]
    return np.ascontiguousarray(w.reshape(-1, groups, outputs // groups).transpose(1, 0, 2))
