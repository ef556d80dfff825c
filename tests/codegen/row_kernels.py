"""Random LoopKernels whose stages compute again what earlier ones did, as softmax does, and a long way along rows."""
from __future__ import annotations

from dataclasses import replace

from test_loops_random import RandomKernel

from flambeau.ir.kernel import Address, LoopKernel, Stage


class RowKernel(RandomKernel):
    """Rows of a few lengths that lanes and widths divide, or not; most stages begin with the body of an earlier one."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        if not self.n_inner:
            self.n_inner = 1
            self.extents.append(1)
        self.extents[-1] = self.rng.choice([4, 8, 16, 33, 40, 64, 100, 128, 256, 260])
        if self.n_parallel > 1:
            self.extents[0] = min(self.extents[0], 5)

    def build(self) -> LoopKernel:
        for _ in range(self.rng.randint(2, 4)):
            self.stage()
        return self.script.kernel(self.extents, self.n_parallel)

    def stage(self) -> None:
        earlier = [stage for stage in self.script.stages if stage.dims and stage.body]
        if not earlier or self.rng.random() < 0.2:
            super().stage()
        else:
            self.repeat(self.rng.choice(earlier))

    def repeat(self, stage: Stage) -> None:
        """The body of a stage under other names, then more, of which something is reduced or stored."""
        named: dict[int, int] = {}
        for instr in stage.body:
            attr = instr.attr
            if isinstance(attr, Address):
                attr = replace(attr, dynamic=tuple((named.get(v, v), s) for v, s in attr.dynamic),
                               guard=None if attr.guard is None else named.get(attr.guard, attr.guard))
            operands = [named.get(v, v) for v in instr.operands]
            named[instr.id] = self.script.op(instr.op, *operands, dtype=instr.dtype, attr=attr)
        open_dims = [*range(self.n_parallel), *stage.dims]
        values = [*self.visible, *named.values()]
        for _ in range(self.rng.randint(0, 2)):
            values.append(self.value(values, open_dims))
        stored = [value for value in values if self.script.dtype_of[value] is self.dtype]
        made = [value for value in stored if value not in self.visible] or stored
        stores = [self.store(self.rng.choice(made), open_dims)] if made and self.rng.random() < 0.7 else []
        reduced = [(self.rng.choice(["sum", "max", "min", "argmax", "argmin"]), self.rng.choice(made))
                   for _ in range(self.rng.randint(0, 2) if made else 0)]
        self.visible += self.script.stage(stage.dims, reduced, stores)
