"""A range of a dim, walked in vectors: unrolled steps, then single vectors, then a partial one under a mask."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ll

from flambeau.codegen.cpu.llvm.emitter import I32, I64, constant
from flambeau.codegen.cpu.loops.scope import Scope
from flambeau.ir.records import dataclass

Carry = list[ll.Value]
Body = Callable[[ll.Value, Carry], Carry]


@dataclass(frozen=True)
class Strip:
    """[start, stop), ints where known. divisor: a number that divides stop - start, known when the ends are not."""

    start: ll.Value | int
    stop: ll.Value | int
    divisor: int = 1

    def divides(self, lanes: int) -> bool:
        """Whether the strip is known to be whole vectors."""
        if isinstance(self.start, int) and isinstance(self.stop, int):
            return (self.stop - self.start) % lanes == 0
        return self.divisor % lanes == 0


def walk_strip(scope: Scope, strip: Strip, unroll: int, body: Body, carry: Carry) -> Carry:
    """carry = body(index of lane 0, carry) along the strip, `unroll` vectors a step where there are as many left.

    `scope.vectors` and `scope.mask` tell the body of each step how many vectors it has and which lanes.
    """
    if isinstance(strip.start, int) and isinstance(strip.stop, int):
        return _walk_known(scope, strip.start, strip.stop, unroll, body, carry)
    return _walk_unknown(scope, strip, unroll, body, carry)


def _walk_known(scope: Scope, start: int, stop: int, unroll: int, body: Body, carry: Carry) -> Carry:
    lanes, step = scope.plan.lanes, scope.plan.lanes * unroll
    unrolled = start + (stop - start) // step * step
    full = start + (stop - start) // lanes * lanes
    carry = repeat(scope, start, unrolled, step, _with(scope, unroll, None, body), carry)
    carry = repeat(scope, unrolled, full, lanes, _with(scope, 1, None, body), carry)
    if full < stop:
        mask = scope.emitter.tail_mask(lanes, stop - full)
        carry = repeat(scope, full, stop, lanes, _with(scope, 1, mask, body), carry)
    return carry


def _walk_unknown(scope: Scope, strip: Strip, unroll: int, body: Body, carry: Carry) -> Carry:
    emitter, lanes, step = scope.emitter, scope.plan.lanes, scope.plan.lanes * unroll
    start, stop = emitter.index(strip.start), emitter.index(strip.stop)
    if strip.divisor % step == 0:
        return repeat(scope, start, stop, step, _with(scope, unroll, None, body), carry)
    rest = emitter.urem(emitter.sub(stop, start), constant(I64, step))
    unrolled = emitter.sub(stop, rest)
    carry = repeat(scope, start, unrolled, step, _with(scope, unroll, None, body), carry)
    if strip.divisor % lanes == 0:
        return repeat(scope, unrolled, stop, lanes, _with(scope, 1, None, body), carry)

    def partial(index: ll.Value, carry: Carry) -> Carry:
        remaining = emitter.trunc(emitter.sub(stop, index), I32)        # under `step`, so i32 holds it
        return _with(scope, 1, emitter.tail_mask(lanes, remaining), body)(index, carry)

    return repeat(scope, unrolled, stop, lanes, partial, carry)


def _with(scope: Scope, copies: int, mask: ll.Value | None, body: Body) -> Body:
    def step(index: ll.Value, carry: Carry) -> Carry:
        scope.vectors, scope.mask = copies, mask
        carry = body(index, carry)
        scope.vectors, scope.mask = 1, None
        return carry

    return step


def walk_rows(scope: Scope, start: ll.Value | int, stop: ll.Value | int, rows: int, body: Body, carry: Carry) -> Carry:
    """carry = body(index of row 0, carry) along the row dim, `rows` points a step, then one by one. Between ends that
    are not known lie whole steps."""
    def step(index: ll.Value, carry: Carry) -> Carry:
        scope.rows = rows
        carry = body(index, carry)
        scope.rows = 1
        return carry

    if not isinstance(start, int) or not isinstance(stop, int):
        return repeat(scope, start, stop, rows, step, carry)
    whole = stop - (stop - start) % rows
    carry = repeat(scope, start, whole, rows, step, carry)
    return repeat(scope, whole, stop, 1, body, carry)


def carrying(changing: list[bool], loops: Callable[[Body, Carry], Carry], body: Body, carry: Carry) -> Carry:
    """loops(body, carry), where only some of what is carried may come out of the body as another value."""
    def full(values: Carry) -> Carry:
        left = iter(values)
        return [next(left) if changes else value for changes, value in zip(changing, carry, strict=True)]

    def narrow(values: Carry) -> Carry:
        return [value for changes, value in zip(changing, values, strict=True) if changes]

    return full(loops(lambda index, values: narrow(body(index, full(values))), narrow(carry)))


def repeat(
    scope: Scope, start: ll.Value | int, stop: ll.Value | int, step: int, body: Body, carry: Carry, unroll: int = 1
) -> Carry:
    """A loop that carries values; without one where there are at most `unroll` rounds."""
    if isinstance(start, int) and isinstance(stop, int) and -(-(stop - start) // step) <= unroll:
        for index in range(start, stop, step):
            carry = body(ll.Constant(I64, index), carry)
        return carry
    # LLVM would search for the cheapest way to step all that is computed from a counter, a fifth of its time for a kernel,
    # and finds little: what is known outside of a loop is computed there. But tiles take the places of many rows.
    hidden = (lambda index: index) if scope.plan.is_tiled else scope.emitter.opaque
    return scope.emitter.loop(start, stop, step, lambda index, *values: body(hidden(index), list(values)), carry)
