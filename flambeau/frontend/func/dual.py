"""Forward mode: every tensor goes with its tangent, each op by its rule for tangents."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flambeau.frontend.func.custom import with_tangents
from flambeau.frontend.func.gradient import GradLevel
from flambeau.frontend.func.level import Level, zeros
from flambeau.frontend.tape.backward import TensorBuilder
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.op import Op
from flambeau.ir.ops import View
from flambeau.ir.types import TensorType


class DualLevel(Level):
    """A shell stands for a tensor below; its `extra` is the tangent, a tensor below of the same type, or None for zeros."""

    name = "jvp"

    def applied(self, op: Op, operands: Sequence[Tensor]) -> Sequence[tuple[Tensor, Any, TensorType]]:
        held = [self.held(t) for t in operands]
        primals, tangents = [p for p, _ in held], [t for _, t in held]
        found = self.below(dispatch, op, *primals)
        results = found if isinstance(found, tuple) else (found,)
        changes: Sequence[Tensor | None] = [None] * len(results)
        if any(t is not None for t in tangents) and any(r._type.dtype.is_floating_point for r in results):
            changes = self.below(tangents_of, op, primals, results, tangents)
        return [(r, c if r._type.dtype.is_floating_point else None, r._type)
                for r, c in zip(results, changes, strict=True)]

    def viewed(self, op: View, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        emit = TensorBuilder().emit
        return self.below(emit, op, value), None if extra is None else self.below(emit, op, extra)

    def detached(self, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        return self.below(value.detach), None

    def differentiates(self, t: Tensor, tangents: bool) -> bool:
        return tangents and self.held(t)[1] is not None or super().differentiates(t, tangents)

    def parts(self, t: Tensor) -> list[Tensor]:
        return [self.held(t)[0], self.tangent(t)] if t.is_floating_point() else [self.held(t)[0]]

    def whole(self, parts: Sequence[Tensor]) -> Tensor:
        return self.shell(parts[0], parts[1] if len(parts) > 1 else None)

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any:
        return with_tangents(self, function, args)

    def refuse_write(self, target: Tensor, value: Tensor) -> None:
        if self.held(value)[1] is not None:
            raise RuntimeError(f"a function under {self.name} changed in place a tensor {target._type} that it was not "
                               "given, by something that has a tangent: make that an argument of the function, or use an "
                               "out-of-place operation")

    def tangent(self, t: Tensor) -> Tensor:
        """Below, the tangent of a tensor of this level."""
        _, found = self.held(t)
        return self.below(zeros, t._type) if found is None else found


def tangents_of(op: Op, primals: Sequence[Tensor], results: Sequence[Tensor],
                tangents: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
    """Tangents of the results of an op; None for zeros. Without a rule of the op's own: its vjp is linear in the
    cotangents, and the transpose of that is what is looked for."""
    if op.has_jvp:
        return op.jvp(TensorBuilder(), primals, results, tangents)      # type: ignore[arg-type, return-value]
    level = GradLevel()
    with level.entered():
        starts = [level.differentiate(level.below(zeros, r._type)) if r._type.dtype.is_floating_point else None
                  for r in results]
        given = op.vjp(TensorBuilder(), primals, results, starts)       # type: ignore[arg-type]
        pairs = [(g, t) for g, t in zip(given, tangents, strict=True) if g is not None and t is not None]
        leaves = [s for s in starts if s is not None]
        outputs: list[Tensor] = [g for g, _ in pairs]                   # type: ignore[misc]
        found = iter(level.gradients(outputs, [t for _, t in pairs], leaves, retain=False))
        return [None if s is None else next(found) for s in starts]


__all__ = ["DualLevel", "tangents_of"]
