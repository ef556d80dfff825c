"""What a loop kernel costs one core: a rough count of vector instructions and of bytes, in nanoseconds.

Good to about a factor of two, which is what the choices made with it need: along which dim vectors run, whether a
kernel is worth more than one thread, and how large its tasks are.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from flambeau.ir.kernel import SCALAR_OPS, Address, LoopKernel, Stage
from flambeau.ir.kernel.dataflow import dims_of_values
from flambeau.ir.target import Target

RUNTIME_EXTENT: Final = 4096            # what a size known only at run time counts as

_NS_PER_INSTR: Final = 0.2              # of a vector: two a cycle, and rarely without a wait
_CACHED_BYTES_PER_NS: Final = 40.0      # what level 2 sustains
_MEMORY_BYTES_PER_NS: Final = 10.0      # one core, from memory or a shared cache
_EXTREMUM: Final = 3                    # max and min look for NaN
_GATHERED: Final = 1.0                  # instructions a lane of a load or store whose lanes lie apart
_SCATTERED: Final = 2.0
_TILED: Final = 4.0                     # instructions a vector that a square tile transposes


def count(kernel: LoopKernel, dims: Iterable[int]) -> int:
    """Points of the dims, at least 1."""
    return math.prod(RUNTIME_EXTENT if isinstance(e := kernel.extents[dim], str) else max(1, e) for dim in dims)


class Cost:
    """Costs of one kernel on one core of a target."""

    def __init__(self, kernel: LoopKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.dims_of = dims_of_values(kernel)
        self.parallel = range(kernel.n_parallel)
        self.bytes = sum(self._param_bytes(number) for number in range(len(kernel.params)))
        self.is_far = self.bytes > target.l2_bytes // 2

    def nanoseconds(self, vector_dim: int | None, tiled: int | None = None) -> float:
        """The whole kernel with vectors along `vector_dim`; tiled: the parallel dim that makes tiles with it."""
        return max(self.instrs(vector_dim, tiled) * _NS_PER_INSTR, self.memory_ns(vector_dim))

    def instrs(self, vector_dim: int | None, tiled: int | None = None) -> float:
        """Vector instructions of the whole kernel; accesses whose lanes lie apart count by the lane."""
        return sum(self.stage_instrs(stage, vector_dim, tiled) for stage in self.kernel.stages)

    def memory_ns(self, vector_dim: int | None) -> float:
        """What moving every param once takes, or what each stage moves if one task's share leaves level 2."""
        tasks = count(self.kernel, [d for d in self.parallel if d != vector_dim])
        moved = self.bytes
        if self.bytes // tasks > self.target.l2_bytes // 2:
            moved = sum(self._stage_bytes(stage) for stage in self.kernel.stages if stage.dims) or moved
        return moved / (_MEMORY_BYTES_PER_NS if self.is_far else _CACHED_BYTES_PER_NS)

    def _stage_bytes(self, stage: Stage) -> int:
        addresses = [i.attr for i in stage.body if isinstance(i.attr, Address)] + [s.address for s in stage.stores]
        return sum(self._param_bytes(number) for number in {a.buffer for a in addresses if a.buffer >= 0})

    def _param_bytes(self, number: int) -> int:
        param = self.kernel.params[number]
        return param.dtype.itemsize * (RUNTIME_EXTENT if isinstance(param.elements, str) else param.elements)

    def stage_instrs(self, stage: Stage, vector_dim: int | None, tiled: int | None) -> float:
        """Vector instructions of one stage over all points, scalar ones included."""
        lanes = self.lanes(vector_dim)
        rounds = self._rounds(stage, vector_dim, lanes)
        total = rounds[-1] + rounds[0]              # the loops themselves
        for instr in stage.body:
            weight: float = SCALAR_OPS[instr.op].weight
            if isinstance(instr.attr, Address):
                weight = self._access(instr.attr, vector_dim, tiled, lanes, _GATHERED)
            total += weight * rounds[self._depth(stage, self.dims_of[instr.id])]
        for store in stage.stores:
            adds = store.combine == "add"
            tile = None if adds else tiled
            weight = self._access(store.address, vector_dim, tile, lanes, 2 * _SCATTERED if adds else _SCATTERED)
            if adds and vector_dim is not None and not store.address.stride_of(vector_dim):
                weight = max(weight, lanes * 2 * _SCATTERED)
            total += weight * rounds[-1]
        for reduction in stage.reductions:
            weight = 1 if reduction.combiner in ("sum", "prod", "any", "all") else _EXTREMUM
            total += weight * rounds[-1]
            if vector_dim in stage.dims:
                total += 2 * (1 + weight) * math.log2(lanes) * rounds[0]
        return total

    def lanes(self, vector_dim: int | None) -> int:
        """Lanes of most values that vary along the dim, never many more than it has points."""
        if vector_dim is None:
            return 1
        varying = [i for i in self.kernel.instrs() if vector_dim in self.dims_of[i.id] and i.op != "check"]
        wide = sum(i.dtype.itemsize == 8 for i in varying)
        narrow = all(i.dtype.itemsize == 1 for i in varying)
        lanes = self.target.lanes(8 if 2 * wide > len(varying) else 1 if narrow else 4)
        extent = self.kernel.extents[vector_dim]
        while isinstance(extent, int) and lanes > 1 and lanes // 2 >= extent:
            lanes //= 2
        return lanes

    def _rounds(self, stage: Stage, vector_dim: int | None, lanes: int) -> list[float]:
        """How often code runs at each depth of the stage's loops, outermost first."""
        rounds = 1.0
        found = []
        for dims in (self.parallel, *((dim,) for dim in stage.dims)):
            for dim in dims:
                points = count(self.kernel, (dim,))
                rounds *= -(-points // lanes) if dim == vector_dim else points
            found.append(rounds)
        return found

    def _depth(self, stage: Stage, dims: frozenset[int]) -> int:
        """The loop of the stage in which a value that depends on `dims` is computed; 0 outside of all."""
        return max([depth for depth, dim in enumerate(stage.dims, 1) if dim in dims], default=0)

    def _access(self, address: Address, vector_dim: int | None, tiled: int | None, lanes: int, apart: float) -> float:
        if vector_dim is None:
            return 1
        jumps = address.stride_of(vector_dim) not in (-1, 0, 1)
        gathers = any(vector_dim in self.dims_of[value] for value, _ in address.dynamic)
        if not jumps and not gathers:
            return 1
        if tiled is not None and address.stride_of(tiled) == 1 and not address.dynamic and address.guard is None:
            return _TILED
        return lanes * apart * (2 if self.is_far and jumps else 1)
