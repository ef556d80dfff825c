"""What reads what in a loop kernel, along which dims each value varies: true on every device."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

from flambeau.ir.kernel import SCALAR_OPS, Address, Instr, Kernel, Stage

_STEP_WEIGHT = 32                       # instructions a step; with more in flight, unrolling hides nothing further


def dims_of_values(kernel: Kernel) -> dict[int, frozenset[int]]:
    """The dims each value depends on; a reduced one no longer on those it was reduced over."""
    dims_of: dict[int, frozenset[int]] = {}
    for stage in kernel.code:
        for instr in stage.body:
            own = set(kernel.walked(stage) if instr.op == "acc" else own_dims(instr))
            dims_of[instr.id] = frozenset(own.union(*[dims_of[value] for value in values_read(instr)]))
        for reduction in stage.reductions:
            dims_of[reduction.id] = dims_of[reduction.value] - frozenset(stage.dims)
    return dims_of


def values_read(instr: Instr) -> Iterator[int]:
    """Ids of the operands, and of the values in a load's address."""
    yield from instr.operands
    if isinstance(instr.attr, Address):
        yield from address_values(instr.attr)


def address_values(address: Address) -> Iterator[int]:
    """Ids of the values an address reads."""
    yield from (value for value, _ in address.dynamic)
    if address.guard is not None:
        yield address.guard


def own_dims(instr: Instr) -> Iterator[int]:
    """The dims an instruction reads itself."""
    if instr.op == "index":
        assert isinstance(instr.attr, int), f"%{instr.id}: index needs a dim number"
        yield instr.attr
    elif isinstance(instr.attr, Address):
        yield from (dim for dim, _ in instr.attr.strides)


def vectors_a_step(stages: Sequence[Stage], wanted: int) -> int:
    """Vectors that the stages take side by side: at most `wanted`, fewer where the body alone keeps a machine busy."""
    weight = sum(SCALAR_OPS[instr.op].weight for stage in stages for instr in stage.body)
    return max(1, min(wanted, _STEP_WEIGHT // max(1, weight)))
