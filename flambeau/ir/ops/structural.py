"""Ops that hold one graph as it is: what became one kernel, and what has the user's own derivative."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from flambeau.ir.dims import Size
from flambeau.ir.op import Evaluation, RegionOp, Sample, listed, register, types_of
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Graph, Value
    from flambeau.ir.literal import Literal


IndexAttribute = tuple[tuple[Size, tuple[tuple[int, Size], ...]], ...]


class _Whole(RegionOp):
    """The first region takes all operands and gives all results."""

    roles: ClassVar[tuple[str, ...]] = ("body",)

    def infer_regions(self, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
        self.check_inputs(regions[0], 0, operands)
        return tuple(types_of(regions[0].outputs))

    def evaluate_regions(self, evaluation: Evaluation, regions: Sequence[Graph],
                         operands: Sequence[Any]) -> Sequence[Any]:
        return evaluation.outputs(regions[0], operands)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())                     # what a region means, its ops' samples test


@register("fusion")
@dataclass(frozen=True)
class Fusion(_Whole):
    """One region, to be one kernel: its inputs are the operands, its outputs the results.

    kind: the sort of kernel ("loop", "contraction", "scatter"). It walks a space of `extents`, some dims of which it
    reduces over (`reduced`). `stores`: the index of each output in that space, per dim (offset, ((dim, coefficient),
    ...)). `rows`: for each reduction of the region in order, the indices of its result and of its operand."""

    kind: str
    extents: tuple[Size, ...] = ()
    reduced: tuple[int, ...] = ()
    stores: tuple[IndexAttribute, ...] = ()
    rows: tuple[tuple[IndexAttribute, IndexAttribute], ...] = ()


@register("custom")
@dataclass(frozen=True)
class Custom(_Whole):
    """An op with the user's own derivative: regions (forward, backward). The backward region's inputs are the
    operands, the results and the cotangents (zeros where none flows in); its outputs are the cotangents of the
    operands, those of integer operands being ignored."""

    label: str
    roles = ("forward", "backward")

    def infer_regions(self, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
        results = super().infer_regions(operands, regions)
        self.check_inputs(regions[1], 1, [*operands, *results, *results])
        given = types_of(regions[1].outputs)
        if len(given) != len(operands) or any(
                a != b for a, b in zip(given, operands, strict=True) if b.dtype.is_floating_point):
            raise self.fail(f"region 1 gives ({listed(given)}), should give ({listed(operands)})")
        return results

    def region_of(self, regions: Sequence[Graph], known: Sequence[Literal | None]) -> tuple[Graph, int]:
        return regions[0], 0

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        backward = results[0].node.regions[1]
        filled = [b.zeros(y.type) if g is None else g for y, g in zip(results, cotangents, strict=True)]
        binding = dict(zip(backward.inputs, [*operands, *results, *filled], strict=True))
        new_of = b.graph.inline(backward, binding, loc=b.loc, phase=b.phase)
        return [new_of[g] if x.dtype.is_floating_point else None
                for x, g in zip(operands, backward.outputs, strict=True)]
