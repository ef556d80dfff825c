"""Random LoopKernels, compiled under random schedules, against the interpreter of the loop level."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from loop_kernels import HOST, RUNNABLE, Compiled, Script, at, draw

from flambeau.ir import dtypes
from flambeau.ir.dtypes import DTYPES, DType, bool_, f32, f64, i64
from flambeau.ir.kernel import LoopKernel, LoopSchedule
from flambeau.ir.kernel.interpreter import interpret
from flambeau.ir.kernel.verifier import verify_kernel

SEEDS = range(150)
_EXTENTS = [1, 2, 3, 5, 16, 17, 33, 40]
_COMBINERS = ["sum", "max", "min", "argmax", "argmin"]
_BINARY = ["add", "sub", "mul", "min", "max"]
_COMPARE = ["eq", "ne", "lt", "le", "gt", "ge"]


class RandomKernel:
    """Values are small integers, exact in every dtype and order of summation, so results must be equal."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.script = Script()
        self.n_parallel, self.n_inner = self.rng.randint(0, 2), self.rng.randint(0, 2)
        self.extents = [self.rng.choice(_EXTENTS) for _ in range(self.n_parallel + self.n_inner)]
        if self.n_parallel and self.rng.random() < 0.4:             # as long as what may be a runtime number
            self.extents[self.rng.randrange(self.n_parallel)] = self.rng.choice([64, 80, 96, 128, 130])
        self.dtype = self.rng.choice([f32, f32, *(d for d in DTYPES.values() if d is not bool_)])
        self.visible: list[int] = []
        self.buffers: list[np.ndarray] = []
        self.data = np.random.default_rng(seed)

    def build(self) -> LoopKernel:
        for _ in range(self.rng.randint(1, 3)):
            self.stage()
        return self.script.kernel(self.extents, self.n_parallel)

    def stage(self) -> None:
        inner = list(range(self.n_parallel, len(self.extents)))
        dims = self.rng.sample(inner, self.rng.randint(0, len(inner)))
        open_dims = list(range(self.n_parallel)) + dims
        values = list(self.visible)
        for _ in range(self.rng.randint(2, 6)):
            values.append(self.value(values, open_dims))
        stored = [value for value in values if self.script.dtype_of[value] is self.dtype]
        stores = [self.store(self.rng.choice(stored), open_dims)] if stored else []
        reduced = [(self.rng.choice(_COMBINERS), self.rng.choice(stored))] if stored and self.rng.random() < 0.7 else []
        if reduced and reduced[0][0] == "sum" and self.dtype is f32 and self.rng.random() < 0.5:
            reduced = [(*reduced[0], f64)]
        results = self.script.stage(dims, reduced, stores)
        self.visible += results if dims else [v for v in values if v not in self.visible] + results

    def value(self, values: list[int], dims: list[int]) -> int:
        of_dtype = [v for v in values if self.script.dtype_of[v] is self.dtype]
        bools = [v for v in values if self.script.dtype_of[v] is bool_]
        ints = [v for v in values if self.script.dtype_of[v] is i64]
        wide = [v for v in values if self.dtype is f32 and self.script.dtype_of[v] is f64]
        kind = self.rng.random()
        if wide and kind < 0.2:
            return self.script.op("cast", self.rng.choice(wide), dtype=f32)
        if kind < 0.3 or not of_dtype:
            return self.load(dims, self.rng.choice(bools) if bools and kind < 0.15 else None)
        if kind < 0.4 and dims:
            return self.script.index(self.rng.choice(dims))
        if kind < 0.55:
            return self.script.op(self.rng.choice(_COMPARE), self.rng.choice(of_dtype), self.rng.choice(of_dtype))
        if kind < 0.65 and bools:
            a, b = self.rng.choice(of_dtype), self.rng.choice(of_dtype)
            return self.script.op("select", self.rng.choice(bools), a, b)
        if kind < 0.75 and ints:
            return self.gather(self.rng.choice(ints))
        pair = [self.rng.choice(of_dtype), self.bounded(dims)]
        return self.script.op(self.rng.choice(_BINARY), *pair)

    def bounded(self, dims: list[int]) -> int:
        return self.load(dims, None) if self.rng.random() < 0.5 else self.script.const(self.number(), self.dtype)

    def number(self) -> float | int:
        number = self.rng.randint(0, 2)
        return float(number) if self.dtype.kind == "float" else number

    def gather(self, index: int) -> int:
        """An index value of any size, wrapped into a small table."""
        size = self.rng.choice([1, 3, 8])
        table = self.param(size, self.dtype)
        place = self.script.op("mod", index, self.script.const(size, i64))
        return self.script.load(table, dynamic=[(place, 1)])

    def strides(self, dims: list[int], distinct: bool) -> tuple[dict[int, int], int, int]:
        """(stride of each dim, offset, elements): row-major over shuffled dims, some reversed or left out or padded."""
        strides, offset, elements = {}, 0, 1
        for dim in self.rng.sample(dims, len(dims)):
            if not distinct and self.rng.random() < 0.25:
                continue
            strides[dim] = elements
            elements *= self.extents[dim]
            if self.rng.random() < 0.15:
                elements *= 2
        for dim in strides:
            if self.rng.random() < 0.15:
                offset += strides[dim] * (self.extents[dim] - 1)
                strides[dim] = -strides[dim]
        return strides, offset, elements

    def load(self, dims: list[int], guard: int | None) -> int:
        strides, offset, elements = self.strides(dims, distinct=False)
        return self.script.load(self.param(elements, self.dtype), strides, offset=offset, guard=guard)

    def store(self, value: int, dims: list[int]):
        strides, offset, elements = self.strides(dims, distinct=True)
        add = self.rng.random() < 0.3
        out = self.param(elements, self.dtype, "inout")
        return (at(out, strides, offset), value, "add") if add else (at(out, strides, offset), value)

    def param(self, elements: int, dtype: DType, role: str = "in") -> int:
        self.buffers.append(draw(self.data, dtype, elements, -2 if dtype.is_signed else 0, 2))
        if dtype.is_floating_point:
            self.buffers[-1] = dtypes.to_storage(np.round(dtypes.to_compute(self.buffers[-1], dtype)), dtype)
        return self.script.param(elements, dtype, role)

    def schedule(self) -> LoopSchedule:
        dim = self.rng.choice([None, *range(len(self.extents))])
        block = self.rng.choice([1, 16, 20, 64]) if dim is not None and dim < self.n_parallel else 1
        return LoopSchedule(dim, self.rng.choice([1, 2, 3, 4]), block)

    def schedule_with_rows(self) -> LoopSchedule:
        """Rows of any other dim beside the vectors of a parallel one, where there are two dims."""
        if not self.n_parallel or len(self.extents) < 2:
            return self.schedule()
        dim = self.rng.randrange(self.n_parallel)
        row_dim = self.rng.choice([d for d in range(len(self.extents)) if d != dim])
        unroll, rows = self.rng.choice([(1, 16), (1, 8), (1, 3), (2, 4), (3, 2), (4, 2)])
        return LoopSchedule(dim, unroll, self.rng.choice([1, 16, 20, 64]), row_dim=row_dim, rows=rows)


def same_numbers(lhs: np.ndarray, rhs: np.ndarray, dtype: DType) -> bool:
    """Equal but for the sign of zeros and the bits of NaNs."""
    return np.array_equal(dtypes.to_compute(lhs, dtype), dtypes.to_compute(rhs, dtype), equal_nan=dtype.kind == "float")


@pytest.mark.parametrize("seed", SEEDS)
def test_random_kernel_computes_what_the_interpreter_does(seed):
    maker = RandomKernel(seed)
    kernel = maker.build()
    schedules = [None, LoopSchedule(), maker.schedule(), maker.schedule(), maker.schedule_with_rows()]
    expected = [buffer.copy() for buffer in maker.buffers]
    verify_kernel(kernel)
    interpret(kernel, expected)
    if schedules[-1].row_dim is not None:
        verify_kernel(replace(kernel, schedule=schedules[-1]))
    for number, schedule in enumerate(schedules):
        target = RUNNABLE[(seed + number) % len(RUNNABLE)]
        found = [buffer.copy() for buffer in maker.buffers]
        assert Compiled(replace(kernel, schedule=schedule), target)(*found, step=1 + seed % 5) == 0
        for param, ours, theirs in zip(kernel.params, found, expected, strict=True):
            what = f"seed {seed}, {schedule}, {target.cpu}: {param} differs\n{kernel}"
            assert same_numbers(ours, theirs, param.dtype), what


@pytest.mark.parametrize("dtype", [f32, f64], ids=str)
def test_random_floats_agree_to_rounding(dtype):
    for seed in range(5):
        data = np.random.default_rng(seed)
        s = Script()
        x, out = s.param(7 * 300, dtype), s.param(7, dtype, "out")
        value = s.op("exp", s.op("sin", s.load(x, {0: 300, 1: 1})))
        [total] = s.stage([1], reduce=[("sum", value)])
        s.stage(stores=[(at(out, {0: 1}), total)])
        buffers = [draw(data, dtype, 2100, -9, 9), np.zeros(7, dtype.storage)]
        expected = [buffer.copy() for buffer in buffers]
        kernel = s.kernel([7, 300], 1, LoopSchedule(1, 4))
        interpret(kernel, expected)
        assert Compiled(kernel, HOST)(*buffers) == 0
        eps = float(np.finfo(dtype.storage).eps)
        np.testing.assert_allclose(buffers[1], expected[1], rtol=20 * eps)  # 300 terms in 64 partial sums
