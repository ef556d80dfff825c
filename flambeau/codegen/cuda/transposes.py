"""LoopKernel of one stage without inner dims, whose memory runs along two of its dims -> text. A block takes a square of
points: what lies side by side along `tile_dim` is loaded that way, goes to shared memory, and is read from there along the
other dim, which stores run along. Each warp then touches whole lines of memory, both ways.

    y[i0, i1] = x[i1, i0]:   32 threads load x[i1, i0 .. i0 + 31], for 32 i1; barrier; 32 threads store y[i0, i1 .. i1 + 31]
"""
from __future__ import annotations

from typing import Final

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import Code, stored_type
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir.kernel import Address, BlockSchedule, Instr, LoopKernel

__all__ = ["emit_transpose"]

SIDE: Final = 32


def emit_transpose(kernel: LoopKernel, name: str) -> KernelText:
    """The text of a kernel whose `BlockSchedule` has a `tile_dim`."""
    return _Transpose(kernel, name).text()


class _Transpose(Code):
    def __init__(self, kernel: LoopKernel, name: str):
        super().__init__(kernel, Writer())
        assert isinstance(kernel.schedule, BlockSchedule) and kernel.schedule.tile_dim is not None
        (self.stage,) = kernel.stages
        self.name, self.threads = name, kernel.schedule.points
        self.across, self.along = kernel.schedule.tile_dim, kernel.n_parallel - 1      # dims of loads, and of stores
        self.rows = self.threads // SIDE                    # of a square, at once
        self.in_tiles = {i.id: i.attr for i in self.stage.body
                         if isinstance(i.attr, Address) and self.is_transposed(i.attr)}

    def is_transposed(self, address: Address) -> bool:
        """Whether neighbours along `tile_dim`, and not along the last dim, are neighbours there."""
        return (abs(address.stride_of(self.across)) == 1 and abs(address.stride_of(self.along)) != 1
                and not address.dynamic and address.guard is None)

    def text(self) -> KernelText:
        w, extents = self.w, self.kernel.extents
        sides = {dim: -(-int(extents[dim]) // SIDE) for dim in (self.along, self.across)}
        others = [d for d in self.kernel.parallel if d not in sides]
        tiles = sides[self.along] * sides[self.across]
        with self.head(self.name):
            w.line(f"column = {self.cast(f'cuda.threadIdx.x % {SIDE}')}")
            w.line(f"row = {self.cast(f'cuda.threadIdx.x // {SIDE}')}")
            w.line(f"block = {self.cast('cuda.blockIdx.x')}")
            w.line(f"rest = {self.cast(f'block // {tiles}')}")
            self.split("rest", others)
            w.line(f"start{self.along} = {self.cast(f'block % {sides[self.along]} * {SIDE}')}")
            w.line(f"start{self.across} = {self.cast(f'block // {sides[self.along]} % {sides[self.across]} * {SIDE}')}")
            for number, address in self.in_tiles.items():
                kind = stored_type(self.kernel.params[address.buffer].dtype)
                w.line(f"tile{number} = cuda.shared.array({SIDE * self.pitch(address)}, {kind})")
            with w.block(f"for x in range({SIDE // self.rows}):"):
                self.square(self.across, self.along)
                with w.block(f"if {self.inside()}:"):
                    for number, address in self.in_tiles.items():
                        at = self.cast(f"line * {self.pitch(address)} + column")
                        w.line(f"tile{number}[{at}] = b{address.buffer}[{self.place_of(address)}]")
            w.line("cuda.syncthreads()")
            with w.block(f"for x in range({SIDE // self.rows}):"):
                self.square(self.along, self.across)
                with w.block(f"if {self.inside()}:"):
                    self.body(self.stage)
                    self.stores(self.stage.stores)
        rest = self.product([extents[d] for d in others])
        return self.finished(self.name, (tiles * int(rest),), 1, self.threads)

    def square(self, side_by_side: int, one_by_one: int) -> None:
        """Where a thread is in the square: `column` along one dim, `line` along the other."""
        self.w.line(f"line = {self.cast(f'x * {self.rows} + row')}")
        self.w.line(f"i{side_by_side} = {self.cast(f'start{side_by_side} + column')}")
        self.w.line(f"i{one_by_one} = {self.cast(f'start{one_by_one} + line')}")

    def inside(self) -> str:
        return " & ".join([f"(i{dim} < {self.kernel.extents[dim]})" for dim in (self.across, self.along)])

    def pitch(self, address: Address) -> int:
        """Elements from a line of a tile to the next: an odd number of words, so that a column lies in all banks."""
        return SIDE + max(1, 4 // self.kernel.params[address.buffer].dtype.itemsize)

    def load(self, name: str, instr: Instr) -> None:
        address = self.in_tiles.get(instr.id)
        if address is None:
            super().load(name, instr)
        else:
            at = self.cast(f"column * {self.pitch(address)} + line")
            self.w.line(f"{name} = {ex.loaded(f'tile{instr.id}[{at}]', instr.dtype)}")
