"""Fusion region -> LoopKernel. Reads every value by asking what it is at an index: the op's `scalar` rule answers in
terms of its operands at other indices, until a load from memory, a reduced value, or a constant is met.

    softmax region over rows of 10:
    stage 0 (reduce max over i1: load x[i0*10+i1]); stage 1 (reduce sum: exp(load - max)); stage 2 (store exp/sum)
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flambeau.errors import GraphError
from flambeau.ir import dtypes as dt
from flambeau.ir import ops
from flambeau.ir.dims import Dim, reaches
from flambeau.ir.dtypes import DType
from flambeau.ir.graph import Graph, Node, Value
from flambeau.ir.index_maps import Index, linearize
from flambeau.ir.kernel import Address, Instr, LoopKernel, Param, Reduction, Stage, Store
from flambeau.ir.ops.families import INT_DIVISION
from flambeau.ir.records import dataclass
from flambeau.passes.lowering.spaces import IndexTuple, symbols

_DIVISIONS = frozenset({"floordiv", "mod", "fmod", "truncdiv"})
AFFINE = "affine"           # the i64 value of an Address without a buffer; see dims.expand_affine


class Space:
    """The kernel dims of a fusion: the group's dims that are not reduced (parallel), then the reduced ones (inner).
    Dims of one point vanish."""

    def __init__(self, op: ops.Fusion):
        kept = [d for d in range(len(op.extents)) if d not in op.reduced and op.extents[d] != 1]
        inner = [d for d in op.reduced if op.extents[d] != 1]
        self.extents = tuple([int(op.extents[d]) for d in (*kept, *inner)])
        self.n_parallel = len(kept)
        self.inner = tuple(range(len(kept), len(kept) + len(inner)))
        self._number = {d: number for number, d in enumerate((*kept, *inner))}

    def index(self, attribute: Sequence[Any]) -> IndexTuple:
        """An index attribute of the fusion in kernel dims."""
        made = []
        for offset, terms in attribute:
            index = Index(offset)
            for dim, coefficient in terms:
                if dim in self._number:
                    number = self._number[dim]
                    index = index + Index.dim(number, self.extents[number]) * coefficient
            made.append(index)
        return tuple(made)

    def is_row(self, index: IndexTuple) -> bool:
        """Whether the index is the same at every inner point."""
        return not any(kind == "dim" and number in self.inner for kind, number in symbols(index))


_Read = tuple[Value, IndexTuple, int | None]     # a value, where it is read, and under which guard
_DEEPEST = 40               # ops that ask one another for their operands


class _TooDeep(Exception):
    def __init__(self, read: _Read):
        self.read = read


class Body:
    """Writes the SSA body of one stage: a ScalarContext for the op being lowered, with a memo of values by index."""

    def __init__(self, lowering: RegionLowering):
        self.lowering = lowering
        self.instrs: list[Instr] = []
        self._memo: dict[Any, int] = {}
        self._pure: dict[Any, int] = {}
        self._depth = 0
        self.const_of: dict[int, float | int | bool] = {}       # the number of each const

    # -- reading values ---------------------------------------------------------------------------------------------

    def read(self, value: Value, index: IndexTuple, guard: int | None = None) -> int:
        """The id of `value` at `index`. Chains of elementwise ops are walked with a stack; other ops read their
        operands by recursion, whose depth is bounded: what lies deeper is read first, from the outermost call."""
        wanted = (value, index, guard)
        if self._depth >= _DEEPEST and wanted not in self._memo:
            raise _TooDeep(wanted)
        stack: list[_Read] = [wanted]
        while stack:
            key = current, at, under = stack[-1]
            if key in self._memo:
                stack.pop()
                continue
            known = self.lowering.known(self, current, at)
            if known is not None:
                self._memo[key] = known
                continue
            node = current.node
            if isinstance(node.op, ops.Elementwise):
                missing = [read for o in node.operands
                           if (read := (o, at if o.type.shape else (), under)) not in self._memo]
                if missing:
                    stack.extend(missing)
                    continue
            self._depth += 1
            try:
                self._memo[key] = self._compute(current, at, under)
            except _TooDeep as deeper:
                if self._depth > 1:
                    raise
                stack.append(deeper.read)
            finally:
                self._depth -= 1
        return self._memo[wanted]

    def _compute(self, value: Value, index: IndexTuple, guard: int | None) -> int:
        node = value.node
        if node.op.name == "input":
            return self._load(value, index, guard)
        context = _NodeContext(self, node, guard)
        found = node.op.scalar(context, index, tuple([v.type for v in node.operands]), value.type)
        if guard is not None and not context.is_forwarded(found):
            zero = self.const(False if value.dtype is dt.bool_ else 0, value.dtype)
            found = self.emit("select", value.dtype, guard, found, zero)
        return found

    def _load(self, value: Value, index: IndexTuple, guard: int | None) -> int:
        address = self.address(self.lowering.param_of[value], value, index, guard)
        return self.emit("load", value.dtype, attr=address)

    def address(self, param: int, value: Value, index: IndexTuple, guard: int | None = None) -> Address:
        """Where the element at `index` of a row-major buffer lies."""
        position = linearize(index, value.type.static_shape)
        strides = tuple(sorted((n, c) for (kind, n), c, _ in position.terms if kind == "dim"))
        dynamic = tuple(sorted((n, c) for (kind, n), c, _ in position.terms if kind == "value"))
        return Address(param, position.offset, strides, dynamic, guard)

    # -- writing instructions ---------------------------------------------------------------------------------------

    def emit(self, op: str, dtype: DType, *operands: int, attr: Any = None) -> int:
        known = self.const_of.get(operands[0]) if op in ("isnan", "select") else None
        if known is not None:
            return self.const(known != known, dt.bool_) if op == "isnan" else operands[1 if known else 2]
        key = (op, dtype, operands, type(attr), repr(attr) if isinstance(attr, float) else attr)
        found = self._pure.get(key)
        if found is None:
            found = self._pure[key] = self.lowering.fresh_id()
            self.instrs.append(Instr(found, op, dtype, operands, attr))
        return found

    def const(self, value: float | int | bool, dtype: DType) -> int:
        if dtype.is_floating_point:
            value = float(value)
        elif dtype is dt.bool_:
            value = bool(value)
        elif not isinstance(value, Dim):
            value = int(value)
        id = self.emit("const", dtype, attr=value)
        self.const_of[id] = value
        return id

    def value_of(self, index: Index) -> int:
        if not index.terms:
            return self.const(index.offset, dt.i64)
        strides = tuple(sorted((n, c) for (kind, n), c, _ in index.terms if kind == "dim"))
        dynamic = tuple(sorted((n, c) for (kind, n), c, _ in index.terms if kind == "value"))
        if not strides and not index.offset and len(dynamic) == 1 and dynamic[0][1] == 1:
            return dynamic[0][0]
        return self.emit(AFFINE, dt.i64, attr=Address(-1, index.offset, strides, dynamic))

    def index_of(self, value: int, extent: int) -> Index:
        return Index.value(value, extent)

    def within(self, index: Index, low: int, high: int) -> int | None:
        guard = None
        if not reaches(index.low, low):
            guard = self.emit("ge", dt.bool_, self.value_of(index), self.const(low, dt.i64))
        if not reaches(high, index.high + 1):
            below = self.emit("lt", dt.bool_, self.value_of(index), self.const(high, dt.i64))
            guard = self.both(guard, below)
        return guard

    def both(self, a: int | None, b: int | None) -> int | None:
        if a is None or b is None:
            return b if a is None else a
        return self.emit("and", dt.bool_, a, b)


class _NodeContext:
    """The ScalarContext that one node's `scalar` rule sees."""

    def __init__(self, body: Body, node: Node, guard: int | None):
        self._body, self._node, self._guard = body, node, guard
        self._forwarded: set[int] = set()
        self.const, self.value_of = body.const, body.value_of
        self.index_of, self.within, self.both = body.index_of, body.within, body.both

    def operand(self, position: int, index: IndexTuple, guard: int | None = None) -> int:
        value = self._body.read(self._node.operands[position], index, self._body.both(self._guard, guard))
        self._forwarded.add(value)
        return value

    def emit(self, op: str, dtype: DType, *operands: int, attr: Any = None) -> int:
        """Where the guard is false operands read as 0: that must not fail a check or divide by zero."""
        body, guard = self._body, self._guard
        if guard is not None and op == "check":
            operands = (body.emit("or", dt.bool_, operands[0], body.emit("not", dt.bool_, guard)), operands[1])
        elif op in _DIVISIONS and not dtype.is_floating_point:
            operands = (operands[0], self._divisor(operands[1], dtype))
        return body.emit(op, dtype, *operands, attr=attr)

    def _divisor(self, value: int, dtype: DType) -> int:
        """The divisor, checked to be no zero unless it is a number known here."""
        body, guard = self._body, self._guard
        if body.const_of.get(value):
            return value
        if guard is not None:
            value = body.emit("select", dtype, guard, value, body.const(1, dtype))
        fine = body.emit("ne", dt.bool_, value, body.const(0, dtype))
        body.emit("check", dt.bool_, fine, body.const(0, dt.i64), attr=INT_DIVISION)
        return value

    def is_forwarded(self, value: int) -> bool:
        """A view's element is its operand's, which is already 0 where the guard is false."""
        return value in self._forwarded


class RegionLowering:
    """One fusion node being lowered to loops."""

    def __init__(self, node: Node, name: str):
        assert isinstance(node.op, ops.Fusion), f"{node!r} is no fusion"
        self.node, self.name, self.region = node, name, node.regions[0]
        self.space = Space(node.op)
        self.param_of: dict[Value, int] = {v: n for n, v in enumerate(self.region.inputs)}
        self._next_id = 0
        self._reduced: dict[Value, tuple[IndexTuple, int, DType]] = {}

    def fresh_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1

    def known(self, body: Body, value: Value, index: IndexTuple) -> int | None:
        """A value some earlier stage reduced."""
        found = self._reduced.get(value)
        if found is None:
            if isinstance(value.node.op, ops.Reduction):
                raise GraphError(f"{value!r} is read before it is reduced")
            return None
        at, id, dtype = found
        if at != index and value.type.numel:            # what has no elements is never read
            raise GraphError(f"{value!r} was reduced at {at}, read at {index}")
        return id if dtype is value.dtype else body.emit("cast", value.dtype, id)

    def loops(self) -> LoopKernel:
        """The region's kernel: its operands, then its results, are the params."""
        op = self.node.op
        assert isinstance(op, ops.Fusion)
        reductions = [n for n in self.region.toposort() if isinstance(n.op, ops.Reduction)]
        rows = {n: (self.space.index(row), self.space.index(read))
                for n, (row, read) in zip(reductions, op.rows, strict=True)}
        stores = [(v, self.space.index(at)) for v, at in zip(self.region.outputs, op.stores, strict=True)]
        level_of = _levels(self.region)
        last = max((level_of[n] for n in reductions), default=0)
        stages = []
        for level in range(1, last + 1):
            now = [n for n in reductions if level_of[n] == level]
            full = [s for s in stores if not self.space.is_row(s[1]) and _level(s[0], level_of) == level - 1]
            stages.append(self._reduce_stage(now, rows, full))
        if self.space.inner and last:
            full = [s for s in stores if not self.space.is_row(s[1]) and _level(s[0], level_of) >= last]
            row_stores = [s for s in stores if self.space.is_row(s[1])]
            stages += [self._store_stage(self.space.inner, full)] if full else []
            stages += [self._store_stage((), row_stores)] if row_stores else []
        else:
            rest = [s for s in stores if _level(s[0], level_of) >= last or self.space.is_row(s[1])]
            stages += [self._store_stage((), rest)] if rest else []
        return self._kernel(tuple(stages))

    def _reduce_stage(self, reductions: Sequence[Node], rows: Mapping[Node, tuple[IndexTuple, IndexTuple]],
                      stores: Sequence[tuple[Value, IndexTuple]]) -> Stage:
        body = Body(self)
        made = []
        for node in reductions:
            row, read = rows[node]
            value, dtype = body.read(node.operands[0], read), node.operands[0].dtype
            combiner = node.op.combiner                     # type: ignore[attr-defined]
            if dtype in (dt.f16, dt.bf16) and combiner in ("sum", "prod"):
                value, dtype = body.emit("cast", dt.f32, value), dt.f32
            if dtype is dt.bool_ and combiner in ("max", "min"):
                combiner = "any" if combiner == "max" else "all"
            result = dt.i64 if combiner in ("argmax", "argmin") else dtype
            id = self.fresh_id()
            made.append(Reduction(id, combiner, value, result))
            self._reduced[node.results[0]] = (row, id, result)
        written = [self._store(body, *s) for s in stores]
        return Stage(self.space.inner, tuple(body.instrs), tuple(made), tuple(written))

    def _store_stage(self, dims: tuple[int, ...], stores: Sequence[tuple[Value, IndexTuple]]) -> Stage:
        body = Body(self)
        written = [self._store(body, *s) for s in stores]
        return Stage(dims, tuple(body.instrs), (), tuple(written))

    def _store(self, body: Body, value: Value, index: IndexTuple) -> Store:
        param = len(self.region.inputs) + next(i for i, v in enumerate(self.region.outputs) if v is value)
        return Store(body.address(param, value, index), body.read(value, index))

    def _kernel(self, stages: tuple[Stage, ...]) -> LoopKernel:
        return LoopKernel(self.name, params_of(self.region), self.space.extents, self.space.n_parallel, stages,
                          locations=locations(self.region))


def params_of(region: Graph) -> tuple[Param, ...]:
    """The params of a region's kernel: its inputs, then its outputs."""
    return (*[Param(f"in{n}", v.dtype, v.type.numel, "in") for n, v in enumerate(region.inputs)],
            *[Param(f"out{n}", v.dtype, v.type.numel, "out") for n, v in enumerate(region.outputs)])


def locations(region: Graph) -> tuple[str, ...]:
    """The user lines a region computes, in order, each once."""
    return tuple(dict.fromkeys(str(n.loc) for n in region.toposort() if n.loc is not None))


@dataclass(frozen=True)
class Fault:
    """How bad data may end a kernel, in the user's words. message: "{0}" is what was found. line: of the op, or ""."""

    status: int
    message: str
    line: str


def faults(region: Graph) -> tuple[Fault, ...]:
    """Those of a region's ops, each once."""
    found = []
    for node in region.toposort():
        fault = node.op.fault([v.type for v in node.operands], [v.type for v in node.results])
        if fault is not None:
            (status, message), loc = fault, node.loc
            called = loc.called if loc is not None else ""
            if not called and isinstance(node.op, ops.Elementwise):
                called = node.op.name
            if called not in ("", "index"):
                message = f"{called}{f' of {loc.module}' if loc is not None and loc.module else ''}: {message}"
            found.append(Fault(status, message, "" if loc is None else str(loc)))
    return tuple(dict.fromkeys(found))


def _levels(region: Graph) -> dict[Node, int]:
    """How many reductions, one after another, lie between memory and each node (a reduction counts itself)."""
    level_of: dict[Node, int] = {}
    for node in region.toposort():
        level = max((level_of[v.node] for v in node.operands), default=0)
        level_of[node] = level + isinstance(node.op, ops.Reduction)
    return level_of


def _level(value: Value, level_of: Mapping[Node, int]) -> int:
    return level_of[value.node]
