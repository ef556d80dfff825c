"""Rounds of loops under transforms: a level hands them down, as rounds on what stands for its tensors below.

So a loop of a compiled function stays one under a transform, and each level adds what it is there for: tangents that are
carried too, examples that stop one by one, a record of the rounds on its tape.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flambeau.frontend import control
from flambeau.frontend.active import active
from flambeau.frontend.again import Then
from flambeau.frontend.control import Leaves, leaves_of, own
from flambeau.frontend.functions.creation import arange
from flambeau.frontend.functions.rounds import (
    Done,
    Probed,
    Repeated,
    Rounds,
    given,
    is_traced,
    leaf,
    refilled,
    zeros_of,
)
from flambeau.frontend.random import stream_of
from flambeau.frontend.tape.autograd import grad_mode, key_of
from flambeau.frontend.tape.dispatch import attach_record, constant, dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.frontend.trace.guards.markers import CompiledMarker
from flambeau.frontend.trace.regions import Undifferentiated
from flambeau.ir import ops
from flambeau.ir.dtypes import i64

if TYPE_CHECKING:
    from flambeau.frontend.func.batch import BatchLevel
    from flambeau.frontend.func.gradient import GradLevel
    from flambeau.frontend.func.level import Level

Parts = list[Tensor]            # what stands for a tensor below


class _Below(CompiledMarker):
    """A round of a level as one of what stands for its tensors. y: what the last one gave. Guards see the user's functions
    only."""

    def __init__(self, level: Level, r: Rounds):
        self.level, self.r, self.mode = level, r, grad_mode.enabled
        self.y: Leaves | None = None

    def __call__(self, carry: Sequence[Parts], x: Sequence[Parts]) -> Any:
        level = self.level
        with level.entered(), level.changing_nothing():
            grad_mode.set(self.mode)
            after, self.y = self.r.round([level.whole(p) for p in carry], [level.whole(p) for p in x])
            return tuple([level.parts(t) for t in given(after)]), [level.parts(t) for t in given(self.y)]


def handed_down(level: Level, r: Rounds, going: Any) -> Done:
    """Rounds below, of the level's tensors in parts (`Level.parts`), on no tape of the level. going: whether there is
    another round, below; a function is given parts."""
    def turned(t: Tensor) -> Tensor:
        found: Tensor = level.below(level.turned, t)
        return found

    f = _Below(level, r)
    carry = leaves_of(tuple([level.parts(t) for t in given(r.carry)]))
    rows = leaves_of([[turned(part) for part in level.parts(t)] for t in given(r.rows)])
    done = level.below(replace(r, f=f, carry=carry, rows=rows, going=going, user=r.user or (r.f,)).done)
    last = refilled(r.carry, [level.whole(p) for p in done.last])
    if f.y is None:                         # rounds without a bound, which give none
        return Done(last, (), done.taken)
    return Done(last, refilled(f.y, [level.whole([turned(part) for part in p]) for p in done.ys]), done.taken)


def told_below(level: Level, r: Rounds) -> Callable[[Sequence[Parts]], Any]:
    """A condition of the level as one of what stands for its tensors: a tensor below, or a bool."""
    def told(carry: Sequence[Parts]) -> Any:
        with level.entered(), level.changing_nothing():
            assert callable(r.going), "asked for where there is a condition"
            found = r.going(refilled(r.carry, [level.whole(p) for p in carry]))
            return level.held(found)[0] if isinstance(found, Tensor) else found
    return told


def passed(level: Level, r: Rounds) -> Done:
    """Rounds of a level to which values are the same as below."""
    going: Any = told_below(level, r) if callable(r.going) else r.going if r.going is None else level.held(r.going)[0]
    done = handed_down(level, r, going)
    return done if done.taken is None else replace(done, taken=level.shell(done.taken, level.nothing))


# -- batches ----------------------------------------------------------------------------------------------------------


def batched(level: BatchLevel, r: Rounds) -> Done:
    """One loop below for as long as an example goes on; those that have ended stay as they are."""
    if r.going is None or isinstance(r.going, Tensor) and not level.held(r.going)[1]:
        return passed(level, r)
    condition, steps = (None, r.going) if isinstance(r.going, Tensor) else (r.going, None)

    def goes_on(carry: Sequence[Tensor]) -> Tensor:
        assert condition is not None, "asked for where there is a condition"
        return control.as_predicate(condition(refilled(r.carry, carry)), "while_loop: what cond_fn gives")

    def f(carry: Any, x: Any) -> Any:
        (*olds, taken), (row, at) = carry, x
        another = goes_on(olds) if steps is None else dispatch(ops.lt, at, steps)
        after, y = r.round([_masked(t, another) for t in olds], [_masked(t, another) for t in row])
        news = [dispatch(ops.where, another, new, old) for new, old in zip(given(after), olds, strict=True)]
        return (*news, taken + another), y.tree([t if t is None else dispatch(ops.where, another, t, zeros_of(t._type))
                                                 for t in y.tensors])

    def any_goes_on(carry: Sequence[Parts]) -> Tensor:
        with level.entered(), level.changing_nothing():
            return level.below(dispatch, ops.Any((0,)), level.spread(goes_on([level.whole(p) for p in carry[:-1]])))

    rows = given(r.rows)
    numbers = arange(rows[0].shape[0], device="cpu") if steps is not None else None
    batch = replace(r, f=f, carry=leaves_of((*given(r.carry), constant(0, i64))), rows=leaves_of((rows, numbers)))
    most: Any = any_goes_on if steps is None else level.below(dispatch, ops.AMax((0,)), level.held(steps)[0])
    done = handed_down(level, batch, most)
    *last, taken = done.last
    return Done(refilled(r.carry, last), done.ys, taken if steps is None else steps)


def _masked(t: Tensor, goes_on: Tensor) -> Tensor:
    """What a round is given, to which no gradient flows from examples that have ended: what they compute on may have no
    finite derivative."""
    if not (t._type.dtype.is_floating_point and active.differentiates(t, False)):
        return own(t)
    return dispatch(ops.where, goes_on, t, t.detach())


# -- tapes ------------------------------------------------------------------------------------------------------------


def recorded(level: GradLevel, r: Rounds) -> Done:
    """Rounds that the tape of a level gets a record of, with what each round was given; its derivative is rounds too."""
    if not (level.is_recording and grad_mode.enabled):
        return passed(level, r)
    carried, rows = given(r.carry), given(r.rows)
    in_trace = is_traced()
    probed = Probed.of(r, level) if in_trace else Probed([], {}, r.carry, True, False)
    if in_trace and not any(t._requires_grad and t._storage.trace is level for t in (*probed.sources, *carried, *rows)):
        return passed(level, r)
    stored = _Storing(r, probed.draws, [t._requires_grad for t in carried])
    then = Then(r.f)
    with level.meeting() as met:
        done = passed(level, stored.rounds(carried, rows))
    if not in_trace:
        probed = Probed(list({key_of(t): t for t in met if t._requires_grad}.values()), {}, stored.ys, True, False)
    starts, results = (*probed.sources, *carried, *rows), (*done.last, *done.ys[stored.kept:])
    on_tape = Undifferentiated("while_loop", level.location) if r.count is None else \
        Repeated(r, then, probed, carried, rows, done.ys[:stored.kept], done.taken)
    if any(t._requires_grad for t in starts):
        attach_record(on_tape, starts, results)
    return Done(refilled(r.carry, results[:len(carried)]), refilled(stored.ys, results[len(carried):]), done.taken)


class _Storing(CompiledMarker):
    """Rounds that also give what they were given: the first `kept` of their y."""

    def __init__(self, r: Rounds, draws: bool, requires: Sequence[bool]):
        self.r, self.draws, self.requires = r, draws, requires
        self.kept = 0 if r.count is None else len(requires) + draws
        self.ys = leaves_of(())

    def rounds(self, carried: Sequence[Tensor], rows: Sequence[Tensor]) -> Rounds:
        going = self.told if callable(self.r.going) else self.r.going
        return replace(self.r, f=self, carry=leaves_of(tuple(carried)), rows=leaves_of(rows), going=going,
                       user=self.r.user or (self.r.f,))

    def told(self, carry: Sequence[Tensor]) -> Any:
        assert callable(self.r.going), "asked for where there is a condition"
        return self.r.going(refilled(self.r.carry, carry))

    def __call__(self, carry: Sequence[Tensor], row: Sequence[Tensor]) -> Any:
        kept = [own(t) for t in carry] if self.kept else []
        kept += [stream_of(carry).state_now()] if self.kept and self.draws else []
        mine = [own(leaf(t) if is_wanted else t) for t, is_wanted in zip(carry, self.requires, strict=True)]
        after, self.ys = self.r.round(mine, row)
        return tuple(given(after)), [*kept, *given(self.ys)]


__all__ = ["batched", "handed_down", "passed", "recorded"]
