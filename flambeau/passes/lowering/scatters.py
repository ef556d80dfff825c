"""Fusion region -> LoopKernel for what is scattered: fill the result, then add (or write) update after update, in order.

The columns that no index touches run in parallel; along the scattered dim one point follows another, so repeated
indices add up in one fixed order, or the last one is kept.
"""
from __future__ import annotations

from flambeau.errors import VerificationError
from flambeau.ir import ops
from flambeau.ir.graph import Node
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import LoopKernel, Stage, Store
from flambeau.ir.ops.indexing import checked_index
from flambeau.passes.lowering.loops import Body, RegionLowering, locations, params_of
from flambeau.passes.lowering.spaces import IndexTuple, identity

_SCATTERED = ops.ScatterAdd | ops.ScatterAlongAdd | ops.LastAlong


class ScatterLowering(RegionLowering):
    """One fusion of kind "scatter" being lowered."""

    def loops(self) -> LoopKernel:
        (node,) = (n for n in self.region.toposort() if isinstance(n.op, _SCATTERED))
        assert isinstance(node.op, _SCATTERED)
        if len(self.region.outputs) != 1 or self.region.outputs[0] is not node.results[0]:
            raise VerificationError("what is scattered is fused with what comes before it only")
        result, dim = node.results[0].type.static_shape, node.op.dim
        columns = tuple([size for d, size in enumerate(result) if d != dim])
        moved = self._moved_shape(node)
        extents = (*columns, result[dim], *moved)
        first = len(columns)
        fill = self._fill_stage(node, columns, dim, first)
        update = self._update_stage(node, columns, dim, first + 1, moved)
        return LoopKernel(self.name, params_of(self.region), extents, first, (fill, update),
                          locations=locations(self.region))

    def _moved_shape(self, node: Node) -> tuple[int, ...]:
        """The extents that one column's updates are walked over."""
        indices = node.operands[0].type.static_shape
        if isinstance(node.op, ops.ScatterAlongAdd | ops.LastAlong):
            return (indices[node.op.dim],)
        return indices

    @staticmethod
    def _at(columns: tuple[int, ...], dim: int, part: IndexTuple) -> IndexTuple:
        """The columns' index with `part` put in at `dim`."""
        around = identity(columns)
        return (*around[:dim], *part, *around[dim:])

    def _fill_stage(self, node: Node, columns: tuple[int, ...], dim: int, number: int) -> Stage:
        body, result = Body(self), node.results[0]
        position = Index.dim(number, result.type.static_shape[dim])
        empty = body.const(-1 if isinstance(node.op, ops.LastAlong) else 0, result.dtype)
        address = body.address(len(self.region.inputs), result, self._at(columns, dim, (position,)))
        return Stage((number,), tuple(body.instrs), (), (Store(address, empty),))

    def _update_stage(self, node: Node, columns: tuple[int, ...], dim: int, number: int,
                      moved: tuple[int, ...]) -> Stage:
        body, indices, result = Body(self), node.operands[0], node.results[0]
        walked = tuple([Index.dim(number + i, size) for i, size in enumerate(moved)])
        at = walked if isinstance(node.op, ops.ScatterAdd) else self._at(columns, dim, walked)
        loaded = body.read(indices, at)
        place = checked_index(body, loaded, indices.dtype, result.type.static_shape[dim])  # type: ignore[arg-type]
        address = body.address(len(self.region.inputs), result, self._at(columns, dim, (place,)))
        if isinstance(node.op, ops.LastAlong):
            store = Store(address, body.value_of(walked[0]))
        else:
            store = Store(address, body.read(node.operands[1], self._at(columns, dim, walked)), "add")
        return Stage(tuple(range(number, number + len(moved))), tuple(body.instrs), (), (store,))
