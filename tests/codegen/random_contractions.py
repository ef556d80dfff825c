"""Random contraction kernels: any number of dims in each role, extents of 0 and 1, operands that lie in any order, with
gaps, backwards or broadcast, several dtypes, epilogues. Values are small whole numbers (now and then not finite), so that
sums are exact in any order and bits can be compared."""
from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, ContractionKernel, Instr, Param, Stage, Store

__all__ = ["RandomContraction"]

TYPES = ((dt.f32, dt.f32), (dt.f32, dt.f32), (dt.f32, dt.f32), (dt.bf16, dt.f32), (dt.f16, dt.f32), (dt.f64, dt.f64),
         (dt.i32, dt.i32), (dt.i64, dt.i64), (dt.u8, dt.u8), (dt.i8, dt.i32))
EXTENTS = (1, 2, 3, 4, 5, 7, 8, 8, 12, 16, 16, 20, 24, 32, 33)
MOST_POINTS = 40_000                    # of batch, m, n and k, so that a kernel takes a fraction of a second


class RandomContraction:
    """`kernel`, and `arrays` to run it on: results hold a number that nothing computes."""

    def __init__(self, seed: int, types: Sequence[tuple[DType, DType]] = TYPES):
        self.rng = rng = random.Random(seed)
        self.values = np.random.default_rng(seed)
        self.extents: list[int] = []
        batch, m, n, k = (self.dims(most) for most in (2, 2, 2, 3))
        while math.prod(self.extents) > MOST_POINTS:
            largest = max(range(len(self.extents)), key=lambda d: self.extents[d])
            self.extents[largest] //= 2
        if self.extents and rng.random() < 0.03:
            self.extents[rng.randrange(len(self.extents))] = 0
        operand, acc = rng.choice(types)
        self.params: list[Param] = []
        self.arrays: list[np.ndarray] = []
        lhs = self.buffer("a", operand, (*batch, *m, *k))
        rhs = self.buffer("b", operand, (*batch, *k, *n))
        epilogue = self.epilogue(acc, operand, (*batch, *m, *n))
        self.kernel = ContractionKernel("random", tuple(self.params), tuple(self.extents), batch, m, n, k, lhs, rhs, acc,
                                        epilogue)

    def dims(self, most: int) -> tuple[int, ...]:
        count = self.rng.choice((1, 1, 1, *range(most + 1)))
        first = len(self.extents)
        self.extents += [self.rng.choice(EXTENTS) if most > 2 or self.rng.random() < 0.7 else 1 for _ in range(count)]
        return tuple(range(first, len(self.extents)))

    def buffer(self, name: str, dtype: DType, dims: Sequence[int], role: str = "in") -> Address:
        """A new param, and where it lies over these dims."""
        rng, order, strides, size = self.rng, list(dims), {}, 1
        if rng.random() < 0.5:
            rng.shuffle(order)
        low = 0
        for d in reversed(order):
            if self.extents[d] == 1 or role == "in" and rng.random() < 0.06:
                continue                                                    # no way to go, or broadcast
            strides[d] = size
            size *= max(1, self.extents[d])
            if role == "in" and rng.random() < 0.1:
                strides[d], low = -strides[d], low + strides[d] * max(0, self.extents[d] - 1)
            if role == "in" and rng.random() < 0.15:
                size += rng.choice((1, 4, 8))
        offset = low + (rng.choice((1, 3, 4)) if rng.random() < 0.1 and role == "in" else 0)
        elements = offset + size if role == "in" else math.prod([self.extents[d] for d in dims])
        self.params.append(Param(name, dtype, elements, role))
        self.arrays.append(self.filled(dtype, elements) if role == "in"
                           else dt.to_storage(np.full(elements, 99, dtype.compute), dtype))
        return Address(len(self.params) - 1, offset, tuple(sorted((d, s) for d, s in strides.items() if s)))

    def filled(self, dtype: DType, count: int) -> np.ndarray:
        numbers = self.values.integers(0 if dtype is dt.u8 else -3, 4, count).astype(dtype.compute)
        if dtype.is_floating_point and self.rng.random() < 0.1:
            numbers[self.values.integers(0, count, 2)] = self.rng.choice((math.inf, -math.inf, math.nan))
        return dt.to_storage(numbers, dtype)

    def epilogue(self, acc: DType, operand: DType, points: tuple[int, ...]) -> Stage:
        """acc, perhaps plus what lies in memory, perhaps rounded; stored once or twice."""
        body = [Instr(0, "acc", acc)]
        if self.rng.random() < 0.5:
            some = [d for d in points if self.rng.random() < 0.6]
            body.append(Instr(1, "load", acc, (), self.buffer("c", acc, some)))
            body.append(Instr(2, self.rng.choice(("add", "mul")), acc, (0, 1)))
        stores = []
        last = body[-1].id
        for number in range(self.rng.choice((1, 1, 1, 2))):
            dtype = acc
            if number == 0 and operand.is_floating_point and operand is not acc and self.rng.random() < 0.7:
                body.append(Instr(3, "cast", operand, (last,)))
                dtype = operand
            stores.append(Store(self.buffer(f"out{number}", dtype, points, "out"), body[-1].id if dtype is operand and
                                operand is not acc else last))
        return Stage((), tuple(body), (), tuple(stores))
