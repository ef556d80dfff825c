"""ContractionKernel (scheduled for CUDA) -> text. A block sums a tile of the flattened m and n dims: slices of both
operands go to shared memory, `k` points of the flattened k dims at a time; each thread sums `rows` x `columns` products in
registers, and then runs the epilogue at its points.

Rows and columns of a thread lie a stride apart (thread t has rows t, t + 16, ...), so that neighbours read neighbours.
"""
from __future__ import annotations

import math
from collections.abc import Sequence

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir.kernel import Address, ContractionKernel, TileSchedule

__all__ = ["emit_contraction"]


def emit_contraction(kernel: ContractionKernel, name: str) -> KernelText:
    """The text of a kernel that has a `TileSchedule`."""
    return _Contraction(kernel, name).text()


class _Contraction(Code):
    def __init__(self, kernel: ContractionKernel, name: str):
        assert isinstance(kernel.schedule, TileSchedule), f"kernel {kernel.name} has no tiles"
        super().__init__(kernel, Writer())
        self.kernel: ContractionKernel = kernel
        self.name, self.schedule = name, kernel.schedule
        self.batch, self.m, self.n, self.k = (
            math.prod([kernel.extents[d] for d in dims]) for dims in (kernel.batch, kernel.m, kernel.n, kernel.k))
        self.across = self.schedule.n // self.schedule.columns          # threads along n
        self.threads = self.schedule.m // self.schedule.rows * self.across
        self.kind = ex.numba_type(kernel.acc_dtype)

    def text(self) -> KernelText:
        w, tile = self.w, self.schedule
        m_tiles, n_tiles = -(-self.m // tile.m), -(-self.n // tile.n)
        with self.head(self.name):
            w.line(f"thread = {self.cast('cuda.threadIdx.x')}")
            w.line(f"block = {self.cast('cuda.blockIdx.x')}")
            w.line(f"batch = {self.cast(f'block // {m_tiles * n_tiles}')}")
            w.line(f"first_m = {self.cast(f'block // {n_tiles} % {m_tiles} * {tile.m}')}")
            w.line(f"first_n = {self.cast(f'block % {n_tiles} * {tile.n}')}")
            self.split("batch", self.kernel.batch)
            self.sums()
            self.epilogue()
        return self.finished(self.name, (self.batch * m_tiles * n_tiles,), 1, self.threads)

    def sums(self) -> None:
        w, tile = self.w, self.schedule
        rows, columns = tile.rows, tile.columns
        zero = ex.constant(0, self.kernel.acc_dtype)
        w.line(f"lhs = cuda.shared.array({tile.k * tile.m}, {self.kind})")
        w.line(f"rhs = cuda.shared.array({tile.k * tile.n}, {self.kind})")
        w.line(f"acc = cuda.local.array({rows * columns}, {self.kind})")
        w.line(f"left = cuda.local.array({rows}, {self.kind})")
        w.line(f"right = cuda.local.array({columns}, {self.kind})")
        w.line(f"row = {self.cast(f'thread // {self.across}')}")
        w.line(f"column = {self.cast(f'thread % {self.across}')}")
        with w.block(f"for x in range({rows * columns}):"):
            w.line(f"acc[x] = {zero}")
        with w.block(f"for first_k in range(0, {self.k}, {tile.k}):"):
            self.fetch("lhs", self.kernel.lhs, "m", self.kernel.m, self.m, tile.m)
            self.fetch("rhs", self.kernel.rhs, "n", self.kernel.n, self.n, tile.n)
            w.line("cuda.syncthreads()")
            with w.block(f"for x in range({tile.k}):"):
                with w.block(f"for r in range({rows}):"):
                    w.line(f"left[r] = lhs[{self.cast(f'x * {tile.m} + r * {tile.m // rows} + row')}]")
                with w.block(f"for c in range({columns}):"):
                    w.line(f"right[c] = rhs[{self.cast(f'x * {tile.n} + c * {self.across} + column')}]")
                with w.block(f"for r in range({rows}):"), w.block(f"for c in range({columns}):"):
                    product = ex.expression("fma", self.kernel.acc_dtype,
                                            ["left[r]", "right[c]", f"acc[r * {columns} + c]"])
                    w.line(f"acc[r * {columns} + c] = {product}")
            w.line("cuda.syncthreads()")

    def fetch(self, shared: str, address: Address, role: str, dims: Sequence[int], extent: int, tile: int) -> None:
        """A slice of an operand to shared memory, [k, m or n], zeros beyond its end. Threads walk it along the dim that
        memory runs along."""
        w, kernel, k = self.w, self.kernel, self.schedule.k
        along_k = any(address.stride_of(d) == 1 for d in kernel.k)
        with w.block(f"for x in range({-(-k * tile // self.threads)}):"):
            w.line(f"at = {self.cast(f'x * {self.threads} + thread')}")
            inner = k if along_k else tile
            outer_text, inner_text = self.cast(f"at // {inner}"), self.cast(f"at % {inner}")
            w.line(f"k_at = {inner_text if along_k else outer_text}")
            w.line(f"{role}_at = {outer_text if along_k else inner_text}")
            w.line(f"k = {self.cast('first_k + k_at')}")
            w.line(f"{role} = {self.cast(f'first_{role} + {role}_at')}")
            w.line(f"value = {ex.constant(0, kernel.acc_dtype)}")
            with w.block(f"if (k < {self.k}) & ({role} < {extent}):"):
                self.split("k", kernel.k)
                self.split(role, dims)
                dtype = kernel.params[address.buffer].dtype
                w.line(f"value = {ex.cast(self.element(address), dtype, kernel.acc_dtype)}")
            store = f"{shared}[{self.cast(f'k_at * {tile} + {role}_at')}] = value"
            if k * tile % self.threads == 0:
                w.line(store)
            else:
                with w.block(f"if at < {k * tile}:"):
                    w.line(store)

    def epilogue(self) -> None:
        w, tile = self.w, self.schedule
        with w.block(f"for r in range({tile.rows}):"), w.block(f"for c in range({tile.columns}):"):
            w.line(f"m = {self.cast(f'first_m + r * {tile.m // tile.rows} + row')}")
            w.line(f"n = {self.cast(f'first_n + c * {self.across} + column')}")
            with w.block(f"if (m < {self.m}) & (n < {self.n}):"):
                self.split("m", self.kernel.m)
                self.split("n", self.kernel.n)
                self.acc = ex.rounded(f"acc[r * {tile.columns} + c]", self.kernel.acc_dtype)
                self.body(self.kernel.epilogue)
                self.stores(self.kernel.epilogue.stores)
