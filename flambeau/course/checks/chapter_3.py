"""Checks of chapter 3: efficiency. They hold what kernels give and touch; how fast they are, the page measures."""
from __future__ import annotations

import itertools
import math
import threading
from typing import Any

import numpy as np

from flambeau.course.checking import Wrong, check, expect, of_ember, refuses
from flambeau.course.emulator import Barrier, Race, Tally, launch

ROW = np.arange(12.0) - 5


@check("3.1", "map and zip do their share, and touch nothing else")
def _(m: Any) -> None:
    for begin, end in ((0, 12), (3, 7), (5, 5)):
        wanted = np.full(12, 7.0)
        out = wanted.copy()
        m.map_kernel(lambda x: 2 * x)(out, ROW, begin, end)
        wanted[begin:end] = 2 * ROW[begin:end]
        expect(f"the result of a map over places {begin} to {end}", out, wanted, "other threads do the other places")
        m.zip_kernel(lambda x, y: x - y)(out, ROW, ROW[::-1].copy(), begin, end)
        wanted[begin:end] = ROW[begin:end] - ROW[::-1][begin:end]
        expect(f"the result of a zip over places {begin} to {end}", out, wanted)


@check("3.1", "functions of ember are compiled with what they call")
def _(m: Any) -> None:
    operators, out = of_ember("operators"), np.zeros(12)
    m.map_kernel(operators.sigmoid)(out, ROW, 0, 12)
    expect("sigmoid of -5 to 6", out, 1 / (1 + np.exp(-ROW)))


@check("3.1", "reduce: from start, over elements that lie `inner` apart")
def _(m: Any) -> None:
    kernel = m.reduce_kernel(lambda x, y: x - y)
    for outer, n, inner in ((1, 12, 1), (3, 4, 1), (1, 4, 3), (2, 2, 3), (12, 1, 1)):
        out = np.full(outer * inner, 7.0)
        kernel(out, ROW, n, inner, 100.0, 0, outer * inner)
        expect(f"100 minus the elements along the middle of {(outer, n, inner)}", out,
               (100 - ROW.reshape(outer, n, inner).sum(1)).reshape(-1),
               "element i is in block i // inner, which begins n * inner further each time, and at i % inner in it")
        half = np.full(outer * inner, 7.0)
        kernel(half, ROW, n, inner, 100.0, 1, outer * inner)
        expect("what lies before the share", half[0], 7.0)


@check("3.1", "gather reads any view")
def _(m: Any) -> None:
    shapes = (((3, 4), (4, 1)), ((4, 3), (1, 4)), ((2, 3, 2), (6, 1, 3)), ((3, 4), (0, 1)), ((4, 3), (1, 0)), ((12,), (1,)))
    for shape, strides in shapes:
        out = np.zeros(math.prod(shape))
        m.gather_kernel(out, ROW, np.array(shape), np.array(strides), 0, len(out))
        wanted = [ROW[sum(i * s for i, s in zip(index, strides, strict=True))] for index in np.ndindex(*shape)]
        expect(f"a view of shape {shape}, strides {strides}", out, np.array(wanted), "the last dim runs fastest")


@check("3.2", "shares are whole, in order, and even")
def _(m: Any) -> None:
    for n, workers in itertools.product((0, 1, 2, 3, 7, 8, 100), (1, 2, 3, 8)):
        found = m.shares(n, workers)
        expect(f"the places of shares({n}, {workers})", [i for begin, end in found for i in range(begin, end)],
               list(range(n)), "each place once: does the last share go to the end?")
        sizes = [end - begin for begin, end in found]
        if sizes and (max(sizes) - min(sizes) > 1 or min(sizes) == 0):
            raise Wrong(f"the sizes of shares({n}, {workers}) are {sizes}", "all wait for the largest: sizes differ by one at "
                        "most, and an empty share wakes a thread for nothing")
        expect(f"how many shares({n}, {workers}) gives", len(found), min(n, workers))


@check("3.2", "all of it is done, by several threads, when parallel returns")
def _(m: Any) -> None:
    for n in (0, 1, 10, 101):
        done = np.zeros(n)
        meeting = threading.Barrier(2, timeout=2)

        def kernel(out: np.ndarray, step: float, begin: int, end: int, n: int = n,
                   meeting: threading.Barrier = meeting) -> None:
            if n > 1:
                meeting.wait()      # breaks if one thread does both shares
            out[begin:end] += step

        try:
            m.parallel(kernel, n, done, 2.0, least=1, workers=2)
        except threading.BrokenBarrierError:
            raise Wrong("one share waits for the other, and the other has not begun after 2 s",
                        "submit all shares first, then wait for each") from None
        expect(f"the places, each with 2 added, n = {n}", done, np.full(n, 2.0), "wait for the results before returning")


@check("3.2", "little work stays where it is")
def _(m: Any) -> None:
    by: list[tuple[int, int, int]] = []
    m.parallel(lambda begin, end: by.append((begin, end, threading.get_ident())), 10, least=11)
    expect("who did 10 places, with least=11", by, [(0, 10, threading.get_ident())], "one call, by the thread that asked")


@check("3.2", "errors are not lost")
def _(m: Any) -> None:
    def broken(begin: int, end: int) -> None:
        raise ArithmeticError("in a kernel")

    refuses(m.parallel, broken, 10, error=ArithmeticError,
            hint="an error in a thread of the pool stays there until somebody asks for the result")
    refuses(lambda: m.parallel(broken, 10, least=1, workers=2), error=ArithmeticError,
            hint="an error in a thread of the pool stays there until somebody asks for the result")


SIZES = ((1, 1, 1), (2, 3, 4), (5, 7, 3), (4, 1, 6), (3, 0, 2))


@check("3.3", "each kernel multiplies, and does its share only")
def _(m: Any) -> None:
    rng = np.random.default_rng(0)
    for name in ("rows_kernel", "tiled_kernel"):
        for rows, k, n in SIZES:
            x, y = rng.normal(size=(rows, k)), rng.normal(size=(k, n))
            for begin, end in ((0, rows), (min(1, rows - 1), rows)):
                out = np.full((rows, n), 7.0)
                wanted = out.copy()
                wanted[begin:end] = (x @ y)[begin:end]
                more = (2,) if name == "tiled_kernel" else ()
                getattr(m, name).py_func(out.reshape(-1), x.reshape(-1), y.reshape(-1), k, n, begin, end, *more)
                expect(f"{name}: {(rows, k)} times {(k, n)}, rows {begin} to {end}", out, wanted,
                       "out holds anything at first: set its rows to 0 before you add to them, once")


class Steps:
    """A row that notes in which order it is read."""

    def __init__(self, row: np.ndarray) -> None:
        self.row, self.places = row, []     # type: ignore[var-annotated]

    def __getitem__(self, place: int) -> float:
        self.places.append(place)
        return float(self.row[place])


def places_read(kernel: Any, *more: int) -> list[int]:
    x, y = np.ones(4 * 6), Steps(np.ones(6 * 5))
    kernel.py_func(np.zeros(4 * 5), x, y, 6, 5, 0, 4, *more)
    return y.places


@check("3.3", "the innermost loop walks along rows of y")
def _(m: Any) -> None:
    for name, more in (("rows_kernel", ()), ("tiled_kernel", (2,))):
        places = places_read(getattr(m, name), *more)
        ones = sum(b - a == 1 for a, b in itertools.pairwise(places))
        if not places or ones < 0.7 * len(places):
            raise Wrong(f"{name}: of {len(places)} reads of y only {ones} are at the next place",
                        "j must run innermost: for i, for p, for j")


@check("3.3", "a tile of y is used for all rows before the next one comes")
def _(m: Any) -> None:
    places = places_read(m.tiled_kernel, 2)
    tiles = [tile for tile, _ in itertools.groupby(place // (2 * 5) for place in places)]
    expect("the tiles of y of two rows each, in the order they come", tiles, [0, 1, 2],
           "the loop over tiles is outermost, the one over the rows of the result inside it")


@check("3.4", "fast gives what loops gives, whatever the strides")
def _(m: Any) -> None:
    operators, loops, view = of_ember("operators"), of_ember("loops"), of_ember("storage").View
    rng = np.random.default_rng(0)
    array = rng.normal(size=(3, 4, 2))
    made = (view.of(array), view.of(array).permute(2, 0, 1), view.of(array[:1]).broadcast_to((3, 4, 2)))
    for x in made:
        expect(f"row_of a view with strides {x.strides}", np.asarray(m.row_of(x))[:24], x.to_numpy().reshape(-1))
        expect("map", m.map_view(operators.neg, x).to_numpy(), loops.map_view(operators.neg, x).to_numpy())
        for dim in range(3):
            expect(f"sum over dim {dim} of a view with strides {x.strides}", m.reduce_view(operators.add, 0.0, x, dim).to_numpy(),
                   x.to_numpy().sum(dim, keepdims=True), "inner is the size of the dims after `dim`")
    expect("zip of a contiguous and a broadcast view", m.zip_views(operators.add, made[0], made[2]).to_numpy(),
           array + array[:1])
    expect("map of nothing", m.map_view(operators.neg, view.of(np.zeros((0, 2)))).to_numpy(), np.zeros((0, 2)))


@check("3.4", "row_of copies only what it must")
def _(m: Any) -> None:
    x = of_ember("storage").View.of([[1.0, 2.0]])
    expect("row_of(x) is x.numbers, for a contiguous x", m.row_of(x) is x.numbers, True)


@check("3.4", "matmul, of permuted views too")
def _(m: Any) -> None:
    view, rng = of_ember("storage").View, np.random.default_rng(0)
    for rows, k, n in SIZES:
        a, b = rng.normal(size=(rows, k)), rng.normal(size=(k, n))
        expect(f"{a.shape} times {b.shape}", m.matmul_views(view.of(a), view.of(b)).to_numpy(), a @ b)
        expect(f"{a.shape} times a permuted {b.T.shape}", m.matmul_views(view.of(a), view.of(b.T).permute(1, 0)).to_numpy(), a @ b)
    refuses(m.matmul_views, view.of(np.ones((2, 3))), view.of(np.ones((2, 3))), error=of_ember("broadcast").ShapeError)


def launched(kernel: Any, blocks: Any, threads: Any, *arrays: np.ndarray) -> Tally:
    try:
        return launch(kernel, blocks, threads, *arrays)
    except Race as race:
        raise Wrong(f"a race: {race}", "who reads what others stored must meet them first: cuda.syncthreads(). Who stores "
                    "over what others read, too") from None
    except Barrier as barrier:
        raise Wrong(str(barrier), "no barrier inside an if that holds for some threads only") from None
    except IndexError as error:
        raise Wrong(str(error), "the last block has threads beyond the end") from None


@check("3.5", "one thread for each place, and more threads than places")
def _(m: Any) -> None:
    for n in (1, 8, 13):
        x = np.linspace(-2, 2, n)
        out = np.zeros(n)
        launched(m.sigmoid_threads, -(-n // m.THREADS), m.THREADS, out, x)
        expect(f"sigmoid of {n} numbers", out, 1 / (1 + np.exp(-x)))


@check("3.5", "a block's sum, without races")
def _(m: Any) -> None:
    for n in (8, 16, 13):
        x, blocks = np.arange(1.0, n + 1), -(-n // m.THREADS)
        out = np.zeros(blocks)
        tally = launched(m.sum_block, blocks, m.THREADS, out, x)
        expect(f"the sums of 1 to {n} in blocks of 8", out, np.array([x[b * 8:b * 8 + 8].sum() for b in range(blocks)]))
        expect("reads of memory", tally.reads, n, "each element comes from memory once; the rest goes through the shared array")
        if tally.barriers > 5 * blocks:
            raise Wrong(f"{tally.barriers // blocks} barriers a block for 8 elements", "halving takes three rounds")


@check("3.5", "matmul in tiles, each element of memory read once for a tile")
def _(m: Any) -> None:
    rng = np.random.default_rng(0)
    for rows, k, n in ((8, 8, 8), (5, 3, 9), (9, 17, 4)):
        x, y, out = rng.normal(size=(rows, k)), rng.normal(size=(k, n)), np.zeros((rows, n))
        blocks = -(-n // m.TILE), -(-rows // m.TILE)
        tally = launched(m.matmul_tiles, blocks, (m.TILE, m.TILE), out, x, y)
        expect(f"{(rows, k)} times {(k, n)}", out, x @ y, "is everything 0 beyond the edges, and does the walk begin at 0?")
        wanted = rows * k * blocks[0] + k * n * blocks[1]
        expect("reads of memory", tally.reads, wanted, "each block needs its rows of x and its columns of y once; without "
                                                       "shared arrays it would be one read for each product")
