"""LoopKernel -> LoopKernels. Long reductions of few rows leave cores idle: they become partial sums over `part`, a
parallel dim cut out of the reduced ones, and a kernel that combines the parts, always in the same order.

    parallel c < 64; inner r < 4096: mean[c] = sum(x), var[c] = sum((x - mean)^2), y = (x - mean) / sqrt(var)
    ->  parts[p, c] = sum over 256 rows of x;       mean[c] = sum over p of parts
        parts'[p, c] = sum over 256 rows of (...);  var[c] = sum over p of parts'
        y over parallel c, r, beside what else is stored

What a kernel computed for each row, its successors load (reduced values) or compute again (the rest).
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field, replace
from typing import Final

from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Value
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Stage, Store
from flambeau.ir.kernel.dataflow import address_values, dims_of_values, values_read
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType
from flambeau.passes.cpu.loop_cost import Cost, count
from flambeau.passes.cpu.schedule_loops import vector_dim_of

LAUNCH_NS: Final = 2500.0               # one more kernel: launching it, and waiting for the slowest thread
GAIN: Final = 0.75                      # of the time before, at most
PART_NS: Final = 10_000.0               # work worth being a part
PARTS_PER_CORE: Final = 8
LONG_RUN: Final = 1024                  # bytes of a row from where tasks of some columns each fetch memory in pieces,
COLUMNS_APART: Final = 2.0              # at half the speed; parts of rows read it from end to end
ROW_PARTS: Final = 128
COLUMNS: Final = 64                     # columns a task takes at least, to read memory in long stretches

Split = tuple[LoopKernel, tuple[Value, ...]]        # a kernel, and the value behind each of its params


def split_reductions(kernel: LoopKernel, buffers: tuple[Value, ...], target: Target) -> list[Split]:
    """The kernel, or several that compute the same where that is faster on the target's cores. Dims of the kernels
    are merged or renumbered, so `affine` values must not have been expanded yet."""
    parts = _choose_parts(kernel, target)
    return _Splitter(kernel, buffers, parts).split() if parts > 1 else [(kernel, buffers)]


def _choose_parts(kernel: LoopKernel, target: Target) -> int:
    """How many parts each reduction is cut into; 1 to leave the kernel as it is."""
    heavy = [stage for stage in kernel.stages if stage.dims]
    if _cores(target) == 1 or not _can_split(kernel, heavy):
        return 1
    cost = Cost(kernel, target)
    dim, _, nanoseconds = vector_dim_of(cost)
    tasks = count(kernel, range(kernel.n_parallel))
    if dim is not None and dim < kernel.n_parallel:
        tasks = tasks // count(kernel, (dim,)) * -(-count(kernel, (dim,)) // COLUMNS)
    now = nanoseconds * -(-tasks // _cores(target)) / tasks
    wanted = min(PARTS_PER_CORE * _cores(target), nanoseconds / len(heavy) / PART_NS)
    if cost.is_far and dim is not None and dim < kernel.n_parallel and _runs(kernel, heavy) >= LONG_RUN:
        now, wanted = COLUMNS_APART * now, ROW_PARTS
    launches = sum(2 if stage.reductions else 1 for stage in heavy)
    if nanoseconds / _cores(target) + LAUNCH_NS * launches > GAIN * now:
        return 1
    extents = {kernel.extents[stage.dims[0]] for stage in heavy if stage.reductions}
    found = [n for n in range(2, int(2 * wanted) + 3) if all(_divides(n, e) for e in extents)]
    return min(found, key=lambda n: (abs(n - wanted), -n), default=1)


def _runs(kernel: LoopKernel, heavy: Sequence[Stage]) -> int:
    """Bytes from a point of a reduction to the next: what lies between them belongs to other columns."""
    return max([abs(i.attr.stride_of(stage.dims[-1])) * i.dtype.itemsize for stage in heavy if stage.reductions
                for i in stage.body if isinstance(i.attr, Address)], default=0)


def _cores(target: Target) -> int:
    return target.cores


def _divides(parts: int, extent: int | str) -> bool:
    return isinstance(extent, int) and extent % parts == 0 and extent > parts


def _can_split(kernel: LoopKernel, heavy: Sequence[Stage]) -> bool:
    """Whether stages reduce over inner dims of known size to values (not positions), and stores stand alone."""
    reductions = [reduction for stage in heavy for reduction in stage.reductions]
    plain = all(store.combine == "set" for stage in kernel.stages for store in stage.stores)
    roles = all(param.role in ("in", "out") for param in kernel.params)
    return (bool(reductions) and plain and roles and not kernel.sizes and 0 not in kernel.extents
            and not any(stage.reductions for stage in kernel.stages if not stage.dims)
            and not any(r.combiner in ("argmax", "argmin") for r in reductions)
            and not _loads_what_it_stores(kernel))


def _loads_what_it_stores(kernel: LoopKernel) -> bool:
    stored = {store.address.buffer for stage in kernel.stages for store in stage.stores}
    return any(isinstance(i.attr, Address) and i.attr.buffer in stored for i in kernel.instrs())


@dataclass
class _Splitter:
    kernel: LoopKernel
    buffers: tuple[Value, ...]
    parts: int
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
        """Each reduction over one part of the stage's first dim: `part` becomes dim 0."""
        extents, rows = self.kernel.extents, self.kernel.n_parallel
        first, *others = stage.dims
        chunk = int(extents[first]) // self.parts
        number = {dim: dim + 1 for dim in range(rows)} | {d: rows + 1 + n for n, d in enumerate(stage.dims)}
        writer = _Writer(self, number, (first, chunk))
        body = writer.body(stage)
        shape = (self.parts, *[int(extents[d]) for d in range(rows)])
        made = [self.buffer(r.dtype, shape) for r in stage.reductions]
        renamed = [replace(r, id=writer.fresh(), value=writer.name(r.value)) for r in stage.reductions]
        stores = [Store(writer.address_of(value, "out", range(rows + 1)), r.id)
                  for value, r in zip(made, renamed, strict=True)]
        reduce = Stage(tuple(number[d] for d in stage.dims), body, tuple(renamed), writer.stores(stage))
        dims = (*shape, chunk, *[extents[d] for d in others])
        self.done.append(writer.finish("parts", dims, rows + 1, (reduce, Stage((), (), (), tuple(stores)))))
        return made

    def combined(self, stage: Stage, parts: Sequence[Value], rows: Sequence[Stage], kept: Iterable[int]) -> None:
        """The parts of each reduction in one, what the rows store, and a buffer for each of the values `kept`."""
        n_rows = self.kernel.n_parallel
        writer = _Writer(self, {dim: dim for dim in range(n_rows)})
        loads, totals = [], []
        for reduction, value in zip(stage.reductions, parts, strict=True):
            address = writer.address_of(value, "in", (n_rows, *range(n_rows)))
            loads.append(Instr(writer.fresh(), "load", value.dtype, (), address))
            totals.append(replace(reduction, id=writer.named(reduction.id), value=loads[-1].id))
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
        stride_of = dict(stage.stores[0].address.strides) if stage.stores else {}
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
        for dim, stride in address.strides:
            strides[self.number[dim]] = stride
            if self.cut is not None and dim == self.cut[0]:
                strides[0] = stride * self.cut[1]
        dynamic = tuple([(self.name(value), stride) for value, stride in address.dynamic])
        guard = None if address.guard is None else self.name(address.guard)
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
