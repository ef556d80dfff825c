"""What all ways to sum tiles share: a block's place among the tiles, operands on their way to shared memory, and the
epilogue at the points of a thread.

Memory is read as it runs, up to 16 bytes of it by one thread, and the threads of a warp 32 bytes or more of each row. A row
or column beyond the end is the last one once more, whose sums nobody stores; beyond the end of k there are zeros.
"""
from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import stored_type
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.codegen.cuda.wide import WideCode
from flambeau.ir.kernel import Address, ContractionKernel, TileSchedule
from flambeau.ir.kernel.contraction_dims import neighbours

__all__ = ["Operand", "Tiles", "conditions", "times"]


class Operand:
    """One operand, on its way to shared memory: `pieces` of `width` elements by each thread. position: where in the slice
    vector number `at` begins, along k and along the operand's own dims."""

    def __init__(self, kernel: ContractionKernel, side: str, tile: TileSchedule, threads: int, most: int):
        self.side, self.role = side, "m" if side == "lhs" else "n"
        self.address: Address = getattr(kernel, side)
        self.dims: tuple[int, ...] = getattr(kernel, self.role)
        self.dtype = kernel.params[self.address.buffer].dtype
        self.kind = stored_type(self.dtype)
        self.extent = math.prod([kernel.extents[d] for d in self.dims])
        self.points, self.k = getattr(tile, self.role), tile.k
        own, along = (neighbours(kernel, self.address, dims) for dims in (self.dims, kernel.k))
        self.along_k = along > own or own == 1 and _step(kernel, self.address, kernel.k) < _step(
            kernel, self.address, self.dims)
        self.width = math.gcd(max(own, along), most, 16 // self.dtype.itemsize, self.k if self.along_k else self.points)
        self.vectors = self.k * self.points // self.width
        self.pieces = -(-self.vectors // threads)
        self.has_rest = self.vectors % threads != 0

    @property
    def position(self) -> tuple[str, str]:
        inner = (self.k if self.along_k else self.points) // self.width
        found = f"at // {inner}", times(f"at % {inner}", self.width)
        return (found[1], found[0]) if self.along_k else found


def _step(kernel: ContractionKernel, address: Address, dims: tuple[int, ...]) -> float:
    """From one point of some dims to the next, in elements."""
    return next((abs(address.stride_of(d)) for d in reversed(dims) if kernel.extents[d] != 1), math.inf)


class Tiles(WideCode):
    """A subclass says how many threads there are, brings operands and sums, and says where the points of a thread are."""

    threads: int
    operands: tuple[Operand, ...]

    def __init__(self, kernel: ContractionKernel, name: str):
        assert isinstance(kernel.schedule, TileSchedule), f"kernel {kernel.name} has no tiles"
        super().__init__(kernel, Writer())
        self.kernel: ContractionKernel = kernel
        self.name, self.schedule = name, kernel.schedule
        self.batch, self.m, self.n, self.k = (
            math.prod([kernel.extents[d] for d in dims]) for dims in (kernel.batch, kernel.m, kernel.n, kernel.k))
        self.steps = -(-self.k // self.schedule.k)
        biggest = max([p.elements for p in kernel.params if isinstance(p.elements, int)])
        if max(biggest, self.batch * self.m * self.n, self.k) < 1 << 30:
            self.index = "uint32"               # however many products there are
        self.last = next((d for d in reversed(kernel.n) if kernel.extents[d] != 1), -1)

    @abstractmethod
    def sums(self) -> None:
        """Lines that leave the sums of a thread in `acc`."""

    @abstractmethod
    def epilogue(self) -> None:
        """Lines that run the epilogue at the points of a thread."""

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
        text = self.finished(self.name, (self.batch * m_tiles * n_tiles,), 1, self.threads)
        return replace(text, resident=tile.resident)

    def array(self, name: str, count: int, kind: str, room: str = "local") -> None:
        self.w.line(f"{name} = cuda.{room}.array({count}, {kind}, 16)")

    # operands

    def start(self, operand: Operand) -> None:
        """Where in memory each of a thread's pieces begins, but for the way along k."""
        w, side, role = self.w, operand.side, operand.role
        self.array(f"{side}_from", operand.pieces, self.index)
        with self.pieces(operand):
            w.line(f"{role} = {self.cast(f'first_{role} + {operand.position[1]}')}")
            if operand.has_rest or operand.extent % operand.points:
                last = operand.extent - (1 if operand.along_k else operand.width)
                w.line(f"{role} = {role} if {role} < {operand.extent} else {self.cast(str(last))}")
            self.split(role, operand.dims)
            fixed = [(d, stride) for d, stride in operand.address.strides if d not in self.kernel.k]
            w.line(f"{side}_from[x] = {self.place_of(replace(operand.address, strides=tuple(fixed)))}")

    @contextmanager
    def pieces(self, operand: Operand) -> Iterator[None]:
        with self.w.block(f"for x in range({operand.pieces}):"):
            self.w.line(f"at = {self.cast(f'x * {self.threads} + thread')}")
            yield

    def place_along_k(self, operand: Operand) -> str:
        """Of a piece, once `k` is known. Writes lines."""
        self.split("k", self.kernel.k)
        moving = [(d, stride) for d, stride in operand.address.strides if d in self.kernel.k]
        return self.cast(f"{operand.side}_from[x] + {self.place_of(Address(operand.address.buffer, 0, tuple(moving)))}")

    def bring(self, operand: Operand, first_k: str) -> None:
        """A thread's part of a slice to its registers."""
        w, side, width = self.w, operand.side, operand.width
        with self.pieces(operand):
            w.line(f"k = {self.cast(f'{first_k} + {operand.position[0]}' if first_k != '0' else operand.position[0])}")
            if self.k % operand.k:
                with w.block(f"for y in range({width}):") if width > 1 else nullcontext():
                    w.line(f"{side}_next[{times('x', width)}{' + y' if width > 1 else ''}] = {operand.kind}(0)")
            limits = [*([f"at < {operand.vectors}"] if operand.has_rest else []),
                      *([f"k < {self.k}"] if self.k % operand.k else [])]
            with w.block(f"if {conditions(limits)}:") if limits else nullcontext():
                place = self.place_along_k(operand)
                if width > 1:
                    w.line(f"copy{width}({side}_next, x * {width}, b{operand.address.buffer}, {place})")
                else:
                    w.line(f"{side}_next[x] = b{operand.address.buffer}[{place}]")

    # epilogue

    def at_points(self, m: str, n: str, by: int, number: str) -> None:
        """The epilogue at `by` neighbouring points from (m, n) on, whose sums are from `number` on in `acc`."""
        w = self.w
        wide = self.last >= 0 and self.kernel.extents[self.last] % by == 0
        self.width = by if wide else 1
        w.line(f"m = {self.cast(m)}")
        w.line(f"n = {self.cast(n)}")
        self.acc = ex.rounded(f"acc[{number} + x]" if by > 1 else f"acc[{number}]", self.kernel.acc_dtype)
        if self.width > 1:
            with self.guarded("n"):
                self.split("m", self.kernel.m)
                self.split("n", self.kernel.n)
                self.side_by_side(self.kernel.epilogue)
            return
        with w.block(f"for x in range({by}):") if by > 1 else nullcontext():
            name = "n_at" if by > 1 else "n"
            if by > 1:
                w.line(f"n_at = {self.cast('n + x')}")
            with self.guarded(name):
                self.split("m", self.kernel.m)
                self.split(name, self.kernel.n)
                self.body(self.kernel.epilogue)
                self.stores(self.kernel.epilogue.stores)

    def guarded(self, n: str) -> AbstractContextManager[None]:
        """Lines for points that are there."""
        tile = self.schedule
        limits = [*([f"m < {self.m}"] if self.m % tile.m else []), *([f"{n} < {self.n}"] if self.n % tile.n else [])]
        return self.w.block(f"if {conditions(limits)}:") if limits else nullcontext()


def times(name: str, factor: int) -> str:
    plain = name.replace("_", "a").isalnum()
    return name if factor == 1 else f"{name} * {factor}" if plain else f"({name}) * {factor}"


def conditions(tests: list[str]) -> str:
    return tests[0] if len(tests) == 1 else " & ".join(f"({test})" for test in tests)
