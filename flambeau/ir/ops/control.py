"""Ops that choose what is computed: `cond` runs one of two regions, `while_loop` one region as long as another says so.

Both are eager: a region that is not run has no effect, and raises nothing. What a region reads are operands.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

from flambeau.ir.dtypes import bool_
from flambeau.ir.op import Evaluation, RegionOp, Sample, Trimmed, listed, register, types_of
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Graph, Node, Value
    from flambeau.ir.literal import Literal

__all__ = ["Cond", "WhileLoop"]

_PREDICATE: Final = TensorType((), bool_)


class _Control(RegionOp):
    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        raise NotImplementedError(f"{self.name} has no derivative in a graph yet"
                                  + (f" (it stands at {b.loc})" if b.loc is not None else ""))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        return iter(())                     # an op without regions is none: tests/ir/test_regions.py


@register("cond")
@dataclass(frozen=True)
class Cond(_Control):
    """`true` or `false`: operands are a predicate bool[] and what both regions take; results are what both give."""

    roles: ClassVar[tuple[str, ...]] = ("true", "false")

    def infer_regions(self, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
        if not operands or operands[0] != _PREDICATE:
            raise self.fail(f"the first operand is the predicate, bool[], not {operands[0] if operands else 'missing'}")
        for number, region in enumerate(regions):
            self.check_inputs(region, number, operands[1:])
        gives, other = (types_of(region.outputs) for region in regions)
        if gives != other:
            raise self.fail(f"region 0 gives ({listed(gives)}), region 1 gives ({listed(other)})")
        return tuple(gives)

    def evaluate_regions(self, evaluation: Evaluation, regions: Sequence[Graph],
                         operands: Sequence[Any]) -> Sequence[Any]:
        return evaluation.outputs(regions[0 if evaluation.holds(operands[0]) else 1], operands[1:])

    def region_of(self, regions: Sequence[Graph], known: Sequence[Literal | None]) -> tuple[Graph, int] | None:
        return None if known[0] is None else (regions[0 if known[0].array else 1], 1)

    def input_of(self, regions: Sequence[Graph], position: int) -> int | None:
        return position - 1 if position else None

    def trimmed(self, regions: Sequence[Graph], used: Sequence[bool]) -> Trimmed | None:
        results = tuple([n for n, is_used in enumerate(used) if is_used])
        read = [_read_inputs(region, results) for region in regions]
        operands = tuple([n for n in range(len(regions[0].inputs)) if any(n in found for found in read)])
        if len(results) == len(used) and len(operands) == len(regions[0].inputs):
            return None
        for region in regions:
            region.outputs = [region.outputs[n] for n in results]
            _keep_inputs(region, operands)
        return Trimmed(results, (0, *[n + 1 for n in operands]), tuple(regions))


@register("while_loop")
@dataclass(frozen=True)
class WhileLoop(_Control):
    """Repeats `body` as long as `condition` holds, which may be never. Both take all operands: what is carried, then
    what stays as it is. The body gives what is carried next; in the end those are the results."""

    roles: ClassVar[tuple[str, ...]] = ("condition", "body")

    def infer_regions(self, operands: Sequence[TensorType], regions: Sequence[Graph]) -> tuple[TensorType, ...]:
        for number, region in enumerate(regions):
            self.check_inputs(region, number, operands)
        tells, carried = (types_of(region.outputs) for region in regions)
        if tells != [_PREDICATE]:
            raise self.fail(f"region 0 gives ({listed(tells)}), should give (bool[])")
        if carried != list(operands[:len(carried)]):
            raise self.fail(f"region 1 gives ({listed(carried)}), should give what is carried, "
                            f"({listed(operands[:len(carried)])})")
        return tuple(carried)

    def evaluate_regions(self, evaluation: Evaluation, regions: Sequence[Graph],
                         operands: Sequence[Any]) -> Sequence[Any]:
        condition, body = regions
        count = len(body.outputs)
        carried, fixed = list(operands[:count]), list(operands[count:])
        while evaluation.holds(evaluation.outputs(condition, [*carried, *fixed])[0]):
            carried = list(evaluation.outputs(body, [*carried, *fixed]))
        return carried

    def input_of(self, regions: Sequence[Graph], position: int) -> int | None:
        return position if position >= len(regions[1].outputs) else None

    def trimmed(self, regions: Sequence[Graph], used: Sequence[bool]) -> Trimmed | None:
        condition, body = regions
        told = _read_inputs(condition, (0,))
        needed = {n for n, is_used in enumerate(used) if is_used} | {n for n in told if n < len(used)}
        read: set[int] = set()
        pending = True
        while pending:                      # what a carried value is computed from is carried too
            read = _read_inputs(body, sorted(needed))
            pending = bool({n for n in read if n < len(used)} - needed)
            needed |= {n for n in read if n < len(used)}
        results = tuple(sorted(needed))
        operands = tuple(sorted(needed | told | read))
        if len(results) == len(used) and len(operands) == len(body.inputs):
            return None
        body.outputs = [body.outputs[n] for n in results]
        for region in regions:
            _keep_inputs(region, operands)
        return Trimmed(results, operands, tuple(regions))


def _read_inputs(region: Graph, outputs: Iterable[int]) -> set[int]:
    """The inputs, by number, that these outputs and the effects of a region are computed from."""
    stack = [region.outputs[n].node for n in outputs] + [node for node in region._node if not node.is_pure]
    found: set[Node] = set(stack)
    while stack:
        for value in stack.pop().operands:
            if value.node not in found:
                found.add(value.node)
                stack.append(value.node)
    return {n for n, value in enumerate(region.inputs) if value.node in found}


def _keep_inputs(region: Graph, kept: Sequence[int]) -> None:
    """Erase the other inputs, with what reads them, which nothing needs."""
    inputs, keeping = region.inputs, set(kept)
    gone = {inputs[n].node for n in range(len(inputs)) if n not in keeping}
    if not gone:
        return
    region.inputs = [inputs[n] for n in kept]
    dead = set(gone)
    for node in region.toposort():
        if any(value.node in dead for value in node.operands):
            dead.add(node)
    region.erase_all(dead)
