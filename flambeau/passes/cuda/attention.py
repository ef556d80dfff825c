"""What a GPU decides of attention: whether it is tiled, how large tiles are, and that a derivative is two kernels."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from flambeau.ir import dtypes, ops
from flambeau.ir.gpu import GpuTarget
from flambeau.ir.graph import Value
from flambeau.ir.kernel.attention_kernel import AttentionKernel, BlockTiles
from flambeau.passes.lowering.lower import Call

__all__ = ["divide_attention", "fits_tiles", "schedule_attention"]

_LARGEST = 64                       # elements of a row: those of a tile's two operands and of the others' are all shared
TILES = BlockTiles(32, 32, 64)


def fits_tiles(op: ops.Attention | ops.AttentionBackward, operands: Sequence[Value]) -> bool:
    """Whether the rows of a tile fit into shared memory: those of f64 do not."""
    q, k, v = operands[:3]
    return q.dtype is not dtypes.f64 and 0 < max(k.type.static_shape[-1], v.type.static_shape[-1]) <= _LARGEST


def schedule_attention(kernel: AttentionKernel, target: GpuTarget) -> AttentionKernel:
    return replace(kernel, schedule=TILES)


def divide_attention(call: Call, target: GpuTarget) -> Sequence[Call]:
    """A derivative as two calls, for dq and for dk and dv: blocks do not add to each other's sums."""
    kernel = cast(AttentionKernel, call.kernel)
    if not kernel.is_backward or kernel.dq is None or kernel.dk is kernel.dv is None:
        return [call]
    return [_with_params_used(call, replace(kernel, name=f"{kernel.name}_q", dk=None, dv=None)),
            _with_params_used(call, replace(kernel, name=f"{kernel.name}_kv", dq=None))]


def _with_params_used(call: Call, kernel: AttentionKernel) -> Call:
    kept = sorted({address.buffer for address in kernel.addresses()})
    number = {old: new for new, old in enumerate(kept)}
    moved = kernel.map(address=lambda a: replace(a, buffer=number[a.buffer]))
    return replace(call, kernel=replace(moved, params=tuple([kernel.params[n] for n in kept])),
                   buffers=tuple([call.buffers[n] for n in kept]))
