"""Stable sorts -> text. An element becomes a key, a number without sign whose order is the one that is meant, and its place
in the row, which makes each pair unique: whatever puts pairs in order sorts stably.

    rows of a few elements      a thread for each counts those before it
    up to a tile                a block takes a row to shared memory and runs a bitonic network over it
    longer                      a block for each tile, then launches that merge neighbours: each element finds its place in
                                the other run by bisection. Of a row that keeps k elements no run has more

Values are loaded again at the end, by their places: -0 and NaN come out as they went in.
"""
from __future__ import annotations

import math
from typing import Final

from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, PhasedText, Writer
from flambeau.ir import dtypes as dt
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import Address, Instr, Kernel, Store

__all__ = ["emit_sort"]

_THREADS: Final = 256


def emit_sort(kernel: Kernel, name: str, source: Address, values: Address | None, indices: Address | None,
              descending: bool, tile: int) -> KernelText | PhasedText:
    """The text of a kernel whose extents are those of the row dims, then the length of a row, then how many are kept. tile:
    elements that a block puts in order; 1: those before each are counted."""
    sort = _Sort(kernel, name, source, values, indices, descending, tile)
    if tile == 1:
        return sort.counted()
    if sort.length <= sort.tile:
        return sort.tiles("", sort.length)
    return sort.merged()


class _Sort:
    def __init__(self, kernel: Kernel, name: str, source: Address, values: Address | None, indices: Address | None,
                 descending: bool, tile: int):
        self.kernel, self.name, self.descending = kernel, name, descending
        self.source, self.values, self.indices = source, values, indices
        self.dtype = kernel.params[source.buffer].dtype
        self.is_wide = self.dtype.itemsize == 8                 # a pair is two numbers
        self.tile = tile
        *rows, self.along, self.kept = range(len(self.kernel.extents))
        self.row_dims = list(rows)
        self.length, self.keep = int(self.kernel.extents[self.along]), int(self.kernel.extents[self.kept])
        self.n_rows = math.prod([int(self.kernel.extents[d]) for d in rows])

    def code(self) -> Code:
        return Code(self.kernel, Writer())

    # short rows

    def counted(self) -> KernelText:
        code, length = self.code(), self.along
        w, points = code.w, code.product(self.kernel.extents[:length + 1])
        load = Instr(0, "load", self.dtype, (), self.source)
        with code.head(self.name):
            w.line(f"point = {code.cast(f'cuda.blockIdx.x * {_THREADS} + cuda.threadIdx.x')}")
            with w.block(f"if point < {points}:"):
                code.split("point", [*self.row_dims, length])
                w.line(f"place = {code.cast(f'point % {self.length}')}")
                code.load("mine", load)
                w.line("before = int64(0)")
                with w.block(f"for x in range({self.length}):"):
                    w.line(f"i{length} = {code.cast('x')}")
                    code.load("other", load)
                    first, equal = _order(self.dtype, self.descending)
                    w.line(f"before = before + (1 if {first} | ({equal} & (x < place)) else 0)")
                with w.block(f"if before < {self.keep}:"):
                    self.put(code, "before", "place")
        return code.finished(self.name, self.kernel.extents[:length + 1], _THREADS, _THREADS)

    def put(self, code: Code, at: str, place: str) -> None:
        """The element that stood at `place` goes to place `at` of the results."""
        code.w.line(f"i{self.kept} = {code.cast(at)}")
        if self.values is not None:
            code.w.line(f"i{self.along} = {code.cast(place)}")
            code.load("v0", Instr(0, "load", self.dtype, (), self.source))
            code.stores([Store(self.values, 0)])
        if self.indices is not None:
            code.w.line(f"v1 = int64({place})")
            code.stores([Store(self.indices, 1)])

    # pairs

    def arrays(self, of: str) -> list[tuple[str, str]]:
        """(name, type) of those that hold pairs."""
        return [(of, "uint64"), (f"{of}_at", "uint32")] if self.is_wide else [(of, "uint64")]

    def key(self, code: Code, name: str) -> None:
        """The key of value `mine`."""
        w, dtype = code.w, self.dtype
        if dtype is dt.f64:
            w.line(f"{name} = key_of_f64(bits_of_f64(mine), mine)")
        elif dtype.is_floating_point:
            w.line(f"{name} = uint64(key_of_f32(bits_of_f32(mine), mine))")
        elif dtype.itemsize == 8:
            w.line(f"{name} = uint64(mine){' ^ uint64(0x8000000000000000)' if dtype.is_signed else ''}")
        elif dtype.is_signed:
            w.line(f"{name} = uint64(int64(mine) + 0x80000000)")
        else:
            w.line(f"{name} = uint64({'int32(mine)' if dtype is dt.bool_ else 'mine'})")
        if self.descending:
            most = "0xFFFFFFFFFFFFFFFF" if self.is_wide else "0xFFFFFFFF"
            w.line(f"{name} = uint64({most}) - {name}")

    def before(self, first: str, second: str) -> str:
        """Whether a pair comes before another."""
        if not self.is_wide:
            return f"({first} < {second})"
        return f"(({first} < {second}) | (({first} == {second}) & ({first}_at < {second}_at)))"

    def take(self, code: Code, name: str, array: str, at: str) -> None:
        for (variable, _), (memory, _) in zip(self.arrays(name), self.arrays(array), strict=True):
            code.w.line(f"{variable} = {memory}[{at}]")

    def leave(self, code: Code, array: str, at: str, name: str) -> None:
        for (variable, _), (memory, _) in zip(self.arrays(name), self.arrays(array), strict=True):
            code.w.line(f"{memory}[{at}] = {variable}")

    def place_of(self, name: str) -> str:
        """The place in its row of the element of a pair."""
        return f"{name}_at" if self.is_wide else f"{name} & uint64(0xFFFFFFFF)"

    # a tile

    def tiles(self, phase: str, kept: int, scratch: str = "") -> KernelText:
        """A block for each tile of each row: its first elements, to the results, or `kept` of a tile to `scratch`."""
        code, size = self.code(), 1 << (min(self.length, self.tile) - 1).bit_length()
        w, per_row, threads = code.w, -(-self.length // size), max(32, min(512, size // 2))
        if scratch:
            code.scratch = self.scratch()
        with code.head(self.name + phase):
            w.line(f"thread = {code.cast('cuda.threadIdx.x')}")
            w.line(f"row = {code.cast(f'cuda.blockIdx.x // {per_row}')}")
            w.line(f"start = {code.cast(f'cuda.blockIdx.x % {per_row} * {size}')}")
            code.split("row", self.row_dims)
            for name, kind in self.arrays("pairs"):
                w.line(f"{name} = cuda.shared.array({size}, {kind})")
            with w.block(f"for x in range({-(-size // threads)}):"):
                w.line(f"at = uint32(x * {threads} + thread)")
                with w.block(f"if at < {size}:"):
                    w.line(f"i{self.along} = {code.cast('start + at')}")
                    w.line(f"pair = uint64({'0xFFFFFFFFFFFFFFFF' if self.is_wide else '0xFFFFFFFF'})")
                    with w.block(f"if i{self.along} < {self.length}:"):
                        code.load("mine", Instr(0, "load", self.dtype, (), self.source))
                        self.key(code, "pair")
                    if self.is_wide:
                        w.line(f"pair_at = uint32(i{self.along})")
                    else:
                        w.line(f"pair = (pair << uint64(32)) | uint64(i{self.along})")
                    self.leave(code, "pairs", "at", "pair")
            w.line("cuda.syncthreads()")
            self.network(code, size, threads)
            with w.block(f"for x in range({-(-min(kept, size) // threads)}):"):
                w.line(f"at = uint32(x * {threads} + thread)")
                with w.block(f"if (at < {min(kept, size)}) & (start + at < {self.length}):"):
                    self.take(code, "pair", "pairs", "at")
                    if scratch:
                        self.leave(code, scratch, code.cast(f"cuda.blockIdx.x * {kept} + at"), "pair")
                    else:
                        with w.block(f"if at < {self.keep}:"):
                            self.put(code, "at", self.place_of("pair"))
        return code.finished(self.name + phase, (self.n_rows * per_row,), 1, threads)

    def network(self, code: Code, size: int, threads: int) -> None:
        """Batcher's bitonic sort: runs of 2, 4, 8, ... in order, up and down in turn."""
        w = code.w
        with w.block(f"for a in range({size.bit_length() - 1}):"), w.block("for c in range(a + 1):"):
            with w.block(f"for x in range({-(-size // 2 // threads)}):"):
                w.line(f"t = uint32(x * {threads} + thread)")
                with w.block(f"if t < {size // 2}:"):
                    w.line("low = uint32((t >> (a - c) << (a - c + 1)) + (t & ((1 << (a - c)) - 1)))")
                    w.line("high = uint32(low + (1 << (a - c)))")
                    self.take(code, "p", "pairs", "low")
                    self.take(code, "q", "pairs", "high")
                    w.line(f"is_late = {self.before('q', 'p')}")
                    w.line("is_down = ((low >> (a + 1)) & 1) != 0")
                    with w.block("if is_late != is_down:"):
                        self.leave(code, "pairs", "low", "q")
                        self.leave(code, "pairs", "high", "p")
            w.line("cuda.syncthreads()")

    # runs

    def scratch(self) -> list[tuple[str, str, int]]:
        """(name, type, elements) of the memory that runs lie in, two of each."""
        pairs = self.n_rows * max(runs * kept for _, runs, kept in self.levels())
        return [(name, kind, pairs) for of in ("s0", "s1") for name, kind in self.arrays(of)]

    def levels(self) -> list[tuple[int, int, int]]:
        """Before each merge: (elements of the row that a run is made of, runs of a row, elements that each keeps)."""
        found, size, kept = [], self.tile, min(self.tile, self.keep)
        while size < self.length:
            found.append((size, -(-self.length // size), kept))
            size, kept = 2 * size, min(2 * kept, self.keep)
        return found

    def merged(self) -> PhasedText:
        levels = self.levels()
        phases = [self.tiles("_0", levels[0][2], "s0"), *[
            self.merge(number, *level, is_last=number == len(levels)) for number, level in enumerate(levels, 1)]]
        code = self.code()
        code.scratch = self.scratch()
        nbytes = [count * int(kind.removeprefix("uint")) // 8 for _, kind, count in code.scratch]
        return PhasedText(tuple(phases), tuple([-(-each // 64) * 64 for each in nbytes]))

    def merge(self, number: int, size: int, runs: int, kept: int, is_last: bool) -> KernelText:
        """A thread for each pair of each run of what `size` elements kept; run 2 * n + 1 goes into run 2 * n."""
        code, name = self.code(), f"{self.name}_{number}"
        w = code.w
        code.scratch = self.scratch()
        source, target = (f"s{(number + 1) % 2}", f"s{number % 2}")
        together, out = -(-runs // 2), min(2 * kept, self.keep)
        with code.head(name):
            w.line(f"point = {self.point(code)}")
            with w.block(f"if point < {self.n_rows * runs * kept}:"):
                w.line(f"at = {code.cast(f'point % {kept}')}")
                w.line(f"run = {code.cast(f'point // {kept} % {runs}')}")
                w.line(f"row = {code.cast(f'point // {runs * kept}')}")
                w.line(f"other = {code.cast('run ^ 1')}")
                for run in ("run", "other"):
                    w.line(f"left = int64({self.length}) - int64({run}) * {size}")
                    w.line(f"n_{run} = {kept} if left > {kept} else left if left > 0 else int64(0)")
                with w.block("if at < n_run:"):
                    self.take(code, "pair", source, "point")
                    w.line(f"first = {code.cast(f'(row * {runs} + other) * {kept}')}")
                    w.line("low = int64(0)")
                    w.line("high = n_other")
                    with w.block(f"for x in range({kept.bit_length()}):"), w.block("if low < high:"):
                        w.line("middle = (low + high) >> 1")
                        self.take(code, "its", source, code.cast("first + middle"))
                        w.line(f"is_before = {self.before('its', 'pair')}")
                        w.line("low = middle + 1 if is_before else low")
                        w.line("high = high if is_before else middle")
                    w.line("to = int64(at) + low")
                    with w.block(f"if to < {out}:"):
                        if is_last:
                            code.split("row", self.row_dims)
                            self.put(code, "to", self.place_of("pair"))
                        else:
                            self.leave(code, target, code.cast(f"(row * {together} + (run >> 1)) * {out} + to"), "pair")
        return code.finished(name, (self.n_rows * runs * kept,), _THREADS, _THREADS)

    def point(self, code: Code) -> str:
        block = code.cast("cuda.blockIdx.x")
        return code.cast(f"{block} * {_THREADS} + cuda.threadIdx.x")


def _order(dtype: DType, descending: bool) -> tuple[str, str]:
    """Whether `other` comes before `mine`, and whether they are equal. NaN is greater than every number."""
    other, mine = ("int32(other)", "int32(mine)") if dtype is dt.bool_ else ("other", "mine")
    if not dtype.is_floating_point:
        return f"({other} {'>' if descending else '<'} {mine})", f"({other} == {mine})"
    greater, lesser = (other, mine) if descending else (mine, other)
    first = f"(({lesser} < {greater}) | (({greater} != {greater}) & ({lesser} == {lesser})))"
    return first, f"(({other} == {mine}) | (({other} != {other}) & ({mine} != {mine})))"
