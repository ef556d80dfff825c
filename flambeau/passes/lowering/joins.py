"""Fusion region -> LoopKernel for parts that are joined: a stage for each, which walks it and stores it in its place.

    concat(%0 : f32[16,2048], ..., %127 : f32[16,2048], dim=0, by_parts=true)
    ->  parallel %i0 = 16; inner %i1 = 2048
        stage (%i1) { store in0[...] to out[...] } ... stage (%i1) { store in127[...] to out[... + 4161536] }

All stages share the parallel dims, those of a part without the one that is walked: the last one, whose elements lie beside
each other, or the joined one where parts are of different sizes, or the last is too short.
"""
from __future__ import annotations

from flambeau.ir import ops
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import LoopKernel, Stage, Store
from flambeau.passes.lowering.loops import Body, RegionLowering, locations, params_of
from flambeau.passes.lowering.spaces import IndexTuple, identity

_LONG_ROW = 16                          # elements


class JoinLowering(RegionLowering):
    """One fusion of kind "join" being lowered."""

    def loops(self) -> LoopKernel:
        (result,) = self.region.outputs
        assert isinstance(result.node.op, ops.Concat), "what is joined is fused with what comes before it only"
        dim, shape = result.node.op.dim, result.type.static_shape
        parts = [part for part in result.node.operands if part.type.static_shape[dim]] or result.node.operands[:1]
        sizes = list(dict.fromkeys(part.type.static_shape[dim] for part in parts))
        last = len(shape) - 1
        walked = last if len(sizes) == 1 and shape[last] >= _LONG_ROW else dim
        of_part = (*shape[:dim], *sizes[:1], *shape[dim + 1:])
        shared = of_part[:walked] + of_part[walked + 1:]
        extents = sizes if walked == dim else [shape[last]]
        stages, start = [], 0
        for part in parts:
            along = part.type.static_shape[dim]
            number = len(shared) + (sizes.index(along) if walked == dim else 0)
            index = self._at(shared, walked, Index.dim(number, part.type.static_shape[walked]))
            body = Body(self)
            there = (*index[:dim], index[dim] + start, *index[dim + 1:])
            store = Store(body.address(len(self.region.inputs), result, there), body.read(part, index))
            stages.append(Stage((number,), tuple(body.instrs), (), (store,)))
            start += along
        return LoopKernel(self.name, params_of(self.region), (*shared, *extents), len(shared), tuple(stages),
                          locations=locations(self.region))

    @staticmethod
    def _at(shared: tuple[int, ...], walked: int, place: Index) -> IndexTuple:
        around = identity(shared)
        return (*around[:walked], place, *around[walked:])
