"""Backward hooks of a Module: the tensors that go in and come out pass through an operation that changes nothing, whose
derivative sees all their gradients at once and lets the hooks replace them."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flambeau.frontend.functions.creation import zeros_like
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tensor.tensor import Tensor

Gradients = tuple[Any, ...]


class BackwardHookFunction(Function):
    """Tensors as they are; their gradients go through `seen`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(seen: Callable[[Gradients], Gradients], *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.seen = inputs[0]
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Gradients:
        return (None, *ctx.seen(gradients))


class Boundary:
    """What stands around one call of a module with backward hooks."""

    def __init__(self, module: Any, hooks: Sequence[Any], pre_hooks: Sequence[Any]):
        self.module, self.hooks, self.pre_hooks = module, hooks, pre_hooks
        self.inputs: tuple[list[int], tuple[Any, ...]] | None = None    # where gradients flow to, among the arguments
        self.grad_outputs: Gradients | None = None
        self.n_args = 0

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments, behind the boundary where any requires grad."""
        self.n_args = len(args)
        places, passed = _through(self._of_inputs, args)
        self.inputs = None if places is None else (places, args)
        return passed

    def leave(self, outputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The results, behind the boundary where any requires grad."""
        def seen(gradients: Gradients) -> Gradients:
            assert places is not None, "the derivative belongs to an operation"
            return _taken(places, self._of_outputs(_spread(places, gradients, len(outputs))))

        places, passed = _through(seen, outputs)
        return passed

    def _of_outputs(self, gradients: Gradients) -> Gradients:
        for hook in self.pre_hooks:
            gradients = _replaced(gradients, hook(self.module, gradients), "pre hook", "grad_output")
        self.grad_outputs = gradients
        if self.inputs is None:             # nothing flows into the module, which is told of it now
            for hook in self.hooks:
                found = hook(self.module, (None,) * self.n_args, gradients)
                if found is not None and not (isinstance(found, tuple) and all(g is None for g in found)):
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return "
                                       "None or None for all gradients.")
            self.grad_outputs = None
        return gradients

    def _of_inputs(self, gradients: Gradients) -> Gradients:
        if self.grad_outputs is None or self.inputs is None:    # it flowed past the outputs
            return gradients
        places, args = self.inputs
        found = _spread(places, gradients, len(args))
        found = tuple([zeros_like(t) if g is None and isinstance(t, Tensor) else g
                       for g, t in zip(found, args, strict=True)])          # as PyTorch has it
        for hook in self.hooks:
            found = _replaced(found, hook(self.module, found, self.grad_outputs), "hook", "grad_input")
        self.grad_outputs = None
        return _taken(places, found)


def _through(seen: Callable[[Gradients], Gradients], values: tuple[Any, ...]) -> tuple[list[int] | None, tuple[Any, ...]]:
    """Which values are tensors, and all of them behind the boundary; None where none of them requires grad."""
    places = [n for n, value in enumerate(values) if isinstance(value, Tensor)]
    if not any(values[n].requires_grad for n in places):
        return None, values
    kept = [n for n in places if values[n].requires_grad]
    passed = dict(zip(kept, BackwardHookFunction.apply(seen, *[values[n] for n in kept]), strict=True))
    return kept, tuple([passed.get(n, value) for n, value in enumerate(values)])


def _spread(places: Sequence[int], gradients: Gradients, count: int) -> Gradients:
    """One entry for each value: None for those without a gradient."""
    found: list[Any] = [None] * count
    for place, gradient in zip(places, gradients, strict=True):
        found[place] = gradient
    return tuple(found)


def _taken(places: Sequence[int], gradients: Gradients) -> Gradients:
    return tuple([gradients[place] for place in places])


def _replaced(gradients: Gradients, found: Any, who: str, what: str) -> Gradients:
    """What a hook gave in the place of gradients. Raises RuntimeError for another number of them."""
    if found is None:
        return gradients
    found = found if isinstance(found, (tuple, list)) else (found,)
    if len(found) != len(gradients):
        raise RuntimeError(f"Backward {who} returned an invalid number of {what}, got {len(found)}, but expected "
                           f"{len(gradients)}")
    return tuple(found)
