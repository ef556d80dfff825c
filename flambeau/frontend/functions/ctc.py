"""Connectionist temporal classification: the probability of a sequence of labels, summed over all ways to align it with
a longer sequence of outputs.

Graves et al., "Connectionist temporal classification", ICML 2006: labels are spread to l = blank, l1, blank, l2, ...,
blank; alpha[t, s] is the probability of having emitted l up to s by step t, beta[t, s] that of emitting what is left
from s on (equations 6 and 10; both count step t). All is in logarithms, for the whole batch at once; a compiled function
loops over time in machine code.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from flambeau.errors import ShapeError
from flambeau.frontend.active import active
from flambeau.frontend.control import while_loop
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    cast,
    full_of,
    one_tensor,
    reshaped,
    spread,
    tensor_of,
    user_line,
)
from flambeau.frontend.functions.creation import holding
from flambeau.frontend.functions.elementwise import add, choose, clamp, div, logaddexp, mul, sub
from flambeau.frontend.functions.indexing import put_rows
from flambeau.frontend.functions.joining import cat, stack
from flambeau.frontend.functions.losses import reduced
from flambeau.frontend.functions.pointwise import exp, isinf, log, neg
from flambeau.frontend.functions.views import sliced
from flambeau.frontend.tape.custom import Function
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import moved
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

_NOTHING: Final = float("-inf")             # the logarithm of 0
_UNROLLED: Final = 8                        # steps that a compiled loop takes at once: it copies all states each time


def ctc_loss(log_probs: Tensor, targets: Tensor, input_lengths: Any, target_lengths: Any, blank: int = 0,
             reduction: str = "mean", zero_infinity: bool = False) -> Tensor:
    """-log of the probability of each target, over all its alignments.

    log_probs: [T, N, C] or [T, C], logarithms of probabilities along the last dim; targets: integers [N, S], or the
    targets of all samples one after another; the lengths: [N] (or tuples), how much of each sample counts.
    "mean" divides each loss by its target's length first. zero_infinity: 0, and no gradient, for targets that can't be
    aligned. The gradient is that of log_probs = log_softmax(x) with respect to x, as PyTorch has it.
    Raises RuntimeError for lengths, labels and dtypes that don't fit."""
    x = one_tensor("ctc_loss", log_probs)
    if x.ndim not in (2, 3) or not x.dtype.is_floating_point:
        raise ShapeError(f"ctc_loss: log_probs must be floats [T, N, C] or [T, C], got {x._type}", where=user_line())
    is_batch = x.ndim == 3
    x = x if is_batch else reshaped(x, (x._type.static_shape[0], 1, x._type.static_shape[1]))
    steps, n, classes = x._type.static_shape
    if not 0 <= blank < classes:
        raise RuntimeError(f"ctc_loss: blank {blank} must be one of the {classes} classes")
    steps_of, length_of = (_lengths(name, given, x) for name, given in
                           (("input_lengths", input_lengths), ("target_lengths", target_lengths)))
    labels = _labels(one_tensor("ctc_loss", targets), length_of, n)
    _check_values(steps_of, length_of, labels, steps, classes)
    losses, _ = _Alignments.apply(x, _spread_out(labels, length_of, blank), steps_of, length_of, blank, zero_infinity)
    if zero_infinity:
        losses = choose(isinf(losses), tensor_of(0, x.dtype), losses)
    if reduction == "mean":
        losses = div(losses, cast(clamp(length_of, min=1), x.dtype))
    return reduced(losses if is_batch else reshaped(losses, ()), reduction)


def _lengths(name: str, given: Any, x: Tensor) -> Tensor:
    """i64[N], where x lies. Raises RuntimeError for another number of them than x has samples."""
    n = x._type.static_shape[1]
    given = given if isinstance(given, Tensor) else holding(np.asarray(given, np.int64), dt.i64)
    if not given._type.dtype.is_integer or given.numel() != n:
        raise RuntimeError(f"ctc_loss: {name} must be {n} integers, got {given._type}")
    return moved(cast(reshaped(given, (n,)), dt.i64), x._type.device)


def _labels(targets: Tensor, length_of: Tensor, n: int) -> Tensor:
    """i64[N, S]: the targets of each sample, whatever follows them."""
    if not targets._type.dtype.is_integer or targets.ndim not in (1, 2):
        raise RuntimeError(f"ctc_loss: targets must be integers of 1 or 2 dims, got {targets._type}")
    targets = cast(targets, dt.i64)
    if targets.ndim == 2:
        if targets._type.static_shape[0] != n:
            raise ShapeError(f"ctc_loss: targets {targets._type} are not of {n} samples", where=user_line())
        return targets
    total = targets.numel()
    if active.tracer is None and int(length_of._data().sum()) != total:
        raise RuntimeError(f"ctc_loss: target_lengths {length_of.tolist()} must add up to the {total} targets")
    longest = total if active.tracer is not None else int(length_of._data().max(initial=0))
    if not total:
        return full_of((n, 0), 0, dt.i64)
    starts = sub(dispatch(ops.Cumsum(0), length_of), length_of)
    at = add(spread(starts, (n, longest), (0,)), spread(dispatch(ops.Iota(longest, dt.i64)), (n, longest), (1,)))
    return dispatch(ops.Take(0), targets, clamp(at, max=total - 1))


def _check_values(steps_of: Tensor, length_of: Tensor, labels: Tensor, steps: int, classes: int) -> None:
    if active.tracer is not None:
        return
    longest = labels._type.static_shape[1]
    if (steps_of._data() > steps).any() or (steps_of._data() < 0).any():
        raise RuntimeError(f"ctc_loss: input_lengths {steps_of.tolist()} must lie in [0, {steps}]")
    if (length_of._data() > longest).any() or (length_of._data() < 0).any():
        raise RuntimeError(f"ctc_loss: target_lengths {length_of.tolist()} must lie in [0, {longest}]")
    counts = np.arange(longest) < length_of._data()[:, None]
    found = labels._data()[counts]
    if found.size and not (found.min() >= 0 and found.max() < classes):
        raise RuntimeError(f"ctc_loss: targets must lie in [0, {classes})")


def _spread_out(labels: Tensor, length_of: Tensor, blank: int) -> Tensor:
    """i64[N, 2 S + 1]: a blank before, between and after the labels; blanks only after the last."""
    n, longest = labels._type.static_shape
    places = spread(dispatch(ops.Iota(longest, dt.i64)), (n, longest), (1,))
    counts = dispatch(ops.lt, places, spread(length_of, (n, longest), (0,)))
    labels = dispatch(ops.where, counts, labels, tensor_of(blank, dt.i64))
    pairs = stack((full_of((n, longest), blank, dt.i64, like=labels), labels), 2)
    return cat((reshaped(pairs, (n, 2 * longest)), full_of((n, 1), blank, dt.i64, like=labels)), 1)


# -- the recursions ---------------------------------------------------------------------------------------------------


class _Alignments(Function):
    """[T, N, C] -> [N], with the gradient of equation 16; and the forward variables, which that reads."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, labels: Tensor, steps_of: Tensor, length_of: Tensor, blank: int,
                zero_infinity: bool) -> tuple[Tensor, Tensor]:
        steps, n, _ = x._type.static_shape
        width = labels._type.static_shape[1]
        emitted = _emitted(x, labels)
        may_skip = _may_skip(labels, blank)
        start = _only_at(full_of((n,), 0, dt.i64, like=x), width, x)

        def step(t: Tensor, alpha: Tensor) -> Tensor:
            skipped = dispatch(ops.where, may_skip, _moved(alpha, 2), tensor_of(_NOTHING, x.dtype))
            return add(dispatch(ops.Take(0), emitted, t), _log_sum((alpha, _moved(alpha, 1), skipped)))

        alphas = _states(step, start, steps)
        last = dispatch(ops.TakeAlong(0), alphas, spread(steps_of, (1, n, width), (1,)))
        ends = reshaped(last, (n, width))
        end = mul(length_of, 2)
        losses = neg(logaddexp(_at(ends, end), choose(dispatch(ops.gt, end, tensor_of(0, dt.i64)),
                                                      _at(ends, clamp(sub(end, 1), min=0)),
                                                      tensor_of(_NOTHING, x.dtype))))
        return losses, alphas

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *given, ctx.blank, ctx.zero_infinity = inputs
        losses, alphas = output
        ctx.mark_non_differentiable(alphas)
        ctx.save_for_backward(*given, alphas, losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, labels, steps_of, length_of, alphas, losses = ctx.saved_tensors
        steps, n, classes = x._type.static_shape
        width = labels._type.static_shape[1]
        emitted, nothing = _emitted(x, labels), tensor_of(_NOTHING, x.dtype)
        may_skip = _moved_back(cast(_may_skip(labels, ctx.blank), x.dtype), 2, 0.0)
        may_skip = dispatch(ops.gt, may_skip, tensor_of(0, x.dtype))
        end = _only_at(mul(length_of, 2), width, x)

        def step(back: Tensor, beta: Tensor) -> Tensor:
            t = sub(steps - 1, back)
            skipped = dispatch(ops.where, may_skip, _moved_back(beta, 2, _NOTHING), nothing)
            new = add(dispatch(ops.Take(0), emitted, t), _log_sum((beta, _moved_back(beta, 1, _NOTHING), skipped)))
            return choose(spread(dispatch(ops.lt, t, steps_of), (n, width), (0,)), new, end)

        betas = _states(step, end, steps)
        betas = dispatch(ops.Take(0), betas, sub(steps, dispatch(ops.Iota(steps, dt.i64))))
        both = add(sliced(alphas, 0, 1, steps + 1), betas)
        shape = both._type.static_shape
        is_dead = dispatch(ops.eq, both, nothing)
        passing = exp(add(choose(is_dead, nothing, sub(both, emitted)), spread(losses, shape, (1,))))
        by_class = dispatch(ops.ScatterAlongAdd(classes, 2), spread(labels, shape, (1, 2)), passing)
        found = sub(exp(x), by_class)
        hopeless = isinf(losses)
        unknown = choose(hopeless, tensor_of(0.0 if ctx.zero_infinity else float("nan"), x.dtype), gradients[0])
        found = mul(choose(spread(hopeless, found._type.static_shape, (1,)), tensor_of(1, x.dtype), found),
                    spread(unknown, found._type.static_shape, (1,)))
        time = spread(dispatch(ops.Iota(steps, dt.i64)), (steps, n), (0,))
        counts = dispatch(ops.lt, time, spread(steps_of, (steps, n), (1,)))
        found = choose(spread(counts, found._type.static_shape, (0, 1)), found, tensor_of(0, x.dtype))
        return found, None, None, None, None, None


def _states(step: Callable[[Tensor, Tensor], Tensor], first: Tensor, count: int) -> Tensor:
    """[count + 1, ...]: first, then what each of `count` steps makes of the state before."""
    if active.tracer is None or active.tracer.is_level or count <= _UNROLLED:
        states = [first]
        for t in range(count):
            states.append(step(tensor_of(t, dt.i64), states[-1]))
        return stack(states)
    rounds, shape = -(-count // _UNROLLED), first._type.static_shape
    found = full_of((rounds, _UNROLLED, *shape), 0, first.dtype, like=first)

    def body(i: Tensor, state: Tensor, found: Tensor) -> tuple[Tensor, ...]:
        states = []
        for k in range(_UNROLLED):
            state = step(clamp(add(mul(i, _UNROLLED), k), max=count - 1), state)
            states.append(state)
        return add(i, 1), state, put_rows(found, 0, reshaped(i, (1,)), reshaped(stack(states), (1, *found.shape[1:])))

    _, _, found = while_loop(lambda i, state, found: dispatch(ops.lt, i, tensor_of(rounds, dt.i64)), body,
                             (0, first, found))
    every = reshaped(found, (rounds * _UNROLLED, *shape))
    return cat((reshaped(first, (1, *shape)), sliced(every, 0, 0, count)), 0)


def _emitted(x: Tensor, labels: Tensor) -> Tensor:
    """[T, N, width]: log-probabilities of the spread-out labels."""
    steps, (n, width) = x._type.static_shape[0], labels._type.static_shape
    return dispatch(ops.TakeAlong(2), x, spread(labels, (steps, n, width), (1, 2)))


def _may_skip(labels: Tensor, blank: int) -> Tensor:
    """Where a label may follow the one two places before: the blank between can be left out."""
    two_before = _moved(labels, 2, blank)
    return dispatch(ops.logical_and, dispatch(ops.ne, labels, tensor_of(blank, dt.i64)),
                    dispatch(ops.ne, labels, two_before))


def _only_at(places: Tensor, width: int, like: Tensor) -> Tensor:
    """[N, width]: probability 1 at one place of each row."""
    shape = (places.numel(), width)
    here = dispatch(ops.eq, spread(dispatch(ops.Iota(width, dt.i64)), shape, (1,)), spread(places, shape, (0,)))
    return dispatch(ops.where, here, tensor_of(0, like.dtype), tensor_of(_NOTHING, like.dtype))


def _at(rows: Tensor, places: Tensor) -> Tensor:
    n = rows._type.static_shape[0]
    return reshaped(dispatch(ops.TakeAlong(1), rows, reshaped(places, (n, 1))), (n,))


def _moved(x: Tensor, by: int, fill: float = _NOTHING) -> Tensor:
    """x[n, s - by], and `fill` before."""
    n, width = x._type.static_shape
    by = min(by, width)
    return cat((full_of((n, by), fill, x.dtype, like=x), sliced(x, 1, 0, width - by)), 1)


def _moved_back(x: Tensor, by: int, fill: float) -> Tensor:
    """x[n, s + by], and `fill` after."""
    n, width = x._type.static_shape
    by = min(by, width)
    return cat((sliced(x, 1, by, width), full_of((n, by), fill, x.dtype, like=x)), 1)


def _log_sum(terms: Sequence[Tensor]) -> Tensor:
    """log(sum(exp(terms))), -inf where all are."""
    top = terms[0]
    for term in terms[1:]:
        top = dispatch(ops.maximum, top, term)
    top = choose(dispatch(ops.eq, top, tensor_of(_NOTHING, top.dtype)), tensor_of(0, top.dtype), top)
    total = exp(sub(terms[0], top))
    for term in terms[1:]:
        total = add(total, exp(sub(term, top)))
    return add(log(total), top)


__all__ = ["ctc_loss"]
public(globals(), __all__)
