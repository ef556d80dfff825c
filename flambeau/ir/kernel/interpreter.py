"""Kernel + buffers -> the same buffers, written. The meaning of the loop level, in NumPy, one stage at a time.

Every SSA value is one array over the whole iteration grid (its axes: the parallel dims, then the stage's dims),
kept unbroadcast, so a value that does not vary along a dim has extent 1 there. All points of a stage are done
before the next stage starts, which is one of the orders a kernel allows. Within a stage all loads come first, then
the stores, in program order and each over its points in row-major order. Float sums and products are taken in f64
and rounded once: a compiled kernel, free to reassociate, is held to a tolerance around that.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import assert_never

import numpy as np

from flambeau.errors import GraphError, KernelError, VerificationError
from flambeau.ir import dtypes, philox
from flambeau.ir.dtypes import DType
from flambeau.ir.kernel import scalar as kernel_scalar
from flambeau.ir.kernel.base import Kernel
from flambeau.ir.kernel.grammar import Address, Extent, Instr, Param, Reduction, Stage, Store
from flambeau.ir.kernel.numbers import bound
from flambeau.ir.kernel.scalar import Array
from flambeau.ir.records import dataclass

__all__ = ["Machine", "Watched", "interpret"]

Sizes = Mapping[str, int] | Sequence[int]


class Watched(np.ndarray):
    """A kernel's buffer that knows what was stored to it. Reading anything else is an error.

    defined: bool[elements, bytes of one], which buffers in the same memory may share."""

    defined: Array | None

    def __array_finalize__(self, source: object) -> None:
        self.defined = None                             # what is computed from a buffer is no buffer

    @classmethod
    def over(cls, array: Array, defined: Array) -> Watched:
        """The memory of `array`, watched."""
        watched = array.view(cls)
        watched.defined = defined.reshape(array.size, array.itemsize)
        return watched


def interpret(kernel: Kernel, buffers: Sequence[Array], sizes: Sizes = ()) -> None:
    """Run `kernel` on `buffers`, one flat array of the param's storage dtype per param, in place.

    sizes: the runtime sizes, by name or in the order of `kernel.sizes`. Raises KernelError where a kernel would
    return a nonzero status (1: an index out of range, 2: integer division by zero), VerificationError where it reads
    an element of a `Watched` buffer that nothing stored.
    """
    named = dict(sizes) if isinstance(sizes, Mapping) else dict(zip(kernel.sizes, sizes, strict=True))
    if len(named) > len({e for e in kernel.extents if isinstance(e, str)}):
        kernel, named = bound(kernel, named), {}
    _check_buffers(kernel, buffers, named)
    with np.errstate(all="ignore"):
        kernel.run(Machine(kernel, buffers, named))


def _check_buffers(kernel: Kernel, buffers: Sequence[Array], sizes: Mapping[str, int]) -> None:
    assert len(buffers) == len(kernel.params), f"{kernel.name} has {len(kernel.params)} params, got {len(buffers)}"
    for param, buffer in zip(kernel.params, buffers, strict=True):
        wanted = (_extent(param.elements, sizes),)
        assert buffer.dtype == param.dtype.storage and buffer.shape == wanted, (
            f"{kernel.name}: param {param.name} is {param.dtype}{list(wanted)} flat, "
            f"got {buffer.dtype}{list(buffer.shape)}"
        )


def _extent(extent: Extent, sizes: Mapping[str, int]) -> int:
    return sizes[extent] if isinstance(extent, str) else extent


@dataclass(frozen=True)
class _Grid:
    """The axes of a stage's values: axis a walks dim `dims[a]`, of `shape[a]` points."""

    dims: tuple[int, ...]
    shape: tuple[int, ...]

    def index(self, dim: int) -> Array:
        """i64 values of `dim`, along its axis."""
        axis = self.dims.index(dim)
        return np.arange(self.shape[axis], dtype=np.int64).reshape(
            [-1 if a == axis else 1 for a in range(len(self.dims))]
        )

    def lift(self, value: Array) -> Array:
        """A value of an earlier, shorter grid (or a 0-d one), with the missing axes of extent 1 behind."""
        return value.reshape(value.shape + (1,) * (len(self.dims) - value.ndim))


@dataclass(frozen=True)
class Machine:
    """The memory that one kernel runs on, and what is done there."""

    kernel: Kernel
    buffers: Sequence[Array]
    sizes: Mapping[str, int]

    def shape(self, dims: Sequence[int]) -> tuple[int, ...]:
        """How many points each of the dims has in this run."""
        return tuple([_extent(self.kernel.extents[d], self.sizes) for d in dims])

    def run_stage(self, stage: Stage, dims: tuple[int, ...], n_parallel: int, visible: Mapping[int, Array],
                  acc: Array | None = None) -> dict[int, Array]:
        """One stage at every point of `dims`, of which those from `n_parallel` on are its own: loads, then reductions
        over its own dims, then stores. visible: values of earlier stages. Gives all values, by id."""
        run = _StageRun(self.kernel.params, self.buffers, self._grid(dims), dict(visible), acc)
        run.run(stage, n_parallel)
        return run.values

    def loaded(self, address: Address, dims: tuple[int, ...]) -> Array:
        """What lies at an address at every point of `dims`, one axis for each."""
        grid = self._grid(dims)
        if 0 in grid.shape:                             # there may be nothing to load
            return np.zeros(grid.shape, self.kernel.params[address.buffer].dtype.compute)
        return np.broadcast_to(_StageRun(self.kernel.params, self.buffers, grid, {}).load(address), grid.shape)

    def load(self, number: int) -> Array:
        """The whole of param `number`, flat, in its compute type."""
        run = _StageRun(self.kernel.params, self.buffers, _Grid((), ()), {})
        run.require_defined(number, np.arange(len(self.buffers[number])), None)
        return dtypes.to_compute(np.array(self.buffers[number]), self.kernel.params[number].dtype)

    def store(self, number: int, values: Array) -> None:
        """`values`, flat or not, as the whole of param `number`, rounded to its dtype."""
        buffer = self.buffers[number]
        if isinstance(buffer, Watched) and buffer.defined is not None:
            buffer.defined[...] = True
        np.asarray(buffer)[...] = dtypes.to_storage(np.ravel(values), self.kernel.params[number].dtype)

    def _grid(self, dims: tuple[int, ...]) -> _Grid:
        return _Grid(dims, self.shape(dims))


@dataclass
class _StageRun:
    """One stage in the making: `values` maps each id so far to its array over `grid`."""

    params: Sequence[Param]
    buffers: Sequence[Array]
    grid: _Grid
    values: dict[int, Array]
    acc: Array | None = None

    def run(self, stage: Stage, n_parallel: int) -> None:
        """Body, then reductions over the axes from `n_parallel` on, then stores."""
        shape = self.grid.shape[n_parallel:]
        if 0 in shape:                                  # no point to evaluate, and perhaps nothing to load
            for reduction in stage.reductions:
                self.values[reduction.id] = _identity(reduction)
            return
        for instr in stage.body:
            self.values[instr.id] = self.evaluate(instr)
        for store in stage.stores:
            self.store(store)
        for reduction in stage.reductions:
            self.values[reduction.id] = _reduce(reduction, self.value(reduction.value), shape, n_parallel)

    def value(self, value: int) -> Array:
        return self.grid.lift(self.values[value])

    def evaluate(self, instr: Instr) -> Array:
        operands = [self.value(v) for v in instr.operands]
        match instr.op:
            case "const":
                assert isinstance(instr.attr, (bool, int, float)), f"%{instr.id}: a const needs a number"
                return self.grid.lift(kernel_scalar.constant(instr.attr, instr.dtype))
            case "index":
                assert isinstance(instr.attr, int), f"%{instr.id}: an index needs a dim"
                return self.grid.index(instr.attr)
            case "affine":
                assert isinstance(instr.attr, Address), f"%{instr.id}: an affine value needs the terms of an address"
                return self.position(instr.attr)
            case "load":
                assert isinstance(instr.attr, Address), f"%{instr.id}: a load needs an address"
                return self.load(instr.attr)
            case "acc":
                assert self.acc is not None, f"%{instr.id}: acc outside a contraction"
                return self.acc
            case "cast":
                return kernel_scalar.cast(operands[0], instr.dtype)
            case "philox":
                assert isinstance(instr.attr, int), f"%{instr.id}: philox needs the number of a word"
                return philox.philox_4x32(*operands)[instr.attr]
            case "check":
                return self.check(instr, operands[0], operands[1])
            case op:
                return kernel_scalar.evaluate(op, operands, instr.dtype)

    def check(self, instr: Instr, fine: Array, detail: Array) -> Array:
        """Raises KernelError with the check's status and the first failing point's detail."""
        assert isinstance(instr.attr, int), f"%{instr.id}: a check needs a status"
        if not np.all(fine):
            fine, detail = np.broadcast_arrays(fine, detail)
            found = int(detail[~fine][0])
            raise KernelError(f"a check failed on {found}", status=instr.attr, details=(found, 0))
        return fine

    def load(self, address: Address) -> Array:
        param, buffer = self.params[address.buffer], np.asarray(self.buffers[address.buffer])
        where, guard = self.locate(address)
        self.require_defined(address.buffer, where, guard)
        if guard is None:
            return dtypes.to_compute(buffer[where], param.dtype)
        where, guard = np.broadcast_arrays(where, guard)
        loaded = np.zeros(guard.shape, buffer.dtype)
        loaded[guard] = buffer[where[guard]]
        return dtypes.to_compute(loaded, param.dtype)

    def store(self, store: Store) -> None:
        param, buffer = self.params[store.address.buffer], np.asarray(self.buffers[store.address.buffer])
        where, guard = self.locate(store.address)
        # Adding must visit every point; to set, points with the same address and value may be taken as one.
        every = np.ones(self.grid.shape if store.combine == "add" else (1,) * len(self.grid.dims), np.bool_)
        taken = every if guard is None else every & guard
        where, value, taken = np.broadcast_arrays(where, self.value(store.value), taken)
        where, value = where[taken], value[taken]
        if store.combine == "add":
            self.require_defined(store.address.buffer, where, None)
        if isinstance(watched := self.buffers[store.address.buffer], Watched) and watched.defined is not None:
            watched.defined[where] = True
        match store.combine:
            case "set":
                buffer[where] = dtypes.to_storage(value, param.dtype)      # the last of equal addresses wins
            case "add":
                _add_in_order(buffer, where, value, param.dtype)
            case _:
                assert_never(store.combine)

    def require_defined(self, buffer: int, where: Array, guard: Array | None) -> None:
        """Raises VerificationError for an element of a watched buffer that nothing stored, unless guarded."""
        watched = self.buffers[buffer]
        if not isinstance(watched, Watched) or watched.defined is None:
            return
        where, read = np.broadcast_arrays(where, np.True_ if guard is None else guard)
        undefined = ~watched.defined[where[read]].all(axis=-1)
        if undefined.any():
            first = int(where[read][undefined][0])
            raise VerificationError(f"reads element {first} of {self.params[buffer].name}, which nothing stored "
                                    f"({int(undefined.sum())} of the elements it reads)")

    def locate(self, address: Address) -> tuple[Array, Array | None]:
        """(element number at each point, guard). Raises KernelError (1) for one outside the buffer, unless guarded."""
        where = self.position(address)
        guard = None if address.guard is None else self.value(address.guard)
        elements = len(self.buffers[address.buffer])
        outside = (where < 0) | (where >= elements)
        outside = outside if guard is None else outside & guard
        if np.any(outside):
            first = int(np.broadcast_to(where, outside.shape)[outside][0])
            name = self.params[address.buffer].name
            raise KernelError(
                f"element {first} of {name}, which has {elements}",
                status=kernel_scalar.STATUS_INDEX, details=(first, elements),
            )
        return where, guard

    def position(self, address: Address) -> Array:
        """The sum of the address's terms at each point."""
        where = self.grid.lift(np.array(address.offset, np.int64))
        for dim, stride in address.strides:
            where = where + np.int64(stride) * self.grid.index(dim)
        for value, stride in address.dynamic:
            where = where + np.int64(stride) * self.value(value)
        return where


def _add_in_order(buffer: Array, where: Array, value: Array, dtype: DType) -> None:
    """buffer[where[i]] += value[i] for each i in turn, every sum rounded to `dtype`."""
    if dtype is not dtypes.bf16:
        np.add.at(buffer, where, value)
        return
    for i, term in zip(where.tolist(), value, strict=True):     # NumPy knows no bf16 to add in
        total = dtypes.bf16_to_f32(buffer[i : i + 1]) + term
        buffer[i : i + 1] = dtypes.f32_to_bf16(total)


def _reduce(reduction: Reduction, value: Array, shape: tuple[int, ...], n_parallel: int) -> Array:
    """`value` over its trailing axes, in row-major order and broadcast to `shape`."""
    lead = value.shape[:n_parallel]
    points = np.broadcast_to(value, lead + shape).reshape(*lead, int(np.prod(shape)))
    wide = np.float64 if points.dtype.kind == "f" else points.dtype
    result: Array
    match reduction.combiner:
        case "sum":
            result = np.asarray(np.sum(points, axis=-1, dtype=wide))
        case "prod":
            result = np.asarray(np.prod(points, axis=-1, dtype=wide))
        case "max":
            result = _extremum(np.max(points, axis=-1), points, sign=1)         # both propagate NaN
        case "min":
            result = _extremum(np.min(points, axis=-1), points, sign=-1)
        case "argmax":
            result = np.argmax(points, axis=-1)                 # both take the first NaN, if any
        case "argmin":
            result = np.argmin(points, axis=-1)
        case "any":
            result = np.any(points, axis=-1)
        case "all":
            result = np.all(points, axis=-1)
        case _:
            assert_never(reduction.combiner)
    return kernel_scalar.rounded(result, reduction.dtype)


def _extremum(found: Array, points: Array, sign: int) -> Array:
    """NumPy's extremum over the last axis, with +0 greater than -0: a zero of `sign` wins if there is one."""
    if points.dtype.kind != "f":
        return found
    wins = np.any((points == 0) & (np.signbit(points) == (sign < 0)), axis=-1)
    return np.where(found == 0, np.copysign(found, np.where(wins, sign, -sign)), found)


def _identity(reduction: Reduction) -> Array:
    """What `reduction` gives over no points. Raises GraphError for argmax and argmin, which have no such value."""
    dtype = reduction.dtype
    if dtype.kind == "float":
        lowest, highest = -np.inf, np.inf
    elif dtype.kind == "bool":
        lowest, highest = False, True
    else:
        lowest, highest = np.iinfo(dtype.storage).min, np.iinfo(dtype.storage).max
    match reduction.combiner:
        case "sum" | "any":
            value: float | int | bool = 0
        case "prod" | "all":
            value = 1
        case "max":
            value = lowest
        case "min":
            value = highest
        case "argmax" | "argmin":
            raise GraphError(f"%{reduction.id} = {reduction.combiner} over no points has no value")
        case _:
            assert_never(reduction.combiner)
    return kernel_scalar.constant(value, dtype)
