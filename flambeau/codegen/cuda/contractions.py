"""ContractionKernel (scheduled for CUDA) -> text. A block sums a tile of the flattened m and n dims: slices of both
operands go to shared memory, `k` points of the flattened k dims at a time; each thread sums `rows` x `columns` products in
registers, and then runs the epilogue at its points.

Memory is read as it runs, up to 16 bytes of it by one thread, and the threads of a warp 32 bytes or more of each row. A row
or column beyond the end is the last one once more, whose sums nobody stores; beyond the end of k there are zeros. With two
stages a thread holds its part of the next slice in registers while it sums, and one barrier ends each step.

Rows and columns of a thread come in fours (16 bytes of shared memory at once); the lanes of a warp are 4 x 8 of them, so
that what they read at once lies in different banks. Where an operand is turned on its way, rows are four elements longer
for the same reason.
"""
from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import stored_type
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.codegen.cuda.wide import WideCode
from flambeau.ir.kernel import Address, ContractionKernel, TileSchedule
from flambeau.ir.kernel.contraction_dims import neighbours

__all__ = ["emit_contraction"]

_SECTOR = 32                            # bytes that memory gives at once
_PAD = 4                                # elements


def emit_contraction(kernel: ContractionKernel, name: str) -> KernelText:
    """The text of a kernel that has a `TileSchedule`."""
    return _Contraction(kernel, name).text()


class _Operand:
    """One operand, on its way to shared memory: `pieces` of `width` elements by each thread."""

    def __init__(self, kernel: ContractionKernel, side: str, tile: TileSchedule, threads: int):
        self.side, self.role = side, "m" if side == "lhs" else "n"
        self.address: Address = getattr(kernel, side)
        self.dims: tuple[int, ...] = getattr(kernel, self.role)
        self.dtype = kernel.params[self.address.buffer].dtype
        self.extent = math.prod([kernel.extents[d] for d in self.dims])
        self.points, self.k = getattr(tile, self.role), tile.k
        own, along = (neighbours(kernel, self.address, dims) for dims in (self.dims, kernel.k))
        self.along_k = along > own or own == 1 and _step(kernel, self.address, kernel.k) < _step(
            kernel, self.address, self.dims)
        self.width = math.gcd(max(own, along), 4, 16 // self.dtype.itemsize, self.k if self.along_k else self.points)
        self.row = self.points + (_PAD if self.along_k else 0)
        self.vectors = self.k * self.points // self.width
        self.pieces = -(-self.vectors // threads)
        self.has_rest = self.vectors % threads != 0

    def position(self) -> tuple[str, str]:
        """Where in the slice vector number `at` begins: along k, and along the operand's own dims."""
        width = self.width
        if not self.along_k:
            across = self.points // width
            return f"at // {across}", f"at % {across}" + (f" * {width}" if width > 1 else "")
        lanes = math.gcd(self.k // width, max(1, _SECTOR // (width * self.dtype.itemsize)))
        k = f"at // {lanes * self.points} * {lanes} + at % {lanes}"
        return (f"({k}) * {width}" if width > 1 else k), f"at // {lanes} % {self.points}"


def _step(kernel: ContractionKernel, address: Address, dims: tuple[int, ...]) -> float:
    """From one point of some dims to the next, in elements."""
    return next((abs(address.stride_of(d)) for d in reversed(dims) if kernel.extents[d] != 1), math.inf)


class _Contraction(WideCode):
    def __init__(self, kernel: ContractionKernel, name: str):
        assert isinstance(kernel.schedule, TileSchedule), f"kernel {kernel.name} has no tiles"
        super().__init__(kernel, Writer())
        self.kernel: ContractionKernel = kernel
        self.name, self.schedule = name, kernel.schedule
        self.batch, self.m, self.n, self.k = (
            math.prod([kernel.extents[d] for d in dims]) for dims in (kernel.batch, kernel.m, kernel.n, kernel.k))
        tile = self.schedule
        self.across = tile.n // tile.columns                            # threads along n
        self.threads = tile.m // tile.rows * self.across
        self.kind = ex.numba_type(kernel.acc_dtype)
        fours = 16 // kernel.acc_dtype.itemsize
        self.by_row, self.by_column = math.gcd(tile.rows, fours, 4), math.gcd(tile.columns, fours, 4)
        self.steps = -(-self.k // tile.k)
        self.stages = min(tile.stages, self.steps, 2)
        self.operands = [_Operand(kernel, side, tile, self.threads) for side in ("lhs", "rhs")]
        self.last = next((d for d in reversed(kernel.n) if kernel.extents[d] != 1), -1)
        self.width = self.by_column if self.last >= 0 and kernel.extents[self.last] % self.by_column == 0 else 1

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
            self.place_of_thread()
            w.line(f"acc = cuda.local.array({tile.rows * tile.columns}, {self.kind}, 16)")
            with w.block(f"for x in range({tile.rows * tile.columns}):"):
                w.line(f"acc[x] = {ex.constant(0, self.kernel.acc_dtype)}")
            if self.steps:
                self.sums()
            self.epilogue()
        text = self.finished(self.name, (self.batch * m_tiles * n_tiles,), 1, self.threads)
        return replace(text, resident=tile.resident)

    def place_of_thread(self) -> None:
        down = self.threads // self.across
        row, column = f"thread // {self.across}", f"thread % {self.across}"
        if self.across % 8 == 0 and down % 4 == 0 and self.across > 8:
            warps = self.across // 8
            row, column = f"thread // {32 * warps} * 4 + thread % 32 // 8", f"thread // 32 % {warps} * 8 + thread % 8"
        self.w.line(f"row = {self.cast(row)}")
        self.w.line(f"column = {self.cast(column)}")

    # sums

    def sums(self) -> None:
        w, tile = self.w, self.schedule
        for operand in self.operands:
            w.line(f"{operand.side} = cuda.shared.array({self.stages * tile.k * operand.row}, {self.kind}, 16)")
        for operand in self.operands:
            self.start(operand)
        w.line(f"left = cuda.local.array({tile.rows}, {self.kind}, 16)")
        w.line(f"right = cuda.local.array({tile.columns}, {self.kind}, 16)")
        if self.stages == 1:
            with w.block(f"for first_k in range(0, {self.k}, {tile.k}):"):
                self.move("first_k", "0")
                w.line("cuda.syncthreads()")
                self.products("0")
                w.line("cuda.syncthreads()")
            return
        self.move("0", "0")
        w.line("cuda.syncthreads()")
        with w.block(f"for step in range({self.steps}):"):
            with w.block(f"if step < {self.steps - 1}:"):
                for operand in self.operands:
                    self.bring(operand, f"(step + 1) * {tile.k}")
            self.products("step % 2")
            with w.block(f"if step < {self.steps - 1}:"):
                for operand in self.operands:
                    self.put(operand, "(step + 1) % 2")
            w.line("cuda.syncthreads()")

    def move(self, first_k: str, stage: str) -> None:
        for operand in self.operands:
            self.bring(operand, first_k)
            self.put(operand, stage)

    def start(self, operand: _Operand) -> None:
        """Where in memory each of a thread's pieces begins, but for the way along k."""
        w, side, role = self.w, operand.side, operand.role
        w.line(f"{side}_next = cuda.local.array({operand.pieces * operand.width}, {stored_type(operand.dtype)}, 16)")
        w.line(f"{side}_from = cuda.local.array({operand.pieces}, {self.index}, 16)")
        with w.block(f"for x in range({operand.pieces}):"):
            w.line(f"at = {self.cast(f'x * {self.threads} + thread')}")
            w.line(f"{role} = {self.cast(f'first_{role} + {operand.position()[1]}')}")
            if operand.has_rest or operand.extent % operand.points:
                last = operand.extent - (1 if operand.along_k else operand.width)
                w.line(f"{role} = {role} if {role} < {operand.extent} else {self.cast(str(last))}")
            self.split(role, operand.dims)
            fixed = [(d, stride) for d, stride in operand.address.strides if d not in self.kernel.k]
            w.line(f"{side}_from[x] = {self.place_of(replace(operand.address, strides=tuple(fixed)))}")

    def bring(self, operand: _Operand, first_k: str) -> None:
        """A thread's part of a slice to its registers."""
        w, side, width, kind = self.w, operand.side, operand.width, stored_type(operand.dtype)
        moving = [(d, stride) for d, stride in operand.address.strides if d in self.kernel.k]
        with w.block(f"for x in range({operand.pieces}):"):
            w.line(f"at = {self.cast(f'x * {self.threads} + thread')}")
            w.line(f"k = {self.cast(f'{first_k} + {operand.position()[0]}')}" if first_k != "0"
                   else f"k = {self.cast(operand.position()[0])}")
            if self.k % operand.k:
                if width > 1:
                    with w.block(f"for y in range({width}):"):
                        w.line(f"{side}_next[x * {width} + y] = {kind}(0)")
                else:
                    w.line(f"{side}_next[x] = {kind}(0)")
            limits = [*([f"at < {operand.vectors}"] if operand.has_rest else []),
                      *([f"k < {self.k}"] if self.k % operand.k else [])]
            with w.block(f"if {_all(limits)}:") if limits else nullcontext():
                self.split("k", self.kernel.k)
                step = self.place_of(Address(operand.address.buffer, 0, tuple(moving)))
                place = self.cast(f"{side}_from[x] + {step}")
                if width > 1:
                    w.line(f"copy{width}({side}_next, x * {width}, b{operand.address.buffer}, {place})")
                else:
                    w.line(f"{side}_next[x] = b{operand.address.buffer}[{place}]")

    def put(self, operand: _Operand, stage: str) -> None:
        """What `bring` got into shared memory, [k, m or n]."""
        w, side, role, width = self.w, operand.side, operand.role, operand.width
        same = stored_type(operand.dtype) == self.kind
        with w.block(f"for x in range({operand.pieces}):"):
            w.line(f"at = {self.cast(f'x * {self.threads} + thread')}")
            k_at, role_at = operand.position()
            w.line(f"k_at = {self.cast(k_at)}")
            w.line(f"{role}_at = {self.cast(role_at)}")
            before = "" if stage == "0" else f"{stage} * {operand.k * operand.row} + "
            with w.block(f"if at < {operand.vectors}:") if operand.has_rest else nullcontext():
                if same and width > 1 and not operand.along_k:
                    place = self.cast(f"{before}k_at * {operand.row} + {role}_at")
                    w.line(f"copy{width}({side}, {place}, {side}_next, x * {width})")
                    return
                with w.block(f"for y in range({width}):") if width > 1 else nullcontext():
                    value = ex.loaded(f"{side}_next[x * {width} + y]" if width > 1 else f"{side}_next[x]", operand.dtype)
                    value = ex.cast(value, operand.dtype, self.kernel.acc_dtype)
                    at = f"k_at * {operand.row} + {role}_at"
                    if width > 1:
                        at += f" + y * {operand.row}" if operand.along_k else " + y"
                    w.line(f"{side}[{self.cast(before + at)}] = {value}")

    def products(self, stage: str) -> None:
        w, tile = self.w, self.schedule
        with w.block(f"for x in range({tile.k}):"):
            for operand, array, count, by, position in zip(
                    self.operands, ("left", "right"), (tile.rows, tile.columns), (self.by_row, self.by_column),
                    ("row", "column"), strict=True):
                before = "" if stage == "0" else f"{stage} * {operand.k * operand.row} + "
                place = f"{before}x * {operand.row} + y * {operand.points // (count // by)} + {_times(position, by)}"
                with w.block(f"for y in range({count // by}):"):
                    if by > 1:
                        w.line(f"copy{by}({array}, y * {by}, {operand.side}, {self.cast(place)})")
                    else:
                        w.line(f"{array}[y] = {operand.side}[{self.cast(place)}]")
            with w.block(f"for r in range({tile.rows}):"), w.block(f"for c in range({tile.columns}):"):
                product = ex.expression("fma", self.kernel.acc_dtype,
                                        ["left[r]", "right[c]", f"acc[r * {tile.columns} + c]"])
                w.line(f"acc[r * {tile.columns} + c] = {product}")

    # epilogue

    def epilogue(self) -> None:
        w, tile, by, by_row = self.w, self.schedule, self.by_column, self.by_row
        row = f"{_times('row', by_row)} + r * {tile.m // tile.rows}"
        if by_row > 1:
            row = f"row * {by_row} + r // {by_row} * {tile.m // tile.rows * by_row} + r % {by_row}"
        column = f"{_times('column', by)} + c * {tile.n // tile.columns * by}"
        with w.block(f"for r in range({tile.rows}):"), w.block(f"for c in range({tile.columns // by}):"):
            w.line(f"m = {self.cast(f'first_m + {row}')}")
            w.line(f"n = {self.cast(f'first_n + {column}')}")
            number = f"r * {tile.columns} + {_times('c', by)}"
            self.acc = ex.rounded(f"acc[{number} + x]" if by > 1 else f"acc[{number}]", self.kernel.acc_dtype)
            if self.width > 1:
                with self.guarded("n"):
                    self.split("m", self.kernel.m)
                    self.split("n", self.kernel.n)
                    self.side_by_side(self.kernel.epilogue)
                return
            with w.block(f"for x in range({by}):") if by > 1 else nullcontext():
                if by > 1:
                    w.line(f"n_at = {self.cast('n + x')}")
                name = "n_at" if by > 1 else "n"
                with self.guarded(name):
                    self.split("m", self.kernel.m)
                    self.split(name, self.kernel.n)
                    self.body(self.kernel.epilogue)
                    self.stores(self.kernel.epilogue.stores)

    def guarded(self, n: str) -> AbstractContextManager[None]:
        """Lines for points that are there."""
        tile = self.schedule
        limits = [*([f"m < {self.m}"] if self.m % tile.m else []), *([f"{n} < {self.n}"] if self.n % tile.n else [])]
        return self.w.block(f"if {_all(limits)}:") if limits else nullcontext()


def _times(name: str, factor: int) -> str:
    return f"{name} * {factor}" if factor > 1 else name


def _all(conditions: list[str]) -> str:
    return conditions[0] if len(conditions) == 1 else " & ".join(f"({condition})" for condition in conditions)
