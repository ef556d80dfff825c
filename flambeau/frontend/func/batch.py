"""Batches: a function written for one example runs on all of them, each op at once by its batching rule.

A shell holds the examples along a first dim that the function does not see, or one tensor that all examples share.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from flambeau.frontend import control
from flambeau.frontend.func import rounds
from flambeau.frontend.func.custom import batched
from flambeau.frontend.func.level import Level, zeros
from flambeau.frontend.functions.rounds import Done, Rounds
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import dispatch, dispatch_view
from flambeau.frontend.tensor.storage import Storage
from flambeau.frontend.tensor.strides import strides_of
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.devices import infer
from flambeau.ir.op import Op
from flambeau.ir.ops import View
from flambeau.ir.ops.batching import spread
from flambeau.ir.types import TensorType
from flambeau.warned import warn

Randomness = Literal["error", "different", "same"]


class BatchLevel(Level):
    """`size` examples at once. The `extra` of a shell says whether it is mapped: each example has its own."""

    name = "vmap"
    nothing = False
    runs_all = True

    def __init__(self, size: int, randomness: Randomness = "error"):
        super().__init__()
        self.size, self.randomness = size, randomness

    def type_of(self, value: Tensor, extra: Any) -> TensorType:
        return value._type.with_shape(value._type.shape[1:]) if extra else value._type

    def spread(self, t: Tensor) -> Tensor:
        """What stands for t below, with the examples as its first dim."""
        value, is_mapped = self.held(t)
        return value if is_mapped else self.below(spread, TensorBuilder(), value, self.size)

    # -- ops --------------------------------------------------------------------------------------------------------

    def applied(self, op: Op, operands: Sequence[Tensor]) -> Sequence[tuple[Tensor, Any, TensorType]]:
        held = [self.held(t) for t in operands]
        mapped = [is_mapped for _, is_mapped in held]
        types = infer(op, [t._type for t in operands])
        if isinstance(op, ops.RandomBits) and not any(mapped):
            return self._drawn(op, held[0][0], types)
        results, is_mapped = self._found(op, operands, [value for value, _ in held], mapped)
        return [(result, is_mapped, type) for result, type in zip(results, types, strict=True)]

    def _found(self, op: Op, operands: Sequence[Tensor], values: Sequence[Tensor],
               mapped: Sequence[bool]) -> tuple[Sequence[Tensor], bool]:
        """The results below, and whether they are mapped."""
        if not any(mapped):
            return _several(self.below(dispatch, op, *values)), False
        if not self.size:                   # rules divide by how many there are
            types = infer(op, [t._type for t in operands])
            return [self.below(zeros, type.with_shape((0, *type.shape))) for type in types], True
        if isinstance(op, View) and op.is_batchable:
            return (self.below(dispatch, op.on_batch(self.size), values[0]),), True
        if op.is_batchable:
            return self.below(op.batched, TensorBuilder(), values, mapped, self.size), True
        saved, self.is_recording = self.is_recording, False
        try:
            decomposed = op.decompose(TensorBuilder(), operands)        # type: ignore[arg-type]
        finally:
            self.is_recording = saved
        if decomposed is not None:
            return [self.spread(t) for t in decomposed], True           # type: ignore[arg-type]
        return self.below(self._one_by_one, op, operands, values, mapped), True

    def _one_by_one(self, op: Op, operands: Sequence[Tensor], values: Sequence[Tensor],
                    mapped: Sequence[bool]) -> Sequence[Tensor]:
        warn("FB013", f"vmap: {op.name} has no batching rule and is applied to one example after the other", stacklevel=2)
        found = [_several(dispatch(op, *[_example(v, i) if m else v for v, m in zip(values, mapped, strict=True)]))
                 for i in range(self.size)]
        return [stacked(results) for results in zip(*found, strict=True)]

    def _drawn(self, op: ops.RandomBits, key: Tensor,
               types: Sequence[TensorType]) -> Sequence[tuple[Tensor, Any, TensorType]]:
        if self.randomness == "error":
            raise RuntimeError("vmap: random numbers were drawn in randomness error mode; use vmap(..., randomness="
                               "'different') or 'same', or draw outside of vmap")
        is_mapped = self.randomness == "different"
        shape = (self.size, *op.shape) if is_mapped else op.shape
        return [(self.below(dispatch, ops.RandomBits(shape, op.dtype), key), is_mapped, types[0])]

    def viewed(self, op: View, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        if extra and not op.is_batchable:
            results, _ = self._found(op, (self.shell(value, extra, self.type_of(value, extra)),), (value,), (True,))
            return results[0], extra
        below = op.on_batch(self.size) if extra else op
        return self.below(TensorBuilder().emit, below, value), extra

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any:
        return batched(self, function, args)

    # -- choices and loops ------------------------------------------------------------------------------------------

    def cond(self, pred: Tensor, true_fn: Any, false_fn: Any, operands: Any) -> Any:
        value, is_mapped = self.held(pred)
        if is_mapped or self.around is not None and self.around.hides_values:
            return super().cond(pred, true_fn, false_fn, operands)
        return control.cond(bool(self.below(value.item)), true_fn, false_fn, operands)

    def rounds(self, r: Rounds) -> Done:
        return rounds.batched(self, r)

    def parts(self, t: Tensor) -> list[Tensor]:
        return [self.spread(t)]

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        return self.shell(parts[0], True, self.type_of(parts[0], True))

    def turned(self, t: Tensor) -> Tensor:
        return dispatch_view(ops.Permute((1, 0, *range(2, len(t._type.shape)))), t)

    # -- what a batch can't do --------------------------------------------------------------------------------------

    def refuse_write(self, target: Tensor, value: Tensor) -> None:
        if self.held(value)[1]:
            raise RuntimeError(f"vmap: a tensor {target._type} that all examples share was changed in place by values that "
                               "differ from one to the next, for which it has no room; use an out-of-place operation, or "
                               "make the tensor an argument that is mapped over")

    def write(self, target: Tensor, value: Tensor) -> None:
        if target._storage.trace is self and not target._storage.extra:         # type: ignore[attr-defined]
            for shell, _ in self.arguments:
                if shell._storage is target._storage:
                    self.refuse_write(target, value)
        super().write(target, value)

    @property
    def hides_values(self) -> bool:
        return True

    def hides(self, t: Tensor) -> bool:
        return self.held(t)[1] or super().hides(t)

    def data_of(self, t: Tensor) -> Any:
        if self.held(t)[1]:
            raise RuntimeError(f"vmap: the value of a tensor ({t._type}) was asked for, which each example has another of: "
                               "if/while on a tensor, bool(), int(), float(), item(), numpy() and ops whose result's size "
                               "depends on data can't be mapped; use fb.where(cond, a, b)")
        return super().data_of(t)

    def strides_in(self, storage: Storage) -> tuple[int, ...] | None:
        strides = self.below(strides_of, storage.value)             # type: ignore[attr-defined]
        return strides[1:] if storage.extra else strides            # type: ignore[attr-defined]


def _several(results: Any) -> Sequence[Tensor]:
    return results if isinstance(results, tuple) else (results,)


def _example(values: Tensor, i: int) -> Tensor:
    shape = values._type.static_shape
    row = dispatch_view(ops.Slice((i, *(0,) * (len(shape) - 1)), (i + 1, *shape[1:]), (1,) * len(shape)), values)
    return dispatch(ops.Reshape(shape[1:]), row)


def stacked(examples: Sequence[Tensor]) -> Tensor:
    """One tensor of all, along a new first dim."""
    rows = [dispatch(ops.Reshape((1, *t._type.shape)), t) for t in examples]
    return rows[0] if len(rows) == 1 else dispatch(ops.Concat(0), *rows)


__all__ = ["BatchLevel", "Randomness", "stacked"]
