"""Runs kernels that are written for numba.cuda, without a GPU: a block's threads by turns, from one barrier to the next.

A thread is a generator: `cuda.syncthreads()` becomes `yield` in the kernel's source. Arrays watch who touches them. What
one thread stores and another one reads or stores before both have met is a race: the result would depend on who is first.
`codegen/cuda/emulator.py` does the same for the kernels that Flambeau makes, all threads at once."""
from __future__ import annotations

import ast
import inspect
import itertools
import math
import textwrap
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np


class Race(Exception):
    """Two threads at one place between two barriers, and one of them stores."""


class Barrier(Exception):
    """Threads of a block that do not meet."""


@dataclass
class Tally:
    """What a launch did: how often memory and shared arrays were read and written, and the addresses of each step."""

    reads: int = 0
    writes: int = 0
    shared_reads: int = 0
    shared_writes: int = 0
    barriers: int = 0
    touched: list[tuple[int, int, int, bool]] = field(default_factory=list)     # phase, thread, place, stores; shared only


class Watched:
    """An array that tells of races. `thread` and `phase` are set by who runs the threads."""

    def __init__(self, array: np.ndarray, name: str, block: Block, shared: bool) -> None:
        self.array, self.name, self.block, self.shared = array, name, block, shared
        self.shape = array.shape
        self.touched: dict[tuple[int, ...], tuple[int, set[int], set[int]]] = {}    # place -> phase, readers, writers

    def __len__(self) -> int:
        return len(self.array)

    def _touch(self, index: Any, stores: bool) -> tuple[int, ...]:
        place = tuple(int(i) for i in (index if isinstance(index, tuple) else (index,)))
        if len(place) != self.array.ndim or any(not 0 <= i < n for i, n in zip(place, self.shape, strict=True)):
            raise IndexError(f"thread {self.block.thread} {'stores to' if stores else 'reads'} {self.name}"
                             f"[{', '.join(map(str, place))}], and its shape is {self.shape}")
        phase, readers, writers = self.touched.get(place, (-1, set(), set()))
        if phase != self.block.phase:
            readers, writers = set(), set()
            self.touched[place] = self.block.phase, readers, writers
        thread = self.block.thread
        others = (readers | writers if stores else writers) - {thread}
        if others:
            raise Race(f"thread {thread} {'stores to' if stores else 'reads'} {self.name}[{', '.join(map(str, place))}], "
                       f"which thread {min(others)} {'reads' if min(others) not in writers else 'stores to'} between the "
                       "same two barriers")
        (writers if stores else readers).add(thread)
        tally = self.block.tally
        if self.shared:
            tally.touched.append((self.block.phase, thread, int(np.ravel_multi_index(place, self.shape)), stores))
        what = ("shared_" if self.shared else "") + ("writes" if stores else "reads")
        setattr(tally, what, getattr(tally, what) + 1)
        return place

    def __getitem__(self, index: Any) -> Any:
        return self.array[self._touch(index, False)]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.array[self._touch(index, True)] = value


@dataclass
class Block:
    tally: Tally
    phase: int = 0
    thread: int = 0
    shared: dict[int, Watched] = field(default_factory=dict)


def launch(kernel: Callable[..., None], blocks: int | tuple[int, ...], threads: int | tuple[int, ...],
           *arrays: np.ndarray) -> Tally:
    """Run the kernel on a grid. blocks, threads: extents along x, y, z. Raises Race, Barrier, and IndexError for what lies
    outside of an array."""
    generator = generator_of(kernel)
    grid, size = ((*((e,) if isinstance(e, int) else e), 1, 1)[:3] for e in (blocks, threads))
    tally = Tally()
    names = list(inspect.signature(kernel).parameters)
    for at in itertools.product(*map(range, reversed(grid))):
        run_block(generator, kernel, tuple(reversed(at)), grid, size, names, arrays, tally)
    return tally


def run_block(generator: Callable[..., Callable[..., Generator[None, None, None]]], kernel: Callable[..., None],
              at: tuple[int, ...], grid: tuple[int, ...], size: tuple[int, ...], names: list[str],
              arrays: tuple[np.ndarray, ...], tally: Tally) -> None:
    block = Block(tally)
    watched = [Watched(array, name, block, False) for array, name in zip(arrays, names, strict=True)]
    running = []
    for number, place in enumerate(itertools.product(*map(range, reversed(size)))):
        cuda = words(block, tuple(reversed(place)), at, size, grid)
        running.append((number, generator(cuda)(*watched)))
    while running:
        met = []
        for number, thread in running:
            block.thread = number
            try:
                next(thread)
            except StopIteration:
                continue
            met.append((number, thread))
        if met and len(met) != len(running):
            gone = min({number for number, _ in running} - {number for number, _ in met})
            raise Barrier(f"thread {met[0][0]} waits at cuda.syncthreads(), and thread {gone} has ended: all threads of a "
                          "block must reach every barrier")
        tally.barriers += bool(met)
        block.phase += 1
        running = met


def words(block: Block, thread: tuple[int, ...], at: tuple[int, ...], size: tuple[int, ...],
          grid: tuple[int, ...]) -> SimpleNamespace:
    """What the name `cuda` means to one thread."""
    asked = itertools.count()

    def array(shape: int | tuple[int, ...], _dtype: object = None) -> Watched:
        number = next(asked)
        if number not in block.shared:
            block.shared[number] = Watched(np.full(shape, math.nan), "shared array", block, True)
        return block.shared[number]

    xyz = lambda values: SimpleNamespace(**dict(zip("xyz", values, strict=True)))
    return SimpleNamespace(threadIdx=xyz(thread), blockIdx=xyz(at), blockDim=xyz(size), gridDim=xyz(grid),
                           shared=SimpleNamespace(array=array))


class _Yields(ast.NodeTransformer):
    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if ast.unparse(node.value) == "cuda.syncthreads()":
            return ast.copy_location(ast.Expr(ast.Yield()), node)
        return node


def generator_of(kernel: Callable[..., None]) -> Callable[..., Any]:
    """A function of `cuda`, which gives the kernel as a generator function."""
    lines, first = inspect.getsourcelines(kernel)
    tree = ast.parse(textwrap.dedent("".join(lines)))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef), "a kernel is a function"
    function.decorator_list = []
    _Yields().visit(function)
    function.body.append(ast.parse("if False:\n    yield").body[0])      # a generator, with barriers or without
    maker = ast.parse("def make(cuda):\n    return None").body[0]
    assert isinstance(maker, ast.FunctionDef)
    maker.body = [function, ast.Return(ast.Name(function.name, ast.Load()))]
    module = ast.fix_missing_locations(ast.Module([maker], []))
    ast.increment_lineno(module, first - 1)
    scope: dict[str, Any] = {}
    exec(compile(module, inspect.getsourcefile(kernel) or "kernel", "exec"), kernel.__globals__, scope)
    return scope["make"]
