"""Random attention: shapes, views, masks, and what is asked for, as graphs whose op is tiled; and how to run one."""
from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flambeau.compiler import compile_graph
from flambeau.ir import Builder, Graph, dtypes, ops
from flambeau.ir.graph import Value
from flambeau.ir.graph.rounding import Bounded, bounded, difference
from flambeau.ir.kernel.text import parse_kernel, print_kernel
from flambeau.ir.kernel.verifier import verify_kernel
from flambeau.ir.target import Target
from flambeau.ir.types import TensorType

SIZES = (1, 1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 97, 130)


class Drawn:
    """One program: a graph, and an array for each input."""

    def __init__(self, seed: int, backward: bool | None = None, largest: int = 130) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.graph = Graph(name=f"attention_{seed}")
        self.b, self.arrays = Builder(self.graph), []
        sizes = [size for size in SIZES if size <= largest]
        rows, columns = (int(rng.choice(sizes)) for _ in range(2))
        size, value = (int(rng.choice([size for size in sizes if size <= 65])) for _ in range(2))
        if rng.random() < 0.05:
            rows, columns = (0, columns) if rng.random() < 0.5 else (rows, 0)
        if rng.random() < 0.5:
            columns = rows
        self.batch = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 4)))
        self.dtype = dtypes.f64 if rng.random() < 0.2 else dtypes.f32
        causal = bool(rng.random() < 0.4)
        self.special = not causal and rng.random() < 0.15       # blocks that no row sees are not read
        backward = bool(rng.random() < 0.5) if backward is None else backward
        if rng.random() < 0.3 and columns == rows and value == size:
            packed = self.input((3, *self.batch, rows, size))
            q, k, v = (self.sliced(packed, n) for n in range(3))
        else:
            q, k, v = (self.drawn((*self.batch, *pair)) for pair in ((rows, size), (columns, size), (columns, value)))
        mask = [self.mask((*self.batch, rows, columns))] if rng.random() < 0.4 else []
        op = ops.Attention(float(rng.choice([0.125, 1.0, 0.3, -0.5])), causal, bool(rng.random() < 0.7), tiled=True)
        out, lse = self.b.emit(op, q, k, v, *mask)
        outputs = [out, lse] if rng.random() < 0.7 else [out] if rng.random() < 0.7 else [lse]
        if backward:
            g = self.drawn((*self.batch, rows, value))
            grads = self.b.emit(ops.AttentionBackward(op.scale, causal, op.safe, tiled=True), q, k, v, *mask, out, lse, g)
            outputs += [grad for grad in grads if rng.random() < 0.8]
        self.graph.outputs = outputs

    def input(self, shape: tuple[int, ...], dtype: dtypes.DType | None = None) -> Value:
        dtype = dtype or self.dtype
        array = self.rng.random(shape) < 0.6 if dtype is dtypes.bool_ else self.rng.standard_normal(shape)
        array = np.asarray(array).astype(dtype.storage)
        if self.special and dtype is not dtypes.bool_ and array.size:
            array.flat[self.rng.integers(array.size)] = self.rng.choice([np.inf, -np.inf, np.nan, 1e30, 1e4, 0.0])
        self.arrays.append(array)
        return self.graph.add_input(TensorType(shape, dtype), f"x{len(self.arrays)}")

    def sliced(self, packed: Value, number: int) -> Value:
        shape = packed.shape
        start, stop = (number, *[0] * (len(shape) - 1)), (number + 1, *shape[1:])
        part = self.b.emit(ops.Slice(start, stop, (1,) * len(shape)), packed)
        return self.b.reshape(part, shape[1:])

    def drawn(self, shape: tuple[int, ...], dtype: dtypes.DType | None = None) -> Value:
        """A value of a shape: an input, or a view of one, transposed, broadcast or flipped."""
        rng, rank, kind = self.rng, len(shape), self.rng.random()
        if kind < 0.3:
            return self.input(shape, dtype)
        if kind < 0.6:
            order = tuple(int(d) for d in rng.permutation(rank))
            given = self.input(tuple(shape[d] for d in order), dtype)
            return self.b.permute(given, tuple(order.index(d) for d in range(rank)))
        if kind < 0.8 and rank > 2:
            kept = tuple(d for d in range(rank) if d >= rank - 2 or rng.random() < 0.5)
            return self.b.broadcast(self.input(tuple(shape[d] for d in kept), dtype), shape, kept)
        if kind < 0.9:
            return self.b.emit(ops.Flip((int(rng.integers(rank)),)), self.input(shape, dtype))
        x = self.input(shape, dtype)
        return x if x.dtype is dtypes.bool_ else self.b.neg(x)

    def mask(self, shape: tuple[int, ...]) -> Value:
        dtype = dtypes.bool_ if self.rng.random() < 0.5 else self.dtype
        kept = tuple(d for d in range(len(shape)) if self.rng.random() < 0.6)
        if self.rng.random() < 0.3:
            return self.drawn(shape, dtype)
        return self.b.broadcast(self.input(tuple(shape[d] for d in kept), dtype), shape, kept)


def run(drawn: Drawn, target: Target | None = None, backend: str | None = None) -> str:
    """What is wrong with what a compiled program gives, in words, or ""."""
    compiled = compile_graph(drawn.graph, target=target, backend=backend, rules=True)
    for kernel in compiled.kernels:
        verify_kernel(kernel)
        assert parse_kernel(print_kernel(kernel)) == kernel, print_kernel(kernel)
    meant = bounded(drawn.graph, [Bounded(a) for a in drawn.arrays])
    outputs = drawn.graph.outputs
    found = [np.empty(v.type.static_shape, v.dtype.storage) for v in outputs]
    held: list[Any] = [np.ascontiguousarray(a) for a in drawn.arrays]
    compiled.executable.fast_call(*[a.ctypes.data for a in (*held, *found)])
    for number, (value, array) in enumerate(zip(outputs, found, strict=True)):
        wrong = difference(array, meant[value], value.dtype, slack=4.0)
        if wrong:
            return f"result {number}: {wrong}"
    return ""


def on_cores(target: Target, cores: int) -> Target:
    return replace(target, cores=cores)
