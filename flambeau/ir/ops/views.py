"""Index maps: each result element is one operand element, so they fold into their consumers' addresses.

Reshape, permute and flip are their own kind's transpose; broadcast's is a sum. See slices for those that cut and join.
"""
from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.answers import known
from flambeau.ir.dims import Dim, Size, hint, least, reaches, same, same_shape
from flambeau.ir.index_maps import Index, delinearize, linearize
from flambeau.ir.op import Sample, ScalarContext, register
from flambeau.ir.ops.families import View, check_arity, check_dims, check_sizes
from flambeau.ir.ops.sampling import drawn
from flambeau.ir.records import dataclass
from flambeau.ir.types import Shape, TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value


def product(sizes: Sequence[Size]) -> Size:
    """How many elements a shape has, symbolically."""
    count: Size = 1
    for size in sizes:
        count = size * count
    return count


def divmod_index(ctx: ScalarContext, position: Index, divisor: int) -> tuple[Index, Index]:
    """(position // divisor, position % divisor). Terms that divide exactly stay affine; the rest becomes arithmetic."""
    whole = Index(position.offset - position.offset % divisor,
                  tuple(t for t in position.terms if t[1] % divisor == 0))
    rest = position - whole
    quotient = Index(whole.offset // divisor, tuple((s, c // divisor, e) for s, c, e in whole.terms))
    if reaches(rest.low, 0) and reaches(divisor, rest.high + 1):
        return quotient, rest
    value, by = ctx.value_of(rest), ctx.const(divisor, dtypes.i64)
    low, high = rest.low // divisor, rest.high // divisor
    floor = ctx.emit("floordiv", dtypes.i64, value, by)
    if low:                                 # an index symbol counts from 0
        floor = ctx.emit("sub", dtypes.i64, floor, ctx.const(low, dtypes.i64))
    remainder = ctx.index_of(ctx.emit("mod", dtypes.i64, value, by), divisor)
    return quotient + ctx.index_of(floor, high - low + 1) + low, remainder


@register("broadcast")
@dataclass(frozen=True)
class Broadcast(View):
    """The operand spread over `shape`: its dim i becomes dim dims[i] of the result (increasing), and a dim of size
    1 may grow."""

    shape: Shape
    dims: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if len(self.dims) != x.rank:
            raise self.fail(f"{len(self.dims)} dims {self.dims} for {x}, which has rank {x.rank}")
        result = x.with_shape(self.shape)
        check_sizes(self, result)
        check_dims(self, self.dims, len(self.shape), result)
        for i, (size, d) in enumerate(zip(x.shape, self.dims, strict=True)):
            if same(size, 1) or same(size, self.shape[d]):
                continue
            if size != self.shape[d] and size != 1:
                raise self.fail(f"dim {i} of {x} is {size}, dim {d} of {result} is {self.shape[d]}",
                                "only a dim of size 1 expands")
        return (result,)

    def on_batch(self, size: int) -> Broadcast:
        return Broadcast((size, *self.shape), (0, *(d + 1 for d in self.dims)))

    def expanded(self, x: TensorType) -> tuple[int, ...]:
        """The result's dims along which elements of x repeat."""
        kept = {d for size, d in zip(x.shape, self.dims, strict=True) if same(size, self.shape[d])}
        return tuple(d for d in range(len(self.shape)) if d not in kept)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        shape = [1] * len(self.shape)
        for size, d in zip(operands[0].shape, self.dims, strict=True):
            shape[d] = size
        return np.broadcast_to(operands[0].reshape(shape), self.shape)  # type: ignore[arg-type]

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        x = operands[0].type
        return (b.reshape(b.sum(cotangent, self.expanded(x)), x.shape),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        sizes = zip(operands[0].shape, self.dims, strict=True)
        return ctx.operand(0, tuple(Index() if size == 1 else index[d] for size, d in sizes))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        spread = [0] * len(self.shape)
        for size, stride, d in zip(shape, strides, self.dims, strict=True):
            spread[d] = stride if same(size, self.shape[d]) else 0
        return tuple(spread)

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.shape)  # type: ignore[arg-type]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((2, 3), (1,)), "f32[3]")
        yield drawn(cls((2, 3), ()), "f32[]")
        yield drawn(cls((4, 2, 3), (0, 2)), "f32[4,1]")
        yield drawn(cls((0, 3), (1,)), "f32[3]")
        yield drawn(cls((2, 2), (0, 1)), "bool[2,1]")
        yield drawn(cls((3, 2), (0,)), "bf16[3]")
        yield drawn(cls((), ()), "f32[]")
        yield drawn(cls((3, 5), (0, 1)), "i64[1,5]")


@register("reshape")
@dataclass(frozen=True)
class Reshape(View):
    """The same elements, in row-major order, in another shape."""

    shape: Shape

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if product(x.shape) != product(self.shape):
            raise self.fail(f"{x} has {product(x.shape)} elements, {x.with_shape(self.shape)} has "
                            f"{product(self.shape)}")
        return (x.with_shape(self.shape),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].reshape(self.shape)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.reshape(cotangent, operands[0].shape),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        if 0 in result.static_shape:                    # there is no element to divide indices for
            return ctx.operand(0, (Index(),) * operands[0].rank)
        found: list[Index] = []
        for source, target in reshape_groups(operands[0].static_shape, result.static_shape):
            sizes = tuple(operands[0].static_shape[d] for d in source)
            position = linearize(tuple(index[d] for d in target), tuple(result.static_shape[d] for d in target))
            found += delinearize(position, sizes, lambda p, size: divmod_index(ctx, p, size))
        return ctx.operand(0, tuple(found))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        return regrouped(shape, strides, self.shape)  # type: ignore[arg-type]

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(self.shape)  # type: ignore[arg-type]

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        return b.reshape(value, tuple(around.shape))

    def on_batch(self, size: int) -> Reshape:
        return Reshape((size, *self.shape))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((6,)), "f32[2,3]")
        yield drawn(cls((2, 3, 5)), "f32[6,5]")
        yield drawn(cls((4, 3)), "f32[3,4]")
        yield drawn(cls((5, 6, 1)), "f32[5,1,2,3]")
        yield drawn(cls(()), "f32[1,1]")
        yield drawn(cls((1, 1)), "f32[]")
        yield drawn(cls((3, 0)), "f32[0,7]")
        yield drawn(cls((2, 2, 3)), "i64[3,2,2]")
        yield drawn(cls((2, 2)), "bf16[4]")


def reshape_groups(source: tuple[int, ...], target: tuple[int, ...]) -> Iterator[tuple[range, range]]:
    """Pairs (dims of source, dims of target), in order, that hold equally many elements and regroup only among
    themselves. An empty tensor is one group."""
    if 0 in source:
        yield range(len(source)), range(len(target))
        return
    i = j = 0
    while i < len(source) or j < len(target):
        first_i, first_j, left, right = i, j, 1, 1
        while (i, j) == (first_i, first_j) or (left != right and (i < len(source) or j < len(target))):
            if j < len(target) and (i == len(source) or (target[j] == 1 if left == right else least(left, right) is right)):
                right, j = right * target[j], j + 1
            elif left == right and j < len(target) and source[i] != 1:
                left, i, right, j = left * source[i], i + 1, right * target[j], j + 1
            else:
                left, i = left * source[i], i + 1
        yield range(first_i, i), range(first_j, j)


# -- memory -----------------------------------------------------------------------------------------------------------


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """tuple[int, ...] of a tensor without gaps, last dim fastest."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size if isinstance(size, Dim) else max(size, 1)
    return tuple(reversed(strides))


def regrouped(shape: Sequence[int], strides: Sequence[int], new: Sequence[int],
              asks: bool = False) -> tuple[int, ...] | None:
    """tuple[int, ...] that give the same elements in row-major order under the shape `new`, or None if there are none.

    Dims merge into runs that are evenly spaced; each run must be cut by whole new dims. Sizes with names are taken as they
    are in the traced call to find the cuts, and those must then be right for all. asks: the answer is for the sizes that
    have the same one; without, None may be of some alone."""
    equal: Callable[[Any, Any], bool] = operator.eq
    number: Callable[[Any], int] = operator.pos
    if known() is None or asks:
        if 0 in shape or 0 in new:
            return row_major(new)
    else:
        if same_shape(tuple(strides), row_major(shape)) or any(same(size, 0) for size in (*shape, *new)):
            return row_major(new)
        equal, number = same, hint
    found: list[int] = []
    position = len(new) - 1
    kept = [d for d in range(len(shape)) if not equal(shape[d], 1)]
    while kept:
        d = kept.pop()
        step, run = strides[d], shape[d]
        while kept and equal(strides[kept[-1]], strides[d] * shape[d]):
            d = kept.pop()
            run *= shape[d]
        filled = 1
        while position >= 0 and (number(filled) < number(run) or equal(new[position], 1)):
            found.append(step * filled)
            filled *= new[position]
            position -= 1
        if filled != run:
            return None
    found += [1] * (position + 1)           # what is left has size 1
    return tuple(reversed(found))


# -- the order of dims ------------------------------------------------------------------------------------------------


@register("permute")
@dataclass(frozen=True)
class Permute(View):
    """Dim i of the result is dim dims[i] of the operand."""

    dims: tuple[int, ...]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if sorted(self.dims) != list(range(x.rank)):
            raise self.fail(f"dims {self.dims} are not an order of the {x.rank} dims of {x}")
        return (x.with_shape(tuple(x.shape[d] for d in self.dims)),)

    @property
    def inverse(self) -> tuple[int, ...]:
        return tuple(sorted(range(len(self.dims)), key=self.dims.__getitem__))

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0].transpose(self.dims)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.permute(cotangent, self.inverse),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        return ctx.operand(0, tuple(index[d] for d in self.inverse))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        return tuple([strides[d] for d in self.dims])

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple([shape[d] for d in self.dims])

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        return b.permute(value, self.inverse)

    def on_batch(self, size: int) -> Permute:
        return Permute((0, *(d + 1 for d in self.dims)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((1, 0)), "f32[2,3]")
        yield drawn(cls((2, 0, 1)), "f32[2,3,4]")
        yield drawn(cls(()), "f32[]")
        yield drawn(cls((1, 0)), "f32[0,3]")
        yield drawn(cls((0, 2, 1)), "bf16[2,1,5]")
        yield drawn(cls((1, 0)), "bool[3,2]")


@register("flip")
@dataclass(frozen=True)
class Flip(View):
    """The order of elements along `dims` reversed."""

    dims: tuple[int, ...]
    shares_memory = False                   # as in PyTorch: strides are never negative

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dims(self, self.dims, operands[0].rank, operands[0])
        return operands

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.flip(operands[0], self.dims)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.emit(self, cotangent),)

    def on_batch(self, size: int) -> Flip:
        return Flip(tuple(d + 1 for d in self.dims))

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        shape = result.static_shape
        return ctx.operand(0, tuple(-i + (shape[d] - 1) if d in self.dims else i for d, i in enumerate(index)))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls((0,)), "f32[5]")
        yield drawn(cls((0, 2)), "f32[2,3,2]")
        yield drawn(cls(()), "f32[3]")
        yield drawn(cls((1,)), "f32[0,3]")
        yield drawn(cls((0,)), "i64[1,3]")


@register("kept")
@dataclass(frozen=True)
class Kept(View):
    """The operand, which is made of captured tensors alone that the program does not write: what computes it may run once
    for each version of those, and calls read what it left."""

    shares_memory = False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return operands

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return operands[0]

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (cotangent,)

    def on_batch(self, size: int) -> Kept:
        return self

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        return ctx.operand(0, index)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls(), "f32[3,4]")
        yield drawn(cls(), "i64[2]")
        yield drawn(cls(), "bf16[]")


@register("diagonal")
@dataclass(frozen=True)
class Diagonal(View):
    """The elements x[..., i, i] as the last dim, where the operand has two, of one size."""

    keeps_all = False
    is_index_map = False                    # one dim of the result is two of the operand: nothing carries back

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        (x,) = operands
        if x.rank < 2 or x.shape[-1] != x.shape[-2]:
            raise self.fail(f"the last two dims of {x} are not of one size")
        return (x.with_shape(x.shape[:-1]),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.einsum("...ii->...i", operands[0])        # a view that can be written, which np.diagonal's can't

    def on_batch(self, size: int) -> Diagonal:
        return self

    @staticmethod
    def embed(b: Builder, around: Value, diagonal: Value) -> Value:
        """`around` with `diagonal` in the place of its own."""
        size, rank = around.shape[-1], len(around.shape)
        counted = b.iota(size, dtypes.i64)
        rows, columns = (b.broadcast(counted, around.shape, (d,)) for d in (rank - 2, rank - 1))
        kept = (*range(rank - 2), rank - 1)
        return b.where(b.eq(rows, columns), b.broadcast(diagonal, around.shape, kept), around)

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (self.embed(b, b.zeros(operands[0].type), cotangent),)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        return ctx.operand(0, (*index, index[-1]))

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        return (*strides[:-2], strides[-2] + strides[-1])

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(shape[:-1])

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        return self.embed(b, around, value)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield drawn(cls(), "f32[3,3]")
        yield drawn(cls(), "f32[2,4,4]")
        yield drawn(cls(), "f32[1,1]")
        yield drawn(cls(), "f32[2,0,0]")
        yield drawn(cls(), "i64[5,5]")
        yield drawn(cls(), "bf16[3,2,2]")
