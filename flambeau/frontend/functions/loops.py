"""Loops as functions, with derivatives: `scan`, `fori_loop`, `map`, `associative_scan`, and the choice `switch`.

Eager code runs them in Python, and the tape sees every round. A trace writes a scan down as one `while_loop` whose rounds
store what they give, and what they were given; the derivative is another scan, backwards, whose rounds compute their
round again and differentiate that. So derivatives of every order are scans.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from string import Formatter
from typing import Any

import numpy as np

from flambeau.errors import ShapeError, TypeInferenceError
from flambeau.frontend.active import active
from flambeau.frontend.again import Then, drawing_from
from flambeau.frontend.control import Leaves, check_alike, cond, leaves_of, own, while_loop
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import kind_of
from flambeau.frontend.functions.creation import arange, zeros
from flambeau.frontend.functions.indexing import index_copy, index_select
from flambeau.frontend.functions.views import (
    cat,
    flip,
    movedim,
    narrow,
    reshape,
    select,
    squeeze,
    stack,
    unsqueeze,
)
from flambeau.frontend.random import default_generator
from flambeau.frontend.scalars import Scalar, plain
from flambeau.frontend.tape.autograd import enable_grad, grad_mode, key_of, no_grad, set_grad_enabled
from flambeau.frontend.tape.backward import walk
from flambeau.frontend.tape.dispatch import attach_record, check_unchanged, dispatch
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import ops
from flambeau.ir.dtypes import i64
from flambeau.ir.op import Op
from flambeau.ir.ops.printing import printed
from flambeau.ir.types import TensorType

_UNROLLED = 4               # rounds that a trace writes down one after another
_CHUNKED = 64               # more rounds than these store in chunks, since a row is put into a copy of its chunk

Round = Callable[[Any, Any], Any]


def scan(combine_fn: Round, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, unroll: int = 1,
         *, dim: int = 0) -> tuple[Any, Any]:
    """`carry, y = combine_fn(carry, x)` for each x of `xs` along `dim`, starting with `init`; (the last carry, all y
    stacked along dim 0). PyTorch's and JAX's.

    init, xs, y: containers of tensors; xs may be None, with a `length`. A carry keeps its types. reverse: from the last
    x to the first; each y stands where its x does. Derivatives of every order. Raises TypeInferenceError where a carry
    changes its type, ShapeError where sizes along `dim` differ."""
    carry = leaves_of(init, "scan: init")
    rows, count = _rows(xs, length, dim, "scan")
    tracer = active.tracer
    if tracer is None or tracer.is_level or count <= _UNROLLED:
        return _in_python(combine_fn, carry, rows, count, reverse)
    return _traced(combine_fn, carry, rows, count, reverse)


def fori_loop(lower: Any, upper: Any, body_fun: Callable[[Any, Any], Any], init_val: Any, *, unroll: Any = None) -> Any:
    """`val = body_fun(i, val)` for each i from `lower` up to `upper`, starting with `init_val`; the last. JAX's.

    Numbers as bounds make it a `scan`, which has derivatives; bounds that are traced tensors a `while_loop`."""
    if not callable(body_fun):
        raise TypeError(f"fori_loop: argument 'body_fun' must be a function, got {kind_of(body_fun)}")
    if isinstance(lower, Tensor) or isinstance(upper, Tensor):
        val = leaves_of(init_val, "fori_loop: init_val")

        def body(i: Any, *tensors: Any) -> Any:
            given = leaves_of(body_fun(i, val.tree(list(tensors))), "fori_loop: body_fun")
            check_alike(val, given)
            return i + 1, *given.tensors

        done = while_loop(lambda i, *rest: i < upper, body, (lower + 0, *val.tensors))
        return val.tree(list(done[1:]))
    steps = arange(int(lower), max(int(lower), int(upper)))
    return scan(lambda val, i: (body_fun(i, val), None), init_val, steps)[0]


def map(f: Callable[..., Any], xs: Any, *args: Any) -> Any:
    """`f(x, *args)` of each x of `xs` along dim 0, stacked: one after another. PyTorch's and JAX's."""
    if not callable(f):
        raise TypeError(f"map: argument 'f' must be a function, got {kind_of(f)}")
    return scan(lambda carry, x: (carry, f(x, *args)), (), xs)[1]


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """`branches[index](*operands)`, where an index out of range counts as the nearest. JAX's. index: an int, or an integer
    tensor of one element, by which compiled code decides at each call. The branches give the same types, as in `cond`."""
    branches = list(branches)
    if not branches:
        raise TypeInferenceError("switch: takes one branch or more, got none")
    if not isinstance(index, Tensor):
        return branches[min(max(int(index), 0), len(branches) - 1)](*operands)
    if index.dtype.is_floating_point or index.numel() != 1:
        raise TypeInferenceError(f"switch: index must be an integer tensor of one element, got {index._type}")
    chosen, low, high = reshape(index, ()), 0, len(branches)

    def among(low: int, high: int) -> Any:
        if high - low == 1:
            return branches[low](*operands)
        middle = (low + high) // 2
        return cond(chosen < middle, lambda: among(low, middle), lambda: among(middle, high))

    return among(low, high)


def associative_scan(combine_fn: Callable[[Any, Any], Any], xs: Any, dim: int = 0, reverse: bool = False,
                     combine_mode: str = "pointwise") -> Any:
    """All prefixes of `xs` along `dim` combined by an associative function of two containers like `xs`, which it is given
    whole slices of: in the order of log2(n) steps. PyTorch's and JAX's; combine_mode does not matter here.

    The recursion over pairs is Blelloch's (Prefix sums and their applications, 1990), as JAX has it."""
    elements = leaves_of(xs, "associative_scan: xs")
    _check_ranks(elements, "associative_scan")
    tensors = [movedim(t, dim, 0) for t in elements.tensors if t is not None]
    if len({t.shape[0] for t in tensors}) != 1:
        raise ShapeError("associative_scan: takes tensors of one size along dim, got sizes "
                         f"{', '.join(str(t.shape[0]) for t in tensors)}")
    if reverse:
        tensors = [flip(t, 0) for t in tensors]

    def combined(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
        sides = [elements.tree([movedim(t, 0, dim) for t in side]) for side in (a, b)]
        given = leaves_of(combine_fn(*sides), "associative_scan: combine_fn")
        if given.structure != elements.structure:
            raise TypeInferenceError("associative_scan: combine_fn must give what nests as xs does")
        return [movedim(t, dim, 0) for t in given.tensors if t is not None]

    def prefixes(items: list[Tensor]) -> list[Tensor]:
        count = items[0].shape[0]
        if count < 2:
            return items
        pairs = combined([t[:count - 1:2] for t in items], [t[1::2] for t in items])
        odd = prefixes(pairs)
        upto = (count - 1) // 2
        even = combined([t[:upto] for t in odd], [t[2::2] for t in items])
        even = [cat([t[:1], e], 0) for t, e in zip(items, even, strict=True)]
        return [_interleaved(e, o) for e, o in zip(even, odd, strict=True)]

    found = prefixes(tensors)
    return elements.tree([movedim(flip(t, 0) if reverse else t, 0, dim) for t in found])


def debug_print(fmt: str, *args: Any, **kwargs: Any) -> None:
    """Prints `fmt.format(*args, **kwargs)`, where tensors may be: in a compiled function at every call, in order. JAX's.

    Tensors print as NumPy prints arrays, those of rank 0 as numbers (`"{loss:.4f}"`). Raises KeyError, IndexError for a
    field that nothing was given for, and what `format` raises."""
    given: list[Any] = [*args, *kwargs.values()]
    places = {name: len(args) + n for n, name in enumerate(kwargs)}
    tensors: list[Tensor] = []
    text, counted = "", 0
    for literal, field, spec, conversion in Formatter().parse(fmt):
        text += literal.replace("{", "{{").replace("}", "}}")
        if field is None:
            continue
        if field.isdigit() or not field:
            at, counted = (int(field), counted) if field else (counted, counted + 1)
        else:
            if field not in places:
                raise KeyError(field)
            at = places[field]
        value = plain(given[at])
        if type(value) is Scalar:
            value = dispatch(ops.Cast(i64), value.tensor) if value.is_whole else value.tensor
        if isinstance(value, Tensor):
            text += f"{{{len(tensors)}{'!' + conversion if conversion else ''}{':' + spec if spec else ''}}}"
            tensors.append(value.detach())
        else:
            shown = format(Formatter().convert_field(value, conversion), spec or "")
            text += shown.replace("{", "{{").replace("}", "}}")
    printed(text, [np.zeros(t._type.static_shape, t.dtype.storage) for t in tensors])      # or an error, here
    dispatch(ops.Print(text), *tensors)


def _interleaved(even: Tensor, odd: Tensor) -> Tensor:
    """even[0], odd[0], even[1], ..."""
    paired = reshape(stack([even[:odd.shape[0]], odd], 1), (2 * odd.shape[0], *even.shape[1:]))
    return paired if even.shape[0] == odd.shape[0] else cat([paired, even[odd.shape[0]:]], 0)


# -- what is scanned --------------------------------------------------------------------------------------------------


def _check_ranks(xs: Leaves, who: str) -> None:
    if any(not t.ndim for t in xs.tensors if t is not None):
        raise ShapeError(f"{who}: takes xs of one dim or more, got a tensor of rank 0")


def _rows(xs: Any, length: int | None, dim: int, who: str) -> tuple[Leaves, int]:
    """The tensors of xs with their rows in front, and how many rows."""
    rows = leaves_of(xs, f"{who}: xs")
    _check_ranks(rows, who)
    rows.tensors = [t if t is None else movedim(t, dim, 0) for t in rows.tensors]
    counts = {t.shape[0] for t in rows.tensors if t is not None} | ({int(length)} if length is not None else set())
    if len(counts) != 1:
        raise ShapeError(f"{who}: takes xs of one size along dim, or a length, got {sorted(counts) or 'neither'}")
    return rows, counts.pop()


def _given(result: Any, carry: Leaves) -> tuple[Leaves, Leaves]:
    """(carry, y) that a round gave."""
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise TypeInferenceError(f"scan: combine_fn must give (carry, y), got {type(result).__name__}")
    after = leaves_of(result[0], "scan: the carry of combine_fn")
    check_alike(carry, after)
    return after, leaves_of(result[1], "scan: y")


def _in_python(f: Round, carry: Leaves, rows: Leaves, count: int, reverse: bool) -> tuple[Any, Any]:
    order = range(count)[::-1] if reverse else range(count)
    tensors = [t if t is None else own(t) for t in carry.tensors]
    start, found, ys = carry, [], None
    for n in order:
        x = rows.tree([t if t is None else select(t, 0, n) for t in rows.tensors])
        carry, ys = _given(f(start.tree(tensors), x), start)
        tensors = carry.tensors
        found.append(ys.tensors)
    if ys is None:                          # no round: what one would give
        with no_grad():
            x = rows.tree([t if t is None else zeros(t.shape[1:], dtype=t.dtype) for t in rows.tensors])
            _, ys = _given(f(start.tree(tensors), x), start)
        return start.tree(tensors), ys.tree([t if t is None else zeros((0, *t.shape), dtype=t.dtype) for t in ys.tensors])
    columns = [list(column) for column in zip(*found, strict=True)]
    return start.tree(tensors), ys.tree([None if column[0] is None else stack(column[::-1] if reverse else column, 0)
                                         for column in columns])


# -- under trace ------------------------------------------------------------------------------------------------------


def _traced(f: Round, carry: Leaves, rows: Leaves, count: int, reverse: bool) -> tuple[Any, Any]:
    recording, tracer, then = grad_mode.enabled, active.tracer, Then(f)
    assert tracer is not None
    first = [t if t is None else zeros(t.shape[1:], dtype=t.dtype) for t in rows.tensors]
    probed: list[tuple[Leaves, Leaves]] = []

    def once() -> None:
        state = default_generator.state
        before = tracer_now().version_of(state)
        probed.append(_given(f(carry.tree(carry.tensors), rows.tree(first)), carry))
        draws.append(tracer_now().version_of(state) != before)

    draws: list[bool] = []
    sources, changes = tracer.probe(once, f, "scan: combine_fn")
    (_, ys), = probed
    outs = [t._type for t in ys.tensors if t is not None]
    carried = [t for t in carry.tensors if t is not None]
    given = [t for t in rows.tensors if t is not None]
    starts = [*sources, *carried, *given]
    stores = recording and any(t._requires_grad for t in starts)
    kept = [*[t._type for t in carried], *[default_generator.state._type] * draws[0]] if stores else []

    def step(at: Tensor, now: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        drawn = [default_generator.get_state()] if stores and draws[0] else []
        with set_grad_enabled(recording):
            after, y = _given(f(_refilled(carry, now), _refilled(rows, [_row(t.detach(), at) for t in given])), carry)
        stored = [*now, *drawn] if stores else []
        return ([t for t in after.tensors if t is not None],
                [*stored, *[t for t in y.tensors if t is not None]])

    with no_grad():
        last, stacked = _loop(step, carried, [*kept, *outs], count, reverse)
    results = [*last, *stacked[len(kept):]]
    if stores:
        op = _Scanned(f, then, carry, rows, ys, count, reverse, stacked[:len(kept)], draws[0], len(sources), changes)
        attach_record(op, tuple(starts), tuple(results))
    return _refilled(carry, results[:len(last)]), _refilled(ys, results[len(last):])


def tracer_now() -> Any:
    """The trace of the region that is traced."""
    return active.tracer


def _refilled(like: Leaves, tensors: Sequence[Tensor]) -> Any:
    """The container with these tensors where it has some."""
    rest = iter(tensors)
    return like.tree([None if t is None else next(rest) for t in like.tensors])


def _row(t: Tensor, at: Tensor) -> Tensor:
    return squeeze(index_select(t, 0, reshape(at, (1,))), 0)


def _put(rows: Tensor, at: Tensor, row: Tensor) -> Tensor:
    return index_copy(rows, 0, reshape(at, (1,)), unsqueeze(row, 0))


def _empty(count: int, types: Sequence[TensorType]) -> list[Tensor]:
    return [zeros((count, *type.static_shape), dtype=type.dtype) for type in types]


def _loop(step: Callable[[Tensor, list[Tensor]], tuple[list[Tensor], list[Tensor]]], carried: Sequence[Tensor],
          types: Sequence[TensorType], count: int, reverse: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The last carry, and what all rounds gave, stacked in the order of their rows."""
    n = len(carried)
    size = count if count <= _CHUNKED else math.isqrt(count)
    chunks = -(-count // size) if size else 0

    def chunk(number: Any, now: Sequence[Tensor]) -> list[Tensor]:
        def body(j: Tensor, *tensors: Tensor) -> Any:
            at = number * size + j
            after, given = step(count - 1 - at if reverse else at, list(tensors[:n]))
            return j + 1, *after, *[_put(rows, j, row) for rows, row in zip(tensors[n:], given, strict=True)]

        is_whole = chunks * size == count
        _, *done = while_loop(
            lambda j, *rest: j < size if is_whole else (j < size) & (number * size + j < count), body,
            (0, *now, *_empty(size, types)))
        return done

    def outer(number: Tensor, *tensors: Tensor) -> Any:
        done = chunk(number, tensors[:n])
        return number + 1, *done[:n], *[_put(rows, number, row) for rows, row in zip(tensors[n:], done[n:], strict=True)]

    if chunks <= 1:
        done = chunk(0, carried)
    else:
        blocks = [zeros((chunks, size, *type.static_shape), dtype=type.dtype) for type in types]
        _, *done = while_loop(lambda number, *rest: number < chunks, outer, (0, *carried, *blocks))
        done[n:] = [narrow(reshape(t, (chunks * size, *t.shape[2:])), 0, 0, count) for t in done[n:]]
    return done[:n], [flip(t, 0) if reverse else t for t in done[n:]]


class _Scanned(Op):
    """The tape's op for a scan of a trace. stored: what each round was given: its carry, and the state of random numbers if
    it drew some. Operands are `n_sources` tensors from outside, the carry's and the rows."""

    name = "scan"

    def __init__(self, f: Round, then: Then, carry: Leaves, rows: Leaves, ys: Leaves, count: int, reverse: bool,
                 stored: list[Tensor], draws: bool, n_sources: int, changes: bool):
        self.then = then
        self.f, self.carry, self.rows, self.ys, self.count, self.reverse = f, carry, rows, ys, count, reverse
        self.stored, self.draws, self.n_sources, self.changes = stored, draws, n_sources, changes

    def vjp(self, b: Any, operands: Sequence[Any], results: Sequence[Any], cotangents: Sequence[Any]) -> Sequence[Any]:
        if self.changes:
            raise NotImplementedError("scan: a function that changes tensors from outside has no derivative in a compiled "
                                      "function; carry them")
        for t in operands:
            check_unchanged(t, self.name)
        carried = [t for t in self.carry.tensors if t is not None]
        sources, starts, rows = self._split(operands, len(carried))
        cts = [_zeros(r._type) if ct is None else ct for ct, r in zip(cotangents, results, strict=True)]
        stored = self._stored_again() if grad_mode.enabled else self.stored
        states = stored[len(carried):] if self.draws else []
        moving = [n for n, t in enumerate(carried) if t.is_floating_point()]
        fed = [n for n, t in enumerate(rows) if t.is_floating_point()]

        def back(gone: Any, x: Any) -> Any:
            d_carry, d_sources = gone
            now, row, d_y, state = x
            return self._round(sources, d_carry, d_sources, now, row, d_y, state[0] if state else None, moving, fed)

        init = [cts[n] for n in moving], [_zeros(t._type) for t in sources]
        xs = stored[:len(carried)], rows, cts[len(carried):], states
        (d_carry, d_sources), d_rows = scan(back, init, xs, length=self.count, reverse=not self.reverse)
        found: list[Any] = [*d_sources, *[None] * (len(starts) + len(rows))]
        for n, ct in zip(moving, d_carry, strict=True):
            found[len(sources) + n] = ct
        for n, ct in zip(fed, d_rows, strict=True):
            found[len(sources) + len(starts) + n] = ct
        return found

    def _split(self, operands: Sequence[Any], n_carried: int) -> tuple[list[Any], list[Any], list[Any]]:
        n = self.n_sources
        return list(operands[:n]), list(operands[n:n + n_carried]), list(operands[n + n_carried:])

    def _round(self, sources: list[Tensor], d_carry: list[Tensor], d_sources: list[Tensor], now: list[Tensor],
               row: list[Tensor], d_y: list[Tensor], state: Tensor | None, moving: list[int], fed: list[int]) -> Any:
        """One round again, and its derivative: what the round before it gets, and the gradient of its row."""
        with enable_grad():
            now, row = [_leaf(t) for t in now], [_leaf(t) for t in row]
            with drawing_from(state), self.then.again():
                after, y = _given(self.f(_refilled(self.carry, now), _refilled(self.rows, row)), self.carry)
            outs = [t for t in after.tensors if t is not None]
            pairs = [*[(outs[n], ct) for n, ct in zip(moving, d_carry, strict=True)],
                     *zip([t for t in y.tensors if t is not None], d_y, strict=True)]
            pairs = [(t, ct) for t, ct in pairs if t.requires_grad]
            wanted = [*[now[n] for n in moving], *[row[n] for n in fed], *sources]
            found: Sequence[Any] = [None] * len(wanted)
            if pairs:
                by_key, _ = walk([t for t, _ in pairs], [ct for _, ct in pairs], True, "scan", wanted)
                found = [by_key.get(key_of(t)) for t in wanted]
        filled = [_zeros(t._type) if g is None else g for t, g in zip(wanted, found, strict=True)]
        n, m = len(moving), len(moving) + len(fed)
        added = [dispatch(ops.add, total, g) for total, g in zip(d_sources, filled[m:], strict=True)]
        return (filled[:n], added), filled[n:m]

    def _stored_again(self) -> list[Tensor]:
        """What each round was given, as it depends on what the scan was given: for second derivatives."""
        def again(carry: Any, x: Any) -> Any:
            row, state = x
            with drawing_from(state[0] if state else None), self.then.again():
                after, _ = self.f(carry, row)
            return after, carry

        n = len([t for t in self.carry.tensors if t is not None])
        states = self.stored[n:]
        xs = self.rows.tree(self.rows.tensors), states
        _, carries = scan(again, self.carry.tree(self.carry.tensors), xs, length=self.count, reverse=self.reverse)
        return [*[t for t in leaves_of(carries, "scan").tensors if t is not None], *states]


def _leaf(t: Tensor) -> Tensor:
    return t if t.requires_grad or not t.is_floating_point() else t.detach().requires_grad_()


def _zeros(type: TensorType) -> Tensor:
    return zeros(type.static_shape, dtype=type.dtype)


__all__ = ["associative_scan", "debug_print", "fori_loop", "map", "scan", "switch"]
public(globals(), __all__)
