"""Ops that hold graphs."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flambeau.ir.op import Op, Sample, register

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


IndexAttribute = tuple[tuple[int, tuple[tuple[int, int], ...]], ...]


@register("fusion")
@dataclass(frozen=True)
class Fusion(Op):
    """One region, to be one kernel: its inputs are the operands, its outputs the results.

    kind: the sort of kernel ("loop", "contraction", "scatter"). It walks a space of `extents`, some dims of which it
    reduces over (`reduced`). `stores`: the index of each output in that space, per dim (offset, ((dim, coefficient),
    ...)). `rows`: for each reduction of the region in order, the indices of its result and of its operand."""

    kind: str
    extents: tuple[int, ...] = ()
    reduced: tuple[int, ...] = ()
    stores: tuple[IndexAttribute, ...] = ()
    rows: tuple[tuple[IndexAttribute, IndexAttribute], ...] = ()

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())                     # what a region means, its ops' samples test


@register("custom")
@dataclass(frozen=True)
class Custom(Op):
    """An op with the user's own derivative: regions (forward, backward). The backward region's inputs are the
    operands, the results and the cotangents (zeros where none flows in); its outputs are the cotangents of the
    operands, those of integer operands being ignored."""

    label: str

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        backward = results[0].node.regions[1]
        filled = [b.zeros(y.type) if g is None else g for y, g in zip(results, cotangents, strict=True)]
        binding = dict(zip(backward.inputs, [*operands, *results, *filled], strict=True))
        new_of = b.graph.inline(backward, binding, loc=b.loc, phase=b.phase)
        return [new_of[g] if x.dtype.is_floating_point else None
                for x, g in zip(operands, backward.outputs, strict=True)]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())
