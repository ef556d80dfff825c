"""Ops that fold some dims of their operand away. The dims are dropped; an empty sum is 0, an empty product 1."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.op import Op, Sample, register
from flambeau.ir.ops.families import Linear, check_arity, check_dims, check_dtypes
from flambeau.ir.ops.sampling import AWAY_FROM_ZERO, drawn, given
from flambeau.ir.ops.slices import Concat, Slice
from flambeau.ir.ops.views import Flip, product
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value
    from flambeau.ir.kernel import Combiner


class Reduction(Op):
    """x folded over `reduced` dims with `combiner`, as a kernel stage does it."""

    kernel_kind = "loop"
    combiner: ClassVar[Combiner]
    domain: ClassVar[str] = "number"
    needs_elements: ClassVar[bool] = False      # an empty maximum has no value

    @property
    def reduced(self) -> tuple[int, ...]:
        """The dims folded away, increasing."""
        return self.dims  # type: ignore[attr-defined]

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        check_dtypes(self, operands, self.domain)
        (x,) = operands
        check_dims(self, self.reduced, x.rank, x)
        if self.needs_elements and any(x.shape[d] == 0 for d in self.reduced):
            raise self.fail(f"{x} has no elements along dims {self.reduced}")
        result = x.with_shape(tuple(size for d, size in enumerate(x.shape) if d not in self.reduced))
        return (result.with_dtype(dtypes.i64) if self.combiner in ("argmax", "argmin") else result,)

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(type(self)(tuple(d + 1 for d in self.reduced)), *operands),)     # type: ignore[call-arg]


@register("sum")
@dataclass(frozen=True)
class Sum(Reduction, Linear):
    """The sum over dims. Integers keep their dtype and wrap; f16 and bf16 add up in f32."""

    dims: tuple[int, ...]
    combiner = "sum"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        return np.asarray(np.sum(x, self.dims, dtype=np.float64 if x.dtype.kind == "f" else x.dtype))

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        return (b.expand_reduced(cotangent, operands[0].shape, self.dims),)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _reduction_samples(cls)
        yield drawn(cls((1,)), "f32[2,1000]")
        yield given(cls((0,)), np.array([100, 100, 100], np.int8))


@register("prod")
@dataclass(frozen=True)
class Prod(Reduction):
    """The product over dims. Its derivative is the product of all the others, right where elements are zero too."""

    dims: tuple[int, ...]
    combiner = "prod"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        return np.asarray(np.prod(x, self.dims, dtype=np.float64 if x.dtype.kind == "f" else x.dtype))

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x,), (g,) = operands, cotangents
        assert g is not None
        return (b.mul(b.expand_reduced(g, x.shape, self.dims), self._others(b, x)),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x,), (t,) = operands, tangents
        return (b.sum(b.mul(t, self._others(b, x)), self.dims),)

    def _others(self, b: Builder, x: Value) -> Value:
        """For each element the product of all others along the dims."""
        order = (*(d for d in range(len(x.shape)) if d not in self.dims), *self.dims)
        rows = b.permute(x, order)
        count = product([x.shape[d] for d in self.dims])
        flat = b.reshape(rows, (*rows.shape[:len(order) - len(self.dims)], count))
        inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
        return b.permute(b.reshape(_product_of_others(b, flat), rows.shape), inverse)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _reduction_samples(cls)
        yield given(cls((1,)), np.array([[2.0, 0.0, 3.0], [0.0, 4.0, 0.0]], np.float32), differentiable=True)


def _product_of_others(b: Builder, x: Value) -> Value:
    """y[..., i] = product of x[..., j] over j != i: what comes before times what comes after, each by doubling."""
    last = len(x.shape) - 1
    flip = Flip((last,))
    if not x.shape[last]:
        return x
    return b.mul(_product_before(b, x), b.emit(flip, _product_before(b, b.emit(flip, x))))


def _product_before(b: Builder, x: Value) -> Value:
    """y[..., i] = product of x[..., :i]."""
    size, reach = x.shape[-1], 1
    y = _shifted(b, x, 1)
    while reach < size:
        y = b.mul(y, _shifted(b, y, reach))
        reach *= 2
    return y


def _shifted(b: Builder, x: Value, by: int) -> Value:
    """x moved `by` places up the last dim, ones moving in."""
    last, shape = len(x.shape) - 1, x.shape
    ones = b.full(x.type.with_shape((*shape[:last], by)), 1)
    kept = Slice((0,) * len(shape), (*shape[:last], shape[last] - by), (1,) * len(shape))
    return b.emit(Concat(last), ones, b.emit(kept, x))


class _Extremum(Reduction):
    """The derivative goes to the elements equal to the result, in equal shares. +0 is greater than -0."""

    needs_elements = True

    def zero_chosen(self, found: np.ndarray, x: np.ndarray, sign: int) -> np.ndarray:
        """What NumPy found, where it is 0 the zero of `sign` if x has one over the dims."""
        if x.dtype.kind != "f" or np.all(found):
            return found
        wins = np.any((x == 0) & (np.signbit(x) == (sign < 0)), self.reduced)
        return np.where(found == 0, np.copysign(found, np.where(wins, sign, -sign)), found)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x,), (g,) = operands, cotangents
        is_chosen, count = self._chosen(b, x, results[0])
        share = b.div(g, count)
        return (b.where(is_chosen, b.expand_reduced(share, x.shape, self.reduced), b.scalar(0.0, x)),)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (x,), (t,) = operands, tangents
        is_chosen, count = self._chosen(b, x, results[0])
        return (b.div(b.sum(b.where(is_chosen, t, b.scalar(0.0, x)), self.reduced), count),)

    def _chosen(self, b: Builder, x: Value, y: Value) -> tuple[Value, Value]:
        """Which elements the result is equal to, and how many they are."""
        is_chosen = b.logical_or(b.eq(x, b.expand_reduced(y, x.shape, self.reduced)), b.isnan(x))
        return is_chosen, b.sum(b.cast(is_chosen, x.dtype), self.reduced)


@register("amax")
@dataclass(frozen=True)
class AMax(_Extremum):
    """The greatest element over dims; NaN if there is one."""

    dims: tuple[int, ...]
    combiner = "max"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return self.zero_chosen(np.asarray(np.max(operands[0], self.dims)), operands[0], sign=1)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _reduction_samples(cls)
        yield from _nan_samples(cls((1,)))


@register("amin")
@dataclass(frozen=True)
class AMin(_Extremum):
    """The least element over dims; NaN if there is one."""

    dims: tuple[int, ...]
    combiner = "min"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return self.zero_chosen(np.asarray(np.min(operands[0], self.dims)), operands[0], sign=-1)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        yield from _reduction_samples(cls)
        yield from _nan_samples(cls((1,)))


@register("any")
@dataclass(frozen=True)
class Any(Reduction):
    """Whether some bool over dims is true."""

    dims: tuple[int, ...]
    combiner, domain = "any", "bool"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(np.any(operands[0], self.dims))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dims, shape in (((1,), "bool[4,3]"), ((0, 1), "bool[2,2]"), ((), "bool[3]"), ((0,), "bool[0,2]")):
            yield drawn(cls(dims), shape)


@register("all")
@dataclass(frozen=True)
class All(Reduction):
    """Whether every bool over dims is true."""

    dims: tuple[int, ...]
    combiner, domain = "all", "bool"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(np.all(operands[0], self.dims))

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dims, shape in (((1,), "bool[4,3]"), ((0, 1), "bool[2,2]"), ((), "bool[3]"), ((0,), "bool[0,2]")):
            yield drawn(cls(dims), shape)


class _ArgExtremum(Reduction):
    needs_elements = True

    @property
    def reduced(self) -> tuple[int, ...]:
        return (self.dim,)  # type: ignore[attr-defined]

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(type(self)(self.dim + 1), *operands),)       # type: ignore[attr-defined, call-arg]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for dim, shape in ((1, "f32[4,7]"), (0, "f32[5]"), (0, "f32[3,2]"), (1, "f32[0,2]"), (0, "f32[1]"),
                           (0, "i64[9]"), (1, "bf16[2,3]"), (0, "f64[6]")):
            yield drawn(cls(dim), shape)  # type: ignore[call-arg]
        yield from _nan_samples(cls(1))  # type: ignore[call-arg]


@register("argmax")
@dataclass(frozen=True)
class ArgMax(_ArgExtremum):
    """i64 position along dim of the first greatest element; a NaN is greatest."""

    dim: int
    combiner = "argmax"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(np.argmax(operands[0], self.dim))


@register("argmin")
@dataclass(frozen=True)
class ArgMin(_ArgExtremum):
    """i64 position along dim of the first least element; a NaN is least."""

    dim: int
    combiner = "argmin"

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        return np.asarray(np.argmin(operands[0], self.dim))


def _reduction_samples(cls: type[Op]) -> Iterator[Sample]:
    for dims, shape in (((1,), "f32[2,3]"), ((0,), "f32[3,2]"), ((0, 2), "f32[2,3,2]"), ((0, 1), "f32[2,2]"),
                        ((), "f32[3]"), ((), "f32[]"), ((1,), "f32[0,3]"), ((0,), "f32[1,2]"), ((1,), "f64[2,5]"),
                        ((0,), "bf16[9]"), ((0,), "f16[7]"), ((1,), "i64[3,4]"), ((0,), "i32[5]"), ((0,), "u8[3]")):
        yield drawn(cls(dims), shape, within=AWAY_FROM_ZERO)  # type: ignore[call-arg]
    if not getattr(cls, "needs_elements", False):
        yield drawn(cls((0,)), "f32[0,3]")  # type: ignore[call-arg]


def _nan_samples(op: Op) -> Iterator[Sample]:
    rows = [[1.0, np.nan, 3.0, np.nan], [-np.inf] * 4, [2.0, 5.0, 5.0, 1.0], [-0.0, 0.0, -0.0, 0.0]]
    yield given(op, np.array(rows, np.float32))
