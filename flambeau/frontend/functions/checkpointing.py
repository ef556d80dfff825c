"""`checkpoint`: a part of the forward that keeps nothing for the backward, which computes it again from its arguments.

On the tape it is one operation. Its derivative runs the function once more, with the random numbers that it drew, and
differentiates that. Under trace the second run reads its arguments through `after`: no pass takes it for the first, and
it waits for the gradient that it is needed for.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from flambeau.frontend.active import active
from flambeau.frontend.again import cast_as, drawing_from
from flambeau.frontend.pytree import flatten, unflatten
from flambeau.frontend.random import stream_of
from flambeau.frontend.tape.autograd import Record, alias_of, enable_grad, grad_mode, key_of, no_grad
from flambeau.frontend.tape.backward import grad
from flambeau.frontend.tape.dispatch import attach_record, check_unchanged, dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.op import Op
from flambeau.warned import warn


def noop_context_fn() -> tuple[Any, Any]:
    """Two contexts that do nothing."""
    return nullcontext(), nullcontext()


def checkpoint(function: Callable[..., Any], *args: Any, use_reentrant: bool | None = None,
               context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn, determinism_check: str = "default",
               debug: bool = False, early_stop: bool = True, preserve_rng_state: bool = True, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, of which nothing is kept for backward() but its arguments: backward() calls it again.

    preserve_rng_state: draws the same random numbers again. context_fn: gives a context for each of the two runs.
    use_reentrant: True gives no gradient where no argument requires one, as in PyTorch; else it does not matter here, as
    determinism_check, debug and early_stop do not. Derivatives of every order. In a compiled function the memory that the
    forward needs less is the compiler's to use; under a transform of fb.func the function is just called."""
    if not grad_mode.enabled or active.tracer is not None and active.tracer.is_level:
        return function(*args, **kwargs)
    given, _, structure = flatten((args, kwargs))
    first, second = context_fn()
    if use_reentrant and not any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in given):
        warn("FB015", "None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)
        with first, no_grad():
            return function(*args, **kwargs)
    saved = {n: alias_of(leaf, _version_of(leaf)) for n, leaf in enumerate(given) if isinstance(leaf, Tensor)}
    tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
    drawn = stream_of(tensors).state_now() if preserve_rng_state else None
    start = Record(Op(), (), ()).number
    with first:
        result = function(*args, **kwargs)
    leaves, _, of_result = flatten(result)
    made = [n for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and _is_recorded_since(start, leaf)]
    if not made:
        return result
    sources = _sources([leaves[n] for n in made], start)
    again = _Again(function, given, saved, structure, made, drawn, second, grad_mode.casting)
    results = tuple([leaves[n].detach() for n in made])
    attach_record(again, sources, results)
    for n, fresh in zip(made, results, strict=True):
        leaves[n] = fresh
    return unflatten(of_result, leaves)


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None,
                          **kwargs: Any) -> Any:
    """The functions (a list, or the children of a Sequential) one after another, in `segments` parts of about the same
    number that are checkpointed, all but the last."""
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError(f"checkpoint_sequential: unexpected keyword arguments {', '.join(kwargs)}")
    steps = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(steps) // segments

    def part(start: int, end: int) -> Callable[[Any], Any]:
        def run(x: Any) -> Any:
            for step in steps[start:end]:
                x = step(x)
            return x
        return run

    end = 0
    for start in range(0, size * (segments - 1), size):
        end = start + size
        input = checkpoint(part(start, end), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return part(end, len(steps))(input)


def _is_recorded_since(start: int, t: Tensor) -> bool:
    return t.requires_grad and t._record is not None and t._record.number > start


def _sources(results: Sequence[Tensor], start: int) -> tuple[Tensor, ...]:
    """What was there before and requires grad, of all that the results were computed from."""
    found: dict[Any, Tensor] = {}
    done: set[int] = set()
    pending = [t._record for t in results]
    while pending:
        record = pending.pop()
        if record is None or id(record) in done:
            continue
        done.add(id(record))
        for t in record.operands:
            if t._requires_grad:
                if t._record is not None and t._record.number > start:
                    pending.append(t._record)
                else:
                    found.setdefault(key_of(t), t)
    return tuple(found.values())


class _Again(Op):
    """The tape's op for a checkpointed function: its derivative runs it again."""

    name = "checkpoint"
    runs_code = True                # of the user's, in its derivative

    def __init__(self, function: Callable[..., Any], given: list[Any], saved: dict[int, Tensor], structure: Any,
                 made: list[int], drawn: Tensor | None, context: Any, casting: Any):
        self.function, self.given, self.saved, self.structure, self.made = function, given, saved, structure, made
        self.drawn, self.context, self.casting = drawn, context, casting

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        for t in (*operands, *self.saved.values()):
            check_unchanged(t, self.name)
        if grad_mode.enabled:
            return self._gradients(self.given, operands, cotangents, self.drawn)
        token = next(ct for ct in cotangents if ct is not None)
        given = list(self.given)
        stands: list[tuple[int, Tensor]] = []           # for which operand, what stands for it among the arguments
        number_of = {key_of(t): n for n, t in enumerate(operands)}
        for n, saved in self.saved.items():
            given[n] = _after(saved, token)
            if saved._requires_grad:
                given[n].requires_grad_()
                stands += [(number_of[key_of(saved)], given[n])] if key_of(saved) in number_of else []
        drawn = None if self.drawn is None else _after(self.drawn, token)
        found = self._gradients(given, [*operands, *[t for _, t in stands]], cotangents, drawn)
        gradients = list(found[:len(operands)])         # of what the function gets to in another way
        for (n, _), gradient in zip(stands, found[len(operands):], strict=True):
            if gradient is not None:
                gradients[n] = gradient if gradients[n] is None else dispatch(ops.add, gradients[n], gradient)
        return gradients

    def _gradients(self, given: list[Any], starts: Sequence[Tensor], cotangents: Sequence[Any],
                   drawn: Tensor | None) -> Sequence[Any]:
        args, kwargs = unflatten(self.structure, given)
        with enable_grad(), self.context, cast_as(self.casting), drawing_from(drawn):
            leaves = flatten(self.function(*args, **kwargs))[0]
        pairs = [(leaves[n], ct) for n, ct in zip(self.made, cotangents, strict=True) if ct is not None]
        if not all(isinstance(t, Tensor) and t._type == ct._type for t, ct in pairs):
            raise RuntimeError("checkpoint: the function gave something else when backward() ran it again")
        return grad([t for t, _ in pairs], list(starts), [ct for _, ct in pairs], retain_graph=True,
                    create_graph=grad_mode.enabled, allow_unused=True)


def _version_of(t: Tensor) -> int:
    return t._storage.version if active.tracer is None else active.tracer.version_of(t)


def _after(t: Tensor, token: Tensor) -> Tensor:
    """What t holds, off the tape; under trace a value that is not known before the token is."""
    if active.tracer is None or not token.numel():
        return t.detach()
    with no_grad():
        one = dispatch(ops.Reshape(()), dispatch(ops.Slice((0,) * token.ndim, (1,) * token.ndim, (1,) * token.ndim),
                                                 token))
        return dispatch(ops.after, t, one if one.dtype is t.dtype else dispatch(ops.Cast(t.dtype), one))


__all__ = ["checkpoint", "checkpoint_sequential", "noop_context_fn"]
