"""Write a Graph op by op: `b.mul(x, b.exp(y))`. Used by derivative rules, decompositions, passes, and tests."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flambeau.ir import ops
from flambeau.ir.dims import Dim, Size, same_shape
from flambeau.ir.dtypes import DType
from flambeau.ir.op import OPS, Op
from flambeau.ir.types import TensorType

if TYPE_CHECKING:
    from flambeau.ir.graph import Graph, Node, Value
    from flambeau.ir.graph.origin import Origin
    from flambeau.ir.location import Location


class Builder:
    """Appends to `graph`. Every op of the registry without attributes is a method of the same name; those with
    attributes have the methods below. `loc`, `phase` and `origin` are stamped on every node made."""

    origin: Origin | None = None

    def __init__(self, graph: Graph, loc: Location | None = None, phase: str = "forward"):
        self.graph, self.loc, self.phase = graph, loc, phase

    def emit(self, op: Op, *operands: Value, regions: tuple[Graph, ...] = ()) -> Any:
        """Append `op`; the Value of its only result, or a tuple of Values."""
        results = self.graph.append(op, operands, loc=self.loc, phase=self.phase, origin=self.origin,
                                    regions=regions).results
        return results[0] if len(results) == 1 else results

    def __getattr__(self, name: str) -> Callable[..., Any]:
        op = OPS.get(name)
        if not isinstance(op, Op):
            raise AttributeError(f"Builder has no op {name!r} without attributes")
        return lambda *operands: self.emit(op, *operands)

    def wants(self, position: int) -> bool:
        """Whether a derivative rule need give the cotangent of that operand of the op being differentiated. In a
        Graph dead ones cost nothing; on the eager tape they would be computed."""
        return True

    @contextmanager
    def at(self, loc: Location | None, phase: str | None = None) -> Iterator[None]:
        """Stamp another location and phase inside the with block."""
        saved = self.loc, self.phase
        self.loc, self.phase = loc or self.loc, phase or self.phase
        try:
            yield
        finally:
            self.loc, self.phase = saved

    def stand_for(self, node: Node) -> None:
        """What is made from now on takes the place of `node`, or of a part of it."""
        self.loc, self.phase, self.origin = node.loc, node.phase, node.origin

    # -- sources ----------------------------------------------------------------------------------------------------

    def constant(self, value: Any, dtype: DType) -> Value:
        """A scalar or an array, held in the graph. value: in `dtype`'s storage when it is an array."""
        return self.emit(ops.Constant(ops.literal(value, dtype)))

    def scalar(self, value: float | int | bool, like: Value | DType) -> Value:
        """A rank-0 constant of the dtype of `like`."""
        return self.constant(value, like if isinstance(like, DType) else like.dtype)

    def number(self, size: Size, dtype: DType) -> Value:
        """A size as a rank-0 number, which is computed where the size has names."""
        return self.cast(self.emit(ops.Count(size)), dtype) if isinstance(size, Dim) else self.constant(size, dtype)

    def full(self, type: TensorType, value: float | int | bool) -> Value:
        scalar = self.constant(value, type.dtype)
        return self.broadcast(scalar, type.shape, ()) if type.shape else scalar

    def zeros(self, type: TensorType) -> Value:
        return self.full(type, 0)

    def iota(self, size: Size, dtype: DType) -> Value:
        return self.emit(ops.Iota(size, dtype))

    # -- views ------------------------------------------------------------------------------------------------------

    def cast(self, x: Value, dtype: DType) -> Value:
        return x if x.dtype is dtype else self.emit(ops.Cast(dtype), x)

    def broadcast(self, x: Value, shape: Sequence[Any], dims: Sequence[int]) -> Value:
        """dims[i] is the dim of the result that dim i of x becomes; a size-1 dim of x may expand."""
        if tuple(dims) == tuple(range(len(shape))) and same_shape(tuple(shape), x.shape):
            return x
        return self.emit(ops.Broadcast(tuple(shape), tuple(dims)), x)

    def reshape(self, x: Value, shape: Sequence[Any]) -> Value:
        return x if same_shape(tuple(shape), x.shape) else self.emit(ops.Reshape(tuple(shape)), x)

    def permute(self, x: Value, dims: Sequence[int]) -> Value:
        return x if tuple(dims) == tuple(range(len(dims))) else self.emit(ops.Permute(tuple(dims)), x)

    def transpose(self, x: Value) -> Value:
        """Swap the last two dims."""
        rank = len(x.shape)
        return self.permute(x, (*range(rank - 2), rank - 1, rank - 2))

    # -- reductions -------------------------------------------------------------------------------------------------

    def sum(self, x: Value, dims: Sequence[int]) -> Value:
        return self.emit(ops.Sum(tuple(sorted(dims))), x) if dims else x

    def amax(self, x: Value, dims: Sequence[int]) -> Value:
        return self.emit(ops.AMax(tuple(sorted(dims))), x) if dims else x

    def expand_reduced(self, x: Value, shape: Sequence[Any], dims: Sequence[int]) -> Value:
        """Undo the shape change of a reduction: x, which lost `dims`, spread over them again."""
        kept = tuple(d for d in range(len(shape)) if d not in tuple(dims))
        return self.broadcast(x, shape, kept)

    def sum_to(self, x: Value, type: TensorType) -> Value:
        """Sum x down to rank 0 when `type` is rank 0 (the cotangent of a rank-0 elementwise operand)."""
        return self.sum(x, range(len(x.shape))) if not type.shape and x.shape else x
