"""What a CPU decides of attention: whether it is tiled at all, and how large the tiles are."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from flambeau.ir import ops
from flambeau.ir.graph import Value
from flambeau.ir.kernel.attention_kernel import AttentionKernel, AttentionSchedule
from flambeau.ir.ops.attention import LARGEST_ROW
from flambeau.ir.target import Target

__all__ = ["fits_tiles", "schedule_attention"]

_PARALLEL = 1 << 18                 # products of numbers that are worth a second thread
_TASKS_PER_CORE = 4
_PER_TILE = 0.2                     # of what one more vector costs, for loading elements of the other side


def fits_tiles(op: ops.Attention | ops.AttentionBackward, operands: Sequence[Value]) -> bool:
    """Whether the kernel takes it: rows short enough for the panels of a tile to be on the stack."""
    return max(operands[1].type.static_shape[-1], operands[2].type.static_shape[-1]) <= LARGEST_ROW


def schedule_attention(kernel: AttentionKernel, target: Target) -> AttentionKernel:
    lanes = target.lanes(kernel.dtype.itemsize)
    rows, columns, size, value = kernel.sizes_of_rows
    side_by_side = columns if kernel.is_backward else rows
    most = 2 if target.n_vector_registers >= 32 else 3
    vectors = min(range(1, most + 1), key=lambda n: (-(-side_by_side // (n * lanes)) * (n + _PER_TILE), -n))
    width = lanes * vectors
    points = prod(kernel.batch)
    parallel = target.cores > 1 and points * rows * columns * (size + value) >= _PARALLEL
    block = max(1, 64 // width) * width
    parts = 1
    if kernel.is_backward and parallel:
        tiles = -(-columns // width)
        parts = max(1, min(tiles, _TASKS_PER_CORE * target.cores // max(1, points)))
    return replace(kernel, schedule=AttentionSchedule(width, block, parts, parallel))
