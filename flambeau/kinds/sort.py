"""Stable sorts along a dim: rows of a strided operand -> the first of their elements in order, and where those stood.

    sort @k0 {
      in in0: f32[24]
      out out0: f32[8]
      out out1: i64[8]
      rows %i0 = 4
      along %i1 = 6
      keep %i2 = 2
      sort in0[%i0*6 + %i1] descending
      values out0[%i0*2 + %i2]
      indices out1[%i0*2 + %i2]
      schedule method="count", tasks=1, parallel=false
    }

Machine code compares integers: a key of an element's own width, whose unsigned order is the order that `ops.Sort` means.
A schedule names one of three methods, all stable and none recursive:

- "count", for short rows: an element's place is how many come before it, counted by vector comparisons.
- "radix", for long rows: (key, position) pairs are moved to buckets of one byte of the key after another, least
  significant byte first; a byte that all keys share is left out. Linear time, whatever the data.
- "select", for the first few of a long row: only what is before the last of the first few so far is kept, in a buffer
  that radix passes cut back when it is full. Linear time too.

Rows run in parallel, a row on one thread.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import llvmlite.ir as ll
import numpy as np

from flambeau.codegen.artifact import Phase
from flambeau.codegen.cpu.llvm.emitter import (
    I32,
    I64,
    PTR,
    Emitter,
    SplatConstant,
    new_kernel,
    vector_type,
)
from flambeau.ir import dtypes, ops
from flambeau.ir.graph import Node, Value
from flambeau.ir.index_maps import Index
from flambeau.ir.kernel import Address, Kernel, Param
from flambeau.ir.kernel.base import map_address
from flambeau.ir.kinds import Implementation, Kind
from flambeau.ir.records import dataclass
from flambeau.ir.target import Target
from flambeau.passes.lowering.loops import Body, RegionLowering, locations
from flambeau.passes.lowering.lower import Call
from flambeau.passes.lowering.spaces import IndexTuple, is_view, pull

if TYPE_CHECKING:
    from flambeau.ir.kernel.interpreter import Machine
    from flambeau.ir.kernel.parser import Parser
    from flambeau.ir.kernel.text import Printer
    from flambeau.ir.kernel.verifier import Checker

Method = Literal["count", "radix", "select"]


# -- the kernel -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SortSchedule:
    """method: how a row is put in order. tasks: how many parts the rows are cut into, each with scratch of its own.
    parallel: worth more than one thread."""

    method: Method
    tasks: int = 1
    parallel: bool = True


@dataclass(frozen=True, slots=True)
class TileSortSchedule:
    """For a device of many threads in blocks. tile: elements that a block puts in order; longer rows are merged from such
    tiles. 1: a thread for each element counts those before it."""

    tile: int


@dataclass(frozen=True)
class SortKernel(Kernel):
    """`extents` are those of the row dims, then the length of a row, then how many of its elements are kept. source walks
    the row dims and the length, values and indices (None where nobody asks) the row dims and what is kept."""

    keyword = "sort"
    schedules = {"schedule": SortSchedule, "tiles": TileSortSchedule}

    source: Address
    values: Address | None
    indices: Address | None
    descending: bool = False

    @property
    def n_rows(self) -> int:
        return prod(int(extent) for extent in self.extents[:-2])

    @property
    def length(self) -> int:
        return int(self.extents[-2])

    @property
    def keep(self) -> int:
        return int(self.extents[-1])

    @property
    def dtype(self) -> dtypes.DType:
        return self.params[self.source.buffer].dtype

    def results(self) -> Iterator[tuple[str, Address, dtypes.DType]]:
        """(name, where it goes, dtype) of what is asked for."""
        for name, address, dtype in (("values", self.values, self.dtype), ("indices", self.indices, dtypes.i64)):
            if address is not None:
                yield name, address, dtype

    def addresses(self) -> Iterator[Address]:
        yield self.source
        yield from (address for _, address, _ in self.results())

    def map(self, *, address: Callable[[Address], Address] | None = None, value: Callable[[int], int] | None = None,
            dim: Callable[[int], int | None] | None = None) -> Self:
        source, values, indices = (old and map_address(old, address=address, value=value, dim=dim)
                                   for old in (self.source, self.values, self.indices))
        assert source is not None
        return replace(self, source=source, values=values, indices=indices)

    def lines(self, printer: Printer) -> Iterator[str]:
        *rows, along, kept = printer.extents(self.extents)
        if rows:
            yield f"  rows {', '.join(rows)}"
        yield f"  along {along}"
        yield f"  keep {kept}"
        yield f"  sort {printer.address(self.source)}{' descending' if self.descending else ''}"
        yield from (f"  {name} {printer.address(address)}" for name, address, _ in self.results())

    @classmethod
    def read(cls, parser: Parser, name: str) -> Self:
        cursor = parser.cursor
        extents = parser.extents(0, static=True) if cursor.accept("rows") else ()
        for word in ("along", "keep"):
            cursor.require(word)
            start, found = cursor.token, parser.extents(len(extents), static=True)
            if len(found) != 1:
                cursor.fail("one dim", start)
            extents += found
        cursor.require("sort")
        source, descending = parser.address(), cursor.accept("descending")
        values, indices = [parser.address() if cursor.accept(word) else None for word in ("values", "indices")]
        return cls(name, tuple(parser.params), extents, source, values, indices, descending)

    def check(self, checker: Checker) -> None:
        rows = set(range(len(self.extents) - 2))
        along, kept = len(rows), len(rows) + 1
        if self.keep > self.length:
            checker.fail(f"can't keep {self.keep} of {self.length} elements")
        checker.reads_nothing = 0 in self.extents
        checker.check_address(self.source, rows | {along}, "sort")
        checker.check_read(self.source.buffer, "sort")
        for name, address, dtype in self.results():
            checker.check_address(address, rows | {kept}, name)
            param = self.params[address.buffer]
            if param.role != "out" or address.buffer in checker.stored:
                checker.fail(f"param {param.name} is no result of its own", name)
            if param.dtype is not dtype:
                checker.fail(f"param {param.name} is {param.dtype}, the {name} are {dtype}", name)
            checker.stored.add(address.buffer)
        if any(address.dynamic or address.guard is not None for address in self.addresses()):
            checker.fail("its addresses have neither gathered parts nor guards", "sort")
        if isinstance(self.schedule, TileSortSchedule):
            checker.require_positive(self.schedule, ("tile",))
            if self.schedule.tile & (self.schedule.tile - 1):
                checker.fail(f"tile={self.schedule.tile} is no power of two")
        elif self.schedule is not None:
            checker.require_positive(self.schedule, ("tasks",))
            if self.schedule.method == "select" and self.length < _capacity(self) and 0 not in self.extents:
                checker.fail(f"method=\"select\" begins with {_capacity(self)} elements, a row has {self.length}")

    def storing_mistake(self, number: int) -> str:
        """The strides of a result, in order, must be 1, then the product of the extents so far, and so on."""
        (address,) = (address for _, address, _ in self.results() if address.buffer == number)
        reached = 1
        for stride, extent in sorted((stride, int(self.extents[dim])) for dim, stride in address.strides):
            reached *= extent if stride == reached else 0
        walked = prod(int(extent) for dim, extent in enumerate(self.extents) if dim != len(self.extents) - 2)
        fills = reached == walked == self.params[number].elements and not address.offset
        return "" if fills or walked == self.params[number].elements == 0 else "its elements are not stored once each"

    def run(self, machine: Machine) -> None:
        if 0 in self.extents:                   # nothing is read
            for _, address, dtype in self.results():
                machine.store(address.buffer, np.empty(0, dtype.compute))
            return
        rows = len(self.extents) - 2
        x = machine.loaded(self.source, tuple(range(rows + 1)))
        found = ops.Sort(rows, self.descending, self.keep).evaluate(x)
        for name, address, _ in self.results():
            array = found[name == "indices"]
            place = np.full(array.shape, address.offset)
            for axis, dim in enumerate((*range(rows), rows + 1)):
                walked = [array.shape[axis] if a == axis else 1 for a in range(rows + 1)]
                place += address.stride_of(dim) * np.arange(array.shape[axis]).reshape(walked)
            flat = np.empty(array.size, array.dtype)
            flat[place.ravel()] = array.ravel()
            machine.store(address.buffer, flat)


# -- from a fused group -----------------------------------------------------------------------------------------------


def _lower(node: Node, name: str) -> list[Call]:
    lowering = RegionLowering(node, name)
    region = lowering.region
    (sort,) = (n for n in region.toposort() if isinstance(n.op, ops.Sort))
    assert isinstance(sort.op, ops.Sort)
    dim, shape, kept = sort.op.dim, sort.operands[0].type.static_shape, sort.results[0].type.static_shape
    rows = [size for d, size in enumerate(shape) if d != dim]

    def index(along: int, size: int) -> IndexTuple:
        around = [Index.dim(number, extent) for number, extent in enumerate(rows)]
        return (*around[:dim], Index.dim(along, size), *around[dim:])

    def result(value: Value) -> Address | None:
        if value not in region.outputs:
            return None
        param = len(region.inputs) + region.outputs.index(value)
        return Body(lowering).address(param, value, index(len(rows) + 1, kept[dim]))

    source = _seen_through_views(lowering, sort.operands[0], index(len(rows), shape[dim]))
    params = [Param(f"in{n}", v.dtype, v.type.numel, "in") for n, v in enumerate(region.inputs)]
    params += [Param(f"out{n}", v.dtype, v.type.numel, "out") for n, v in enumerate(region.outputs)]
    values, indices = map(result, sort.results)
    kernel = SortKernel(name, tuple(params), (*rows, shape[dim], kept[dim]), source, values, indices, sort.op.descending,
                        locations=locations(region))
    return [Call(_collapsed(kernel), (*node.operands, *node.results), (), node.phase)]


def _seen_through_views(lowering: RegionLowering, value: Value, index: IndexTuple) -> Address:
    """Where an operand lies that is read through views."""
    while is_view(value.node):
        pulled = pull(value.node, index)
        assert pulled is not None, f"{value!r} has no affine address; fuse should have materialized it"
        index, value = pulled, value.node.operands[0]
    return Body(lowering).address(lowering.param_of[value], value, index)


def _collapsed(kernel: SortKernel) -> SortKernel:
    """Row dims of one point go, and neighbours that memory joins become one."""
    for outer in reversed(range(len(kernel.extents) - 2)):
        kernel = _without(kernel, outer, outer + 1)
    return kernel


def _without(kernel: SortKernel, outer: int, inner: int) -> SortKernel:
    sizes = [int(extent) for extent in kernel.extents]
    joins = inner < len(sizes) - 2 and all(a.stride_of(outer) == sizes[inner] * a.stride_of(inner)
                                           for a in kernel.addresses())
    if not joins and sizes[outer] != 1:
        return kernel
    if joins:
        sizes[inner] *= sizes[outer]
    moved = kernel.map(dim=lambda d: None if d == outer else d - (d > outer))
    return replace(moved, extents=(*sizes[:outer], *sizes[inner:]))


# -- what it costs ----------------------------------------------------------------------------------------------------

_BUCKETS: Final = 256                       # one for each value of a byte
_PARALLEL_NS: Final = 5000.0
_TASKS_PER_CORE: Final = 4
_LARGE_SCRATCH: Final = 1 << 20             # bytes that a task needs before there is but one for each core


def _schedule(kernel: SortKernel, target: Target) -> SortKernel:
    length, size = kernel.length, kernel.dtype.itemsize
    lanes = target.lanes(max(4, size))
    cycles = {"count": length * (3.0 * -(-length // lanes) + 12), "radix": _radix_cycles(length, size)}
    if length >= 4 * _capacity(kernel):
        cycles["select"] = length * 8.0 / lanes + 6 * _radix_cycles(_capacity(kernel), size)
    method: Any = min(cycles, key=cycles.__getitem__)
    nanoseconds = kernel.n_rows * cycles[method] / 3
    tasks = _TASKS_PER_CORE * target.cores
    if method != "count" and _scratch_bytes(kernel, method) > _LARGE_SCRATCH:
        tasks = target.cores
    tasks = max(1, min(kernel.n_rows, tasks)) if target.cores > 1 and nanoseconds >= _PARALLEL_NS else 1
    return replace(kernel, schedule=SortSchedule(method, tasks, parallel=tasks > 1))


def _radix_cycles(length: int, size: int) -> float:
    return size * (_BUCKETS * 3.0 + length * (5.0 if size < 8 else 8.0)) + 8 * length


def _capacity(kernel: SortKernel) -> int:
    """How many candidates for the first few are gathered before they are cut back: more of them are cut less often, and
    let more through until then."""
    return max(32, min(512, kernel.length // 16), 2 * kernel.keep)


def _is_wide(kernel: SortKernel) -> bool:
    """Whether a key and a position need 16 bytes; else they share 8."""
    return kernel.dtype.itemsize == 8 or kernel.length >= 1 << 31


def _scratch_bytes(kernel: SortKernel, method: str) -> int:
    """Of one task: two arrays of pairs, to move them to and fro."""
    pairs = _capacity(kernel) if method == "select" else kernel.length
    return -(-2 * pairs * (16 if _is_wide(kernel) else 8) // 64) * 64


# -- machine code -----------------------------------------------------------------------------------------------------


def _emit(kernel: SortKernel, module: ll.Module, symbol: str, target: Target) -> tuple[list[Phase], Sequence[int]]:
    """One phase over the schedule's tasks; none where nothing is stored."""
    if 0 in (kernel.n_rows, kernel.keep):
        return [], ()
    schedule = kernel.schedule
    assert isinstance(schedule, SortSchedule), f"{kernel.name} is not scheduled"
    scratch = () if schedule.method == "count" else (schedule.tasks * _scratch_bytes(kernel, schedule.method),)
    emission = {"count": _Count, "radix": _Radix, "select": _Select}[schedule.method](kernel, module, symbol, target)
    emission.emit()
    params = tuple(range(len(kernel.params) + len(scratch)))
    return [Phase(symbol, schedule.tasks, params, parallel=schedule.parallel)], scratch


class _Emission:
    """The function that sorts the rows of its tasks, but for how a row is sorted."""

    def __init__(self, kernel: SortKernel, module: ll.Module, symbol: str, target: Target) -> None:
        self.kernel, self.module, self.symbol, self.target = kernel, module, symbol, target
        self.bits = 8 * kernel.dtype.itemsize
        self.raw = f"i{self.bits}"                              # the dtype elements are moved as
        self.stride = kernel.source.stride_of(len(kernel.extents) - 2)
        self.kept_dim = len(kernel.extents) - 1

    def emit(self) -> None:
        self.b = b = new_kernel(self.module, self.symbol, self.target)
        kernel, tasks = self.kernel, self.kernel.schedule.tasks
        rows_of_task = -(-kernel.n_rows // tasks)
        self.prepare()

        def task(number: ll.Value) -> None:
            self.task = number
            first = b.mul(number, b.index(rows_of_task))
            last = b.overloaded("smin", b.add(first, b.index(rows_of_task)), b.index(kernel.n_rows))
            b.loop(first, last, 1, self.row_at, name="row")

        b.loop(b.kernel.begin, b.kernel.end, 1, task, name="task")
        b.succeed()

    def prepare(self) -> None:
        """What is done once for all tasks."""

    def row(self) -> None:
        """Sort the row at `self.source`."""
        raise NotImplementedError

    def row_at(self, number: ll.Value) -> None:
        b, kernel = self.b, self.kernel
        places: list[ll.Value] = []
        rest = number
        for extent in reversed(kernel.extents[:-2]):
            places.append(b.urem(rest, b.index(int(extent))))
            rest = b.udiv(rest, b.index(int(extent)))
        self.places = places[::-1]
        self.source = self.pointer(kernel.source)
        self.targets = {name: self.pointer(address) for name, address, _ in kernel.results()}
        self.row()

    def pointer(self, address: Address) -> ll.Value:
        """Where the row at `self.places` begins."""
        b, offset = self.b, self.b.index(address.offset)
        for dim, place in enumerate(self.places):
            offset = b.add(offset, b.mul(place, b.index(address.stride_of(dim))))
        return b.element(b.buffer(address.buffer), offset, self.kernel.params[address.buffer].dtype.name)

    def element(self, position: ll.Value, lanes: int = 1, active: int | None = None) -> ll.Value:
        """The bits of elements from `position` on; several only where they lie side by side."""
        return self.b.load_vector(self.source, self.b.mul(position, self.b.index(self.stride)), self.raw, lanes, active)

    def put(self, rank: ll.Value, position: ll.Value) -> None:
        """The element at `position` is the one at `rank` in order."""
        for name, address, _ in self.kernel.results():
            at = self.b.mul(rank, self.b.index(address.stride_of(self.kept_dim)))
            if name == "values":
                self.b.store_vector(self.element(position), self.targets[name], at, self.raw)
            else:
                self.b.store_vector(position, self.targets[name], at, "i64")

    def key(self, x: ll.Value) -> ll.Value:
        """The bits of elements -> integers whose unsigned order is theirs. Floats: the sign decides which bits are turned;
        both zeros are one, and so are all NaN."""
        b, kind, sign = self.b, x.type, 1 << self.bits - 1
        dtype = self.kernel.dtype
        if dtype.is_floating_point:
            magnitude = b.and_(x, _splat(kind, sign - 1))
            is_zero = b.icmp_unsigned("==", magnitude, _splat(kind, 0))
            is_nan = b.icmp_unsigned(">", magnitude, _splat(kind, _INFINITY[dtype.name]))
            x = b.select(is_zero, _splat(kind, 0), x)
            turned = b.or_(b.ashr(x, _splat(kind, self.bits - 1)), _splat(kind, sign))
            x = b.select(is_nan, _splat(kind, 2 * sign - 1), b.xor(x, turned))
        elif dtype.is_signed:
            x = b.xor(x, _splat(kind, sign))
        return b.xor(x, _splat(kind, 2 * sign - 1)) if self.kernel.descending else x


_INFINITY: Final = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF0000000000000}


def _splat(kind: ll.Type, number: int) -> ll.Constant:
    """The number in every lane of an integer type."""
    element = kind.element if isinstance(kind, ll.VectorType) else kind
    scalar = ll.Constant(element, number - (1 << element.width) if number >> element.width - 1 else number)
    return SplatConstant(scalar, kind.count) if isinstance(kind, ll.VectorType) else scalar


class _Count(_Emission):
    """place of x[i] = how many of x[:i] are not greater + how many of x[i + 1:] are less."""

    def prepare(self) -> None:
        b, length = self.b, self.kernel.length
        self.width = max(32, self.bits)
        self.lanes = self.target.lanes(self.width // 8)
        self.padded = -(-length // self.lanes) * self.lanes
        self.keys = b.stack(f"i{self.width}", self.padded)
        if self.stride != 1:                                    # no key is less than the greatest
            greatest = _splat(vector_type(ll.IntType(self.width), self.lanes), (1 << self.width - 1) - 1)
            b.store_vector(greatest, self.keys, self.padded - self.lanes, f"i{self.width}")

    def row(self) -> None:
        b, length, lanes = self.b, self.kernel.length, self.lanes
        if self.stride == 1:
            whole = length // lanes * lanes
            b.loop(0, whole, lanes, lambda at: self.note(at, self.signed_key(self.element(at, lanes))), name="keys")
            if whole < length:
                keys = self.signed_key(self.element(b.index(whole), lanes, length - whole))
                greatest = _splat(keys.type, (1 << self.width - 1) - 1)
                self.note(b.index(whole), b.select(b.tail_mask(lanes, length - whole), keys, greatest))
        else:
            b.loop(0, length, 1, lambda at: self.note(at, self.signed_key(self.element(at))), name="keys")
        b.loop(0, length, 1, self.place, name="place")

    def note(self, at: ll.Value, keys: ll.Value) -> None:
        self.b.store_vector(keys, self.keys, at, f"i{self.width}")

    def signed_key(self, x: ll.Value) -> ll.Value:
        """Vector units compare signed integers."""
        key, sign = self.key(x), 1 << self.bits - 1
        if self.bits < self.width:
            return self.b.zext(key, vector_type(ll.IntType(self.width), _lanes(key)))
        return self.b.xor(key, _splat(key.type, sign))

    def place(self, position: ll.Value) -> None:
        b, lanes, name = self.b, self.lanes, f"i{self.width}"
        key = b.splat(b.load_scalar(self.keys, position, name), lanes)
        block = b.and_(position, b.index(-lanes))
        kind = key.type

        def counted(found: ll.Value, is_before: ll.Value) -> ll.Value:
            return b.sub(found, b.sext(is_before, kind))

        def compare(order: str) -> Callable[..., ll.Value]:
            return lambda at, found: counted(
                found, b.icmp_signed(order, b.load_vector(self.keys, at, name, lanes), key))

        (found,) = b.loop(0, block, lanes, compare("<="), [ll.Constant(kind, None)], name="before")
        here = b.load_vector(self.keys, block, name, lanes)
        lane = b.splat(b.trunc(b.sub(position, block), ll.IntType(self.width)), lanes)
        is_earlier = b.icmp_signed("<", b.iota(lanes, ll.IntType(self.width)), lane)
        is_equal = b.and_(b.icmp_signed("==", here, key), is_earlier)
        found = counted(found, b.or_(b.icmp_signed("<", here, key), is_equal))
        (found,) = b.loop(b.add(block, b.index(lanes)), self.padded, lanes, compare("<"), [found], name="after")
        rank = b.widen_index(b.reduce("add", found))
        if self.kernel.keep == self.kernel.length:
            self.put(rank, position)
            return
        with b.if_then(b.icmp_signed("<", rank, b.index(self.kernel.keep))):
            self.put(rank, position)


def _lanes(value: ll.Value) -> int:
    return value.type.count if isinstance(value.type, ll.VectorType) else 1


class _Radix(_Emission):
    """Pairs of a key and a position: one i64 with the key above, or two."""

    def prepare(self) -> None:
        self.wide = _is_wide(self.kernel)
        self.pair_bytes, self.pair = (16, ll.VectorType(I64, 2)) if self.wide else (8, I64)
        self.passes = _Passes(self).emit()

    @property
    def capacity(self) -> int:
        """Pairs in each of the two arrays of scratch."""
        return self.kernel.length

    def row(self) -> None:
        b = self.b
        self.locate()
        self.gather(0, self.kernel.length)
        self.put_first(self.ordered(b.index(self.kernel.length)))

    def locate(self) -> None:
        b, size = self.b, _scratch_bytes(self.kernel, self.kernel.schedule.method)
        self.pairs = b.byte(b.buffer(len(self.kernel.params)), b.mul(self.task, b.index(size)))
        self.spare = b.byte(self.pairs, b.index(self.capacity * self.pair_bytes))

    def gather(self, first: int, count: int) -> None:
        """The first `count` pairs of the row."""
        self.b.loop(first, count, 1, lambda at: self.append(at, self.key(self.element(at)), at), name="gather")

    def append(self, place: ll.Value, key: ll.Value, position: ll.Value) -> None:
        b = self.b
        key = b.zext(key, I64)
        if self.wide:
            b.store(key, b.element(self.pairs, b.mul(place, b.index(2)), I64), align=8)
            b.store(position, b.element(self.pairs, b.add(b.mul(place, b.index(2)), b.index(1)), I64), align=8)
        else:
            b.store(b.or_(b.shl(key, b.index(32)), position), b.element(self.pairs, place, I64), align=8)

    def ordered(self, count: ll.Value) -> ll.Value:
        """Where the first `count` pairs lie in order."""
        return self.b.call(self.passes, [self.pairs, self.spare, count], cconv="fastcc")

    def put_first(self, pairs: ll.Value) -> None:
        b = self.b

        def put(rank: ll.Value) -> None:
            if self.wide:
                position = b.load(b.element(pairs, b.add(b.mul(rank, b.index(2)), b.index(1)), I64), typ=I64, align=8)
            else:
                pair = b.load(b.element(pairs, rank, I64), typ=I64, align=8)
                position = b.and_(pair, b.index((1 << 32) - 1))
            self.put(rank, position)

        b.loop(0, self.kernel.keep, 1, put, name="put")


class _Passes:
    """`ptr name(pairs, spare, count)`: sort pairs, at least one, by keys of `size` bytes, moving them between the two
    arrays; the one they end in."""

    def __init__(self, emission: _Radix) -> None:
        self.size, self.pair, self.shift = emission.kernel.dtype.itemsize, emission.pair, 0 if emission.wide else 32
        self.counter = I32 if emission.kernel.length < 1 << 31 else I64
        name = f"{emission.symbol}_passes"
        self.function = ll.Function(emission.module, ll.FunctionType(PTR, [PTR, PTR, I64]), name)
        self.function.linkage, self.function.calling_convention = "internal", "fastcc"
        for attribute in ("noinline", "nounwind"):
            self.function.attributes.add(attribute)
        self.b = Emitter(self.function.append_basic_block("entry"), emission.target)

    def emit(self) -> ll.Function:
        b, (source, spare, count) = self.b, self.function.args
        self.counts = b.stack(self.counter, self.size * _BUCKETS)

        def clear(at: ll.Value) -> None:
            b.store(ll.Constant(ll.VectorType(self.counter, 8), None), b.element(self.counts, at, self.counter), align=8)

        def count_bytes(at: ll.Value) -> None:
            for number in range(self.size):
                self.bump(self.bucket(source, at, number))

        b.loop(0, self.size * _BUCKETS, 8, clear, name="clear")
        b.loop(0, count, 1, count_bytes, name="count")
        for number in range(self.size):
            source, spare = self.one(number, source, spare, count)
        b.ret(source)
        return self.function

    def one(self, number: int, source: ll.Value, spare: ll.Value, count: ll.Value) -> list[ll.Value]:
        """The pass over byte `number`. Nothing is moved where all pairs are in one bucket."""
        b = self.b
        most = b.load(self.bucket(source, b.index(0), number), typ=self.counter, align=4)
        is_shared = b.icmp_unsigned("==", b.zext(most, I64), count)
        return b.branch_values(is_shared, lambda: [source, spare], lambda: self.move(number, source, spare, count))

    def move(self, number: int, source: ll.Value, spare: ll.Value, count: ll.Value) -> list[ll.Value]:
        b, pair = self.b, self.pair

        def start(at: ll.Value, before: ll.Value) -> ll.Value:
            place = b.element(self.counts, b.add(at, b.index(_BUCKETS * number)), self.counter)
            found = b.load(place, typ=self.counter, align=4)
            b.store(before, place, align=4)
            return b.add(before, found)

        def scatter(at: ll.Value) -> None:
            place = b.zext(self.bump(self.bucket(source, at, number)), I64)
            b.store(b.load(b.element(source, at, pair), typ=pair, align=8), b.element(spare, place, pair), align=8)

        b.loop(0, _BUCKETS, 1, start, [ll.Constant(self.counter, 0)], name="start")
        b.loop(0, count, 1, scatter, name="scatter")
        return [spare, source]

    def bucket(self, pairs: ll.Value, at: ll.Value, number: int) -> ll.Value:
        """The count of the bucket that byte `number` of a key is in."""
        b = self.b
        key = b.load(b.element(pairs, at, self.pair), typ=I64, align=8)
        byte = b.and_(b.lshr(key, b.index(self.shift + 8 * number)), b.index(_BUCKETS - 1))
        return b.element(self.counts, b.add(byte, b.index(_BUCKETS * number)), self.counter)

    def bump(self, place: ll.Value) -> ll.Value:
        """The count at `place`, which grows by one."""
        found = self.b.load(place, typ=self.counter, align=4)
        self.b.store(self.b.add(found, ll.Constant(self.counter, 1)), place, align=4)
        return found


class _Select(_Radix):
    """A pair joins the buffer if its key is less than the last of the first few so far."""

    @property
    def capacity(self) -> int:
        return _capacity(self.kernel)

    def row(self) -> None:
        b, length = self.b, self.kernel.length
        lanes = self.target.lanes(self.kernel.dtype.itemsize) if self.stride == 1 else 1
        self.locate()
        self.gather(0, self.capacity)
        start = self.cut(b.index(self.capacity))
        whole = self.capacity + (length - self.capacity) // lanes * lanes
        state = b.loop(self.capacity, whole, lanes, lambda at, *state: self.scan(at, lanes, *state), start, name="scan")
        if whole < length:
            state = b.loop(whole, length, 1, lambda at, *state: self.scan(at, 1, *state), state, name="rest")
        self.put_first(self.ordered(state[0]))

    def scan(self, at: ll.Value, lanes: int, count: ll.Value, last: ll.Value) -> list[ll.Value]:
        """Take in the elements from `at` on. State: pairs in the buffer, the key that the next must be less than."""
        b = self.b
        keys = self.key(self.element(at, lanes))
        is_before = b.icmp_unsigned("<", keys, b.splat(last, lanes))
        if lanes == 1:
            return b.branch_values(is_before, lambda: self.taken(at, keys, count, last), lambda: [count, last])
        some = b.bitcast(is_before, ll.IntType(lanes))

        def take() -> list[ll.Value]:
            found = b.stack(self.raw, lanes)
            b.store_vector(keys, found, 0, self.raw)

            def one(lane: ll.Value, count: ll.Value, last: ll.Value) -> list[ll.Value]:
                key = b.load_scalar(found, lane, self.raw)
                is_less = b.icmp_unsigned("<", key, last)
                return b.branch_values(is_less, lambda: self.taken(b.add(at, lane), key, count, last),
                                       lambda: [count, last])

            return b.loop(0, lanes, 1, one, [count, last], name="lane")

        return b.branch_values(b.icmp_unsigned("!=", some, ll.Constant(some.type, 0)), take, lambda: [count, last])

    def taken(self, position: ll.Value, key: ll.Value, count: ll.Value, last: ll.Value) -> list[ll.Value]:
        b = self.b
        self.append(count, key, position)
        more = b.add(count, b.index(1))
        is_full = b.icmp_signed("==", more, b.index(self.capacity))
        return b.branch_values(is_full, lambda: self.cut(more), lambda: [more, last])

    def cut(self, count: ll.Value) -> list[ll.Value]:
        """Keep the first few of the buffer, in order."""
        b, pair = self.b, self.pair
        found = self.ordered(count)

        def keep(at: ll.Value) -> None:
            b.store(b.load(b.element(found, at, pair), typ=pair, align=8), b.element(self.pairs, at, pair), align=8)

        b.loop(0, self.kernel.keep, 1, keep, name="keep")
        last = b.load(b.element(self.pairs, self.kernel.keep - 1, pair), typ=I64, align=8)
        key = last if self.wide else b.lshr(last, b.index(32))
        return [b.index(self.kernel.keep), b.trunc(key, ll.IntType(self.bits))]


KIND = Kind("sort", SortKernel, _lower, reads="strided", implementations={"cpu": Implementation(_emit, _schedule)})
