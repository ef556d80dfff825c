"""Reverse mode: a tape of its own for what one transform differentiates."""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flambeau.frontend.func.custom import on_tape
from flambeau.frontend.func.level import Level, zeros
from flambeau.frontend.func.rounds import recorded
from flambeau.frontend.functions.rounds import Done, Rounds, in_python
from flambeau.frontend.tape.autograd import grad_mode, key_of
from flambeau.frontend.tape.backward import TensorBuilder, walk
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import attach_record, dispatch
from flambeau.frontend.tape.writes import replace_on_tape
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir.op import Op
from flambeau.ir.ops import View
from flambeau.ir.types import TensorType


class GradLevel(Level):
    """A shell stands for one tensor below. Ops on those that require grad here are recorded here; what is around has its
    own tape, on which the ops below are recorded, those of the backward walk too: that is how derivatives nest."""

    name = "grad"

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Ops inside are recorded, whatever the grad mode around is."""
        before, self.outer_mode, self.is_recording = (self.outer_mode, self.is_recording), grad_mode.enabled, True
        try:
            with super().entered():
                grad_mode.set(True)
                yield
        finally:
            self.outer_mode, self.is_recording = before

    def applied(self, op: Op, operands: Sequence[Tensor]) -> Sequence[tuple[Tensor, Any, TensorType]]:
        results = self.below(dispatch, op, *[self.held(t)[0] for t in operands])
        return [(r, None, r._type) for r in (results if isinstance(results, tuple) else (results,))]

    def viewed(self, op: View, value: Tensor, extra: Any) -> tuple[Tensor, Any]:
        return self.below(TensorBuilder().emit, op, value), None

    def rounds(self, r: Rounds) -> Done:
        return recorded(self, r)

    def apply_function(self, function: type[Function], args: tuple[Any, ...]) -> Any:
        return on_tape(self, function, args)

    def refuse_write(self, target: Tensor, value: Tensor) -> None:
        if value._requires_grad:
            raise RuntimeError(f"a function under {self.name} changed in place a tensor {target._type} that it was not "
                               "given: make that an argument of the function, or use an out-of-place operation")

    def differentiate(self, t: Tensor) -> Tensor:
        """The shell of an argument, as a leaf of this level's tape. Raises RuntimeError for integers."""
        shell = self.argument(t, None)
        if not t._type.dtype.is_floating_point:
            raise RuntimeError(f"{self.name}: only tensors of floating-point dtype can be differentiated, this one is "
                               f"{t._type}")
        shell._requires_grad = True
        return shell

    def gradients(self, outputs: Sequence[Tensor], cotangents: Sequence[Tensor | None], leaves: Sequence[Tensor],
                  retain: bool) -> list[Tensor]:
        """Below, the gradients of `leaves` given those of `outputs` (tensors of this level; None: 1); zeros where nothing
        flows. To be called while the level is entered. retain: the tape may be walked again."""
        pairs = [(y, ct) for y, ct in zip(outputs, cotangents, strict=True)
                 if y._requires_grad and y._storage.trace is self]
        found: dict[Any, Tensor] = {}
        if pairs:
            self.is_recording = False
            try:
                found, order = walk([y for y, _ in pairs], [ct for _, ct in pairs], True, self.name, leaves)
                if not retain:
                    for record in order:
                        record.free()
            finally:
                self.is_recording = True
        gradients = [found.get(key_of(leaf)) for leaf in leaves]
        return [self.below(zeros, leaf._type) if g is None else self.held(g)[0]
                for leaf, g in zip(leaves, gradients, strict=True)]


class LinearLevel(GradLevel):
    """A tape to be walked forward. no_grad() does not stop it: tangents flow under it, as in forward mode."""

    name = "linearize"

    def rounds(self, r: Rounds) -> Done:
        if r.going is None:
            return in_python(r)
        raise NotImplementedError("while_loop under linearize in a compiled function has no rule; use jvp")

    def record(self, op: Op, operands: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        results = super().record(op, operands)
        if not grad_mode.enabled:
            attach_record(op, operands, results)
        return results

    def record_view(self, op: View, x: Tensor) -> Tensor:
        view = super().record_view(op, x)
        if not grad_mode.enabled and x._storage.trace is self:
            attach_record(op, (x,), (view,))
        return view

    def write(self, target: Tensor, value: Tensor) -> None:
        super().write(target, value)
        if not grad_mode.enabled and target._storage.trace is self:
            replace_on_tape(target, value)


__all__ = ["GradLevel", "LinearLevel"]
