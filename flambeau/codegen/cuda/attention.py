"""AttentionKernel (scheduled for CUDA) -> text. A block has a tile of rows of its own in shared memory, and walks the
others block by block; a thread has a few rows by four columns of scores in registers, and the lanes of a warp that share
rows find their greatest score and their sum by shuffles.

Forward the rows are those of q. The derivative is two kernels, since blocks do not add to each other's sums: one whose rows
are those of q, for dq, and one whose rows are those of k and v, for dk and dv; both make the weights again from lse.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

from flambeau.codegen.cuda import expressions as ex
from flambeau.codegen.cuda.code import Code
from flambeau.codegen.cuda.text import KernelText, Writer
from flambeau.ir import dtypes as dt
from flambeau.ir.kernel import Address
from flambeau.ir.kernel.attention_kernel import AttentionKernel, BlockTiles

__all__ = ["emit_attention"]

_PAD = 4                                # elements after each row of what is turned on its way to shared memory
_WIDE = 4                               # columns of a thread


def emit_attention(kernel: AttentionKernel, name: str) -> KernelText:
    """The text of a kernel that has `BlockTiles`; a derivative has either dq or the other two."""
    return _Backward(kernel).text(name) if kernel.is_backward else _Forward(kernel).text(name)


class _Tiles(Code):
    """own: the dim whose points a block has a tile of, R or C; other: the one that it walks."""

    def __init__(self, kernel: AttentionKernel, own: str) -> None:
        super().__init__(kernel, Writer())
        assert isinstance(kernel.schedule, BlockTiles), f"kernel {kernel.name} has no tiles"
        self.kernel: AttentionKernel = kernel
        self.tile = kernel.schedule
        first = len(kernel.extents) - 4
        self.number = {letter: first + place for place, letter in enumerate("RCEV")}
        self.extent = {letter: int(kernel.extents[number]) for letter, number in self.number.items()}
        self.own, self.other = own, "C" if own == "R" else "R"
        self.across = self.tile.columns // _WIDE                        # threads that share rows
        self.down = self.tile.threads // self.across
        self.per_thread = self.tile.rows // self.down                   # rows of a thread
        self.dtype = kernel.dtype
        self.kind = ex.numba_type(self.dtype)
        self.zero, self.none = ex.constant(0, self.dtype), ex.constant(-math.inf, self.dtype)
        self.tiles = -(-self.extent[own] // self.tile.rows)
        self.row_step, self.column_step = self.tile.rows + _PAD, self.tile.columns + _PAD

    def padded(self, letter: str) -> int:
        """Elements of a row, up to whole columns of all threads."""
        return -(-self.extent[letter] // self.tile.columns) * self.tile.columns

    def per_row(self, letter: str) -> int:
        """Of a result's row, those of one thread."""
        return self.padded(letter) // self.across

    def start(self) -> None:
        w = self.w
        w.line(f"thread = {self.cast('cuda.threadIdx.x')}")
        w.line(f"block = {self.cast('cuda.blockIdx.x')}")
        w.line(f"batch = {self.cast(f'block // {self.tiles}')}")
        w.line(f"first = {self.cast(f'block % {self.tiles} * {self.tile.rows}')}")
        self.split("batch", range(len(self.kernel.extents) - 4))
        w.line(f"row = {self.cast(f'thread // {self.across} * {self.per_thread}')}")
        w.line(f"column = {self.cast(f'thread % {self.across} * {_WIDE}')}")
        w.line(f"acc = cuda.local.array({self.per_thread * _WIDE}, {self.kind}, 16)")
        w.line(f"left = cuda.local.array({max(4, self.per_thread)}, {self.kind}, 16)")
        w.line(f"right = cuda.local.array({_WIDE}, {self.kind}, 16)")

    def share(self, name: str, count: int) -> None:
        self.w.line(f"{name} = cuda.shared.array({max(1, count)}, {self.kind}, 16)")

    def at(self, name: str) -> Address:
        found = getattr(self.kernel, name)
        assert isinstance(found, Address)
        return found

    def fill(self, array: str, place: str, letters: str, first: str, rows: int, turned: bool) -> None:
        """Rows of an operand into shared memory, zeros where there are none: turned, [element][row], or [row][element]."""
        w, outer, inner = self.w, letters[0], letters[1]
        length, step = self.padded(inner), rows + _PAD
        count = rows * length
        with w.block(f"for x in range({-(-count // self.tile.threads)}):"):
            w.line(f"at = {self.cast(f'x * {self.tile.threads} + thread')}")
            with w.block(f"if at < {count}:") if count % self.tile.threads else nullcontext():
                w.line(f"i{self.number[outer]} = {self.cast(f'{first} + at // {length}')}")
                w.line(f"i{self.number[inner]} = {self.cast(f'at % {length}')}")
                w.line(f"value = {self.zero}")
                with w.block(f"if (i{self.number[outer]} < {self.extent[outer]}) & "
                             f"(i{self.number[inner]} < {self.extent[inner]}):"):
                    w.line(f"value = {self.element(self.at(place))}")
                to = f"at % {length} * {step} + at // {length}" if turned else "at"
                w.line(f"{array}[{self.cast(to)}] = value")

    def take(self, array: str, source: str, place: str, count: int) -> None:
        """A few elements that lie side by side in shared memory to registers, as many at once as 16 bytes hold."""
        by = math.gcd(count, 16 // self.dtype.itemsize)
        for first in range(0, count, by):
            at = self.cast(f"{place} + {first}" if first else place)
            if by > 1:
                self.w.line(f"copy{by}({array}, {first}, {source}, {at})")
            else:
                self.w.line(f"{array}[{first}] = {source}[{at}]")

    def products(self, target: str, left: str, right: str, length: str) -> None:
        """target[r, c] = sum over x of left[x, row + r] * right[x, column + c], from what was turned."""
        w = self.w
        with w.block(f"for x in range({self.per_thread * _WIDE}):"):
            w.line(f"{target}[x] = {self.zero}")
        with w.block(f"for x in range({self.extent[length]}):"):
            self.take("left", left, f"x * {self.row_step} + row", self.per_thread)
            self.take("right", right, f"x * {self.column_step} + column", _WIDE)
            with w.block(f"for r in range({self.per_thread}):"), w.block(f"for c in range({_WIDE}):"):
                self.add(f"{target}[r * {_WIDE} + c]", "left[r]", "right[c]")

    def add(self, target: str, x: str, y: str) -> None:
        self.w.line(f"{target} = {ex.expression('fma', self.dtype, [x, y, target])}")

    def exp(self, x: str) -> str:
        return ex.expression("exp", self.dtype, [x])

    def over_lanes(self, name: str, combined: str) -> None:
        """Combine `name` and `other` over the lanes that share rows."""
        step = self.across // 2
        while step:
            self.w.line(f"other = cuda.shfl_xor_sync(0xffffffff, {name}, {step})")
            self.w.line(f"{name} = {combined}")
            step //= 2

    def scores(self) -> None:
        """The dims R and C at a thread's score (r, c), `seen`: whether there is one to see, and the score with its mask."""
        w, kernel = self.w, self.kernel
        w.line(f"i{self.number[self.own]} = {self.cast('first + row + r')}")
        w.line(f"i{self.number[self.other]} = {self.cast('first_other + column + c')}")
        row, column = f"i{self.number['R']}", f"i{self.number['C']}"
        w.line(f"seen = ({row} < {self.extent['R']}) & ({column} < {self.extent['C']})"
               f"{f' & ({column} <= {row})' if kernel.causal else ''}")
        w.line(f"score = acc[r * {_WIDE} + c]")
        if kernel.mask is None:
            return
        dtype = kernel.params[kernel.mask.buffer].dtype
        if dtype is dt.bool_:
            w.line("allowed = False")
            with w.block("if seen:"):
                w.line(f"allowed = {self.element(kernel.mask)}")
            w.line("seen = allowed")
        else:
            with w.block("if seen:"):
                w.line(f"score = score + {self.element(kernel.mask)}")

    def end(self) -> str:
        """How many of the others a block walks: if causal, its rows see no columns beyond its last. Writes lines."""
        every = str(self.extent[self.other])
        if not self.kernel.causal or self.own == "C":
            return every
        self.w.line(f"limit = {self.cast(f'first + {self.tile.rows}')}")
        self.w.line(f"limit = limit if limit < {every} else {self.cast(every)}")
        return "limit"

    def store(self, name: str, letters: str, values: str, factor: str) -> None:
        """A thread's part of a result, values[r, j] * factor."""
        w, outer, inner = self.w, letters[0], letters[1]
        count = self.per_row(inner)
        with w.block(f"for r in range({self.per_thread}):"):
            w.line(f"i{self.number[outer]} = {self.cast('first + row + r')}")
            with w.block(f"for j in range({count}):"):
                w.line(f"i{self.number[inner]} = {self.cast(self.column_of('j'))}")
                with w.block(f"if (i{self.number[outer]} < {self.extent[outer]}) & "
                             f"(i{self.number[inner]} < {self.extent[inner]}):"):
                    address = self.at(name)
                    value = ex.stored(f"{values}[r * {count} + j] * {factor}", self.dtype)
                    w.line(f"b{address.buffer}[{self.place_of(address)}] = {value}")

    def column_of(self, j: str) -> str:
        """The element of a row that is a thread's number j: fours, as many apart as all threads take."""
        return f"{j} // {_WIDE} * {self.tile.columns} + column + {j} % {_WIDE}"

    def launched(self, name: str) -> KernelText:
        batch: Sequence[int] = self.kernel.batch
        return self.finished(name, (math.prod(batch) * self.tiles,), 1, self.tile.threads)


class _Forward(_Tiles):
    def __init__(self, kernel: AttentionKernel) -> None:
        super().__init__(kernel, "R")

    def text(self, name: str) -> KernelText:
        w, tile, rows, count = self.w, self.tile, self.per_thread, self.per_row("V")
        with self.head(name):
            self.start()
            self.share("q", self.padded("E") * self.row_step)
            self.share("kv", max(self.padded("E") * self.column_step, tile.columns * self.padded("V")))
            self.share("weights", tile.columns * self.row_step)
            for array, size, value in (("out", rows * count, self.zero), ("top", rows, self.none),
                                       ("total", rows, self.zero)):
                w.line(f"{array} = cuda.local.array({max(1, size)}, {self.kind}, 16)")
                with w.block(f"for x in range({size}):"):
                    w.line(f"{array}[x] = {value}")
            self.fill("q", "q", "RE", "first", tile.rows, turned=True)
            with w.block(f"for first_at in range(0, {self.end()}, {tile.columns}):"):
                w.line(f"first_other = {self.cast('first_at')}")
                self.fill("kv", "k", "CE", "first_other", tile.columns, turned=True)
                w.line("cuda.syncthreads()")
                self.products("acc", "q", "kv", "E")
                self.weigh()
                w.line("cuda.syncthreads()")
                self.fill("kv", "v", "CV", "first_other", tile.columns, turned=False)
                w.line("cuda.syncthreads()")
                self.mix()
                w.line("cuda.syncthreads()")
            self.finish()
        return self.launched(name)

    def weigh(self) -> None:
        """Scores become weights, in shared memory; what a row has so far is scaled down where its greatest score grew."""
        w, count = self.w, self.per_row("V")
        with w.block(f"for r in range({self.per_thread}):"):
            w.line(f"best = {self.none}")
            with w.block(f"for c in range({_WIDE}):"):
                w.line(f"acc[r * {_WIDE} + c] = acc[r * {_WIDE} + c] * {ex.constant(self.kernel.scale, self.dtype)}")
                self.scores()
                w.line(f"score = score if seen else {self.none}")
                w.line(f"acc[r * {_WIDE} + c] = score")
                w.line("best = score if score > best else best")
            self.over_lanes("best", "other if other > best else best")
            w.line("best = best if best > top[r] else top[r]")
            w.line(f"base = best if best != {self.none} else {self.zero}")
            w.line(f"factor = {self.exp('top[r] - base')}")
            w.line("top[r] = best")
            w.line(f"summed = {self.zero}")
            with w.block(f"for c in range({_WIDE}):"):
                w.line(f"weight = {self.exp(f'acc[r * {_WIDE} + c] - base')}")
                w.line(f"weights[{self.cast(f'(column + c) * {self.row_step} + row + r')}] = weight")
                w.line("summed = summed + weight")
            self.over_lanes("summed", "summed + other")
            w.line("total[r] = total[r] * factor + summed")
            with w.block(f"for j in range({count}):"):
                w.line(f"out[r * {count} + j] = out[r * {count} + j] * factor")

    def mix(self) -> None:
        """out += weights * values."""
        w, count = self.w, self.per_row("V")
        with w.block(f"for x in range({self.tile.columns}):"):
            self.take("left", "weights", f"x * {self.row_step} + row", self.per_thread)
            with w.block(f"for j in range({count // _WIDE}):"):
                self.take("right", "kv", f"x * {self.padded('V')} + j * {self.tile.columns} + column", _WIDE)
                with w.block(f"for r in range({self.per_thread}):"), w.block(f"for c in range({_WIDE}):"):
                    self.add(f"out[r * {count} + j * {_WIDE} + c]", "left[r]", "right[c]")

    def finish(self) -> None:
        w, kernel = self.w, self.kernel
        row, one = f"i{self.number['R']}", ex.constant(1, self.dtype)
        with w.block(f"for r in range({self.per_thread}):"):
            if kernel.lse is not None:
                w.line(f"base = top[r] if top[r] != {self.none} else {self.zero}")
                w.line(f"{row} = {self.cast('first + row + r')}")
                with w.block(f"if (column == 0) & ({row} < {self.extent['R']}):"):
                    value = f"base + {ex.expression('log', self.dtype, ['total[r]'])}"
                    w.line(f"b{kernel.lse.buffer}[{self.place_of(kernel.lse)}] = {value}")
            if kernel.safe or not self.extent["C"]:
                w.line(f"total[r] = total[r] if total[r] != {self.zero} else {one}")
            with w.block(f"for j in range({self.per_row('V')}):"):
                w.line(f"out[r * {self.per_row('V')} + j] = out[r * {self.per_row('V')} + j] / total[r]")
        if kernel.out is not None:
            self.store("out", "RV", "out", one)


class _Backward(_Tiles):
    """mine and others: what is of the block's own rows, and of those that it walks, both first that of scores."""

    def __init__(self, kernel: AttentionKernel) -> None:
        super().__init__(kernel, "R" if kernel.dq is not None else "C")
        assert kernel.dq is None or kernel.dk is None and kernel.dv is None, "dq is a kernel of its own"
        self.mine, self.others = (("q", "g"), ("k", "v")) if self.own == "R" else (("k", "v"), ("q", "g"))

    def text(self, name: str) -> KernelText:
        w, tile, kernel = self.w, self.tile, self.kernel
        first_sum = kernel.dq is not None or kernel.dk is not None
        with self.head(name):
            self.start()
            w.line(f"by_weight = cuda.local.array({self.per_thread * _WIDE}, {self.kind}, 16)")
            for place, letter in zip(self.mine, "EV", strict=True):
                self.share(place, self.padded(letter) * self.row_step)
            for place, letter in zip(self.others, "EV", strict=True):
                self.share(place, self.padded(letter) * self.column_step)
            sums = [("by_scores", "to_first", "E")] if first_sum else []
            sums += [("weights", "to_v", "V")] if kernel.dv is not None else []
            for shared, array, letter in sums:
                self.share(shared, tile.columns * self.row_step)
                size = self.per_thread * self.per_row(letter)
                w.line(f"{array} = cuda.local.array({max(1, size)}, {self.kind}, 16)")
                with w.block(f"for x in range({size}):"):
                    w.line(f"{array}[x] = {self.zero}")
            of_rows = tile.rows if self.own == "R" else tile.columns
            self.share("lse", of_rows)
            self.share("dots", of_rows)
            for place, letter in zip(self.mine, "EV", strict=True):
                self.fill(place, place, self.own + letter, "first", tile.rows, turned=True)
            if self.own == "R":
                self.rows_known("first", of_rows)
            self.walk(sums)
            scale = ex.constant(kernel.scale, self.dtype)
            for result, letters, array, factor in (("dq", "RE", "to_first", scale), ("dk", "CE", "to_first", scale),
                                                   ("dv", "CV", "to_v", ex.constant(1, self.dtype))):
                if getattr(kernel, result) is not None:
                    self.store(result, letters, array, factor)
        return self.launched(name)

    def walk(self, sums: Sequence[tuple[str, str, str]]) -> None:
        w, tile = self.w, self.tile
        begin = "0"
        if self.kernel.causal and self.own == "C":  # rows before the first column of the tile see none of it
            w.line(f"begin = {self.cast(f'first // {tile.columns} * {tile.columns}')}")
            begin = "begin"
        with w.block(f"for first_at in range({begin}, {self.end()}, {tile.columns}):"):
            w.line(f"first_other = {self.cast('first_at')}")
            for place, letter in zip(self.others, "EV", strict=True):
                self.fill(place, place, self.other + letter, "first_other", tile.columns, turned=True)
            if self.own == "C":
                self.rows_known("first_other", tile.columns)
            w.line("cuda.syncthreads()")
            self.products("acc", self.mine[0], self.others[0], "E")
            self.products("by_weight", self.mine[1], self.others[1], "V")
            self.weigh(sums)
            w.line("cuda.syncthreads()")
            for (shared, array, letter), other in zip(sums, self.read_by(sums), strict=True):
                self.sum(shared, array, letter, other)
            w.line("cuda.syncthreads()")

    def read_by(self, sums: Sequence[tuple[str, str, str]]) -> list[str]:
        """What each sum multiplies its weights with."""
        return [self.others[0] if letter == "E" else self.others[1] for _, _, letter in sums]

    def rows_known(self, first: str, count: int) -> None:
        """lse of rows of q (if safe 0 in the place of -inf), and the product of out and its cotangent."""
        w, kernel = self.w, self.kernel
        lse, out, g = (self.at(name) for name in ("lse", "out", "g"))
        row, element = f"i{self.number['R']}", f"i{self.number['V']}"
        with w.block(f"for x in range(thread, {count}, {self.tile.threads}):"):
            w.line(f"{row} = {self.cast(f'{first} + x')}")
            w.line(f"known = {self.zero}")
            w.line(f"dot = {self.zero}")
            with w.block(f"if {row} < {self.extent['R']}:"):
                w.line(f"known = {self.element(lse)}")
                with w.block(f"for y in range({self.extent['V']}):"):
                    w.line(f"{element} = {self.cast('y')}")
                    self.add("dot", self.element(out), self.element(g))
            if kernel.safe:
                w.line(f"known = known if known != {self.none} else {self.zero}")
            w.line("lse[x] = known")
            w.line("dots[x] = dot")

    def weigh(self, sums: Sequence[tuple[str, str, str]]) -> None:
        w = self.w
        row = "row + r" if self.own == "R" else "column + c"
        with w.block(f"for r in range({self.per_thread}):"), w.block(f"for c in range({_WIDE}):"):
            w.line(f"acc[r * {_WIDE} + c] = acc[r * {_WIDE} + c] * {ex.constant(self.kernel.scale, self.dtype)}")
            self.scores()
            w.line(f"score = score if seen else {self.none}")
            w.line(f"weight = {self.exp(f'score - lse[{self.cast(row)}]')}")
            inside = f"(i{self.number['R']} < {self.extent['R']}) & (i{self.number['C']} < {self.extent['C']})"
            w.line(f"weight = weight if {inside} else {self.zero}")
            at = self.cast(f"(column + c) * {self.row_step} + row + r")
            for shared, _, letter in sums:
                if letter == "V":
                    w.line(f"{shared}[{at}] = weight")
                else:
                    w.line(f"by_score = weight * (by_weight[r * {_WIDE} + c] - dots[{self.cast(row)}])")
                    w.line(f"{shared}[{at}] = by_score if seen else {self.zero}")

    def sum(self, shared: str, array: str, letter: str, other: str) -> None:
        """array[r, j] += shared[x, row + r] * other[j, x], over the columns x of a block."""
        w, count = self.w, self.per_row(letter)
        place = f"({self.column_of('j')}) * {self.column_step} + x"
        with w.block(f"for x in range({self.tile.columns}):"):
            self.take("left", shared, f"x * {self.row_step} + row", self.per_thread)
            with w.block(f"for j in range({count}):"):
                w.line(f"factor = {other}[{self.cast(place)}]")
                with w.block(f"for r in range({self.per_thread}):"):
                    self.add(f"{array}[r * {count} + j]", "left[r]", "factor")
