"""Reduction -> accumulators: an identity, an update per point, a merge, and at the end one value.

Sums and products may be taken in any order (several accumulators, several lanes) but always in the same one for the
same schedule. Long float sums go block by block: an accumulator takes BLOCK terms, then what it holds joins a total in
f64 (for f64 itself, a compensated one), so that the error does not grow with the number of terms. A sum in f32 that
comes out infinite or NaN is taken again in f64 (functions.py), since only its parts may have been too large; where that
can't be done it is kept in f64 from the start. max and min of floats are those of integers in the same order: one short
instruction from point to point, -0 below +0, and a NaN beyond all. argmax and argmin carry the position beside the
value; positions grow along each accumulator, so a strict comparison keeps the first.
"""

from __future__ import annotations

import math
from dataclasses import replace

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import (
    F64,
    I8,
    I32,
    I64,
    Emitter,
    compute_type,
    constant,
    is_float,
    is_signed,
    lanes_of,
    vector_type,
)
from flambeau.codegen.cpu.vmath.vec import Vec, where
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Reduction
from flambeau.ir.records import dataclass

State = list[ll.Value]  # [value]; [value, position]; flushed, [value, total] in f32, [value, total, compensation] in f64
BLOCK = 32              # terms that one lane of an accumulator adds up between two flushes


@dataclass(frozen=True)
class Accumulator:
    """One reduction over `points` points (None: known only at run time) in accumulators of `lanes` lanes."""

    emitter: Emitter
    reduction: Reduction
    dtype: DType                        # of the values reduced
    lanes: int
    points: int | None
    has_total: bool = False             # the sum is flushed every BLOCK terms

    @property
    def tracks_position(self) -> bool:
        """Whether the result is a position."""
        return self.reduction.combiner in ("argmax", "argmin")

    @property
    def is_keyed(self) -> bool:
        """Whether the state is an integer that orders floats."""
        return self.reduction.combiner in ("max", "min") and is_float(self.dtype.name)

    @property
    def width(self) -> int:
        """How many LLVM values the state has."""
        return 2 + self.compensates if self.has_total else 2 if self.tracks_position else 1

    @property
    def compensates(self) -> bool:
        """Whether the total has what it loses beside it."""
        return self.has_total and self.dtype.itemsize == 8

    @property
    def position_type(self) -> ll.Type:
        """i32 where every position fits, for twice the lanes in a register."""
        return I32 if self.points is not None and self.points < 1 << 31 else I64

    def initial(self) -> State:
        """The state before any point."""
        value = constant(self._element(), self._identity(), self.lanes)
        if self.has_total:
            return [value, *[constant(F64, 0.0, self.lanes)] * (self.width - 1)]
        return [value, constant(self.position_type, 0, self.lanes)] if self.tracks_position else [value]

    def flush(self, state: State) -> State:
        """What was summed joins the total, and the sum starts anew."""
        value, total, *rest = state
        new = self.emitter.fadd(total, self._widened(value))
        if self.compensates:                    # two-sum: Knuth, TAOCP 4.2.2
            part = self.emitter.fsub(new, total)
            lost = self.emitter.fadd(self.emitter.fsub(total, self.emitter.fsub(new, part)),
                                     self.emitter.fsub(value, part))
            rest = [self.emitter.fadd(rest[0], lost)]
        return [constant(self._element(), 0.0, self.lanes), new, *rest]

    def settled(self, state: State) -> tuple[Accumulator, State]:
        """The totals alone, and the accumulator that merges them."""
        if not self.has_total:
            return self, state
        wide = replace(self, dtype=dtypes.f64, has_total=False)
        value, total, *compensation = state
        is_flushed = isinstance(value, ll.Constant)                                 # then it is 0
        if not self.compensates:
            return wide, [total if is_flushed else self.emitter.fadd(total, self._widened(value))]
        known = self.emitter.fcmp_ordered("ord", compensation[0], compensation[0])  # of infinities it is a NaN
        lost = self.emitter.select(known, compensation[0], constant(F64, 0.0, self.lanes))
        return wide, [self.emitter.fadd(total, lost if is_flushed else self.emitter.fadd(value, lost))]

    def _widened(self, value: ll.Value) -> ll.Value:
        return value if self.dtype.itemsize == 8 else self.emitter.fpext(value, vector_type(F64, self.lanes))

    def update(self, state: State, value: ll.Value, position: ll.Value | None, mask: ll.Value | None) -> State:
        """The state after one more point a lane. position: i64; mask: the lanes that have a point."""
        value = self._arranged(value)
        if not self.tracks_position:
            if mask is not None:
                value = self.emitter.select(mask, value, constant(self._element(), self._identity(), self.lanes))
            return [self._combine(state[0], value), *state[1:]]
        assert position is not None, "argmax and argmin are told the position"
        better = self._is_better(value, state[0])
        if mask is not None:
            better = self.emitter.and_(better, mask)
        return self._choose(better, [value, self._narrow(position)], state)

    def merge(self, lhs: State, rhs: State) -> State:
        """Two accumulators into one; on equal extrema the earlier position wins."""
        if not self.tracks_position:
            return [self._combine(lhs[0], rhs[0])]
        emitter = self.emitter
        earlier = emitter.and_(self._is_tie(lhs[0], rhs[0]), emitter.icmp_signed("<", rhs[1], lhs[1]))
        return self._choose(emitter.or_(self._is_better(rhs[0], lhs[0]), earlier), rhs, lhs)

    def across_lanes(self, state: State) -> State:
        """All lanes into one, by halving."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            low, high = ([self.emitter.slice_lanes(v, start, lanes) for v in state] for start in (0, lanes))
            state = self.merge(low, high)
        return state

    def result(self, state: State) -> ll.Value:
        """The reduction's value, in the compute form of its dtype."""
        if self.tracks_position:
            position = state[1]
            kind = vector_type(I64, lanes_of(position))
            return position if self.position_type == I64 else self.emitter.zext(position, kind)
        if self.is_keyed:
            return _magnitudes_mirrored(Vec(self.emitter, state[0])).as_float().value
        return self.emitter.round_to(self._converted(state[0], self.reduction.dtype), self.reduction.dtype.name)

    # -- one combination ------------------------------------------------------------------------------------------

    def _element(self) -> ll.Type:
        """bool positions are compared as bytes, extrema of floats by integers; everything else is in compute form."""
        if self.is_keyed:
            return I64 if compute_type(self.dtype.name) == F64 else I32
        return I8 if self.tracks_position and self.dtype.kind == "bool" else compute_type(self.dtype.name)

    def _arranged(self, value: ll.Value) -> ll.Value:
        value = self._converted(value, self.dtype)
        if self.is_keyed:
            return self._key(Vec(self.emitter, value)).value
        return value if value.type == vector_type(self._element(), self.lanes) else self.emitter.zext(
            value, vector_type(self._element(), self.lanes)
        )

    def _converted(self, value: ll.Value, dtype: DType) -> ll.Value:
        """In the compute form of `dtype`: sums of f32 may be kept in f64, and be f64."""
        kind = vector_type(compute_type(dtype.name), lanes_of(value))
        if self.reduction.combiner != "sum" or value.type == kind:
            return value
        return self.emitter.fpext(value, kind) if dtype is dtypes.f64 else self.emitter.fptrunc(value, kind)

    def _key(self, value: Vec) -> Vec:
        """An integer that is in order with the float: its bits, the magnitudes of negative ones mirrored. NaN is the
        integer beyond every number's, and comes back as a NaN."""
        beyond = self._extreme_integer()
        return where(value.is_nan(), beyond, _magnitudes_mirrored(value.bits()))

    def _extreme_integer(self) -> int:
        greatest = (1 << (self._element().width - 1)) - 1
        return greatest if self.reduction.combiner == "max" else -greatest - 1

    def _identity(self) -> float | int:
        if self.is_keyed:                   # the infinity that every number beats
            exponent = 0x7FF << 52 if self._element() == I64 else 0xFF << 23
            return exponent if self.reduction.combiner == "min" else -exponent - 1
        match self.reduction.combiner:
            case "sum" | "any":
                return 0
            case "prod" | "all":
                return 1
            case "max" | "argmax":
                return self._lowest()
            case "min" | "argmin":
                return self._highest()

    def _lowest(self) -> float | int:
        if is_float(self.dtype.name):
            return -math.inf
        return -(1 << (8 * self.dtype.itemsize - 1)) if is_signed(self.dtype.name) else 0

    def _highest(self) -> float | int:
        if is_float(self.dtype.name):
            return math.inf
        if self.dtype.kind == "bool":
            return 1
        return (1 << (8 * self.dtype.itemsize - int(is_signed(self.dtype.name)))) - 1

    def _combine(self, lhs: ll.Value, rhs: ll.Value) -> ll.Value:
        emitter, combiner = self.emitter, self.reduction.combiner
        if self.dtype.kind == "bool":
            return emitter.or_(lhs, rhs) if combiner in ("sum", "max", "any") else emitter.and_(lhs, rhs)
        floating = is_float(self.dtype.name)
        match combiner:
            case "sum":
                return emitter.fast_sum(lhs, rhs) if floating else emitter.add(lhs, rhs)
            case "prod":
                return emitter.fmul(lhs, rhs, flags=("reassoc",)) if floating else emitter.mul(lhs, rhs)
            case "max" | "min":
                return self._int_extremum(lhs, rhs)
            case _:
                raise AssertionError(f"{combiner} does not combine {self.dtype} values")

    def _int_extremum(self, lhs: ll.Value, rhs: ll.Value) -> ll.Value:
        prefix = "s" if self.is_keyed or is_signed(self.dtype.name) else "u"
        return self.emitter.overloaded(f"{prefix}{self.reduction.combiner}", lhs, rhs)

    # -- positions ------------------------------------------------------------------------------------------------

    def _is_better(self, value: ll.Value, kept: ll.Value) -> ll.Value:
        """value is strictly more extreme than kept, or the first NaN."""
        emitter = self.emitter
        sign = ">" if self.reduction.combiner == "argmax" else "<"
        if is_float(self.dtype.name):
            return emitter.and_(
                emitter.fcmp_unordered(sign, value, kept), emitter.fcmp_ordered("ord", kept, kept)
            )
        compare = emitter.icmp_signed if is_signed(self.dtype.name) else emitter.icmp_unsigned
        return compare(sign, value, kept)

    def _is_tie(self, lhs: ll.Value, rhs: ll.Value) -> ll.Value:
        emitter = self.emitter
        if not is_float(self.dtype.name):
            return emitter.icmp_unsigned("==", lhs, rhs)
        nans = [emitter.fcmp_unordered("uno", value, value) for value in (lhs, rhs)]
        return emitter.or_(emitter.fcmp_ordered("==", lhs, rhs), emitter.and_(*nans))

    def _narrow(self, position: ll.Value) -> ll.Value:
        if self.position_type == I64:
            return position
        return self.emitter.trunc(position, vector_type(I32, lanes_of(position)))

    def _choose(self, condition: ll.Value, chosen: State, otherwise: State) -> State:
        return [self.emitter.select(condition, a, b) for a, b in zip(chosen, otherwise, strict=True)]


def _magnitudes_mirrored(bits: Vec) -> Vec:
    """The other bits flipped where the sign is set, which orders floats as integers. Its own inverse."""
    return bits ^ ((bits >> (bits.bit_width - 1)) & ((1 << (bits.bit_width - 1)) - 1))
