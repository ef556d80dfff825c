"""Address -> LLVM loads and stores, by how the address moves from lane to lane.

    stride 1          one vector access
    stride 0          one scalar access, splatted
    stride -1         one vector access, lanes reversed
    other, dynamic    gather / scatter

Guards never branch: a scalar access that must not happen goes to a slot of zeros (loads) or of rubbish (stores) on
the stack, a vector one is masked. Uniform terms of an address are added at the loop level where they are known and
shared between accesses; what is left inside the loop is one displacement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from functools import cached_property

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import (
    I1,
    I8,
    I32,
    I64,
    PTR,
    Emitter,
    compute_type,
    constant,
    element_of,
    lanes_of,
    mangle,
    storage_bytes,
    storage_type,
    vector_type,
)
from flambeau.codegen.cpu.llvm.lltypes import undefined, zeros
from flambeau.codegen.cpu.llvm.numbers import Int, number_of
from flambeau.codegen.cpu.loops.plan import FUNCTION, INNERMOST, LoopPlan, kernel_addresses
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.codegen.cpu.loops.values import emit_add
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Extent, Stage, Store
from flambeau.ir.records import dataclass

_APART = 4                              # lanes at distances from one pointer, where strides are runtime numbers
_SLOT_BYTES = 512                       # a vector of 64 lanes of 8 bytes

_Term = tuple[str, int, Extent]         # ("dim", dim number, stride) or ("value", value id, stride)


@dataclass
class Memory:
    """The loads and stores of one kernel. `enter` a level before emitting in it."""

    scope: Scope
    _level_now: int = FUNCTION
    _pointers: dict[tuple[int, tuple[_Term, ...]], tuple[int, ll.Value]] = field(default_factory=dict)
    slots: dict[Address, ll.Value] = field(default_factory=dict)       # tiles on the stack, rows one after another
    tile_row: ll.Value | None = None                                    # the row at work, in a tile

    @property
    def emitter(self) -> Emitter:
        return self.scope.emitter

    @property
    def plan(self) -> LoopPlan:
        return self.scope.plan

    def enter(self, level: int) -> None:
        """Forget pointers made at `level` or deeper: their block does not dominate the one begun now."""
        self._level_now = level
        self._pointers = {key: entry for key, entry in self._pointers.items() if entry[0] < level}

    def prepare(self, stage: Stage, address: Address) -> None:
        """Make the part of the address that is known at the level entered, for accesses further in."""
        self._prefix(stage, address, self._level_now)

    def load(self, stage: Stage, address: Address, copy: int | None) -> ll.Value:
        """The elements an address names, in compute form; 0 where guarded off and in inactive lanes."""
        dtype = self._dtype(address)
        if self.tile_row is not None and address in self.slots:
            kind = vector_type(compute_type(dtype.name), self.plan.lanes)
            return self.emitter.load(self._slot_row(address, self.tile_row), typ=kind, align=self._slot_alignment(dtype))
        where = self._locate(stage, address, copy)
        guard = self._guard(address, copy)
        if copy is None:
            return self.emitter.load_scalar(self._unless(guard, where.pointer, self._zeros), 0, dtype.name)
        mask = self._mask(guard)
        if where.indices is not None:
            return self._gather(where, dtype, mask)
        if where.stride == 0:
            return self._broadcast(where.pointer, dtype, guard)
        if where.stride == 1:
            return self.emitter.load_vector(where.pointer, 0, dtype.name, self.plan.lanes, mask)
        assert where.stride == -1, "every other stride has an index vector"
        first = self.emitter.element(where.pointer, 1 - self.plan.lanes, dtype.name)
        reversed_mask = None if mask is None else self._reverse(mask)
        return self._reverse(self.emitter.load_vector(first, 0, dtype.name, self.plan.lanes, reversed_mask))

    def store(self, stage: Stage, store: Store, copy: int | None) -> None:
        """Store a value, or with combine="add" read, add and write."""
        address, dtype = store.address, self._dtype(store.address)
        value = self.scope.read(store.value, copy)
        if self.tile_row is not None and address in self.slots:
            value = value if copy is not None else self.scope.splat(value)
            self.emitter.store(value, self._slot_row(address, self.tile_row), align=self._slot_alignment(dtype))
            return
        where, guard = self._locate(stage, address, copy), self._guard(address, copy)
        if copy is None:
            pointer = self._unless(guard, where.pointer, self._rubbish)
            if store.combine == "add":
                value = emit_add(self.scope, self.emitter.load_scalar(pointer, 0, dtype.name), value, dtype, 1)
            self.emitter.store_vector(value, pointer, 0, dtype.name)
            return
        mask = self._mask(guard)
        if store.combine == "add" and not where.is_distinct:
            self._add_lane_by_lane(where, value, dtype, mask)
            return
        if store.combine == "add":
            value = emit_add(self.scope, self.load(stage, address, copy), value, dtype, self.plan.lanes)
        self._store_vector(where, value, dtype, mask)

    # -- where ----------------------------------------------------------------------------------------------------

    def _dtype(self, address: Address) -> DType:
        return self.plan.kernel.params[address.buffer].dtype

    def _terms(self, address: Address) -> list[_Term]:
        """The uniform terms. The vector dim counts: its index is a scalar, that of lane 0."""
        terms: list[_Term] = [("dim", dim, stride) for dim, stride in address.strides]
        return terms + [("value", v, stride) for v, stride in address.dynamic if not self.plan.varies(v)]

    def _level(self, stage: Stage, term: _Term) -> int:
        kind, number, _ = term
        return self.plan.dim_level(stage, number) if kind == "dim" else self.plan.level_of[number]

    def _prefix(self, stage: Stage, address: Address, level: int) -> ll.Value:
        """buffer + the uniform terms known at `level`, built on the prefix known one level further out."""
        by_level: dict[int, list[_Term]] = {}
        for term in self._terms(address):
            by_level.setdefault(self._level(stage, term), []).append(term)
        pointer = self.scope.buffers[address.buffer]
        key: tuple[_Term, ...] = ()
        for known in sorted(known for known in by_level if known <= level):
            key = (*key, *by_level[known])
            found = self._pointers.get((address.buffer, key))
            if found is None:
                pointer = self._advance(pointer, by_level[known], self._dtype(address))
                self._pointers[address.buffer, key] = (self._level_now, pointer)
            else:
                pointer = found[1]
        return pointer

    def _advance(self, pointer: ll.Value, terms: list[_Term], dtype: DType) -> ll.Value:
        emitter, offset = self.emitter, None
        for kind, number, stride in terms:
            factor = self.scope.index[number] if kind == "dim" else self.scope.read(number, None)
            product = factor if stride == 1 else emitter.mul(factor, self._number(stride))
            offset = product if offset is None else emitter.add(offset, product)
        assert offset is not None, "a prefix is extended by at least one term"
        return emitter.element(pointer, offset, dtype.name)

    def _number(self, extent: Extent) -> ll.Value:
        return constant(I64, extent) if isinstance(extent, int) else self.emitter.number(extent)

    def _locate(self, stage: Stage, address: Address, copy: int | None) -> _Where:
        """Pointer of lane 0, and how the lanes after it move."""
        pointer = self._prefix(stage, address, INNERMOST)
        dim, dtype = self.plan.vector_dim, self._dtype(address)
        stride = number_of(address.step_of(dim)) if dim is not None and copy is not None else 0
        offset = address.offset
        if copy is not None:
            to_vector = stride * (self.plan.lanes * (copy % self.scope.vectors))
            if isinstance(to_vector, int):
                offset += to_vector
            else:
                pointer = self.emitter.element(pointer, to_vector, dtype.name)
            if copy >= self.scope.vectors:
                assert self.plan.row_dim is not None, "copies beyond the vectors are rows"
                row, step = copy // self.scope.vectors, address.step_of(self.plan.row_dim)
                if isinstance(step, int):
                    offset += step * row
                else:
                    to_row = self.emitter.mul(self._number(step), constant(I64, row))
                    pointer = self.emitter.element(pointer, to_row, dtype.name)
        if offset:
            pointer = self.emitter.element(pointer, offset, dtype.name)
        if copy is None:
            return _Where(pointer, 0, None, False)
        varying = [(value, scale) for value, scale in address.dynamic if self.plan.varies(value)]
        if not varying and stride in (-1, 0, 1):
            return _Where(pointer, stride, None, stride != 0)
        return _Where(pointer, stride, self._indices(varying, stride, copy), stride != 0 and not varying)

    def _indices(self, varying: list[tuple[int, int]], stride: Int, copy: int) -> ll.Value:
        emitter, lanes = self.emitter, self.plan.lanes
        if not varying and not isinstance(stride, int):
            return emitter.steps(lanes, stride, I32)
        indices: ll.Value | None = emitter.steps(lanes, stride) if stride != 0 else None
        for value, scale in varying:
            term = self.scope.read(value, copy)
            if scale != 1:
                term = emitter.mul(term, constant(I64, scale, lanes))
            indices = term if indices is None else emitter.add(indices, term)
        assert indices is not None, "an index vector has a term"
        return indices

    # -- tiles ----------------------------------------------------------------------------------------------------

    def fills_tile(self, address: Address, is_load: bool) -> bool:
        """Whether the rows of a tile lie along memory and its lanes do not: a transposed array."""
        row_dim, vector_dim = self.plan.row_dim, self.plan.vector_dim
        if row_dim is None or vector_dim is None or not self.plan.is_tiled or self._dtype(address).kind == "bool":
            return False
        others = [a.buffer for a in kernel_addresses(self.plan.kernel)].count(address.buffer) > 1
        if address.buffer in self.plan.written if is_load else others:
            return False                    # an access that must see what another one of the same tile stored
        plain = not address.dynamic and address.guard is None
        plain = plain and all(dim < self.plan.kernel.n_parallel for dim, _ in address.strides)
        return plain and address.step_of(row_dim) == 1 and address.step_of(vector_dim) not in (-1, 0, 1)

    def load_tile(self, stage: Stage, address: Address) -> None:
        """Row r of the tile to slot r, from a place that has its rows in the lanes."""
        if address in self.slots:
            return
        self._slot(address)
        lanes, dtype = self.plan.lanes, self._dtype(address)
        where = self._locate(stage, address, 0)
        loaded = [self.emitter.load_vector(place, 0, dtype.name, lanes) for place in self._places(where, dtype)]
        for row, vector in enumerate(transposed(self.emitter, loaded)):
            self.emitter.store(vector, self._slot_row(address, row), align=self._slot_alignment(dtype))

    def store_tile(self, stage: Stage, address: Address) -> None:
        """What `open_slot` collected in rows, to where the rows lie in the lanes."""
        lanes, dtype = self.plan.lanes, self._dtype(address)
        where = self._locate(stage, address, 0)
        kind = vector_type(compute_type(dtype.name), lanes)
        rows = [self.emitter.load(self._slot_row(address, row), typ=kind, align=self._slot_alignment(dtype))
                for row in range(lanes)]
        for place, vector in zip(self._places(where, dtype), transposed(self.emitter, rows), strict=True):
            self.emitter.store_vector(vector, place, 0, dtype.name)

    def open_slot(self, address: Address) -> None:
        """Stores to the address collect in a slot until `store_tile`."""
        self._slot(address)

    def _slot(self, address: Address) -> None:
        lanes = self.plan.lanes
        self.slots[address] = self.emitter.stack(compute_type(self._dtype(address).name), lanes * lanes)

    def _slot_alignment(self, dtype: DType) -> int:
        """Rows are powers of two of elements, whose compute form is no narrower than the stored one."""
        return min(64, self.plan.lanes * storage_bytes(dtype.name))

    def _slot_row(self, address: Address, row: ll.Value | int) -> ll.Value:
        kind, lanes = compute_type(self._dtype(address).name), self.plan.lanes
        at = row * lanes if isinstance(row, int) else self.emitter.mul(row, constant(I64, lanes))
        return self.emitter.element(self.slots[address], at, kind)

    # -- whether --------------------------------------------------------------------------------------------------

    def _guard(self, address: Address, copy: int | None) -> ll.Value | None:
        return None if address.guard is None else self.scope.read(address.guard, copy)

    def _mask(self, guard: ll.Value | None) -> ll.Value | None:
        """Lanes that may touch memory, None for all of them."""
        mask = self.scope.mask
        if guard is None or mask is None:
            return mask if guard is None else guard
        return self.emitter.and_(mask, guard)

    def _unless(self, guard: ll.Value | None, pointer: ll.Value, slot: ll.Value) -> ll.Value:
        return pointer if guard is None else self.emitter.select(guard, pointer, slot)

    @cached_property
    def _zeros(self) -> ll.Value:
        slot = self.emitter.stack(I8, _SLOT_BYTES)
        with self.emitter.goto_entry_block():
            nothing = zeros(ll.VectorType(I64, _SLOT_BYTES // 8))
            self.emitter.store(nothing, slot, align=64)
        return slot

    @cached_property
    def _rubbish(self) -> ll.Value:
        return self.emitter.stack(I8, _SLOT_BYTES)

    # -- vectors --------------------------------------------------------------------------------------------------

    def _reverse(self, vector: ll.Value) -> ll.Value:
        lanes = lanes_of(vector)
        order = ll.Constant(ll.VectorType(I32, lanes), list(reversed(range(lanes))))
        return self.emitter.shuffle_vector(vector, undefined(vector.type), order)

    def _broadcast(self, pointer: ll.Value, dtype: DType, guard: ll.Value | None) -> ll.Value:
        """One element in every lane; the guard varies, or the value would not, so ask whether any lane wants it."""
        emitter = self.emitter
        if guard is None:
            return self.scope.splat(emitter.load_scalar(pointer, 0, dtype.name))
        pointer = emitter.select(emitter.reduce("or", guard), pointer, self._zeros)
        vector = self.scope.splat(emitter.load_scalar(pointer, 0, dtype.name))
        return emitter.select(guard, vector, zeros(vector.type))

    def _gather(self, where: _Where, dtype: DType, mask: ll.Value | None) -> ll.Value:
        """AVX-512 gathers 4 and 8 byte elements as fast as scalar loads or faster (0.66 to 0.87 against 0.85 to
        0.96 ns an element); narrower vectors and elements do better with scalar loads (0.73 against 1.0)."""
        assert where.indices is not None, "a gather has an index vector"
        emitter = self.emitter
        if mask is None and (self._gathers_slowly or storage_bytes(dtype.name) < 4):
            loads = [emitter.load(place, typ=storage_type(dtype.name), align=storage_bytes(dtype.name))
                     for place in self._places(where, dtype)]
            return emitter.to_compute(emitter.from_lanes(loads), dtype.name)
        return emitter.gather(where.pointer, where.indices, dtype.name, mask)

    @property
    def _gathers_slowly(self) -> bool:
        return self.emitter.target.vector_bytes < 64

    def _places(self, where: _Where, dtype: DType) -> list[ll.Value]:
        """The pointer of each lane. Known strides make displacements; else a fourth of the pointers come from one another,
        and the rest at distances from those."""
        emitter, lanes, kind = self.emitter, self.plan.lanes, storage_type(dtype.name)
        if where.indices is not None and not where.is_distinct:
            return [emitter.element(where.pointer, emitter.lane(where.indices, lane), kind) for lane in range(lanes)]
        if isinstance(where.stride, int):
            return [emitter.element(where.pointer, lane * where.stride, kind) for lane in range(lanes)]
        places, pointer = list[ll.Value](), where.pointer
        for first in range(0, lanes, _APART):
            pointer = emitter.element(pointer, where.stride * _APART, kind) if first else pointer
            places += [emitter.element(pointer, where.stride * lane, kind) for lane in range(_APART)]
        return places[:lanes]

    def _store_vector(self, where: _Where, value: ll.Value, dtype: DType, mask: ll.Value | None) -> None:
        emitter, lanes = self.emitter, self.plan.lanes
        if where.stride == 1 and where.indices is None:
            emitter.store_vector(value, where.pointer, 0, dtype.name, mask)
        elif where.stride == -1 and where.indices is None:
            first = emitter.element(where.pointer, 1 - lanes, dtype.name)
            reversed_mask = None if mask is None else self._reverse(mask)
            emitter.store_vector(self._reverse(value), first, 0, dtype.name, reversed_mask)
        else:
            self._scatter(where, value, dtype, mask)

    def _scatter(self, where: _Where, value: ll.Value, dtype: DType, mask: ll.Value | None) -> None:
        """Lanes store from first to last, so where two name one place the later wins, as in a loop."""
        emitter, lanes, kind = self.emitter, self.plan.lanes, storage_type(dtype.name)
        stored = emitter.to_storage(value, dtype.name)
        indices = where.indices if where.indices is not None else emitter.steps(lanes, where.stride)
        if mask is None:
            for lane, place in enumerate(self._places(where, dtype)):
                emitter.store(emitter.lane(stored, lane), place, align=storage_bytes(dtype.name))
            return
        places = emitter.gep(emitter.splat(where.pointer, lanes), [indices], source_etype=kind)
        places.type = ll.VectorType(PTR, lanes)
        arguments = [stored, places, ll.Constant(I32, storage_bytes(dtype.name)), mask]
        name = f"llvm.masked.scatter.{mangle(stored.type)}.v{lanes}p0"
        emitter.intrinsic(name, ll.VoidType(), arguments)

    def _add_lane_by_lane(self, where: _Where, value: ll.Value, dtype: DType, mask: ll.Value | None) -> None:
        """Lanes may name one place, so they read, add and write one after another; inactive ones in rubbish."""
        emitter, lanes, kind = self.emitter, self.plan.lanes, storage_type(dtype.name)
        indices = where.indices if where.indices is not None else emitter.steps(lanes, where.stride)
        active = emitter.zext(mask if mask is not None else emitter.tail_mask(lanes, lanes), vector_type(I8, lanes))
        terms = emitter.to_storage(value, dtype.name)
        slots = [self._spilled(vector) for vector in (indices, terms, active)]

        def one(lane: ll.Value) -> None:
            index = emitter.load(emitter.element(slots[0], lane, I64), typ=I64, align=8)
            is_active = emitter.trunc(emitter.load(emitter.element(slots[2], lane, I8), typ=I8, align=1), I1)
            place = emitter.select(is_active, emitter.element(where.pointer, index, kind), self._rubbish)
            held, term = emitter.load_scalar(place, 0, dtype.name), emitter.load_scalar(slots[1], lane, dtype.name)
            total = emit_add(self.scope, held, term, dtype, 1)
            emitter.store_vector(total, place, 0, dtype.name)

        emitter.loop(0, lanes, 1, one, name="lane")


    def _spilled(self, vector: ll.Value) -> ll.Value:
        slot = self.emitter.stack(element_of(vector), lanes_of(vector))
        self.emitter.store(vector, slot, align=64)
        return slot


def transposed(emitter: Emitter, rows: Sequence[ll.Value]) -> list[ll.Value]:
    """The transpose of a square of vectors: as many as each has lanes, a power of two.

    Round by round, blocks of `half` lanes change places between rows that are `half` apart."""
    lanes, rows = len(rows), list(rows)
    half = lanes // 2
    while half:
        low = [lane if not lane & half else lanes + lane - half for lane in range(lanes)]
        high = [lane + half if not lane & half else lanes + lane for lane in range(lanes)]
        orders = [ll.Constant(ll.VectorType(I32, lanes), order) for order in (low, high)]
        for first in (row for row in range(lanes) if not row & half):
            pair = rows[first], rows[first + half]
            rows[first], rows[first + half] = (emitter.shuffle_vector(*pair, order) for order in orders)
        half //= 2
    return rows


@dataclass(frozen=True)
class _Where:
    """Lane k's element: pointer[indices[k]], or pointer[k * stride] without indices. is_distinct: no two lanes
    name one place."""

    pointer: ll.Value
    stride: Int
    indices: ll.Value | None
    is_distinct: bool
