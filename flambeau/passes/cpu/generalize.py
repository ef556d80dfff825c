"""Scheduled kernel -> the kernel that code is made of, and its runtime numbers: what differs between kernels and costs no
speed as an argument is one. Decided number by number, never by what other kernels there are, so that programs and
processes share code.

    in x: f32[4096]                          in x: f32[r3] from r1
    parallel %i0 = 64, %i1 = 32              parallel %i0 = r0, %i1 = 32
    %0 = load x[%i0*48 + %i1 + 128]    ->    %0 = load x[%i0*r5 + %i1]
    %1 = const 7.0 : f32                     %1 = const "r6" : f32

What is asked about a kernel (its rules, its memory, its meaning) is asked of the kernel as it was; see `ir.kernel.numbers`.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import count, pairwise
from math import gcd, prod
from typing import Final, TypeVar, cast

from flambeau.ir.kernel import (
    Address,
    ContractionKernel,
    ContractionSchedule,
    Extent,
    Instr,
    Kernel,
    LoopKernel,
    LoopSchedule,
)
from flambeau.ir.kernel.contraction_dims import LONG_SUM
from flambeau.ir.kernel.dataflow import dims_of_values, vectors_a_step
from flambeau.ir.kernel.numbers import word_of
from flambeau.ir.target import Target
from flambeau.passes.cpu.loop_cost import Cost

__all__ = ["general_contraction", "general_loops"]

K = TypeVar("K", bound=Kernel)

_PLAIN: Final = frozenset({-1, 0, 1, 2, 0.5})           # LLVM has shorter code for these, and everyone uses them
_ANY_INTEGER: Final = frozenset({"add", "sub", "min", "max", "select", "compared outside"})
_COMPARISONS: Final = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
_SHORT: Final = range(5, 16)                            # points of inner loops that are not written out
_WRITTEN_OUT: Final = 112                               # multiply-adds of a tile in an inner loop over k without trips
_TRIP: Final = 8                                        # points of k in a trip of a loop of any length, at most
_LONGEST_STEP: Final = 1 << 24                          # from lane to lane: distances in a vector fit 32 bits
_LARGEST: Final = (1 << 63) - 1                         # of words; -1 - _LARGEST is none


def general_loops(kernel: LoopKernel, target: Target) -> tuple[LoopKernel, tuple[int, ...]]:
    """(the kernel with names for what may be any number, the numbers in the order of its `sizes`, after its own sizes)."""
    names = _Names(kernel)
    made, outside = _with_origins(kernel, names), frozenset[int]()
    if isinstance(schedule := kernel.schedule, LoopSchedule):
        has_inner = len(kernel.extents) > kernel.n_parallel
        in_loops = {schedule.row_dim} if has_inner else {schedule.vector_dim, schedule.row_dim}
        outside = frozenset(range(kernel.n_parallel)) - in_loops
        if not kernel.sizes and 0 not in kernel.extents:
            made = _with_strides(_with_extents(made, schedule, names, target), schedule, names)
    return _numbered(kernel, _with_consts(made, names, outside), names)


def general_contraction(kernel: ContractionKernel, target: Target) -> tuple[ContractionKernel, tuple[int, ...]]:
    """As `general_loops`."""
    names = _Names(kernel)
    made = _with_origins(kernel, names)
    if 0 not in kernel.extents and isinstance(kernel.schedule, ContractionSchedule):
        made = _with_sizes(made, kernel.schedule, names, target)
    return _numbered(kernel, _with_consts(made, names, frozenset()), names)


def _numbered(kernel: K, made: K, names: _Names) -> tuple[K, tuple[int, ...]]:
    if not names.numbers:
        return kernel, ()
    return made, tuple([names.numbers[name] for name in made.sizes if name in names.numbers])


class _Names:
    """Names of runtime numbers. Equal numbers of one role have one, so that code computes with them once."""

    def __init__(self, kernel: Kernel) -> None:
        self.numbers: dict[str, int] = {}
        self._taken = set(kernel.sizes)
        self._name_of: dict[tuple[object, int], str] = {}

    def of(self, role: object, number: int) -> str:
        name = self._name_of.get((role, number))
        if name is None:
            name = next(n for at in count(len(self._name_of)) if (n := f"r{at}") not in self._taken)
            self._name_of[role, number] = name
            self._taken.add(name)
            self.numbers[name] = number
        return name


def _with_origins(kernel: K, names: _Names) -> K:
    """x[... + 128], x[... + 130] -> x from 128: x[...], x[... + 2]."""
    first: dict[int, int] = {}
    for address in kernel.addresses():
        first[address.buffer] = min(address.offset, first.get(address.buffer, address.offset))
    first = {number: offset for number, offset in first.items() if offset}
    if not first:
        return kernel

    def moved(address: Address) -> Address:
        return replace(address, offset=address.offset - first.get(address.buffer, 0))

    params = [replace(param, first=names.of(("first", number), first[number])) if number in first else param
              for number, param in enumerate(kernel.params)]
    return replace(kernel.map(address=moved), params=tuple(params))


def _with_extents(kernel: LoopKernel, schedule: LoopSchedule, names: _Names, target: Target) -> LoopKernel:
    """Of parallel dims: %i0 = 96 -> %i0 = r0, with what divides it where vectors or tiles run, or nothing where the
    processor has registers for masks; inner dims decide how sums are flushed and what is unrolled. The points of a task and
    the elements of params go with them."""
    residues: list[tuple[str, int, int]] = []
    extents = list(kernel.extents)
    lanes = Cost(kernel, target).lanes(schedule.vector_dim)
    most_lanes = target.lanes(min([i.dtype.itemsize for i in kernel.instrs() if i.dtype.kind != "bool"], default=4))
    if schedule.vector_dim is not None and schedule.vector_dim < kernel.n_parallel:     # no more is told than code asks
        schedule = replace(schedule, unroll=vectors_a_step(kernel.stages, schedule.unroll))
    step = 1 << (schedule.unroll - 1).bit_length()
    is_tiled = schedule.row_dim is not None and schedule.row_dim < kernel.n_parallel
    has_masks = target.has_feature("avx512f") and not kernel.can_fail and not is_tiled

    def named(role: object, number: int, in_vectors: bool) -> str:
        name = names.of(role, number)
        if in_vectors:
            residues.append((name, gcd(number, max(lanes * step, schedule.rows, most_lanes)), 0))
        return name

    for dim in range(kernel.n_parallel):
        extent, in_vectors = kernel.extents[dim], dim in (schedule.vector_dim, schedule.row_dim)
        assert isinstance(extent, int), "a kernel with sizes of its own keeps its extents"
        whole = extent % lanes == 0 and extent >= target.vector_bytes
        masked = dim == schedule.vector_dim and has_masks and extent % lanes != 0 and extent > lanes
        if whole or masked if in_vectors else extent > 1:
            extents[dim] = named(("extent", dim), extent, whole)
    block = schedule.block
    if schedule.vector_dim is not None and isinstance(extent := extents[schedule.vector_dim], str):
        assert isinstance(block, int), "its schedule is no general one"
        block = extent if block >= names.numbers[extent] else named("block", block, True)
    params = tuple([replace(param, elements=names.of(("elements", number), param.elements))
                    if isinstance(param.elements, int) else param for number, param in enumerate(kernel.params)])
    return replace(kernel, params=params, extents=tuple(extents), residues=tuple(residues),
                   schedule=replace(schedule, block=block, grain=1, parallel=True))


def _with_sizes(
    kernel: ContractionKernel, schedule: ContractionSchedule, names: _Names, target: Target
) -> ContractionKernel:
    """All extents and strides, and the tiles that a task takes, but for what tiles of registers are made from: what they
    leave over along m and in lanes, how vectors lie, short loops over k, sums so long that they are flushed or cut up."""
    shape = _ContractionSizes(kernel, schedule, names, target)
    extents: list[Extent] = list(kernel.extents)
    k_loops, last_vectors = shape.k_loops(), 0
    for dim in (*kernel.batch, *kernel.n[:-1]):
        extents[dim] = shape.named(dim)
    for dim, tile in zip(kernel.m, schedule.m_tile, strict=True):
        extents[dim] = shape.named(dim, tile)
    if kernel.n and shape.has_any_columns():
        inner = kernel.n[-1]
        extents[inner], last_vectors = shape.columns(inner)
    for dim in shape.any_k(k_loops):
        is_whole = dim in kernel.k[-k_loops[-1]:] and kernel.extents[dim] % _TRIP == 0
        extents[dim] = shape.named(dim, _TRIP if is_whole else 1)

    def stepped(address: Address) -> Address:
        role = "lhs" if address == kernel.lhs else "rhs" if address == kernel.rhs else "epilogue"
        return replace(address, strides=tuple([(dim, stride if stride in (-1, 1) else names.of((role, dim), stride))
                                               for dim, stride in address.known_strides]))

    m_block, n_block = schedule.m_block, schedule.n_block
    if not schedule.k_block and schedule.split_k == 1:
        assert isinstance(m_block, int) and isinstance(n_block, int), "its schedule is no general one"
        m_block, n_block = names.of("m_block", m_block), names.of("n_block", n_block)
    params = tuple([replace(param, elements=names.of(("elements", number), param.elements))
                    if isinstance(param.elements, int) else param for number, param in enumerate(kernel.params)])
    known = cast(tuple[int, ...], tuple(extents))               # but for those, which code asks for by name
    return replace(kernel.map(address=stepped), params=params, extents=known, residues=tuple(shape.residues),
                   schedule=replace(schedule, m_block=m_block, n_block=n_block, grain=1, parallel=True, k_loops=k_loops,
                                    last_vectors=last_vectors))


class _ContractionSizes:
    """Which sizes of a contraction may be any number, and what must be told of them."""

    def __init__(self, kernel: ContractionKernel, schedule: ContractionSchedule, names: _Names, target: Target) -> None:
        self.kernel, self.schedule, self.names = kernel, schedule, names
        self.residues: list[tuple[str, int, int]] = []
        acc = kernel.acc_dtype
        self.lanes = target.lanes(4 if acc.kind == "float" and acc.itemsize == 2 else acc.itemsize)
        self.has_masks = target.has_feature("avx512f") and not kernel.can_fail

    def named(self, dim: int, tile: int = 1) -> Extent:
        """The extent's name, if code for this tile is no other for other extents; what the tile leaves over is told."""
        extent = self.kernel.extents[dim]
        if extent == 1 or extent < tile:
            return extent
        name = self.names.of(("extent", dim), extent)
        if tile > 1:
            self.residues.append((name, tile, extent % tile))
        return name

    def has_any_columns(self) -> bool:
        """The last vector has its lanes by a mask that is made at each call. That costs nothing where the processor has
        registers for masks; a check would have to look at each lane."""
        extent = self.kernel.extents[self.kernel.n[-1]]
        return self.schedule.vectors == "k" or (extent >= self.lanes and (self.has_masks or extent % self.lanes == 0))

    def columns(self, dim: int) -> tuple[Extent, int]:
        """(the name of the innermost n extent, vectors of its last tile). Where masks cost nothing it is told to be in
        vectors only if all tiles are whole."""
        extent, vectors = self.kernel.extents[dim], self.schedule.n_vectors
        if self.schedule.vectors == "k":
            return self.named(dim, vectors), 0
        name = self.named(dim)
        is_whole = extent % (self.lanes * (vectors if self.has_masks else 1)) == 0
        if isinstance(name, str) and is_whole:
            self.residues.append((name, self.lanes, 0))
        return name, (-(-extent // self.lanes) - 1) % vectors + 1

    def k_loops(self) -> tuple[int, ...]:
        """How many k dims each loop walks as one: those whose strides compose in both operands as they are read."""
        kernel, schedule = self.kernel, self.schedule
        if not kernel.k or 1 in [kernel.extents[dim] for dim in kernel.k]:
            return ()
        packed, step = {}, 1
        for dim in reversed(kernel.k):
            packed[dim] = step
            step *= kernel.extents[dim]
        lhs, rhs = (packed if is_packed else {dim: address.stride_of(dim) for dim in kernel.k} for address, is_packed in
                    ((kernel.lhs, schedule.pack_lhs), (kernel.rhs, schedule.pack_rhs)))
        counts = [1]
        for outer, inner in pairwise(kernel.k):
            if all(strides[outer] == kernel.extents[inner] * strides[inner] for strides in (lhs, rhs)):
                counts[-1] += 1
            else:
                counts.append(1)
        return tuple(counts)

    def any_k(self, k_loops: tuple[int, ...]) -> tuple[int, ...]:
        """The k dims of any extent: all, or none where that decides how terms are added up or grouped, or all but those of
        an inner loop so short that it is written out."""
        kernel, schedule = self.kernel, self.schedule
        extents = [kernel.extents[dim] for dim in kernel.k]
        in_parts = schedule.group > 1 or schedule.k_block or schedule.split_k > 1 or prod(extents) > LONG_SUM
        if not k_loops or schedule.vectors == "k" or in_parts:
            return ()
        inner = k_loops[-1]
        is_short = prod(extents[-inner:]) * prod(schedule.m_tile) * schedule.n_vectors <= _WRITTEN_OUT
        return kernel.k[:-inner] if is_short else kernel.k


def _with_strides(kernel: LoopKernel, schedule: LoopSchedule, names: _Names) -> LoopKernel:
    """%i0*96 -> %i0*r0, but along inner dims of a few points, which take no time beside what is worked out for them, and
    along the vectors of tiles, which are displacements of one another."""
    points = prod([extent for extent in kernel.extents[kernel.n_parallel:] if isinstance(extent, int)])
    kept: set[int | None] = set(range(kernel.n_parallel, len(kernel.extents)) if points in _SHORT else ())
    if schedule.row_dim is not None and schedule.row_dim < kernel.n_parallel:
        kept.add(schedule.vector_dim)

    def stays(dim: int, stride: int) -> bool:
        return dim in kept or stride in (-1, 1) or (dim == schedule.vector_dim and abs(stride) > _LONGEST_STEP)

    def stepped(address: Address) -> Address:
        strides = [(dim, stride if stays(dim, stride) else names.of("stride", stride))
                   for dim, stride in address.known_strides]
        return replace(address, strides=tuple(strides))

    return kernel.map(address=stepped)


def _with_consts(kernel: K, names: _Names, outside: frozenset[int]) -> K:
    """const 7.0 -> const "r0", where what reads it has the same code for any number. outside: dims whose indices are known
    before the innermost loop is entered."""
    users = _users(kernel, outside)

    def named(instr: Instr) -> Instr:
        word = word_of(instr.attr, instr.dtype) if _may_vary(instr, users) else None    # type: ignore[arg-type]
        if word is None or not -_LARGEST <= word <= _LARGEST:
            return instr
        return replace(instr, attr=names.of(instr.dtype, word))

    return kernel.with_code([replace(stage, body=tuple([named(i) for i in stage.body])) for stage in kernel.code])


def _users(kernel: Kernel, outside: frozenset[int]) -> Mapping[int, set[str]]:
    """The ops that read each value; "store" and the like for what else does. Comparisons are often folded with indices of
    vectors, but not with those that are known `outside`."""
    found: dict[int, set[str]] = {}
    dims_of = dims_of_values(kernel) if outside else {}
    for stage in kernel.code:
        for instr in stage.body:
            is_outside = instr.op in _COMPARISONS and bool(outside) and dims_of[instr.id] <= outside
            for value in instr.operands:
                found.setdefault(value, set()).add("compared outside" if is_outside else instr.op)
            if isinstance(instr.attr, Address):
                for value, _ in instr.attr.dynamic:
                    found.setdefault(value, set()).add("address")
        for store in stage.stores:
            found.setdefault(store.value, set()).add("store")
            for value, _ in store.address.dynamic:
                found.setdefault(value, set()).add("address")
        for reduction in stage.reductions:
            found.setdefault(reduction.value, set()).add("reduce")
    return found


def _may_vary(instr: Instr, users: Mapping[int, set[str]]) -> bool:
    if instr.op != "const" or isinstance(instr.attr, bool) or instr.attr in _PLAIN:
        return False
    readers = users.get(instr.id, set())
    if instr.dtype.kind == "float":
        return isinstance(instr.attr, float) and abs(instr.attr) < float("inf") and "cast" not in readers
    return readers <= _ANY_INTEGER

