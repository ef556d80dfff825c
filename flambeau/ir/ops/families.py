"""Rules that many ops share. A family turns what an op says of itself (a scalar expression and partial derivatives,
a transpose, two transposes) into its type rule, lowering and derivative."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from flambeau.errors import UnsupportedError
from flambeau.ir import dtypes
from flambeau.ir.dtypes import DType
from flambeau.ir.op import OPS, Op, Sample, ScalarContext, register_instance
from flambeau.ir.ops.batching import spread
from flambeau.ir.ops.sampling import ANYWHERE, SPECIAL, Interval, drawn, given
from flambeau.ir.ops.surface import Surface
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.builder import Builder
    from flambeau.ir.graph import Value
    from flambeau.ir.index_maps import Index

FLOAT: Final = frozenset(d for d in dtypes.DTYPES.values() if d.kind == "float")
INT: Final = frozenset(d for d in dtypes.DTYPES.values() if d.is_integer)
BOOL: Final = frozenset({dtypes.bool_})
DOMAINS: Final = {"float": FLOAT, "number": FLOAT | INT, "int": INT, "bool": BOOL, "int|bool": INT | BOOL,
                  "any": FLOAT | INT | BOOL}

# What flows through an elementwise op along one operand: `partial(b, g, y, *operands)` is g * dy/d(operand), where
# y is the result. Linear in g, so one function serves the cotangent (reverse mode) and the tangent (forward mode).
Partial = Callable[..., Any]


INT_DIVISION: Final = 2                     # the status a kernel returns for an integer division by zero
_DIVISIONS: Final = ("floor_divide", "trunc_divide", "remainder", "fmod")           # of integers never by 0


class ScalarExpression:
    """Writes scalar ops of one dtype: `e("mul", x, e.const(2))`."""

    __slots__ = ("ctx", "dtype")

    def __init__(self, ctx: ScalarContext, dtype: DType):
        self.ctx, self.dtype = ctx, dtype

    def __call__(self, op: str, *operands: int) -> int:
        return self.ctx.emit(op, self.dtype, *operands)

    def test(self, op: str, *operands: int) -> int:
        """An op whose result is bool."""
        return self.ctx.emit(op, dtypes.bool_, *operands)

    def const(self, value: float | int | bool) -> int:
        return self.ctx.const(value, self.dtype)


# -- what rows are written with ---------------------------------------------------------------------------------------


def scaled(b: Builder, x: Value, factor: float) -> Value:
    return b.mul(x, b.scalar(factor, x))


def plus(b: Builder, x: Value, addend: float) -> Value:
    return b.add(x, b.scalar(addend, x))


def square(b: Builder, x: Value) -> Value:
    return b.mul(x, x)


def map_float(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one Python number, over an array: f64."""
    ufunc = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(ufunc(x)).astype(np.float64)


# -- checks of operands -----------------------------------------------------------------------------------------------


def check_arity(op: Op, operands: Sequence[TensorType], count: int) -> None:
    """Raise TypeInferenceError unless there are `count` operands."""
    if len(operands) != count:
        raise op.fail(f"takes {count} operand{'s' * (count != 1)}, got {len(operands)}")


def check_dtypes(op: Op, operands: Sequence[TensorType], domain: str) -> None:
    """Raise TypeInferenceError unless all operands have one dtype of `domain`."""
    first = operands[0]
    for t in operands:
        if t.dtype is not first.dtype:
            raise op.fail(f"operands must have one dtype, found {listed(operands)}", "cast one of them")
    if first.dtype not in DOMAINS[domain]:
        raise op.fail(f"takes {domain} operands, found {listed(operands)}", "cast the operand first")


def check_dims(op: Op, dims: Sequence[int], rank: int, of: TensorType) -> None:
    """Raise TypeInferenceError unless `dims` are strictly increasing dims of `of`."""
    if any(not 0 <= d < rank for d in dims) or any(a >= b for a, b in zip(dims, dims[1:], strict=False)):
        raise op.fail(f"dims {tuple(dims)} are not increasing dims of {of}, which has rank {rank}")


def check_static(op: Op, *operands: TensorType) -> None:
    """Raise TypeInferenceError if a size is symbolic and the op needs numbers."""
    for t in operands:
        if not t.is_static:
            raise op.fail(f"needs sizes that are numbers, found {t}", "mark this dim as static")


def check_sizes(op: Op, result: TensorType) -> None:
    """Raise TypeInferenceError if a size that an attribute asks for is negative, or beyond all memory."""
    if mistake := result.size_mistake:
        raise op.fail(mistake)


def listed(types: Sequence[TensorType]) -> str:
    """`f32[2], i64[3]`"""
    return ", ".join(map(str, types))


# -- families ---------------------------------------------------------------------------------------------------------


class Elementwise(Op):
    """One number from one number of each operand. Operands share dtype and shape, but a rank-0 operand may stand
    beside shaped ones. An instance is declared by

    - `numpy`: the meaning, over whole arrays: floats come as f64, and the result is rounded once;
    - `exact`: the meaning is correctly rounded in every float dtype, so it is computed in the operands' own (the
      bits are the same: f64 has more than twice the digits of f32, f32 more than twice those of f16 and bf16), or is
      defined by a rounding to it (trunc_divide);
    - `expression`: the name of a scalar op, or a function from (ScalarExpression, *values) to a value;
    - `is_wide`: narrower floats are computed in float64 and rounded once;
    - `partials`: one per operand, None where the derivative is zero or there is none;
    - `domain`: the dtypes it takes; `result`: "same", or "bool" for tests;
    - `within`: where its samples may lie so that finite differences mean something;
    - `surface`: what users call it by, None for an op that is a part of others only.
    """

    def __init__(self, name: str, arity: int, numpy: Callable[..., np.ndarray], expression: str | Callable[..., int],
                 partials: Sequence[Partial | None] = (), *, domain: str = "float", result: str = "same",
                 within: Sequence[Sequence[Interval]] = (), tolerance: float = 1.0, cost: int = 1,
                 exact: bool = False, is_wide: bool = False, surface: Surface | None = None):
        self.name, self.arity, self.numpy, self.expression = name, arity, numpy, expression
        self.partials = tuple(partials) or (None,) * arity
        self.domain, self.accepts, self.is_test = domain, DOMAINS[domain], result == "bool"
        self.within, self.tolerance, self.cost = tuple(within) or (ANYWHERE,) * arity, tolerance, cost
        self.exact, self.is_wide, self.surface = exact, is_wide, surface
        assert len(self.partials) == arity == len(self.within), f"{name}: a row for each operand"

    def __repr__(self) -> str:
        return f"ops.{self.name}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_op_named, (self.name,))

    # -- types ------------------------------------------------------------------------------------------------------

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        if len(operands) != self.arity:
            check_arity(self, operands, self.arity)
        shaped = operands[0]
        for other in operands[1:]:
            if other.dtype is not shaped.dtype:
                check_dtypes(self, operands, self.domain)
            shaped = self.common(shaped, other)
        if shaped.dtype not in self.accepts:
            check_dtypes(self, operands, self.domain)
        return (shaped.with_dtype(dtypes.bool_),) if self.is_test else (shaped,)

    def common(self, lhs: TensorType, rhs: TensorType) -> TensorType:
        """The operand whose shape the result has."""
        if lhs.shape == rhs.shape:
            return lhs
        if not rhs.shape:
            return lhs
        if not lhs.shape:
            return rhs
        raise self.fail(f"shapes differ: lhs {lhs}, rhs {rhs}", "broadcast one of them to the other's shape")

    # -- meaning ----------------------------------------------------------------------------------------------------

    def evaluate(self, *operands: np.ndarray) -> np.ndarray:
        if not self.exact:
            operands = tuple([x.astype(np.float64) if x.dtype.char in "fe" else x for x in operands])
        found = self.numpy(*operands)
        return found if type(found) is np.ndarray else np.asarray(found)

    # -- derivative -------------------------------------------------------------------------------------------------

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (g,) = cotangents
        found: list[Value | None] = []
        for position, (partial, x) in enumerate(zip(self.partials, operands, strict=True)):
            if partial is None or not x.type.dtype.is_floating_point or not b.wants(position):
                found.append(None)
            else:
                found.append(b.sum_to(partial(b, g, results[0], *operands), x.type))
        return found

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        total, (y,) = None, results
        for partial, t in zip(self.partials, tangents, strict=True):
            if partial is not None and t is not None:
                term = partial(b, t, y, *operands)
                if not term.shape and y.shape:                  # from rank 0, beside what is not read
                    term = b.broadcast(term, y.shape, ())
                total = term if total is None else b.add(total, term)
        return (total,)

    # -- batches ----------------------------------------------------------------------------------------------------

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        shapes = [tuple(x.shape[1:]) if m else tuple(x.shape) for x, m in zip(operands, mapped, strict=True)]
        shape = next((s for s in shapes if s), ())
        given = []
        for x, m in zip(operands, mapped, strict=True):
            if m and shape and len(x.shape) == 1:               # a number each, beside arrays
                x = b.broadcast(x, (size, *shape), (0,))
            elif not m and x.shape:
                x = spread(b, x, size)
            given.append(x)
        return (b.emit(self, *given),)

    # -- lowering ---------------------------------------------------------------------------------------------------

    def scalar(self, ctx: ScalarContext, index: tuple[Index, ...], operands: tuple[TensorType, ...],
               result: TensorType) -> int:
        values = [ctx.operand(i, index if t.shape else ()) for i, t in enumerate(operands)]
        dtype = operands[-1].dtype
        if isinstance(self.expression, str):
            return ctx.emit(self.expression, result.dtype, *values)
        if dtype.is_floating_point and (dtype.itemsize == 2 or self.is_wide and dtype is dtypes.f32):
            wide = ScalarExpression(ctx, dtypes.f64 if self.is_wide else dtypes.f32)    # round once, not each step
            value = self.expression(wide, *[ctx.emit("cast", wide.dtype, v) for v in values])
            return value if self.is_test else ctx.emit("cast", dtype, value)
        return self.expression(ScalarExpression(ctx, dtype), *values)

    # -- samples ----------------------------------------------------------------------------------------------------

    def samples(self) -> Iterator[Sample]:  # type: ignore[override]
        within = self.within
        shapes = [[shape] * self.arity for shape in ("2,3", "0,3", "", "1", "17")]
        if self.arity > 1:
            shapes += [["2,3", *[""] * (self.arity - 1)], [*[""] * (self.arity - 1), "5"]]
        if self.is_wide:                    # long: each of them takes its time to compile
            shapes = shapes[::4]
        for dtype in ("f32", "f64", "f16", "bf16", "i8", "i32", "i64", "u8", "bool"):
            if dtypes.DTYPES[dtype] in self.accepts:
                for shape in shapes if dtype in ("f32", "i32", "bool") else shapes[:1]:
                    yield self._drawn([f"{dtype}[{s}]" for s in shape], within)
        if dtypes.f32 in self.accepts:
            yield given(self, *(np.roll(SPECIAL, 3 * i) for i in range(self.arity)))

    def fault(self, operands: Sequence[TensorType], results: Sequence[TensorType]) -> tuple[int, str] | None:
        divides = self.name in _DIVISIONS and operands[1].dtype.is_integer
        return (INT_DIVISION, "integer division by zero") if divides else None

    def _drawn(self, types: Sequence[str], within: Sequence[Sequence[Interval]]) -> Sample:
        parts = [drawn(self, *types, within=w) for w in within]
        arrays = tuple(part.operands[i] for i, part in enumerate(parts))
        if len(arrays) == 2 and arrays[1].dtype.kind in "iu" and self.name in _DIVISIONS:
            arrays = (arrays[0], np.where(arrays[1] == 0, 3, arrays[1]).astype(arrays[1].dtype))
        moving = tuple([p is not None for p in self.partials])
        return Sample(self, arrays, parts[0].types, moving, tolerance=self.tolerance)


def declare(name: str, arity: int, numpy: Callable[..., Any], expression: str | Callable[..., int],
            *partials: Partial | None, **options: Any) -> Elementwise:
    """An elementwise op of the registry, by what `Elementwise` says it is declared by."""
    op = Elementwise(name, arity, numpy, expression, partials, **options)
    register_instance(op)
    return op


def _op_named(name: str) -> Any:
    return OPS[name]


class Linear(Op):
    """Linear in its floating-point operands taken together: a tangent flows through the op itself, a cotangent
    through its `transpose`."""

    def transpose(self, b: Builder, operands: Sequence[Value], cotangent: Value) -> Sequence[Value | None]:
        """The operands' cotangents (None for integer operands). Must not read floating-point operands' values."""
        raise NotImplementedError(f"{self.name}: no transpose")

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (cotangent,) = cotangents
        assert cotangent is not None, f"{self.name}: no cotangent flows in"
        return self.transpose(b, operands, cotangent)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        given = [x if not x.dtype.is_floating_point else b.zeros(x.type) if t is None else t
                 for x, t in zip(operands, tangents, strict=True)]
        return (b.emit(self, *given),)


class View(Linear):
    """Each element of the result is one element of the one operand: nothing is computed, and the op folds into the
    addresses of whoever reads it.

    - `keeps_all`: the result holds every element of the operand;
    - `shares_memory`: the result can lie in the operand's memory, so that the frontend makes a view of it;
    - `is_index_map`: the operand's index at an index of the result is affine wherever sizes allow, and fusion carries
      the dims of a group across."""

    keeps_all: ClassVar[bool] = True
    shares_memory: ClassVar[bool] = True
    is_index_map: ClassVar[bool] = True

    def strides_through(self, shape: Sequence[int], strides: tuple[int, ...]) -> tuple[int, ...] | None:
        """The result's strides in the memory of an operand that has these; None where it can't share it."""
        return None

    def shape_after(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The result's shape (static)."""
        return tuple(shape)

    def replaced(self, b: Builder, around: Any, value: Any) -> Any:
        """The operand `around` when the view of it becomes `value`. Raises UnsupportedError where elements of the view
        share memory. Generic over tensors and graph values."""
        raise UnsupportedError(f"in-place write through {self.name}: several elements share memory",
                               hint="clone() the expanded tensor first")

    def on_batch(self, size: int) -> View:
        """The same view of each of `size` examples, in a further first dim."""
        raise NotImplementedError(f"{self.name}: no view of batches")

    @property
    def is_batchable(self) -> bool:
        return type(self).on_batch is not View.on_batch

    def batched(self, b: Builder, operands: Sequence[Value], mapped: Sequence[bool], size: int) -> Sequence[Value]:
        return (b.emit(self.on_batch(size), *operands),)


class Bilinear(Op):
    """Linear in each of its two operands: two transposes, and a tangent is op(dx, y) + op(x, dy)."""

    def transpose_lhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        """The cotangent of lhs. Must not read the value of lhs (its type may be)."""
        raise NotImplementedError(f"{self.name}: no transpose for lhs")

    def transpose_rhs(self, b: Builder, cotangent: Value, lhs: Value, rhs: Value) -> Value:
        """The cotangent of rhs. Must not read the value of rhs (its type may be)."""
        raise NotImplementedError(f"{self.name}: no transpose for rhs")

    def vjp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            cotangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (lhs, rhs), (cotangent,) = operands, cotangents
        assert cotangent is not None, f"{self.name}: no cotangent flows in"
        return (self.transpose_lhs(b, cotangent, lhs, rhs) if b.wants(0) else None,
                self.transpose_rhs(b, cotangent, lhs, rhs) if b.wants(1) else None)

    def jvp(self, b: Builder, operands: Sequence[Value], results: Sequence[Value],
            tangents: Sequence[Value | None]) -> Sequence[Value | None]:
        (lhs, rhs), (by_lhs, by_rhs) = operands, tangents
        if by_lhs is None:
            assert by_rhs is not None, f"{self.name}: no tangent flows in"
            return (b.emit(self, lhs, by_rhs),)
        first = b.emit(self, by_lhs, rhs)
        return (first if by_rhs is None else b.add(first, b.emit(self, lhs, by_rhs)),)


_WIDENED: Final[dict[np.dtype, type]] = {np.dtype(np.float16): np.float32}


def accumulating(x: np.ndarray) -> np.ndarray:
    """x in the type that sums of its dtype are kept in: f16 widens to f32."""
    return x.astype(_WIDENED[x.dtype]) if x.dtype in _WIDENED else x
