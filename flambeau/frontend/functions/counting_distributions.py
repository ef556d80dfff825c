"""Random counts: of events (Poisson's) and of successes (binomial), by rejection, a round for all elements at a time until
each has its number. A compiled function goes round in the same way, so the numbers are those of eager code."""
from __future__ import annotations

from collections.abc import Callable

from flambeau.frontend.active import active
from flambeau.frontend.control import while_loop
from flambeau.frontend.functions.calls import public
from flambeau.frontend.functions.coerce import (
    broadcast_shapes,
    cast,
    expanded,
    full_of,
    one_tensor,
    tensor_of,
)
from flambeau.frontend.functions.distributions import uniform
from flambeau.frontend.functions.elementwise import add, div, mul, sub
from flambeau.frontend.functions.elementwise import where as where_
from flambeau.frontend.random import Generator
from flambeau.frontend.tape.autograd import set_grad_enabled
from flambeau.frontend.tape.dispatch import dispatch
from flambeau.frontend.tape.moves import place_like
from flambeau.frontend.tensor.tensor import Tensor
from flambeau.ir import dtypes as dt
from flambeau.ir import ops

_LARGE = 10.0                               # the mean from which on a bell fits


def poisson(input: Tensor, generator: Generator | None = None) -> Tensor:
    """Poisson's counts with the means that input holds, in its dtype. Raises RuntimeError for integers and, as far as it
    is known, negative means (they give NaN in a compiled function)."""
    x = _rates("poisson", input)
    with set_grad_enabled(False):
        rate = cast(x, dt.f64)
        is_large, is_fine = dispatch(ops.ge, rate, _number(_LARGE)), dispatch(ops.ge, rate, _number(0.0))
        few = _searched(where_(is_large, 1.0, where_(is_fine, rate, 0.0)), None, generator)
        many = _many(where_(is_large, rate, _LARGE), generator)
        found = where_(is_fine, where_(is_large, many, few), float("nan"))
    return cast(found, x.dtype)


def binomial(count: Tensor, prob: Tensor, generator: Generator | None = None) -> Tensor:
    """How many of `count` trials succeed, each with probability `prob`, in the dtype of both. Raises RuntimeError for
    integers, different dtypes and, as far as they are known, counts below 0 and chances outside [0, 1] (they give NaN in a
    compiled function)."""
    n, p = _rates("binomial", count), _rates("binomial", prob)
    if n.dtype is not p.dtype:
        raise RuntimeError(f"binomial: count and prob must have one dtype, got {n._type} and {p._type}")
    shape = broadcast_shapes(n._type.static_shape, p._type.static_shape, name="binomial")
    if active.tracer is None and p.numel() and not (dt.to_compute(p._data(), p.dtype) <= 1).all():
        raise RuntimeError("binomial: a chance is not in [0, 1]")
    with set_grad_enabled(False):
        trials, chance = (expanded(cast(t, dt.f64), shape) for t in (n, p))
        is_fine = dispatch(ops.logical_and, dispatch(ops.ge, trials, _number(0.0)), dispatch(
            ops.logical_and, dispatch(ops.ge, chance, _number(0.0)), dispatch(ops.le, chance, _number(1.0))))
        trials, chance = dispatch(ops.floor, where_(is_fine, trials, 1.0)), where_(is_fine, chance, 0.5)
        is_turned = dispatch(ops.gt, chance, _number(0.5))
        less = where_(is_turned, sub(1.0, chance), chance)
        is_large = dispatch(ops.ge, mul(trials, less), _number(_LARGE))
        few = _searched(where_(is_large, 0.5, less), where_(is_large, 1.0, trials), generator)
        many = _many_of(where_(is_large, trials, 4 * _LARGE), where_(is_large, less, 0.5), generator)
        found = where_(is_large, many, few)
        found = where_(is_fine, where_(is_turned, sub(trials, found), found), float("nan"))
    return cast(found, n.dtype)


def _rates(name: str, input: Tensor) -> Tensor:
    x = one_tensor(name, input)
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"{name}: takes floating-point tensors, got {x._type}")
    if active.tracer is None and x.numel() and not (dt.to_compute(x._data(), x.dtype) >= 0).all():
        raise RuntimeError(f"{name}: a number is negative or NaN")
    return x


def _number(value: float) -> Tensor:
    return tensor_of(value, dt.f64)


def _searched(rate: Tensor, trials: Tensor | None, generator: Generator | None) -> Tensor:
    """Small means: the first count whose summed probability is beyond a uniform number. trials: of the binomial
    distribution, whose chance `rate` is; None: Poisson's."""
    u = uniform(rate._type.static_shape, dt.f64, generator, place_like(rate))
    if trials is None:
        least = dispatch(ops.exp, dispatch(ops.neg, rate))
    else:
        least = dispatch(ops.pow, sub(1.0, rate), trials)
    odds = rate if trials is None else div(rate, sub(1.0, rate))

    def goes_on(count: Tensor, term: Tensor, total: Tensor) -> Tensor:
        return _any(_is_short(term, total))

    def step(count: Tensor, term: Tensor, total: Tensor) -> tuple[Tensor, ...]:
        is_short = _is_short(term, total)
        count = where_(is_short, add(count, 1.0), count)
        left = 1.0 if trials is None else add(sub(trials, count), 1.0)
        term = where_(is_short, div(mul(term, mul(odds, left)), count), term)
        return count, term, where_(is_short, add(total, term), total)

    def _is_short(term: Tensor, total: Tensor) -> Tensor:
        """The sum is not there yet, and what comes still changes it."""
        return dispatch(ops.logical_and, dispatch(ops.ge, u, total), dispatch(ops.gt, term, _number(1e-20)))

    start = full_of(rate._type.static_shape, 0.0, dt.f64, like=rate)
    found: Tensor = while_loop(goes_on, step, (start, least, least))[0]
    return found


def _any(condition: Tensor) -> Tensor:
    return dispatch(ops.Any(tuple(range(condition.ndim))), condition)


def _accepted(like: Tensor, propose: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
              generator: Generator | None) -> Tensor:
    """Rounds of proposals until each is accepted: propose(u, v) of two uniform numbers gives (count, whether it is)."""
    def goes_on(count: Tensor) -> Tensor:
        return _any(dispatch(ops.lt, count, _number(0.0)))

    def step(count: Tensor) -> tuple[Tensor]:
        shape, place = like._type.static_shape, place_like(like)
        u, v = sub(uniform(shape, dt.f64, generator, place), 0.5), sub(1.0, uniform(shape, dt.f64, generator, place))
        proposed, is_accepted = propose(u, v)
        is_open = dispatch(ops.lt, count, _number(0.0))
        return (where_(dispatch(ops.logical_and, is_open, is_accepted), proposed, count),)

    found: Tensor = while_loop(goes_on, step, (full_of(like._type.static_shape, -1.0, dt.f64, like=like),))[0]
    return found


def _many(rate: Tensor, generator: Generator | None) -> Tensor:
    """Hoermann, "The transformed rejection method for generating Poisson random variables", Insurance: Mathematics and
    Economics 12 (1993), algorithm PTRS."""
    root, log = dispatch(ops.sqrt, rate), dispatch(ops.log, rate)
    b = add(mul(root, 2.53), 0.931)
    a = sub(mul(b, 0.02483), 0.059)
    scale = add(div(1.1328, sub(b, 3.4)), 1.1239)
    surely = sub(0.9277, div(3.6224, sub(b, 2.0)))

    def propose(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        rest = sub(0.5, dispatch(ops.abs, u))
        k = dispatch(ops.floor, add(add(mul(add(div(mul(a, 2.0), rest), b), u), rate), 0.43))
        height = dispatch(ops.log, div(mul(v, scale), add(div(a, mul(rest, rest)), b)))
        bound = sub(sub(mul(k, log), rate), dispatch(ops.lgamma, add(k, 1.0)))
        return k, _decided(rest, v, surely, k, height, bound, None)

    return _accepted(rate, propose, generator)


def _many_of(n: Tensor, p: Tensor, generator: Generator | None) -> Tensor:
    """Hoermann, "The generation of binomial random variates", J. Stat. Comput. Simul. 46 (1993), algorithm BTRS."""
    q = sub(1.0, p)
    deviation = dispatch(ops.sqrt, mul(mul(n, p), q))
    b = add(mul(deviation, 2.53), 1.15)
    a = add(add(mul(b, 0.0248), mul(p, 0.01)), -0.0873)
    centre, scale = add(mul(n, p), 0.5), mul(add(div(5.1, b), 2.83), deviation)
    surely = sub(0.92, div(4.2, b))
    odds = dispatch(ops.log, div(p, q))
    m = dispatch(ops.floor, mul(add(n, 1.0), p))

    def weight(k: Tensor) -> Tensor:
        return add(dispatch(ops.lgamma, add(k, 1.0)), dispatch(ops.lgamma, add(sub(n, k), 1.0)))

    most = weight(m)

    def propose(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        rest = sub(0.5, dispatch(ops.abs, u))
        k = dispatch(ops.floor, add(mul(add(div(mul(a, 2.0), rest), b), u), centre))
        height = dispatch(ops.log, div(mul(v, scale), add(div(a, mul(rest, rest)), b)))
        bound = add(sub(most, weight(k)), mul(sub(k, m), odds))
        return k, _decided(rest, v, surely, k, height, bound, n)

    return _accepted(n, propose, generator)


def _decided(rest: Tensor, v: Tensor, surely: Tensor, k: Tensor, height: Tensor, bound: Tensor,
             most: Tensor | None) -> Tensor:
    """Whether a proposal is accepted: it lies well inside, or under the curve; never outside what can be."""
    is_inside = dispatch(ops.logical_and, dispatch(ops.ge, rest, _number(0.07)), dispatch(ops.le, v, surely))
    found = dispatch(ops.logical_or, is_inside, dispatch(ops.le, height, bound))
    found = dispatch(ops.logical_and, found, dispatch(ops.ge, k, _number(0.0)))
    return found if most is None else dispatch(ops.logical_and, found, dispatch(ops.le, k, most))


__all__ = ["binomial", "poisson"]
public(globals(), __all__)
