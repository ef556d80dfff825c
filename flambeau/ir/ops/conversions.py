"""Choosing between two operands, and converting between dtypes."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from flambeau.ir import dtypes
from flambeau.ir.devices import Elsewhere
from flambeau.ir.dtypes import DType
from flambeau.ir.op import Sample, ScalarContext, register, register_instance
from flambeau.ir.ops.families import Elementwise, check_arity, listed
from flambeau.ir.ops.sampling import SPECIAL, drawn, given
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value
    from flambeau.ir.index_maps import Index


class _Where(Elementwise):
    """where(condition, x, y): x where the bool condition holds, else y."""

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 3)
        condition, x, y = operands
        if condition.dtype is not dtypes.bool_ or x.dtype is not y.dtype:
            raise self.fail(f"takes a bool and two operands of one dtype, found {listed(operands)}")
        return (self.common(self.common(x, y), condition).with_dtype(x.dtype),)

    def samples(self) -> Iterator[Sample]:  # type: ignore[override]
        for shapes in (("2,3", "2,3", "2,3"), ("", "4", "4"), ("4", "", ""), ("0", "0", ""), ("2,2", "", "2,2"),
                       ("", "", "")):
            yield drawn(self, f"bool[{shapes[0]}]", *(f"f32[{s}]" for s in shapes[1:]))
        for dtype in ("f64", "bf16", "i64", "bool"):
            yield drawn(self, "bool[5]", f"{dtype}[5]", f"{dtype}[5]")
        yield given(self, np.arange(8) % 2 == 0, SPECIAL, SPECIAL[::-1].copy())


where = _Where("where", 3, np.where, "select",
               (None, lambda b, g, z, c, x, y: b.where(c, g, b.scalar(0.0, g)),
                lambda b, g, z, c, x, y: b.where(c, b.scalar(0.0, g), g)), domain="any", exact=True)
register_instance(where)


@register("cast")
@dataclass(frozen=True)
class Cast(Elementwise):
    """The same numbers in `dtype`. Float to int cuts toward zero and saturates, NaN becomes 0; int to int wraps;
    to bool is `!= 0`. Differentiable between floats."""

    dtype: DType

    __reduce__ = object.__reduce__  # type: ignore[assignment]
    arity, expression, domain, is_test = 1, "cast", "any", False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (operands[0].with_dtype(self.dtype),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        (x,) = operands
        if self.dtype is dtypes.bool_:
            return np.asarray(x != 0)
        if x.dtype.kind == "f" and self.dtype.is_integer:
            return _saturated(x, self.dtype)
        return x.astype(self.dtype.compute)

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        source, (g,) = operands[0].type.dtype, cotangents
        is_smooth = source.is_floating_point and self.dtype.is_floating_point
        return (b.cast(g, source) if g is not None and is_smooth else None,)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (t,) = tangents
        return (b.cast(t, self.dtype) if t is not None and self.dtype.is_floating_point else None,)

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        value = ctx.operand(0, index)
        return value if operands[0].dtype is self.dtype else ctx.emit("cast", self.dtype, value)

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        names = ("f16", "bf16", "f32", "f64", "i8", "i64", "u8", "bool")
        for source in names:
            for target in names:
                yield drawn(cls(dtypes.DTYPES[target]), f"{source}[5]")
        for target in ("i8", "i32", "i64", "u8", "bool", "f16", "bf16", "f64"):
            yield given(cls(dtypes.DTYPES[target]), SPECIAL)
        yield given(cls(dtypes.i8), np.array([127, 128, -129, 2**40 + 5], np.int64))
        yield drawn(cls(dtypes.f64), "f32[]")
        yield drawn(cls(dtypes.f64), "f32[0,2]")


@register("place")
@dataclass(frozen=True)
class Place(Elementwise):
    """x on `device`, where x has no place of its own: what a program makes (a constant, an iota) and a user asked to have
    there. Nothing moves, since a program lies wholly on one device."""

    device: str

    __reduce__ = object.__reduce__  # type: ignore[assignment]
    arity, expression, domain, is_test = 1, staticmethod(lambda e, x: x), "any", False
    partials, is_wide = (lambda b, g, y, x: g,), False

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        check_arity(self, operands, 1)
        return (operands[0].on(self.device),)

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        if self.device != "cpu":
            raise Elsewhere(f"arrays don't lie on {self.device!r}")
        return operands[0]

    @classmethod
    def samples(cls) -> Iterator[Sample]:
        for operand in ("f32[2,3]", "bf16[5]", "i64[0,2]", "bool[]"):
            yield drawn(cls("cpu"), operand)


def _saturated(x: np.ndarray, dtype: DType) -> np.ndarray:
    limits = np.iinfo(dtype.storage)
    cut = np.where(np.isnan(x), 0.0, np.trunc(x.astype(np.float64)))
    # 2**63 - 1 is not a double: compare with the power of two above, and never convert what is out of range.
    too_big, too_small = cut >= float(limits.max) + (limits.bits < 64), cut < float(limits.min)
    kept = np.where(too_big | too_small, 0.0, cut).astype(dtype.storage)
    return np.where(too_big, limits.max, np.where(too_small, limits.min, kept)).astype(dtype.storage)
