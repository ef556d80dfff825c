"""Gathers and their transposes, the scattered sums. An index outside [0, size) is an error, never a wrap."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flambeau.errors import KernelError, out_of_range
from flambeau.ir import dtypes
from flambeau.ir.dims import Dim, Size, hint, same
from flambeau.ir.index_maps import Index
from flambeau.ir.op import Op, Sample, ScalarContext, register
from flambeau.ir.ops.batching import spread, spread_all
from flambeau.ir.ops.families import Linear, check_arity
from flambeau.ir.ops.sampling import draw, drawn
from flambeau.ir.ops.views import product
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType, parse_type

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value

INDEX_OUT_OF_RANGE: Final = 1               # the status a kernel returns for it


def checked_index(ctx: ScalarContext, value: int, dtype: dtypes.DType, size: int) -> Index:
    """An index from a loaded integer; the kernel ends with status 1 where it is not in [0, size)."""
    position = value if dtype is dtypes.i64 else ctx.emit("cast", dtypes.i64, value)
    above = ctx.emit("ge", dtypes.bool_, position, ctx.const(0, dtypes.i64))
    below = ctx.emit("lt", dtypes.bool_, position, ctx.const(size, dtypes.i64))
    ctx.emit("check", dtypes.bool_, ctx.emit("and", dtypes.bool_, above, below), position, attr=INDEX_OUT_OF_RANGE)
    return ctx.index_of(position, size)


def _checked(op: Op, indices: np.ndarray, size: Any) -> np.ndarray:
    outside = (indices < 0) | (indices >= size)
    if outside.any():
        found = int(indices[outside][0])
        raise KernelError(f"{op.name}: {out_of_range(size).format(found)}", status=INDEX_OUT_OF_RANGE,
                          details=(found, size))
    return indices.astype(np.int64)


def _check_indices(op: Op, dim: int, of: TensorType, indices: TensorType) -> None:
    if not 0 <= dim < of.rank:
        raise op.fail(f"dim {dim} is not a dim of {of}")
    if not indices.dtype.is_integer:
        raise op.fail(f"takes integer indices, found {indices}", "cast the indices to int64")


def _check_size(op: Op, size: object, of: TensorType) -> None:
    if not isinstance(size, (int, Dim)) or size < 0:
        raise op.fail(f"size {size} is not the size of a dim of {of}")


@register("take")
@dataclass(frozen=True)
class Take(Linear):
    """(x, indices) -> x's rows at `indices` along dim: shape x.shape[:dim] + indices.shape + x.shape[dim+1:]."""

    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        x, indices = operands
        _check_indices(self, self.dim, x, indices)
        return (x.with_shape(x.shape[:self.dim] + indices.shape + x.shape[self.dim + 1:]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, indices = operands
        return np.take(x, _checked(self, indices, x.shape[self.dim]), self.dim)

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str]:
        return INDEX_OUT_OF_RANGE, out_of_range(operands[0].shape[self.dim])

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        x, indices = operands
        return (b.emit(ScatterAdd(x.shape[self.dim], self.dim), indices, cotangent), None)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        x, indices = operands
        if not mapped[1]:
            return (b.emit(Take(self.dim + 1), x, indices),)
        if not mapped[0]:
            return (_moved(b, b.emit(Take(self.dim), x, indices), self.dim, 0),)
        rows = _moved(b, x, self.dim + 1, 1)                    # [B, size, what is before, what is after]
        flat = b.reshape(rows, (size * rows.shape[1], *rows.shape[2:]))
        found, rank = b.emit(Take(0), flat, _of_example(b, indices, rows.shape[1])), len(indices.shape) - 1
        before, after = range(rank + 1, rank + 1 + self.dim), range(rank + 1 + self.dim, len(found.shape))
        order = (0, *before, *range(1, rank + 1), *after)
        return (b.permute(found, order),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        x, indices = operands
        after = self.dim + indices.rank
        value = ctx.operand(1, index[self.dim:after])
        row = checked_index(ctx, value, indices.dtype, x.static_shape[self.dim])
        return ctx.operand(0, (*index[:self.dim], row, *index[after:]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, x, indices in ((0, "f32[5,3]", "i64[4]"), (1, "f32[2,7]", "i64[2,3]"), (0, "f32[4]", "i32[]"),
                                (1, "f32[2,3,2]", "i64[0]"), (0, "bf16[3,2]", "i64[5]"), (0, "i64[4]", "i64[1]"),
                                (2, "f64[2,1,3]", "i32[4]"), (0, "f32[3,0]", "i64[2]")):
            yield _with_indices(cls(dim), parse_type(x).static_shape[dim], x, indices)


@register("scatter_add")
@dataclass(frozen=True)
class ScatterAdd(Linear):
    """(indices, updates) -> zeros with dim `dim` of `size`, to whose rows at `indices` the updates are added.
    updates: shape pre + indices.shape + post; result: pre + (size,) + post. Equal indices add up."""

    kernel_kind = "scatter"
    size: Size
    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        indices, updates = operands
        _check_size(self, self.size, updates)
        after = self.dim + indices.rank
        if not 0 <= self.dim or updates.shape[self.dim:after] != indices.shape:
            raise self.fail(f"updates {updates} do not hold the indices' shape {indices} from dim {self.dim} on")
        if not indices.dtype.is_integer or updates.dtype.kind == "bool":
            raise self.fail(f"takes integer indices and number updates, found {indices}, {updates}")
        return (updates.with_shape((*updates.shape[:self.dim], self.size, *updates.shape[after:])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        indices, updates = operands
        where = _checked(self, indices, self.size)
        after = self.dim + indices.ndim
        sums = np.zeros((*updates.shape[:self.dim], self.size, *updates.shape[after:]), _sum_dtype(updates))
        rows: Any = (slice(None),) * self.dim + (where,)
        np.add.at(sums, rows, updates)
        return sums

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str]:
        return INDEX_OUT_OF_RANGE, out_of_range(self.size)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (None, b.emit(Take(self.dim), cotangent, operands[0]))

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        indices, updates = operands
        if not mapped[0]:
            return (b.emit(ScatterAdd(self.size, self.dim + 1), indices, updates),)
        if not mapped[1]:
            updates = spread(b, updates, size)
        rank, first = len(indices.shape) - 1, self.dim + 1
        order = (0, *range(first, first + rank), *range(1, first), *range(first + rank, len(updates.shape)))
        sums = b.emit(ScatterAdd(size * self.size, 0), _of_example(b, indices, self.size), b.permute(updates, order))
        return (_moved(b, b.reshape(sums, (size, self.size, *sums.shape[1:])), 1, first),)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        return _kept_wider(self, b, operands, self.size)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, size, indices, updates in ((0, 5, "i64[4]", "f32[4,3]"), (1, 3, "i64[2,3]", "f32[2,2,3]"),
                                            (0, 4, "i32[]", "f32[]"), (0, 3, "i64[0]", "f32[0,2]"),
                                            (0, 2, "i64[9]", "bf16[9]"), (0, 3, "i64[5]", "i64[5]"),
                                            (1, 1, "i64[3]", "f64[2,3]")):
            yield _with_indices(cls(size, dim), size, indices, updates, position=0)


@register("take_along")
@dataclass(frozen=True)
class TakeAlong(Linear):
    """(x, indices) -> y with y[i, j, k] = x[i, indices[i, j, k], k] for dim 1. Shapes agree but for `dim`."""

    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        x, indices = operands
        _check_indices(self, self.dim, x, indices)
        if _without(x, self.dim) != _without(indices, self.dim):
            raise self.fail(f"x {x} and indices {indices} may differ in dim {self.dim} only", "slice x first")
        return (x.with_shape(indices.shape),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        x, indices = operands
        return np.take_along_axis(x, _checked(self, indices, x.shape[self.dim]), self.dim)

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str]:
        return INDEX_OUT_OF_RANGE, out_of_range(operands[0].shape[self.dim])

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        x, indices = operands
        return (b.emit(ScatterAlongAdd(x.shape[self.dim], self.dim), indices, cotangent), None)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(TakeAlong(self.dim + 1), *spread_all(b, operands, mapped, size)),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        x, indices = operands
        place = checked_index(ctx, ctx.operand(1, index), indices.dtype, x.static_shape[self.dim])
        return ctx.operand(0, (*index[:self.dim], place, *index[self.dim + 1:]))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, x, indices in ((1, "f32[3,5]", "i64[3,2]"), (0, "f32[4,3]", "i64[6,3]"), (0, "f32[3]", "i32[3]"),
                                (1, "f32[2,3]", "i64[2,0]"), (1, "bf16[2,4]", "i64[2,1]"), (0, "i64[5]", "i64[2]"),
                                (1, "f64[2,3,2]", "i64[2,4,2]")):
            yield _with_indices(cls(dim), parse_type(x).static_shape[dim], x, indices)


@register("scatter_along_add")
@dataclass(frozen=True)
class ScatterAlongAdd(Linear):
    """(indices, updates) of one shape -> zeros with dim `dim` of `size`, where y[i, indices[i, j, k], k] has gained
    updates[i, j, k] for dim 1."""

    kernel_kind = "scatter"
    size: Size
    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 2)
        indices, updates = operands
        _check_size(self, self.size, updates)
        _check_indices(self, self.dim, updates, indices)
        if indices.shape != updates.shape or updates.dtype.kind == "bool":
            raise self.fail(f"takes indices and number updates of one shape, found {indices}, {updates}")
        return (updates.with_shape((*updates.shape[:self.dim], self.size, *updates.shape[self.dim + 1:])),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        indices, updates = operands
        where = _checked(self, indices, self.size)
        shape = (*updates.shape[:self.dim], self.size, *updates.shape[self.dim + 1:])
        sums = np.zeros(shape, _sum_dtype(updates))
        places: list[Any] = list(np.indices(updates.shape, sparse=True))
        places[self.dim] = where
        np.add.at(sums, tuple(places), updates)
        return sums

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str]:
        return INDEX_OUT_OF_RANGE, out_of_range(self.size)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (None, b.emit(TakeAlong(self.dim), cotangent, operands[0]))

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(ScatterAlongAdd(self.size, self.dim + 1), *spread_all(b, operands, mapped, size)),)

    def decompose(self, b: Builder, operands: Sequence[Value]) -> Sequence[Value] | None:
        """One update a line, as the gradient of picking one score a row: a comparison with every place, that fuses.
        Taking from 0, 1, 2, ... checks the index."""
        indices, updates = operands
        if not same(updates.shape[self.dim], 1):
            return _kept_wider(self, b, operands, self.size)
        every = range(len(updates.shape))
        shape = (*updates.shape[:self.dim], self.size, *updates.shape[self.dim + 1:])
        places = b.iota(self.size, dtypes.i64)
        chosen = b.emit(Take(0), places, indices)
        is_chosen = b.eq(b.broadcast(places, shape, (self.dim,)), b.broadcast(chosen, shape, every))
        return (b.where(is_chosen, b.broadcast(updates, shape, every), b.scalar(0, updates)),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, size, indices, updates in ((1, 5, "i64[3,2]", "f32[3,2]"), (0, 2, "i64[6,3]", "f32[6,3]"),
                                            (0, 3, "i32[4]", "f32[4]"), (1, 3, "i64[2,0]", "f32[2,0]"),
                                            (0, 4, "i64[5]", "i64[5]"), (1, 2, "i64[2,3]", "bf16[2,3]"),
                                            (1, 4, "i64[2,3,2]", "f64[2,3,2]"), (1, 4, "i64[2,1,3]", "f32[2,1,3]"),
                                            (0, 3, "i32[1,0]", "bf16[1,0]")):
            yield _with_indices(cls(size, dim), size, indices, updates, position=0)


@register("last_along")
@dataclass(frozen=True)
class LastAlong(Op):
    """indices -> i64 y, with dim `dim` of `size`: y[i, p, k] is the greatest j with indices[i, j, k] = p, for dim 1, and
    -1 where there is none. Of several updates to one place the last one is kept."""

    kernel_kind = "scatter"
    size: Size
    dim: int

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (indices,) = operands
        _check_size(self, self.size, indices)
        _check_indices(self, self.dim, indices, indices)
        shape = (*indices.shape[:self.dim], self.size, *indices.shape[self.dim + 1:])
        return (indices.with_shape(shape).with_dtype(dtypes.i64),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (indices,) = operands
        where = _checked(self, indices, self.size)
        last = np.full((*indices.shape[:self.dim], self.size, *indices.shape[self.dim + 1:]), -1, np.int64)
        places: list[Any] = list(np.indices(indices.shape, sparse=True))
        own, places[self.dim] = places[self.dim], where
        np.maximum.at(last, tuple(places), np.broadcast_to(own, indices.shape))
        return last

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str]:
        return INDEX_OUT_OF_RANGE, out_of_range(self.size)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(LastAlong(self.size, self.dim + 1), *operands),)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        return (None,)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, size, indices in ((0, 5, "i64[9]"), (1, 3, "i64[2,4]"), (0, 2, "i32[3,3]"), (0, 3, "i64[0]"),
                                   (1, 4, "i64[2,3,2]"), (0, 1, "i64[6]"), (1, 2, "i64[3,0]")):
            yield _with_indices(cls(size, dim), size, indices, position=0)


def _moved(b: Builder, x: Value, source: int, target: int) -> Value:
    """x with its dim `source` at `target`, the others in their order."""
    order = [d for d in range(len(x.shape)) if d != source]
    order.insert(target, source)
    return b.permute(x, order)


def _of_example(b: Builder, indices: Value, size: Size) -> Value:
    """indices[B, ...] into the rows of their own example, as indices into those of all, `size` each. Taking from 0, 1, 2,
    ... checks them."""
    checked = b.emit(Take(0), b.iota(size, dtypes.i64), indices)
    first = b.mul(b.iota(indices.shape[0], dtypes.i64), b.number(size, dtypes.i64))
    return b.add(checked, b.broadcast(first, indices.shape, (0,)))


def _kept_wider(op: Op, b: Builder, operands: Sequence[Value], size: Size) -> Sequence[Value] | None:
    """Sums in f32 where the dtype is shorter, which would lose small terms, and in f64 where many go to each place."""
    indices, updates = operands
    dtype = updates.dtype
    if not dtype.is_floating_point or dtype is dtypes.f64:
        return None
    rows = size if isinstance(op, ScatterAdd) else size * _columns(op, indices)
    is_long = hint(product(indices.shape)) > _MANY * hint(rows)
    wide = dtypes.f64 if is_long else dtypes.f32
    if dtype is wide:
        return None
    return (b.cast(b.emit(op, indices, b.cast(updates, wide)), dtype),)


def _columns(op: Op, indices: Value) -> Size:
    return product([size for d, size in enumerate(indices.shape) if d != op.dim])   # type: ignore[attr-defined]


_MANY: Final = 32                           # terms of a float sum that may follow one another


def _without(t: TensorType, dim: int) -> tuple[object, ...]:
    return t.rank, t.shape[:dim], t.shape[dim + 1:]


def _sum_dtype(x: np.ndarray) -> np.dtype:
    return np.dtype(np.float64) if x.dtype.kind == "f" else x.dtype


def _with_indices(op: Op, size: int, *types: str, position: int = 1) -> Sample:
    """A sample whose operand `position` holds indices in [0, size)."""
    sample = drawn(op, *types)
    arrays = list(sample.operands)
    arrays[position] = draw(sample.types[position], seed=7) % np.array(size, arrays[position].dtype)
    return Sample(op, tuple(arrays), sample.types)
