"""LoopKernel -> LoopKernels. Long reductions of few rows become partial ones over `part`, a parallel dim cut out of the
reduced dims, and a kernel that combines the parts, always in the same order.

    parallel c < 64; inner r < 4096: mean[c] = sum(x), var[c] = sum((x - mean)^2), y = (x - mean) / sqrt(var)
    ->  parts[p, c] = sum over 256 rows of x;       mean[c] = sum over p of parts
        parts'[p, c] = sum over 256 rows of (...);  var[c] = sum over p of parts'
        y over parallel c, r, beside what else is stored

What a kernel computed for each row, its successors load (reduced values) or compute again (the rest). Whether that is
faster, and in how many parts, a device says.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import Final

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Value
from flambeau.ir.kernel import (
    IDENTITY_FREE,
    Address,
    Attr,
    Combiner,
    Instr,
    LoopKernel,
    Param,
    Reduction,
    Stage,
    Store,
)
from flambeau.ir.kernel.dataflow import address_values, dims_of_values, values_read
from flambeau.ir.kernel.identities import identity
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

__all__ = ["Split", "can_split", "in_parts", "is_even", "is_possible"]

_MINDING: Final = frozenset({"check", "floordiv", "mod", "fmod", "truncdiv"})

Split = tuple[LoopKernel, tuple[Value, ...]]        # a kernel, and the value behind each of its params


def in_parts(kernel: LoopKernel, buffers: tuple[Value, ...], parts: int, wide: bool = False) -> list[Split]:
    """Kernels that compute what one does, which `can_split`. parts: of each reduction. wide: parts of sums of f32 are f64,
    as they may be out of range where the whole is not. Dims of the kernels are merged or renumbered, so `affine` values
    must not have been expanded yet."""
    return _Splitter(kernel, buffers, parts, wide).split()


def is_even(kernel: LoopKernel, parts: int) -> bool:
    """Whether so many parts have as many points each, and more than one."""
    return all(extent % parts == 0 and extent > parts for extent in _first_extents(kernel))


def is_possible(kernel: LoopKernel, parts: int) -> bool:
    """Whether each of so many parts has a point, and the last may have fewer than the rest: what lies beyond the end is
    loaded as 0, which stages that store, check or divide ints must not see."""
    uneven = [stage for stage in kernel.stages if stage.reductions and int(kernel.extents[stage.dims[0]]) % parts]
    return (all(extent > parts and -(-extent // -(-extent // parts)) == parts for extent in _first_extents(kernel))
            and not any(stage.stores or any(i.op in _MINDING for i in stage.body) for stage in uneven))


def _first_extents(kernel: LoopKernel) -> list[int]:
    """Of the dims that are cut."""
    return [int(kernel.extents[stage.dims[0]]) for stage in kernel.stages if stage.reductions]


def can_split(kernel: LoopKernel, positions: bool = False) -> bool:
    """Whether stages reduce over inner dims of known size, and stores stand alone. positions: where an extremum stands may
    be among what they reduce to."""
    heavy = [stage for stage in kernel.stages if stage.dims]
    reductions = [reduction for stage in heavy for reduction in stage.reductions]
    plain = all(store.combine == "set" for stage in kernel.stages for store in stage.stores)
    roles = all(param.role in ("in", "out") for param in kernel.params)
    return (bool(reductions) and plain and roles and not kernel.sizes and 0 not in kernel.extents
            and not any(stage.reductions for stage in kernel.stages if not stage.dims)
            and (positions or not any(r.combiner in IDENTITY_FREE for r in reductions))
            and not _loads_what_it_stores(kernel))


def _loads_what_it_stores(kernel: LoopKernel) -> bool:
    stored = {store.address.buffer for stage in kernel.stages for store in stage.stores}
    return any(isinstance(i.attr, Address) and i.attr.buffer in stored for i in kernel.instrs())


_EXTREMUM: Final[dict[str, Combiner]] = {"argmax": "max", "argmin": "min"}


@dataclass
class _Splitter:
    kernel: LoopKernel
    buffers: tuple[Value, ...]
    parts: int
    wide: bool
    done: list[Split] = field(default_factory=list)
    stored: dict[int, Value] = field(default_factory=dict)          # values of rows that lie in memory by now, by id

    def __post_init__(self) -> None:
        dims_of, rows = dims_of_values(self.kernel), frozenset(range(self.kernel.n_parallel))
        self.row_instrs = {i.id: i for i in self.kernel.instrs() if dims_of[i.id] <= rows and i.op != "check"}
        self.dtype_of = {i.id: i.dtype for i in self.kernel.instrs()}
        self.dtype_of |= {r.id: r.dtype for stage in self.kernel.stages for r in stage.reductions}
        self.reduced = {r.id for stage in self.kernel.stages for r in stage.reductions}

    def split(self) -> list[Split]:
        """Stage by stage. Stages without dims join the kernel that combines the parts before them; the last such
        kernel also computes what the stages after it read of rows."""
        stages = list(self.kernel.stages)
        while stages:
            stage = stages.pop(0)
            if stage.reductions:
                is_last = not any(later.reductions for later in stages)
                until = next((n for n, later in enumerate(stages) if later.dims), len(stages))
                rows = [s for n, s in enumerate(stages) if not s.dims and (is_last or n < until)]
                stages = [s for s in stages if all(s is not row for row in rows)]
                kept = [v for s in stages for v in self.row_values(s)] if is_last else [r.id for r in stage.reductions]
                self.combined(stage, self.partial(stage), rows, kept)
            elif stage.dims:
                self.mapped(stage)
            else:
                self.rows(stage)
        return self.done

    def row_values(self, stage: Stage) -> list[int]:
        """What the stage's points read of their row, but for numbers and loads, which are as cheap to repeat."""
        read = [v for instr in stage.body if instr.id not in self.row_instrs for v in values_read(instr)]
        read += [s.value for s in stage.stores] + [v for s in stage.stores for v in address_values(s.address)]
        cheap = {id for id, instr in self.row_instrs.items() if instr.op in ("const", "load", "index")}
        rows = (self.row_instrs.keys() | self.reduced) - cheap - self.stored.keys()
        return [v for v in dict.fromkeys(read) if v in rows]

    def partial(self, stage: Stage) -> list[Value]:
        """Each reduction over one part of the stage's first dim: `part` becomes dim 0. Where an extremum stands comes after
        what it is."""
        extents, rows = self.kernel.extents, self.kernel.n_parallel
        first, *others = stage.dims
        whole, chunk = int(extents[first]), self.chunk(stage)
        number = {dim: dim + 1 for dim in range(rows)} | {d: rows + 1 + n for n, d in enumerate(stage.dims)}
        writer = _Writer(self, number, (first, chunk))
        if whole % self.parts:
            writer.end(whole)
        writer.body(stage)
        shape = (self.parts, *[int(extents[d]) for d in range(rows)])
        renamed: list[Reduction] = []
        for r in stage.reductions:
            value = writer.within(r)
            if r.combiner in IDENTITY_FREE:
                renamed.append(Reduction(writer.fresh(), _EXTREMUM[r.combiner], value, self.dtype_of[r.value]))
            renamed.append(replace(r, id=writer.fresh(), value=value, dtype=self.kept_in(r)))
        made = [self.buffer(r.dtype, shape) for r in renamed]
        body = tuple(writer.instrs)
        stores = [Store(writer.address_of(value, "out", range(rows + 1)), r.id)
                  for value, r in zip(made, renamed, strict=True)]
        reduce = Stage(tuple(number[d] for d in stage.dims), body, tuple(renamed), writer.stores(stage))
        dims = (*shape, chunk, *[extents[d] for d in others])
        self.done.append(writer.finish("parts", dims, rows + 1, (reduce, Stage((), (), (), tuple(stores)))))
        return made

    def kept_in(self, reduction: Reduction) -> DType:
        """The dtype of a part."""
        return dt.f64 if self.wide and reduction.combiner == "sum" and reduction.dtype is dt.f32 else reduction.dtype

    def chunk(self, stage: Stage) -> int:
        """Points of a part along the dim that is cut: of uneven parts a multiple of 64, where that leaves as many."""
        extent = int(self.kernel.extents[stage.dims[0]])
        chunk = -(-extent // self.parts)
        rounded = -(-chunk // 64) * 64
        return rounded if extent % self.parts and -(-extent // rounded) == self.parts else chunk

    def combined(self, stage: Stage, parts: Sequence[Value], rows: Sequence[Stage], kept: Iterable[int]) -> None:
        """The parts of each reduction in one, what the rows store, and a buffer for each of the values `kept`."""
        n_rows = self.kernel.n_parallel
        writer = _Writer(self, {dim: dim for dim in range(n_rows)})
        loads: list[Instr] = []
        totals: list[Reduction] = []
        left = list(parts)
        for reduction in stage.reductions:
            value = left.pop(0)
            address = writer.address_of(value, "in", (n_rows, *range(n_rows)))
            loads.append(Instr(writer.fresh(), "load", value.dtype, (), address))
            if reduction.combiner in IDENTITY_FREE:
                totals.append(replace(reduction, id=writer.fresh(), value=loads[-1].id))
                inner = [int(self.kernel.extents[d]) for d in stage.dims[1:]]
                writer.position(reduction.id, totals[-1].id, left.pop(0), self.chunk(stage) * math.prod(inner))
            elif value.dtype is reduction.dtype:
                totals.append(replace(reduction, id=writer.named(reduction.id), value=loads[-1].id))
            else:
                totals.append(replace(reduction, id=writer.fresh(), value=loads[-1].id, dtype=value.dtype))
                writer.instrs.append(Instr(writer.named(reduction.id), "cast", reduction.dtype, (totals[-1].id,)))
        stores = [s for row in rows for s in writer.stores(row)]
        shape = tuple([int(e) for e in self.kernel.extents[:n_rows]])
        made = {id: self.buffer(self.dtype_of[id], shape) for id in dict.fromkeys(kept)}
        for id, value in made.items():
            stores.append(Store(writer.address_of(value, "out", range(n_rows)), writer.name(id)))
        self.stored.update(made)
        sum_stage = Stage((n_rows,), tuple(loads), tuple(totals))
        row_stage = Stage((), tuple(writer.instrs), (), tuple(stores))
        self.done.append(writer.finish("combined", (*shape, self.parts), n_rows, (sum_stage, row_stage)))

    def mapped(self, stage: Stage) -> None:
        """A stage that only stores, every dim parallel: those it stores furthest apart outermost."""
        rows = self.kernel.n_parallel
        stride_of = dict(stage.stores[0].address.known_strides) if stage.stores else {}
        dims = sorted([*range(rows), *stage.dims], key=lambda d: -abs(stride_of.get(d, 0)))
        writer = _Writer(self, {dim: number for number, dim in enumerate(dims)})
        body = writer.body(stage)
        extents = tuple(self.kernel.extents[d] for d in dims)
        self.done.append(writer.finish("mapped", extents, len(dims), (Stage((), body, (), writer.stores(stage)),)))

    def rows(self, stage: Stage) -> None:
        """A stage without dims that follows no reduction."""
        n_rows = self.kernel.n_parallel
        writer = _Writer(self, {dim: dim for dim in range(n_rows)})
        stores = writer.stores(stage)
        row_stage = Stage((), tuple(writer.instrs), (), stores)
        self.done.append(writer.finish("rows", self.kernel.extents[:n_rows], n_rows, (row_stage,)))

    def buffer(self, dtype: DType, shape: tuple[int, ...]) -> Value:
        """A value between the kernels; it lies in the arena."""
        node = self.buffers[-1].node
        return Value(node, 0, TensorType(shape, dtype, self.buffers[-1].type.device))


class _Writer:
    """Writes one of the new kernels: renumbers its dims, values and params as they are asked for."""

    def __init__(self, splitter: _Splitter, number: dict[int, int], cut: tuple[int, int] | None = None):
        self.splitter, self.number, self.cut = splitter, number, cut
        self.instrs: list[Instr] = []
        self._names: dict[int, int] = {}
        self._next = 0
        self._params: list[tuple[Value, Param]] = []
        self.inside: int | None = None                  # whether a point lies before the end of the dim that is cut

    def fresh(self) -> int:
        self._next += 1
        return self._next - 1

    def named(self, old: int) -> int:
        """The number of a value of this kernel, given one when it is first asked for."""
        if old not in self._names:
            self._names[old] = self.fresh()
        return self._names[old]

    def name(self, old: int) -> int:
        """The number of a value, loaded or computed first if it is a row's."""
        if old not in self._names:
            self._bring(old)
        return self._names[old]

    def _bring(self, old: int) -> None:
        """Row values in order, without recursion: a value goes in when all that it reads is in."""
        stack = [old]
        while stack:
            current = stack[-1]
            row = None if current in self.splitter.stored else self.splitter.row_instrs.get(current)
            missing = [v for v in values_read(row) if v not in self._names] if row is not None else []
            if current not in self._names and not missing:
                self.instrs.append(self._copied(row) if row is not None else self._loaded(current))
            if missing:
                stack.extend(missing)
            else:
                stack.pop()

    def _loaded(self, old: int) -> Instr:
        value = self.splitter.stored[old]
        address = self.address_of(value, "in", [self.number[d] for d in range(self.splitter.kernel.n_parallel)])
        return Instr(self.named(old), "load", value.dtype, (), address)

    def _copied(self, instr: Instr) -> Instr:
        operands = tuple([self.name(v) for v in instr.operands])
        attr = self.address(instr.attr) if isinstance(instr.attr, Address) else instr.attr
        return Instr(self.named(instr.id), instr.op, instr.dtype, operands, attr)

    def also(self, op: str, dtype: DType, operands: tuple[int, ...] = (), attr: Attr = None) -> int:
        """A further instruction."""
        self.instrs.append(Instr(self.fresh(), op, dtype, operands, attr))
        return self.instrs[-1].id

    def end(self, extent: int) -> None:
        """The parts reach beyond the end of their dim, of `extent`."""
        assert self.cut is not None, "nothing is cut"
        dim, chunk = self.cut
        place = self.also("affine", dt.i64, attr=Address(-1, 0, ((0, chunk), (self.number[dim], 1))))
        self.inside = self.also("lt", dt.bool_, (place, self.also("const", dt.i64, attr=extent)))

    def within(self, reduction: Reduction) -> int:
        """What a reduction takes of a point: beyond the end, what changes nothing."""
        value, dtype = self.name(reduction.value), self.splitter.dtype_of[reduction.value]
        if self.inside is None:
            return value
        nothing = self.also("const", dtype, attr=identity(reduction.combiner, dtype))
        return self.also("select", dtype, (self.inside, value, nothing))

    def position(self, old: int, part: int, places: Value, points: int) -> None:
        """Value `old` is where an extremum stands, that of number `part` of parts of `points` points."""
        rows = range(self.splitter.kernel.n_parallel)
        address = self.address_of(places, "in", (-1, *rows))
        stride = address.stride_of(-1)
        moved = replace(address, strides=tuple([s for s in address.strides if s[0] >= 0]), dynamic=((part, stride),))
        within = self.also("load", dt.i64, attr=moved)
        start = self.also("mul", dt.i64, (part, self.also("const", dt.i64, attr=points)))
        self.instrs.append(Instr(self.named(old), "add", dt.i64, (start, within)))

    def body(self, stage: Stage) -> tuple[Instr, ...]:
        """The stage's instructions, each after the row values it reads."""
        for instr in stage.body:
            if instr.id not in self.splitter.row_instrs:
                self.instrs.append(self._copied(instr))
        addressed = [v for s in stage.stores for v in address_values(s.address)]
        for value in [r.value for r in stage.reductions] + [s.value for s in stage.stores] + addressed:
            self.name(value)
        return tuple(self.instrs)

    def stores(self, stage: Stage) -> tuple[Store, ...]:
        return tuple([Store(self.address(s.address), self.name(s.value), s.combine) for s in stage.stores])

    def address(self, address: Address) -> Address:
        """The address with this kernel's params, dims and values; the dim that is cut has a part and a chunk."""
        strides: dict[int, int] = {}
        for dim, stride in address.known_strides:
            strides[self.number[dim]] = stride
            if self.cut is not None and dim == self.cut[0]:
                strides[0] = stride * self.cut[1]
        dynamic = tuple([(self.name(value), stride) for value, stride in address.dynamic])
        guard = None if address.guard is None else self.name(address.guard)
        if self.inside is not None and address.buffer >= 0 and self.cut is not None and address.stride_of(self.cut[0]):
            guard = self.inside if guard is None else self.also("and", dt.bool_, (guard, self.inside))
        buffer = address.buffer if address.buffer < 0 else self._param(address.buffer)
        return Address(buffer, address.offset, tuple(sorted(strides.items())), dynamic, guard)

    def address_of(self, value: Value, role: str, dims: Iterable[int]) -> Address:
        """The element of a new buffer at these dims of this kernel, row-major."""
        strides, stride = [], 1
        for dim, size in reversed(list(zip(dims, value.type.static_shape, strict=True))):
            strides.append((dim, stride))
            stride *= size
        return Address(self._buffer(value, role), 0, tuple(sorted(s for s in strides)))

    def _param(self, old: int) -> int:
        splitter = self.splitter
        return self._numbered(splitter.buffers[old], splitter.kernel.params[old])

    def _buffer(self, value: Value, role: str) -> int:
        name = f"part{len(self._params)}"
        return self._numbered(value, Param(name, value.dtype, value.type.numel, role))      # type: ignore[arg-type]

    def _numbered(self, value: Value, param: Param) -> int:
        entry = value, param
        for number, (known, its) in enumerate(self._params):
            if known is value and its.role == param.role:
                return number
        self._params.append(entry)
        return len(self._params) - 1

    def finish(self, name: str, extents: Sequence[int | str], n_parallel: int, stages: tuple[Stage, ...]) -> Split:
        kernel = self.splitter.kernel
        params = tuple([param for _, param in self._params])
        made = LoopKernel(f"{kernel.name}_{name}", params, tuple(extents), n_parallel,
                          tuple([s for s in stages if s.reductions or s.stores]), locations=kernel.locations)
        return made, tuple([value for value, _ in self._params])
