"""Fusion region -> LoopKernel for scattered sums: zero the result, then add update after update, in order.

The columns that no index touches run in parallel; along the scattered dim one point follows another, so repeated
indices add up and the sum has one fixed order.
"""
from __future__ import annotations

from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.graph import Node
from flambeau.ir.index import Index
from flambeau.ir.kernel import LoopKernel, Param, Stage, Store
from flambeau.ir.ops.indexing import checked_index
from flambeau.passes.lower_loops import Body, Lowered, RegionLowering, locations
from flambeau.passes.spaces import IndexTuple, identity


class ScatterLowering(RegionLowering):
    """One fusion of kind "scatter" being lowered."""

    def lower(self) -> Lowered:
        (node,) = (n for n in self.region.toposort() if isinstance(n.op, ops.ScatterAdd | ops.ScatterAlongAdd))
        assert isinstance(node.op, ops.ScatterAdd | ops.ScatterAlongAdd)
        assert len(self.region.outputs) == 1 and self.region.outputs[0] is node.results[0], \
            "a scattered sum is fused with what comes before it only"
        result, dim = node.results[0].type.static_shape, node.op.dim
        columns = tuple([size for d, size in enumerate(result) if d != dim])
        moved = self._moved_shape(node)
        extents = (*columns, result[dim], *moved)
        first = len(columns)
        zero = self._zero_stage(node, columns, dim, first)
        add = self._add_stage(node, columns, dim, first + 1, moved)
        params = [Param(f"in{n}", v.dtype, v.type.numel, "in") for n, v in enumerate(self.region.inputs)]
        params.append(Param("out0", node.results[0].dtype, node.results[0].type.numel, "out"))
        kernel = LoopKernel(self.name, tuple(params), extents, first, (zero, add), locations=locations(self.region))
        return Lowered(kernel, (*self.node.operands, *self.node.results))

    def _moved_shape(self, node: Node) -> tuple[int, ...]:
        """The extents that one column's updates are walked over."""
        indices = node.operands[0].type.static_shape
        return (indices[node.op.dim],) if isinstance(node.op, ops.ScatterAlongAdd) else indices

    @staticmethod
    def _at(columns: tuple[int, ...], dim: int, part: IndexTuple) -> IndexTuple:
        """The columns' index with `part` put in at `dim`."""
        around = identity(columns)
        return (*around[:dim], *part, *around[dim:])

    def _zero_stage(self, node: Node, columns: tuple[int, ...], dim: int, number: int) -> Stage:
        body, result = Body(self), node.results[0]
        position = Index.dim(number, result.type.static_shape[dim])
        zero = body.const(False if result.dtype is dt.bool_ else 0, result.dtype)
        address = body.address(len(self.region.inputs), result, self._at(columns, dim, (position,)))
        return Stage((number,), tuple(body.instrs), (), (Store(address, zero),))

    def _add_stage(self, node: Node, columns: tuple[int, ...], dim: int, number: int,
                   moved: tuple[int, ...]) -> Stage:
        body, (indices, updates), result = Body(self), node.operands, node.results[0]
        walked = tuple([Index.dim(number + i, size) for i, size in enumerate(moved)])
        along = isinstance(node.op, ops.ScatterAlongAdd)
        loaded = body.read(indices, self._at(columns, dim, walked) if along else walked)
        place = checked_index(body, loaded, indices.dtype, result.type.static_shape[dim])  # type: ignore[arg-type]
        update = body.read(updates, self._at(columns, dim, walked))
        address = body.address(len(self.region.inputs), result, self._at(columns, dim, (place,)))
        dims = tuple(range(number, number + len(moved)))
        return Stage(dims, tuple(body.instrs), (), (Store(address, update, "add"),))
