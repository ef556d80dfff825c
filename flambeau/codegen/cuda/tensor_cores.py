"""ContractionKernel (scheduled for CUDA) -> text for tensor cores: products of 16-bit floats, or of f32 rounded to TF32,
summed in f32.

Slices of both operands go to shared memory asynchronously (cp.async), as they lie: rows along k or along the operand's own
dims. Chunks of 16 bytes change places within a row by its number, so that neither the copies nor ldmatrix, which reads one
chunk of eight rows, meet in a bank. `stages` slices are there or on their way; one barrier begins each step. Each warp sums
`rows` x `columns` results by m16n8k16 products of matrices, whose fragments ldmatrix turns where rows run across k.

A 16-bit operand whose elements don't lie side by side comes one by one, through registers. TF32 is the same with elements
of four bytes and m16n8k8; ldmatrix can't turn those, so fragments that run across k are read element by element, from rows
whose chunks change places by twos.
"""
from __future__ import annotations

from contextlib import nullcontext

from flambeau.codegen.cuda.tiles import Operand, Tiles, times
from flambeau.ir.kernel import ContractionKernel

__all__ = ["MatrixTiles"]

# Which row and chunk of 16 x 16 elements a lane names to ldmatrix: four matrices, the second below the first or beside it.
_DOWN_FIRST = ("lane % 16", "lane // 16")
_ACROSS_FIRST = ("lane // 16 * 8 + lane % 8", "lane // 8 % 2")


class _Swizzled(Operand):
    """In shared memory as it lies in memory, but for the order of the chunks of a row."""

    @property
    def row(self) -> int:
        return self.k if self.along_k else self.points

    @property
    def is_async(self) -> bool:
        return self.width * self.dtype.itemsize >= 4

    @property
    def chunk(self) -> int:
        """Elements that lie side by side whatever their row."""
        return 16 // self.dtype.itemsize

    def place(self, row: str, chunk: str) -> str:
        """Of a chunk of a row, as an expression."""
        chunks = self.row // self.chunk
        rows = max(1, 8 // chunks)                              # that share the 32 banks
        turned = f"{row} // {rows} % {chunks}" if rows > 1 else f"{row} % 8"
        if self.chunk == 4 and not self.along_k:
            turned = f"{row} % 4 * 2"
        return f"{row} * {self.row} + (({chunk}) ^ ({turned})) * {self.chunk}" if chunks > 1 else f"{row} * {self.row}"


class MatrixTiles(Tiles):
    operands: tuple[_Swizzled, ...]

    def __init__(self, kernel: ContractionKernel, name: str):
        super().__init__(kernel, name)
        tile = self.schedule
        self.across = tile.n // tile.columns                            # warps along n
        self.threads = 32 * (tile.m // tile.rows) * self.across
        self.stages = max(2, tile.stages)
        self.operands = tuple([_Swizzled(kernel, side, tile, self.threads, 8) for side in ("lhs", "rhs")])
        self.is_tf32 = tile.unit == "tf32"
        self.k_step = 8 if self.is_tf32 else 16
        self.by_register = tuple([operand for operand in self.operands if not operand.is_async])
        self.blocks_across = tile.columns // 8                          # matrices of 8 columns

    def sums(self) -> None:
        w, tile = self.w, self.schedule
        w.line(f"lane = {self.cast('thread % 32')}")
        w.line(f"row = {self.cast(f'thread // {32 * self.across} * {tile.rows}')}")
        w.line(f"column = {self.cast(f'thread // 32 % {self.across} * {tile.columns}')}")
        self.array("acc", tile.rows * tile.columns // 32, "float32")
        with w.block(f"for x in range({tile.rows * tile.columns // 32}):"):
            w.line("acc[x] = float32(0.0)")
        if not self.steps:
            return
        for operand in self.operands:
            self.array(operand.side, self.stages * operand.k * operand.points, operand.kind, "shared")
        for operand in self.operands:
            if not operand.is_async:
                self.array(f"{operand.side}_next", operand.pieces, operand.kind)
            self.start(operand)
        self.array("a", tile.rows // 4, "uint32")
        self.array("b", tile.columns // 4, "uint32")
        for stage in range(self.stages - 1):
            if stage < self.steps:
                self.ask(str(stage), str(stage))
                self.put(str(stage))
            w.line("cp_async_commit()")
        with w.block(f"for step in range({self.steps}):"):
            w.line(f"cp_async_wait{self.stages - 2}()")
            w.line("cuda.syncthreads()")
            ahead, more = f"step + {self.stages - 1}", self.steps - self.stages + 1
            if more > 0:
                with w.block(f"if step < {more}:"):
                    self.ask(ahead, f"({ahead}) % {self.stages}")
            w.line("cp_async_commit()")
            self.products(f"step % {self.stages}")
            if more > 0:
                with w.block(f"if step < {more}:"):
                    self.put(f"({ahead}) % {self.stages}")

    def ask(self, step: str, stage: str) -> None:
        """For a slice: straight to shared memory, or to registers."""
        w = self.w
        for operand in self.operands:
            if not operand.is_async:
                self.bring(operand, f"({step}) * {operand.k}")
                continue
            with self.pieces(operand), w.block(f"if at < {operand.vectors}:") if operand.has_rest else nullcontext():
                w.line(f"k = {self.cast(f'({step}) * {operand.k} + {operand.position[0]}')}")
                place = self.place_along_k(operand)
                inside = f"k < {self.k}" if self.k % operand.k else "True"
                w.line(f"cp_async{operand.width}({operand.side}, {self.place_of_piece(operand, stage)}, "
                       f"b{operand.address.buffer}, {place}, {inside})")

    def put(self, stage: str) -> None:
        """What came to registers into shared memory."""
        for operand in self.by_register:
            with self.pieces(operand), (self.w.block(f"if at < {operand.vectors}:") if operand.has_rest
                                        else nullcontext()):
                self.w.line(f"{operand.side}[{self.place_of_piece(operand, stage)}] = {operand.side}_next[x]")

    def place_of_piece(self, operand: _Swizzled, stage: str) -> str:
        """In shared memory. Writes lines."""
        inner = operand.row // operand.width
        self.w.line(f"outer = {self.cast(f'at // {inner}')}")
        self.w.line(f"inner = {self.cast(times(f'at % {inner}', operand.width))}")
        chunk = operand.chunk
        rest = f" + inner % {chunk}" if operand.width < chunk else ""
        return self.cast(f"{_stage(stage, operand)}{operand.place('outer', f'inner // {chunk}')}{rest}")

    def products(self, stage: str) -> None:
        w, tile = self.w, self.schedule
        lhs, rhs = self.operands
        with w.block(f"for x in range({tile.k // self.k_step}):"):
            if self.is_tf32 and not lhs.along_k:
                self.elements("a", tile.rows // 4, lhs, stage, "row + y // 4 * 16 + y % 2 * 8", "y % 4 // 2 * 4")
            else:
                with w.block(f"for r in range({tile.rows // 16}):"):
                    self.matrices("a", "r", lhs, stage, "row + r * 16", _DOWN_FIRST if lhs.along_k else _ACROSS_FIRST)
            if self.is_tf32 and not rhs.along_k:
                self.elements("b", tile.columns // 4, rhs, stage, "column + y // 2 * 8", "y % 2 * 4")
            else:
                with w.block(f"for c in range({tile.columns // 16}):"):
                    self.matrices("b", "c", rhs, stage, "column + c * 16", _ACROSS_FIRST if rhs.along_k else _DOWN_FIRST)
            kind = "tf32" if self.is_tf32 else lhs.dtype.name
            with w.block(f"for r in range({tile.rows // 16}):"), w.block(f"for c in range({self.blocks_across}):"):
                w.line(f"mma_{kind}(acc, (r * {self.blocks_across} + c) * 4, a, r * 4, b, c * 2)")

    def elements(self, array: str, count: int, operand: _Swizzled, stage: str, first: str, k: str) -> None:
        """Fragments of f32 that run across k."""
        w = self.w
        with w.block(f"for y in range({count}):"):
            w.line(f"at = {self.cast(f'x * 8 + {k} + lane % 4')}")
            w.line(f"own = {self.cast(f'{first} + lane // 4')}")
            place = self.cast(f"{_stage(stage, operand)}{operand.place('at', 'own // 4')} + own % 4")
            w.line(f"{array}[y] = tf32({operand.side}[{place}])")

    def matrices(self, array: str, number: str, operand: _Swizzled, stage: str, first: str, lane: tuple[str, str]) -> None:
        """Four matrices of 8 x 8 (f32: 8 x 4), from (first, x) on, each row of one from the place that some lane says.
        lane: the row and the chunk there."""
        w = self.w
        row, chunk = (f"{first} + {lane[0]}", f"x * 2 + {lane[1]}") if operand.along_k else (
            f"x * 16 + {lane[0]}", f"({first}) // 8 + {lane[1]}")
        w.line(f"at = {self.cast(row)}")
        turned = "" if operand.along_k else "_trans"
        place = self.cast(f"{_stage(stage, operand)}{operand.place('at', chunk)}")
        w.line(f"ldmatrix4{turned}({array}, {number} * 4, {operand.side}, {place})")
        if self.is_tf32:
            with w.block("for y in range(4):"):
                w.line(f"{array}[{number} * 4 + y] = tf32_bits({array}[{number} * 4 + y])")

    def epilogue(self) -> None:
        w, tile = self.w, self.schedule
        with w.block(f"for r in range({tile.rows // 8}):"), w.block(f"for c in range({self.blocks_across}):"):
            self.at_points("first_m + row + r * 8 + lane // 4", "first_n + column + c * 8 + lane % 4 * 2", 2,
                           f"(r // 2 * {self.blocks_across} + c) * 4 + r % 2 * 2")


def _stage(stage: str, operand: _Swizzled) -> str:
    """Where a slice begins in shared memory, as the beginning of a sum."""
    return f"{stage} * {operand.k * operand.points} + " if stage != "0" else ""
