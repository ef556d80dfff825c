"""What an emitter of loops knows at one point: buffers, indices, the active lanes, and the values computed so far.

A value is uniform (one scalar, and a splat of it if vector code reads it) or varying (one vector per copy: an
unrolled step walks `vectors` vectors side by side, each at `rows` points of the row dim: copy c is vector c % vectors
of row c // vectors). `copy` None always means scalar code.
"""

from __future__ import annotations

from dataclasses import field

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import I64, Emitter, SplatConstant, constant, lanes_of
from flambeau.codegen.cpu.loops.plan import LoopPlan
from flambeau.ir.kernel import Instr
from flambeau.ir.records import dataclass


@dataclass
class Scope:
    """index holds the i64 value of every open dim; for the vector dim, that of lane 0 of copy 0, for the row dim that
    of row 0. mask is the active lanes of a partial vector, None when all are."""

    emitter: Emitter
    plan: LoopPlan
    extents: tuple[ll.Value, ...]
    buffers: tuple[ll.Value, ...]
    index: dict[int, ll.Value] = field(default_factory=dict)
    vectors: int = 1
    rows: int = 1
    mask: ll.Value | None = None
    _numbers: dict[int, Instr] = field(default_factory=dict)
    _uniform: dict[int, ll.Value] = field(default_factory=dict)
    _splats: dict[int, ll.Value] = field(default_factory=dict)
    _varying: dict[tuple[int, int], ll.Value] = field(default_factory=dict)

    @property
    def copies(self) -> int:
        """Vectors of each varying value that there are side by side."""
        return self.vectors * self.rows

    def copies_with(self, name: int) -> range:
        """The copies that have their own vector of a varying value: those of row 0 alone if all rows share it."""
        return range(self.copies if name in self.plan.by_row else self.vectors)

    def define(self, name: int, copy: int | None, value: ll.Value) -> None:
        """Bind value `name`, for one copy if it varies."""
        if copy is not None:
            assert lanes_of(value) == self.plan.lanes, f"%{name} varies, so it is a vector of {self.plan.lanes}"
            self._varying[name, copy] = value
            return
        self._uniform[name] = value
        if name in self.plan.read_as_vector:
            self._splats[name] = self.splat(value)

    def define_number(self, instr: Instr) -> None:
        """Bind the value of a const that is a runtime number."""
        self._numbers[instr.id] = instr

    def read(self, name: int, copy: int | None) -> ll.Value:
        """The value as scalar code (copy None) or as vector code reads it."""
        if name in self._numbers:
            instr = self._numbers[name]
            return self.emitter.runtime_constant(str(instr.attr), instr.dtype.name, self.lanes(copy))
        if copy is None:
            return self._uniform[name]
        if self.plan.varies(name):
            return self._varying[name, copy if name in self.plan.by_row else copy % self.vectors]
        return self._splats[name] if name in self._splats else self.splat(self._uniform[name])

    def splat(self, scalar: ll.Value) -> ll.Value:
        """The scalar in all lanes."""
        if isinstance(scalar, ll.Constant) and self.plan.lanes > 1:
            return SplatConstant(scalar, self.plan.lanes)
        return self.emitter.splat(scalar, self.plan.lanes)

    def lanes(self, copy: int | None) -> int:
        """Lanes of a value: 1 in scalar code."""
        return 1 if copy is None else self.plan.lanes

    def index_value(self, dim: int, copy: int | None) -> ll.Value:
        """The i64 index of `dim`, in every lane of `copy` if vector code asks."""
        if copy is None:
            return self.index[dim]
        if dim == self.plan.row_dim and copy >= self.vectors:
            return self.splat(self.emitter.add(self.index[dim], constant(I64, copy // self.vectors)))
        if dim != self.plan.vector_dim:
            return self.splat(self.index[dim])
        lanes, first = self.plan.lanes, copy % self.vectors * self.plan.lanes
        steps = ll.Constant(ll.VectorType(I64, lanes), [first + lane for lane in range(lanes)])
        return self.emitter.add(self.splat(self.index[dim]), steps)
