"""ContractionKernel (scheduled for CUDA) -> text. A block sums a tile of the flattened m and n dims: slices of both
operands go to shared memory, `k` points of the flattened k dims at a time; each thread sums `rows` x `columns` products in
registers, and then runs the epilogue at its points.

With two stages a thread holds its part of the next slice in registers while it sums, and one barrier ends each step.

Rows and columns of a thread come in fours (16 bytes of shared memory at once); the lanes of a warp are 4 x 8 of them, so
that what they read at once lies in different banks. Where an operand is turned on its way, rows are four elements longer
for the same reason.
"""
from __future__ import annotations

import math
from contextlib import nullcontext

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.tensor_cores import MatrixTiles
from flambeau.codegen.cuda.text import KernelText
from flambeau.codegen.cuda.tiles import Operand, Tiles, times
from flambeau.ir.kernel import ContractionKernel, TileSchedule

__all__ = ["emit_contraction"]

_SECTOR = 32                            # bytes that memory gives at once
_PAD = 4                                # elements


def emit_contraction(kernel: ContractionKernel, name: str) -> KernelText:
    """The text of a kernel that has a `TileSchedule`."""
    tile = kernel.schedule
    return (MatrixTiles if isinstance(tile, TileSchedule) and tile.unit != "fma" else _ThreadTiles)(kernel, name).text()


class _Turned(Operand):
    """[k, m or n] in shared memory, turned on its way if memory runs along k."""

    @property
    def row(self) -> int:
        """Elements of shared memory from one point of k to the next."""
        return self.points + (_PAD if self.along_k else 0)

    @property
    def position(self) -> tuple[str, str]:
        if not self.along_k:
            return super().position
        width = self.width
        lanes = math.gcd(self.k // width, max(1, _SECTOR // (width * self.dtype.itemsize)))
        return (times(f"at // {lanes * self.points} * {lanes} + at % {lanes}", width), f"at // {lanes} % {self.points}")


class _ThreadTiles(Tiles):
    operands: tuple[_Turned, ...]

    def __init__(self, kernel: ContractionKernel, name: str):
        super().__init__(kernel, name)
        tile = self.schedule
        self.across = tile.n // tile.columns                            # threads along n
        self.threads = tile.m // tile.rows * self.across
        self.kind = ex.numba_type(kernel.acc_dtype)
        fours = math.gcd(16 // kernel.acc_dtype.itemsize, 4)
        self.by_row, self.by_column = math.gcd(tile.rows, fours), math.gcd(tile.columns, fours)
        self.stages = min(tile.stages, self.steps, 2)
        self.operands = tuple([_Turned(kernel, side, tile, self.threads, 4) for side in ("lhs", "rhs")])

    def sums(self) -> None:
        w, tile = self.w, self.schedule
        self.place_of_thread()
        self.array("acc", tile.rows * tile.columns, self.kind)
        with w.block(f"for x in range({tile.rows * tile.columns}):"):
            w.line(f"acc[x] = {ex.constant(0, self.kernel.acc_dtype)}")
        if not self.steps:
            return
        for operand in self.operands:
            self.array(operand.side, self.stages * tile.k * operand.row, self.kind, "shared")
        for operand in self.operands:
            self.array(f"{operand.side}_next", operand.pieces * operand.width, operand.kind)
            self.start(operand)
        self.array("left", tile.rows, self.kind)
        self.array("right", tile.columns, self.kind)
        if self.stages == 1:
            with w.block(f"for first_k in range(0, {self.k}, {tile.k}):"):
                self.move("first_k")
                w.line("cuda.syncthreads()")
                self.products("0")
                w.line("cuda.syncthreads()")
            return
        self.move("0")
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

    def place_of_thread(self) -> None:
        down = self.threads // self.across
        row, column = f"thread // {self.across}", f"thread % {self.across}"
        if self.across % 8 == 0 and down % 4 == 0 and self.across > 8:
            warps = self.across // 8
            row, column = f"thread // {32 * warps} * 4 + thread % 32 // 8", f"thread // 32 % {warps} * 8 + thread % 8"
        self.w.line(f"row = {self.cast(row)}")
        self.w.line(f"column = {self.cast(column)}")

    def move(self, first_k: str) -> None:
        for operand in self.operands:
            self.bring(operand, first_k)
            self.put(operand, "0")

    def put(self, operand: _Turned, stage: str) -> None:
        """What `bring` got into shared memory."""
        w, side, role, width = self.w, operand.side, operand.role, operand.width
        with self.pieces(operand):
            k_at, role_at = operand.position
            w.line(f"k_at = {self.cast(k_at)}")
            w.line(f"{role}_at = {self.cast(role_at)}")
            place = f"{_stage(stage, operand)}k_at * {operand.row} + {role}_at"
            with w.block(f"if at < {operand.vectors}:") if operand.has_rest else nullcontext():
                if operand.kind == self.kind and width > 1 and not operand.along_k:
                    w.line(f"copy{width}({side}, {self.cast(place)}, {side}_next, x * {width})")
                    return
                with w.block(f"for y in range({width}):") if width > 1 else nullcontext():
                    element = f"{side}_next[x * {width} + y]" if width > 1 else f"{side}_next[x]"
                    value = ex.cast(ex.loaded(element, operand.dtype), operand.dtype, self.kernel.acc_dtype)
                    if width > 1:
                        place += f" + y * {operand.row}" if operand.along_k else " + y"
                    w.line(f"{side}[{self.cast(place)}] = {value}")

    def products(self, stage: str) -> None:
        w, tile = self.w, self.schedule
        with w.block(f"for x in range({tile.k}):"):
            for operand, array, count, by, position in zip(
                    self.operands, ("left", "right"), (tile.rows, tile.columns), (self.by_row, self.by_column),
                    ("row", "column"), strict=True):
                place = (f"{_stage(stage, operand)}x * {operand.row} + y * {operand.points // (count // by)} + "
                         f"{times(position, by)}")
                with w.block(f"for y in range({count // by}):"):
                    if by > 1:
                        w.line(f"copy{by}({array}, y * {by}, {operand.side}, {self.cast(place)})")
                    else:
                        w.line(f"{array}[y] = {operand.side}[{self.cast(place)}]")
            with w.block(f"for r in range({tile.rows}):"), w.block(f"for c in range({tile.columns}):"):
                product = ex.expression("fma", self.kernel.acc_dtype,
                                        ["left[r]", "right[c]", f"acc[r * {tile.columns} + c]"])
                w.line(f"acc[r * {tile.columns} + c] = {product}")

    def epilogue(self) -> None:
        w, tile, by, by_row = self.w, self.schedule, self.by_column, self.by_row
        row = f"row + r * {tile.m // tile.rows}"
        if by_row > 1:
            row = f"row * {by_row} + r // {by_row} * {tile.m // tile.rows * by_row} + r % {by_row}"
        with w.block(f"for r in range({tile.rows}):"), w.block(f"for c in range({tile.columns // by}):"):
            self.at_points(f"first_m + {row}", f"first_n + {times('column', by)} + c * {tile.n // tile.columns * by}", by,
                           f"r * {tile.columns} + {times('c', by)}")


def _stage(stage: str, operand: _Turned) -> str:
    """Where a slice begins in shared memory, as the beginning of a sum."""
    return "" if stage == "0" else f"{stage} * {operand.k * operand.row} + "
