"""Rounds: what `scan` and a `while_loop` with a bound repeat, with derivatives of every order.

Eager code runs them in Python, and the tape sees every round. A trace writes them down as one `while_loop` whose rounds
store what they give, and what they were given; the derivative is as many rounds the other way, which compute theirs
again and differentiate that. So derivatives of every order are rounds. A level of a transform hands them down, to rounds
on what stands for its tensors (`func/rounds.py`).
"""
from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from flambeau.errors import TypeInferenceError
from flambeau.frontend import control
from flambeau.frontend.active import active
from flambeau.frontend.again import Then, drawing_from
from flambeau.frontend.control import Leaves, body_leaves, check_alike, leaves_of, own, own_on_tape
from flambeau.frontend.functions.creation import arange, zeros
from flambeau.frontend.functions.gathering import index_copy, index_select
from flambeau.frontend.functions.joining import flip, stack
from flambeau.frontend.functions.views import narrow, reshape, select, squeeze, unsqueeze
from flambeau.frontend.random import stream_of
from flambeau.frontend.tape.autograd import (
    Record,
    alias_of,
    enable_grad,
    grad_mode,
    key_of,
    no_grad,
    set_grad_enabled,
)
from flambeau.frontend.tape.backward import walk
from flambeau.frontend.tape.dispatch import attach_record, check_unchanged, constant, dispatch
from flambeau.frontend.tensor.device import device_named
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dims import Dim, same
from flambeau.ir.dtypes import i64
from flambeau.ir.op import Op
from flambeau.ir.records import dataclass
from flambeau.ir.types import TensorType

_CHUNKED = 64               # more rounds than these store in chunks, since a row is put into a copy of its chunk


@dataclass
class Done:
    """The last carry, all y stacked along dim 0, how many rounds were done (None where all were)."""

    last: Any
    ys: Any
    taken: Tensor | None = None


@dataclass(frozen=True)
class Rounds:
    """`carry, y = f(carry, x)`, at most `count` times (None: as often as it takes, without y).

    carry: what the first is given; rows: x of all rounds, along dim 0. going: whether there is another round: None for all
    of `count`, a function of the carry that tells, or a tensor i64[], how many there are. reverse: from the last row that
    there is a round for to the first. Each y stands where its x does; where there was no round it is zeros. user: the
    user's functions, `who` the one that messages name."""

    f: Callable[[Any, Any], Any]
    carry: Leaves
    rows: Leaves
    count: int | None
    reverse: bool = False
    going: Callable[[Any], Any] | Tensor | None = None
    user: tuple[Any, ...] = ()
    who: str = ""

    def done(self) -> Done:
        """All rounds, by whoever is active."""
        tracer: Any = active.tracer
        if tracer is None or not tracer.hides_values:
            return in_python(self)
        done: Done = tracer.rounds(self) if tracer.is_level else traced(self)
        return done

    def round(self, carry: Sequence[Tensor], row: Sequence[Tensor]) -> tuple[Leaves, Leaves]:
        """(carry, y) that a round gives."""
        result = self.f(refilled(self.carry, carry), refilled(self.rows, row))
        if not isinstance(result, (tuple, list)) or len(result) != 2:
            raise TypeInferenceError(f"scan: combine_fn must give (carry, y), got {type(result).__name__}")
        after = leaves_of(result[0], "scan: the carry of combine_fn")
        check_alike(self.carry, after)
        return after, leaves_of(result[1], "scan: y")

    def rooted(self, carry: Sequence[Tensor], row: Sequence[Tensor]) -> tuple[Leaves, Leaves]:
        """The same, as roots of the tape of whoever is active."""
        made = self.round(carry, row)
        for leaves in made:
            leaves.tensors = [t if t is None else own_on_tape(t) for t in leaves.tensors]
        return made

    def first_row(self) -> list[Tensor]:
        """Rows like those of a round, of zeros."""
        return [zeros(t.shape[1:], dtype=t.dtype, device=t.device) for t in given(self.rows)]


def while_rounds(cond_fn: Callable[..., Any], body_fn: Callable[..., Any], carried: Leaves,
                 max_steps: int | None) -> Rounds:
    """A `while_loop` as rounds."""
    def f(carry: Any, _: Any) -> Any:
        after = body_leaves(body_fn(*carry), carried)
        return after.tree(after.tensors), ()

    def going(carry: Any) -> Any:
        return cond_fn(*carry)

    return Rounds(f, carried, leaves_of(()), max_steps, False, going, (body_fn, cond_fn), "while_loop: body_fn")


def is_traced() -> bool:
    """Whether ops end up in a trace, at once or through levels."""
    tracer = active.tracer
    while tracer is not None and tracer.is_level:
        tracer = tracer.around
    return tracer is not None


def given(leaves: Leaves) -> list[Tensor]:
    """The tensors of a container, without its None."""
    return [t for t in leaves.tensors if t is not None]


def refilled(like: Leaves, tensors: Sequence[Tensor]) -> Any:
    """The container with these tensors where it has some."""
    rest = iter(tensors)
    return like.tree([None if t is None else next(rest) for t in like.tensors])


def in_python(r: Rounds) -> Done:
    """The rounds one after another; y of as many as there were."""
    rows, tensors = given(r.rows), [own(t) for t in given(r.carry)]
    found: list[Sequence[Tensor | None]] = []
    ys = None
    for n in _numbers(r):
        if callable(r.going) and not control.told(r.going(refilled(r.carry, tensors))):
            break
        after, ys = r.round(tensors, [select(t, 0, n) for t in rows])
        tensors = [own(t) for t in given(after)]
        found.append(ys.tensors)
    last, taken = refilled(r.carry, tensors), constant(len(found), i64)
    if ys is None:                          # no round: what one would give
        with no_grad():
            _, ys = r.round(tensors, r.first_row())
        none = [t if t is None else zeros((0, *t.shape), dtype=t.dtype, device=t.device) for t in ys.tensors]
        return Done(last, ys.tree(none), taken)
    columns = [list(column) for column in zip(*found, strict=True)]
    return Done(last, ys.tree([None if column[0] is None else stack(column[::-1] if r.reverse else column, 0)
                               for column in columns]), taken)


def _numbers(r: Rounds) -> Iterable[int]:
    if r.count is None:
        return itertools.count()
    numbers = range(int(r.going) if isinstance(r.going, Tensor) else r.count)
    return numbers[::-1] if r.reverse else numbers


# -- under trace ------------------------------------------------------------------------------------------------------


@dataclass
class Probed:
    """What is known of rounds before they run: the tensors from outside that they read and that require grad, what the
    memory that they read holds, y, whether random numbers are drawn, whether other tensors from outside change."""

    sources: list[Tensor]
    held: Any
    ys: Leaves
    draws: bool
    changes: bool

    @classmethod
    def of(cls, r: Rounds, tracer: Any) -> Probed:
        found: list[tuple[Leaves, bool]] = []

        def once() -> None:
            state = stream_of([*given(r.carry), *given(r.rows)]).state
            before = active.tracer.version_of(state)                    # type: ignore[union-attr]
            like = [own(leaf(z) if t.requires_grad else z) for t in given(r.carry) for z in [zeros_of(t._type)]]
            _, ys = r.rooted(like, r.first_row())
            found.append((ys, active.tracer.version_of(state) != before))       # type: ignore[union-attr]

        sources, held, changes = tracer.probe(once, r.user[0] if r.user else r.f, r.who)
        return cls(sources, held, *found[0], changes)


def traced(r: Rounds) -> Done:
    """Rounds that a trace writes down."""
    if r.count is None:
        going = r.going
        assert callable(going), "rounds without a bound end by a value"
        return Done(control.while_loop(lambda *carry: going(carry), lambda *carry: r.f(carry, ())[0],
                                       r.carry.tree(r.carry.tensors)), ())
    recording, then = grad_mode.enabled, Then(r.f)
    probed = Probed.of(r, active.tracer)
    carried, rows = given(r.carry), given(r.rows)
    starts = [*probed.sources, *carried, *rows]
    stores = recording and any(t._requires_grad for t in starts)
    stream = stream_of(starts)
    kept = [*[t._type for t in carried], *[stream.state._type] * probed.draws] if stores else []
    requires = [recording and t._requires_grad for t in carried]

    def step(at: Tensor, now: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        drawn = [stream.state_now()] if stores and probed.draws else []
        stored = [own(t) for t in now] if stores else []                # which the function may change in place
        with set_grad_enabled(recording):
            mine = [own(leaf(t) if is_wanted else t) for t, is_wanted in zip(now, requires, strict=True)]
            after, y = r.round(mine, [_row(t.detach(), at) for t in rows])
        return given(after), [*stored, *drawn, *given(y)]

    outs = [t._type for t in given(probed.ys)]
    with no_grad():
        last, stacked, taken = _loop(r, step, carried, [*kept, *outs])
    results = [*last, *stacked[len(kept):]]
    if stores:
        op = Repeated(r, then, probed, carried, rows, stacked[:len(kept)], taken)
        attach_record(op, tuple(starts), tuple(results))
    return Done(refilled(r.carry, results[:len(last)]), refilled(probed.ys, results[len(last):]), taken)


def _row(t: Tensor, at: Tensor) -> Tensor:
    return squeeze(index_select(t, 0, reshape(at, (1,))), 0)


def _put(rows: Tensor, at: Tensor, row: Tensor) -> Tensor:
    return index_copy(rows, 0, reshape(at, (1,)), unsqueeze(row, 0))


def _empty(count: int, types: Sequence[TensorType]) -> list[Tensor]:
    return [zeros((count, *type.static_shape), dtype=type.dtype, device=device_named(type.device)) for type in types]


def _loop(r: Rounds, step: Callable[[Tensor, list[Tensor]], tuple[list[Tensor], list[Tensor]]],
          carried: Sequence[Tensor], types: Sequence[TensorType]) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """The last carry, what all rounds gave, where their rows stand, and how many they were."""
    count, going, counts = r.count, r.going, callable(r.going)
    assert count is not None, "what is stored needs room"
    carried = [constant(0, i64), *carried] if counts else carried       # in front, how many rounds were done
    n = len(carried)
    size = count if count <= _CHUNKED or not types else _CHUNKED if isinstance(count, Dim) else math.isqrt(count)
    chunks = -(-count // size) if size else 0

    def goes_on(at: Tensor, now: Sequence[Tensor]) -> Tensor:
        if isinstance(going, Tensor):
            return at < going
        if going is None:
            return at < count
        told = control.as_predicate(control.told(going(refilled(r.carry, now[1:]))), "while_loop: what cond_fn gives")
        return (at < count) & told

    def place(at: Tensor) -> Tensor:
        """The row of a round."""
        return at if not r.reverse else (going if isinstance(going, Tensor) else count) - 1 - at

    def chunk(number: Any, now: Sequence[Tensor]) -> list[Tensor]:
        def body(j: Tensor, *tensors: Tensor) -> Any:
            at = number * size + j
            after, found = step(place(at), list(tensors[counts:n]))
            after = [tensors[0] + 1, *after] if counts else after
            return j + 1, *after, *[_put(rows, j, row) for rows, row in zip(tensors[n:], found, strict=True)]

        def another(j: Tensor, *tensors: Tensor) -> Tensor:
            if going is None and same(chunks * size, count):
                return j < size
            return (j < size) & goes_on(number * size + j, tensors[:n])

        _, *done = control.while_loop(another, body, (0, *now, *_empty(size, types)))
        return done

    def outer(number: Tensor, *tensors: Tensor) -> Any:
        done = chunk(number, tensors[:n])
        return number + 1, *done[:n], *[_put(rows, number, row) for rows, row in zip(tensors[n:], done[n:], strict=True)]

    if chunks <= 1:
        done = chunk(0, carried)
    else:
        blocks = [zeros((chunks, size, *type.static_shape), dtype=type.dtype, device=device_named(type.device))
                  for type in types]
        _, *done = control.while_loop(
            lambda number, *rest: number < chunks if going is None else goes_on(number * size, rest[:n]),
            outer, (0, *carried, *blocks))
        done[n:] = [narrow(reshape(t, (chunks * size, *t.shape[2:])), 0, 0, count) for t in done[n:]]
    taken = done[0] if counts else going if isinstance(going, Tensor) else None
    return done[counts:n], [_turned(t, count, going) if r.reverse else t for t in done[n:]], taken


def _turned(t: Tensor, count: int, going: Any) -> Tensor:
    """What rounds gave in their order, in that of the rows that they went through backwards."""
    if not isinstance(going, Tensor):
        return flip(t, 0)
    places = going - 1 - arange(count, device="cpu")
    if not count:
        return t
    return dispatch(ops.where, _like(places >= 0, t), index_select(t, 0, places.clamp(min=0)), zeros_of(t._type))


def _like(mask: Tensor, t: Tensor) -> Tensor:
    return reshape(mask, (-1, *[1] * (t.ndim - 1))).expand(t.shape)


class Repeated(Op):
    """The tape's op for rounds. stored: what each was given: its carry, and the state of random numbers if it drew some.
    taken: how many there were, None for all. Operands are tensors from outside, the carry's and the rows. The function
    runs again, and reads what it read then."""

    def __init__(self, r: Rounds, then: Then, probed: Probed, carried: Sequence[Tensor], rows: Sequence[Tensor],
                 stored: Sequence[Tensor], taken: Tensor | None):
        self.name = r.who.partition(":")[0] or "scan"
        self.r, self.then, self.probed, self.stored, self.taken = r, then, probed, list(stored), taken
        self.carried, self.rows = [[alias_of(t, -1) for t in tensors] for tensors in (carried, rows)]
        tracer: Any = active.tracer
        self.held = {**probed.held, **tracer.held_by([*carried, *rows])}

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        if self.probed.changes:
            raise NotImplementedError(f"{self.r.who}: a function that changes tensors from outside has no derivative in a "
                                      "compiled function; carry them")
        tracer: Any = active.tracer
        n = len(self.probed.sources)
        for t in operands[:n]:
            check_unchanged(t, self.name)
        with tracer.holding(self.held):
            return self._gradients(list(operands[:n]), [
                zeros_of(r._type) if ct is None else ct for ct, r in zip(cotangents, results, strict=True)])

    def _gradients(self, sources: list[Tensor], cts: list[Tensor]) -> list[Any]:
        is_recorded = grad_mode.enabled and not active.tracer.is_level      # type: ignore[union-attr]
        stored = self._stored_again() if is_recorded else self.stored
        moving = [n for n, t in enumerate(self.carried) if t.is_floating_point()]
        fed = [n for n, t in enumerate(self.rows) if t.is_floating_point()]

        def back(gone: Any, x: Any) -> Any:
            d_carry, d_sources = gone
            now, row, d_y, state = x
            return self._round(sources, d_carry, d_sources, now, row, d_y, state[0] if state else None, moving, fed)

        count = len(self.carried)
        init = [cts[n] for n in moving], [zeros_of(t._type) for t in sources]
        done = self._rounds(back, init, (stored[:count], self.rows, cts[count:], stored[count:]), not self.r.reverse).done()
        (d_carry, d_sources), d_rows = done.last, done.ys
        found: list[Any] = [*d_sources, *[None] * (count + len(self.rows))]
        for n, ct in zip(moving, d_carry, strict=True):
            found[len(sources) + n] = ct
        for n, ct in zip(fed, d_rows, strict=True):
            found[len(sources) + count + n] = ct
        return found

    def _rounds(self, f: Callable[[Any, Any], Any], init: Any, xs: Any, reverse: bool) -> Rounds:
        """As many rounds of another function."""
        return Rounds(f, leaves_of(init), leaves_of(xs), self.r.count, reverse, self.taken,
                      who=f"the backward of {self.r.who}")

    def _round(self, sources: list[Tensor], d_carry: list[Tensor], d_sources: list[Tensor], now: list[Tensor],
               row: list[Tensor], d_y: list[Tensor], state: Tensor | None, moving: list[int], fed: list[int]) -> Any:
        """One round again, and its derivative: what the round before it gets, and the gradient of its row."""
        creates_graph = grad_mode.enabled       # as where these rounds may be differentiated in turn
        start = Record(Op(), (), ()).number     # how the sources came about is the tape's around these rounds
        with enable_grad():
            now, row = [leaf(t) for t in now], [leaf(t) for t in row]
            with drawing_from(state), self.then.again():
                after, y = self.r.rooted([own(t) for t in now], row)
            outs = given(after)
            pairs = [*[(outs[n], ct) for n, ct in zip(moving, d_carry, strict=True)],
                     *zip(given(y), d_y, strict=True)]
            pairs = [(t, ct) for t, ct in pairs if t.requires_grad]
            wanted = [*[now[n] for n in moving], *[row[n] for n in fed], *sources]
            found: Sequence[Any] = [None] * len(wanted)
            if pairs:
                by_key, _ = walk([t for t, _ in pairs], [ct for _, ct in pairs], creates_graph, self.name, wanted,
                                 since=start)
                found = [by_key.get(key_of(t)) for t in wanted]
        filled = [zeros_of(t._type) if g is None else g for t, g in zip(wanted, found, strict=True)]
        n, m = len(moving), len(moving) + len(fed)
        added = [dispatch(ops.add, total, g) for total, g in zip(d_sources, filled[m:], strict=True)]
        return (filled[:n], added), filled[n:m]

    def _stored_again(self) -> list[Tensor]:
        """What each round was given, as it depends on what the first was given: for second derivatives."""
        def again(carry: Any, x: Any) -> Any:
            row, state = x
            kept = [own(t) for t in carry]
            with drawing_from(state[0] if state else None), self.then.again():
                after, _ = self.r.round(carry, row)
            return given(after), kept

        states = self.stored[len(self.carried):]
        done = self._rounds(again, self.carried, (self.rows, states), self.r.reverse).done()
        return [*done.ys, *states]


def leaf(t: Tensor) -> Tensor:
    """A tensor that gradients can be taken of, where its dtype has some."""
    tracer: Any = active.tracer
    if t.requires_grad or not t.is_floating_point():
        return t
    return tracer.copied(t).requires_grad_()            # which leaves it on the tapes of others


def zeros_of(type: TensorType) -> Tensor:
    """A tensor of zeros."""
    return zeros(type.static_shape, dtype=type.dtype, device=device_named(type.device))


__all__ = ["Done", "Probed", "Repeated", "Rounds", "given", "in_python", "is_traced", "leaf", "refilled", "traced",
           "while_rounds", "zeros_of"]
